package upstream

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tellergate/discovery"
)

// A Pool owns the runtime state of every endpoint: connections, load, usability. One Pool serves all generations.
// It is safe for concurrent use; create it with NewPool.
type Pool struct {
	options Options
	dial    dialer

	closed atomic.Bool   // Run has ended: connections are closed after their request
	epoch  atomic.Uint64 // grows whenever endpoints were forgotten; a view of an older epoch is rebuilt

	mu        sync.Mutex
	endpoints map[key]*endpoint // guarded by mu
	retained  []*Group          // guarded by mu; nil until the first Retain
}

// A key tells endpoints apart: a later pod at the same address is another endpoint.
type key struct {
	addr netip.AddrPort
	uid  string
}

// NewPool returns a Pool that has opened nothing yet.
func NewPool(o Options) *Pool {
	return &Pool{options: o, dial: dialTCP, endpoints: make(map[key]*endpoint)}
}

// Run closes idle connections that are past their time, tries endpoints that could not be dialled, and forgets endpoints that no retained group names any more,
// until ctx ends; then it closes every idle connection and returns ctx's error.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(min(max(p.options.IdleTimeout/4, 10*time.Millisecond), probeEvery))
	defer tick.Stop()
	var probing sync.WaitGroup
	for {
		select {
		case <-ctx.Done():
			p.closed.Store(true)
			probing.Wait()
			for _, e := range p.all() {
				e.closeIdle(maxTime)
			}
			return ctx.Err()
		case now := <-tick.C:
			p.forget()
			for _, e := range p.all() {
				e.closeIdle(now.Add(-p.options.IdleTimeout))
				if e.down.Load() != 0 {
					probing.Go(func() { e.probe(now) })
				}
			}
		}
	}
}

// Group returns the balancing view of one version's pods. The same endpoint in two groups has one runtime state.
func (p *Pool) Group(pods *discovery.PodSet) *Group {
	return &Group{pool: p, pods: pods, random: rand.Uint64}
}

// Retain tells the pool which groups the newest generation uses. Endpoints that are in none of them are forgotten once
// their requests have ended.
func (p *Pool) Retain(groups []*Group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retained = append(make([]*Group, 0, len(groups)), groups...)
}

func (p *Pool) all() []*endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*endpoint, 0, len(p.endpoints))
	for _, e := range p.endpoints {
		all = append(all, e)
	}
	return all
}

// forget drops endpoints that no retained group names. Their idle connections are closed at once. One with requests
// under way stays, so that its load is seen should it be named again.
func (p *Pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retained == nil {
		return
	}
	named := make(map[key]struct{}, len(p.endpoints))
	for _, g := range p.retained {
		set := g.pods.Load()
		for i := range set.Len() {
			named[keyOf(set.At(i))] = struct{}{}
		}
	}
	forgotten := false
	for k, e := range p.endpoints {
		if _, ok := named[k]; ok {
			continue
		}
		e.closeIdle(maxTime)
		if e.retire() {
			delete(p.endpoints, k)
			forgotten = true
		}
	}
	if forgotten {
		p.epoch.Add(1)
	}
}

// states returns the runtime state of each endpoint of set, in its order.
func (p *Pool) states(set *discovery.EndpointSet) []*endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make([]*endpoint, set.Len())
	for i := range states {
		k := keyOf(set.At(i))
		e := p.endpoints[k]
		if e == nil {
			e = newEndpoint(p, k.addr)
			p.endpoints[k] = e
		}
		states[i] = e
	}
	return states
}

func keyOf(e discovery.Endpoint) key { return key{e.Addr, e.UID} }
