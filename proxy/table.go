package proxy

import (
	"fmt"

	"tellergate/discovery"
	"tellergate/proxy/upstream"
	"tellergate/rules"
)

// A Table is one generation of rules bound to live handles: the groups of pods and the tally of each version. It is
// immutable; what it refers to is live.
type Table struct {
	rules    *rules.RuleSet
	revision uint64
	versions [][]boundVersion // by service, by version
}

type boundVersion struct {
	group *upstream.Group
	tally *tally
}

// Publish makes rs what every request that starts afterwards sees. The table is built whole, aside; on an error the
// former one stays.
func (p *Proxy) Publish(rs *rules.RuleSet, revision uint64) error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	t := &Table{rules: rs, revision: revision, versions: make([][]boundVersion, rs.Len())}
	groups := make(map[*discovery.PodSet]*upstream.Group)
	var retained []*upstream.Group
	for i := range rs.Len() {
		service := rs.Service(i)
		t.versions[i] = make([]boundVersion, service.Len())
		for j := range service.Len() {
			version := service.Version(j)
			pods, err := p.podSet(version)
			if err != nil {
				return fmt.Errorf("cannot bind version %q of service %q to its pods: %w", version.Name(), service.Name(), err)
			}
			group := groups[pods]
			if group == nil {
				if group = p.groups[pods]; group == nil {
					group = p.pool.Group(pods)
				}
				groups[pods] = group
				retained = append(retained, group)
			}
			t.versions[i][j] = boundVersion{group, p.metrics.versions.version(service.Name(), version.Name())}
		}
	}
	p.table.Store(t)
	p.groups = groups
	p.pool.Retain(retained)
	return nil
}

// Usable implements rules.Availability for the table's own rule set.
func (t *Table) Usable(service, version int) bool { return t.versions[service][version].group.Usable() }

func (t *Table) group(v *rules.CompiledVersion, s *rules.CompiledService) *upstream.Group {
	return t.versions[s.Index()][v.Index()].group
}

func (t *Table) tally(v *rules.CompiledVersion, s *rules.CompiledService) *tally {
	return t.versions[s.Index()][v.Index()].tally
}

// Availability answers for rs what its versions' pods can take now. Versions that the published rules do not have are
// not usable.
func (p *Proxy) Availability(rs *rules.RuleSet) rules.Availability {
	t := p.table.Load()
	if t != nil && t.rules == rs {
		return t
	}
	return namedAvailability{p, rs}
}

type namedAvailability struct {
	p  *Proxy
	rs *rules.RuleSet
}

func (a namedAvailability) Usable(service, version int) bool {
	s := a.rs.Service(service)
	bound := a.p.bound(s.Name(), s.Version(version).Name())
	return bound != nil && bound.group.Usable()
}

// Endpoints returns the endpoints of a version and their states, nil if the published rules do not have it.
func (p *Proxy) Endpoints(service, version string) []upstream.EndpointStatus {
	if bound := p.bound(service, version); bound != nil {
		return bound.group.Status()
	}
	return nil
}

// bound finds a version of the published rules by name.
func (p *Proxy) bound(service, version string) *boundVersion {
	t := p.table.Load()
	if t == nil {
		return nil
	}
	for i := range t.rules.Len() {
		if s := t.rules.Service(i); s.Name() == service {
			if v := s.VersionNamed(version); v != nil {
				return &t.versions[i][v.Index()]
			}
		}
	}
	return nil
}
