package upstream

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
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
	repeated   atomic.Int64 // see Repeats
	overBudget atomic.Int64

	mu        sync.Mutex
	endpoints map[key]*endpoint // guarded by mu, like everything beneath
	retained  []retained        // nil until the first Retain
	named     map[key]int       // how many of the sets in retained name an endpoint
	unnamed   map[key]*endpoint // those of endpoints that none of them names
	forgot    bool              // some endpoint was forgotten since the last Retain

	waking sync.Mutex
	woken  []*endpoint // guarded by waking; endpoints that Run does not know to be awake
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

// Run closes idle connections that are past their time, tries endpoints that could not be dialled, and forgets endpoints
// that no retained group names any more, until ctx ends; then it closes every idle connection and returns ctx's error. What
// it does costs as much as there are endpoints with connections, or with troubles, and sets that change.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(min(max(p.options.IdleTimeout/4, 10*time.Millisecond), probeEvery))
	defer tick.Stop()
	var probing sync.WaitGroup
	var awake []*endpoint
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
			awake = slices.DeleteFunc(p.addWoken(awake), func(e *endpoint) bool {
				e.closeIdle(now.Add(-p.options.IdleTimeout))
				e.inspect(now)
				if e.down.Load() != 0 {
					probing.Go(func() { e.probe(now) })
				} else if !e.stays(now.UnixNano()) {
					probing.Go(e.lookAfter)
				}
				return e.sleep(now)
			})
		}
	}
}

// addWoken adds the endpoints that have been woken since it was called last.
func (p *Pool) addWoken(awake []*endpoint) []*endpoint {
	p.waking.Lock()
	defer p.waking.Unlock()
	awake = append(awake, p.woken...)
	clear(p.woken)
	p.woken = p.woken[:0]
	return awake
}

// wake has Run look after the endpoint, which is about to open a connection. e.mu is held.
func (e *endpoint) wake() {
	if e.awake {
		return
	}
	e.awake = true
	p := e.pool
	p.waking.Lock()
	defer p.waking.Unlock()
	p.woken = append(p.woken, e)
}

// sleep reports whether nobody needs to look after the endpoint until it is woken.
func (e *endpoint) sleep(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.awake = !e.retired && (e.open > 0 || e.down.Load() != 0 || !e.stays(now.UnixNano()))
	return !e.awake
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
	for i, g := range groups { // before the former ones go, so that what both name is never nobody's
		next[i] = retained{g, g.pods.Load()}
		p.recount(new(discovery.EndpointSet), next[i].set)
	}
	for _, r := range p.retained {
		p.recount(r.set, new(discovery.EndpointSet))
	}
	p.retained = next
	if p.forgot {
		p.forgot = false
		p.epoch.Add(1)
	}
}

// recount notes that a set was replaced. Both are sorted, so what stays is passed over. p.mu is held.
func (p *Pool) recount(was, now *discovery.EndpointSet) {
	for i, j := 0, 0; i < was.Len() || j < now.Len(); {
		switch {
		case j == now.Len() || i < was.Len() && was.At(i).Addr.Compare(now.At(j).Addr) < 0:
			p.unname(keyOf(was.At(i)))
			i++
		case i == was.Len() || was.At(i).Addr != now.At(j).Addr:
			p.name(keyOf(now.At(j)))
			j++
		default: // the same address; perhaps another pod
			if k := keyOf(now.At(j)); k != keyOf(was.At(i)) {
				p.name(k)
				p.unname(keyOf(was.At(i)))
			}
			i++
			j++
		}
	}
}

func (p *Pool) name(k key) {
	p.named[k]++
	delete(p.unnamed, k)
}

func (p *Pool) unname(k key) {
	if p.named[k]--; p.named[k] > 0 {
		return
	}
	delete(p.named, k)
	if e := p.endpoints[k]; e != nil {
		p.unnamed[k] = e
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
			p.recount(r.set, next)
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
