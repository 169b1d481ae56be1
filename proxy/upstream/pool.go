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

	closed     atomic.Bool   // Run has ended: connections are closed after their request
	epoch      atomic.Uint64 // grows with a Retain after endpoints were forgotten; a view of an older epoch may hold such
	avoided    atomic.Int64  // see Reuse
	closedIdle atomic.Int64

	mu        sync.Mutex
	endpoints map[key]*endpoint // guarded by mu, like everything beneath
	retained  []retained        // nil until the first Retain
	named     map[key]int       // how many of the sets in retained name an endpoint
	unnamed   map[key]*endpoint // those of endpoints that none of them names
	forgot    bool              // some endpoint was forgotten since the last Retain
}

// A retained is a group of the newest generation, and the set of it that Pool.named counts.
type retained struct {
	group *Group
	set   *discovery.EndpointSet
}

// A key tells endpoints apart: a later pod at the same address is another endpoint.
type key struct {
	addr netip.AddrPort
	uid  string
}

// NewPool returns a Pool that has opened nothing yet.
func NewPool(o Options) *Pool {
	return &Pool{options: o, dial: dialTCP, endpoints: make(map[key]*endpoint), named: make(map[key]int),
		unnamed: make(map[key]*endpoint)}
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
				e.inspect(now)
				if e.down.Load() != 0 {
					probing.Go(func() { e.probe(now) })
				} else if !e.stays(now.UnixNano()) {
					probing.Go(e.lookAfter)
				}
			}
		}
	}
}

// Reuse counts what was done about idle connections: those that pods closed, and the requests that got a new connection
// because they cannot be sent twice and their pod might have been about to close the one that was idle.
type Reuse struct{ ClosedByPods, Avoided int64 }

// Reuse returns the counts since the pool was made.
func (p *Pool) Reuse() Reuse {
	return Reuse{ClosedByPods: p.closedIdle.Load(), Avoided: p.avoided.Load()}
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
	next := make([]retained, len(groups))
	for i, g := range groups {
		next[i] = retained{g, g.pods.Load()}
		p.count(next[i].set, 1)
	}
	for _, r := range p.retained {
		p.count(r.set, -1)
	}
	p.retained = next
	if p.forgot {
		p.forgot = false
		p.epoch.Add(1)
	}
}

// count notes that one set more, or one less, names its endpoints. p.mu is held.
func (p *Pool) count(set *discovery.EndpointSet, by int) {
	for i := range set.Len() {
		k := keyOf(set.At(i))
		n := p.named[k] + by
		if n > 0 {
			p.named[k] = n
			delete(p.unnamed, k)
			continue
		}
		delete(p.named, k)
		if e := p.endpoints[k]; e != nil {
			p.unnamed[k] = e
		}
	}
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
// under way stays, so that its load is seen should it be named again. Sets that have not changed cost a comparison each.
func (p *Pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retained == nil {
		return
	}
	for i := range p.retained {
		r := &p.retained[i]
		if next := r.group.pods.Load(); next != r.set {
			p.count(next, 1) // first, so that what both name is never nobody's
			p.count(r.set, -1)
			r.set = next
		}
	}
	for k, e := range p.unnamed {
		e.closeIdle(maxTime)
		if e.retire() {
			delete(p.endpoints, k)
			delete(p.unnamed, k)
			p.forgot = true
		}
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
			if p.named[k] == 0 {
				p.unnamed[k] = e
			}
		}
		states[i] = e
	}
	return states
}

func keyOf(e discovery.Endpoint) key { return key{e.Addr, e.UID} }
