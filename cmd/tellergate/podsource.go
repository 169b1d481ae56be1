package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.uber.org/zap"

	"tellergate/config"
	"tellergate/discovery"
	"tellergate/discovery/kubernetes"
	"tellergate/discovery/static"
	"tellergate/internal/build"
	"tellergate/rules"
)

// A podSource finds the pods of versions: the only place that knows every kind of source. Generations are published by
// one goroutine, the rule loop's, and podSet is called within publish only.
type podSource struct {
	kubernetes *kubernetes.Source // nil: the settings do not ask for it
	running    *kubernetes.Lease  // what the published generation names
	next       *kubernetes.Lease  // what the one being published names

	settled atomic.Bool // the pods of the first rules were known: from then on the replica stays ready
}

func newPodSource(settings *config.Kubernetes, log *zap.Logger) (*podSource, error) {
	if settings == nil {
		return &podSource{}, nil
	}
	cache := settings.Cache
	if cache == "off" {
		cache = ""
	}
	source, err := kubernetes.New(kubernetes.Options{
		Kubeconfig: settings.Kubeconfig, Legacy: settings.Source == config.SourceEndpoints,
		HoldEmpty: settings.HoldEmpty, Cache: cache, UserAgent: "tellergate/" + build.Version,
		Notify: func(n kubernetes.Notice) {
			if n.Err != nil {
				log.Error(n.Text, zap.Error(n.Err))
			} else {
				log.Info(n.Text)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("setting discovery.kubernetes: %w", err)
	}
	return &podSource{kubernetes: source, running: source.Lease()}, nil
}

// run follows the API server until ctx ends.
func (s *podSource) run(ctx context.Context) error {
	if s.kubernetes == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.kubernetes.Run(ctx)
}

// podSet implements proxy.Options.PodSet.
func (s *podSource) podSet(v *rules.CompiledVersion) (*discovery.PodSet, error) {
	if addresses := v.Static(); addresses != nil {
		return static.PodSet(addresses), nil
	}
	k := v.Kubernetes()
	if k == nil || s.next == nil {
		return nil, fmt.Errorf("version %s names no pods that this replica can find", v.Name())
	}
	return s.next.PodSet(kubernetes.Reference{
		Namespace: k.Namespace, Service: k.Service, Port: k.Port, PodLabels: k.PodLabels,
	})
}

// during calls publish and keeps what it asked for followed if it succeeds, in place of what ran before.
func (s *podSource) during(publish func() error) error {
	if s.kubernetes == nil {
		return publish()
	}
	s.next = s.kubernetes.Lease()
	if err := publish(); err != nil {
		s.next.Release()
		s.next = nil
		return err
	}
	s.running.Release()
	s.running, s.next = s.next, nil
	return nil
}

// missing says which pods keep the replica from being ready. Once there was nothing, there never is: rules that name a
// new Service must not take a replica away from the requests of all others.
func (s *podSource) missing() []string {
	if s.kubernetes == nil || s.settled.Load() {
		return nil
	}
	missing := s.kubernetes.Status().Missing
	if len(missing) == 0 {
		s.settled.Store(true)
	}
	return missing
}

// notes says what operators should know of pods.
func (s *podSource) notes() []string {
	if s.kubernetes == nil {
		return nil
	}
	return s.kubernetes.Status().Notes
}
