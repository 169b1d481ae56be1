package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/build"
	"tellergate/session"
)

func (s *Server) registerReplicas() {
	register(s, huma.Operation{
		OperationID: "getReplicas", Method: http.MethodGet, Path: api.ReplicasPath, Tags: []string{"replicas"},
		Summary: "Which replica runs which revision, since when; the one that is asked first",
	}, s.getReplicas)
	register(s, huma.Operation{
		OperationID: "forgetReplica", Method: http.MethodDelete, Path: api.ReplicasPath + "/{id}", Tags: []string{"replicas"},
		Summary:     "Forget a replica that is dead",
		Description: "Whoever forgets one that still serves gives up knowing its sessions; but one that reaches the others registers again.",
		Errors:      []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, s.forgetReplica)
}

type replicas struct {
	Body api.Replicas
}

func (s *Server) getReplicas(context.Context, *Nothing) (*replicas, error) {
	registry, err := s.Fleet.Registry()
	if err != nil {
		return &replicas{Body: api.Replicas{Replicas: []api.Replica{s.self()}, Unknown: err.Error()}}, nil
	}
	return &replicas{Body: api.Replicas{Replicas: s.replicasOf(&registry, registry.Now)}}, nil
}

// self is what this replica knows of itself without the others.
func (s *Server) self() api.Replica {
	status := s.Live.Status()
	return api.Replica{
		Name: s.Replica, Self: true, Version: build.Version, Revision: status.Applied, Since: status.Since, Head: status.Head,
		Failing: status.Failing, FailingAt: status.FailingAt,
	}
}

// replicasOf tells of registered replicas, this one first and as it is at this moment.
func (s *Server) replicasOf(registry *session.Registry, now time.Time) []api.Replica {
	all := []api.Replica{s.self()}
	for i := range registry.Replicas {
		r := &registry.Replicas[i]
		out := api.Replica{
			ID: r.ID, Name: r.Name, Version: r.Version, Revision: r.Revision, Since: r.Since, Head: r.Head, Failing: r.Failing,
			FailingAt: r.FailingAt, Started: r.Started, Seen: r.Seen, Late: r.LateAt(now), Flushed: r.Flushed,
		}
		if r.Freshness > 0 {
			out.Freshness = r.Freshness.String()
		}
		for _, v := range r.Versions {
			if !v.Active {
				out.Resting = append(out.Resting, api.Resting{Service: v.Service, Version: v.Version, Since: v.Resting, InFlight: v.InFlight})
			}
		}
		if r.ID != registry.Self {
			all = append(all, out)
			continue
		}
		out.Self, out.Name = true, s.Replica
		out.Revision, out.Since, out.Head = all[0].Revision, all[0].Since, all[0].Head
		out.Failing, out.FailingAt = all[0].Failing, all[0].FailingAt
		all[0] = out
	}
	return all
}

type forgetReplicaInput struct {
	ID string `path:"id" doc:"as the list of replicas names it"`
}

func (s *Server) forgetReplica(_ context.Context, in *forgetReplicaInput) (*Nothing, error) {
	forgotten, err := s.Fleet.Forget(in.ID)
	if err != nil {
		return nil, ledgerFault(err)
	}
	if !forgotten {
		return nil, fault(http.StatusNotFound, fmt.Sprintf("no other replica %q is registered; %s lists them", in.ID, api.ReplicasPath))
	}
	return &Nothing{}, nil
}

// registerPlain adds what is served outside the API: health, metrics, profiles.
func (s *Server) registerPlain() {
	s.mux.HandleFunc("GET "+api.HealthPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	s.mux.HandleFunc("GET "+api.ReadyPath, s.ready)
	s.mux.Handle("GET "+api.MetricsPath, s.Metrics)
	s.mux.HandleFunc("GET "+api.ProfilingPath, pprof.Index)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"profile", pprof.Profile)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"symbol", pprof.Symbol)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"trace", pprof.Trace)
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	missing := s.Ready()
	w.Header().Set("Content-Type", api.JSON)
	if len(missing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	body := api.Readiness{Ready: len(missing) == 0, Missing: missing}
	if s.Notes != nil {
		body.Notes = s.Notes()
	}
	_ = json.NewEncoder(w).Encode(body) // a caller that has gone away is no fault of ours
}
