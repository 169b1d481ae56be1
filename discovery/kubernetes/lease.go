package kubernetes

import (
	"fmt"
	"time"

	"tellergate/discovery"
)

// A Lease keeps the pod sets of one generation of rules followed. The next generation takes a Lease of its own before
// the former one is released, so what both name is neither lost nor followed anew. It is for one goroutine at a time.
type Lease struct {
	source *Source
	held   map[*podSet]struct{}
}

// Lease returns a lease that holds nothing.
func (s *Source) Lease() *Lease { return &Lease{source: s, held: make(map[*podSet]struct{})} }

// PodSet returns the live handle of a reference and keeps it followed until Release. Equal references give the same
// handle. It does not wait: a set that is not yet known is empty, and Status says so.
func (l *Lease) PodSet(ref Reference) (*discovery.PodSet, error) {
	if err := ref.check(); err != nil {
		return nil, fmt.Errorf("pods of %s: %w", ref, err)
	}
	s := l.source
	s.mu.Lock()
	defer s.mu.Unlock()
	name := ref.String()
	p := s.pods[name]
	if p == nil {
		p = s.add(name, ref)
	}
	if _, held := l.held[p]; !held {
		l.held[p] = struct{}{}
		p.leases++
		p.released = time.Time{}
	}
	s.dirty = true
	s.again()
	return p.handle, nil
}

// Release ends the lease. What no other lease holds is followed for a minute more, and then no longer.
func (l *Lease) Release() {
	s := l.source
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range l.held {
		if p.leases--; p.leases == 0 {
			p.released = time.Now()
		}
	}
	clear(l.held)
	s.dirty = true
	s.again()
}
