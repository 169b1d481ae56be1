package main

import (
	"sync"
	"time"

	"tellergate/internal/build"
	"tellergate/internal/live"
	"tellergate/rules"
	"tellergate/session"
)

// A presence is what this replica tells the others of itself. The zero value runs nothing.
type presence struct {
	mu       sync.Mutex
	versions []session.Running // of the generation that runs; guarded by mu
}

// note takes down which versions are active in a generation that has just been published.
func (p *presence) note(generation *live.Generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	type name struct{ service, version string }
	resting := make(map[name]time.Time)
	for _, v := range p.versions {
		if !v.Active {
			resting[name{v.Service, v.Version}] = v.Resting
		}
	}
	p.versions = nil
	for i := range generation.Rules.Len() {
		service := generation.Rules.Service(i)
		for j := range service.Len() {
			v := session.Running{Service: service.Name(), Version: service.Version(j).Name()}
			if v.Active = service.Version(j).State() == rules.StateActive; !v.Active {
				since, known := resting[name{v.Service, v.Version}]
				if !known {
					since = time.Now()
				}
				v.Resting = since
			}
			p.versions = append(p.versions, v)
		}
	}
}

// self says how this replica stands.
func (g *gateway) self() session.Replica {
	status := g.loop.Status()
	r := session.Replica{
		Name: hostname(), Version: build.Version, Started: g.started,
		Revision: status.Applied, Since: status.Since, Head: status.Head, Failing: status.Failing, FailingAt: status.FailingAt,
	}
	g.presence.mu.Lock()
	r.Versions = append([]session.Running{}, g.presence.versions...)
	g.presence.mu.Unlock()
	for i := range r.Versions {
		if v := &r.Versions[i]; !v.Active {
			for _, endpoint := range g.proxy.Endpoints(v.Service, v.Version) {
				v.InFlight += endpoint.InFlight
			}
		}
	}
	return r
}
