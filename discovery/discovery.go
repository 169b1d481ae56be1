// Package discovery holds what tellergate knows about pods: endpoints, the immutable sets they form, and the live
// handle through which a set is replaced.
//
// It is responsible for the vocabulary and for publication. It does not find pods (its sub-packages do), connect to
// them, or judge their health (proxy/upstream does). It imports nothing of tellergate.
package discovery

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// State says who may be sent to an endpoint.
type State uint8

const (
	// Active endpoints take every request of their version.
	Active State = iota
	// Draining endpoints keep the sessions pinned to them, and take others only while their version has no active one.
	Draining
)

// String returns the word operators see.
func (s State) String() string {
	if s == Draining {
		return "draining"
	}
	return "active"
}

// An Endpoint is one pod's address.
type Endpoint struct {
	Addr netip.AddrPort
	// UID identifies the pod itself, so that a later pod with the same address is told from this one. Empty where the
	// source does not know pods.
	UID   string
	Zone  string
	State State
}

// An EndpointSet is the pods of one version at one moment: sorted by address, each address once. It is immutable and
// safe for concurrent use.
type EndpointSet struct {
	endpoints []Endpoint
}

// NewEndpointSet copies, sorts and de-duplicates endpoints. Where an address occurs twice, the draining mention wins.
func NewEndpointSet(endpoints []Endpoint) *EndpointSet {
	sorted := slices.Clone(endpoints)
	slices.SortStableFunc(sorted, func(a, b Endpoint) int {
		if c := a.Addr.Compare(b.Addr); c != 0 {
			return c
		}
		return int(b.State) - int(a.State)
	})
	sorted = slices.CompactFunc(sorted, func(a, b Endpoint) bool { return a.Addr == b.Addr })
	return &EndpointSet{endpoints: slices.Clip(sorted)}
}

// Len returns the number of endpoints.
func (s *EndpointSet) Len() int { return len(s.endpoints) }

// At returns endpoint i, 0 ≤ i < Len.
func (s *EndpointSet) At(i int) Endpoint { return s.endpoints[i] }

// A PodSet is the live handle of one version's pods. Its source stores new sets; the request path loads the current
// one. It is safe for concurrent use; create it with NewPodSet.
type PodSet struct {
	current atomic.Pointer[EndpointSet]
}

// NewPodSet returns a handle that holds first. A nil first stands for the empty set.
func NewPodSet(first *EndpointSet) *PodSet {
	p := new(PodSet)
	p.Store(first)
	return p
}

// Load returns the current set, never nil; an empty set means that the version has no usable pods.
func (p *PodSet) Load() *EndpointSet { return p.current.Load() }

// Store publishes next as the current set. A nil next stands for the empty set.
func (p *PodSet) Store(next *EndpointSet) {
	if next == nil {
		next = new(EndpointSet)
	}
	p.current.Store(next)
}
