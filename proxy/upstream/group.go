package upstream

import (
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"tellergate/discovery"
)

// A Group chooses among the endpoints of one PodSet. It is safe for concurrent use.
type Group struct {
	pool   *Pool
	pods   *discovery.PodSet
	random func() uint64 // where choices come from

	view atomic.Pointer[view]
	mu   sync.Mutex // held while the view is rebuilt

	budget budget
}

// A view binds one endpoint set to the runtime state of its endpoints. It is immutable.
type view struct {
	set      *discovery.EndpointSet
	epoch    uint64
	states   []*endpoint // states[i] is that of set.At(i)
	active   []int       // indexes into set
	draining []int
}

// current returns the view of the set that is published now.
func (g *Group) current() *view {
	set, epoch := g.pods.Load(), g.pool.epoch.Load()
	if v := g.view.Load(); v != nil && v.set == set && v.epoch == epoch {
		return v
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	set, epoch = g.pods.Load(), g.pool.epoch.Load()
	if v := g.view.Load(); v != nil && v.set == set && v.epoch == epoch {
		return v
	}
	v := &view{set: set, epoch: epoch, states: g.pool.states(set)}
	for i := range set.Len() {
		if set.At(i).State == discovery.Draining {
			v.draining = append(v.draining, i)
		} else {
			v.active = append(v.active, i)
		}
	}
	g.view.Store(v)
	return v
}

// Usable reports whether some endpoint, active or draining, could be tried now. It allocates nothing.
func (g *Group) Usable() bool {
	now := int64(0) // the clock is read where some endpoint is not plainly usable
	for _, e := range g.current().states {
		if e.usable(now) {
			return true
		}
		if now == 0 {
			if now = time.Now().UnixNano(); e.usable(now) {
				return true
			}
		}
	}
	return false
}

// Status returns the group's endpoints in the order of their addresses.
func (g *Group) Status() []EndpointStatus {
	v, now := g.current(), time.Now().UnixNano()
	status := make([]EndpointStatus, len(v.states))
	for i, e := range v.states {
		status[i] = EndpointStatus{
			Endpoint: v.set.At(i),
			Usable:   e.usable(now),
			InFlight: int(e.inFlight.Load()),
			Idle:     e.idleCount(),
			Patience: max(time.Duration(e.patience.known.Load()), 0),
		}
	}
	return status
}

// find returns the index of the endpoint at addr that is pod uid, or -1.
func (v *view) find(addr netip.AddrPort, uid string) int {
	i := sort.Search(v.set.Len(), func(i int) bool { return v.set.At(i).Addr.Compare(addr) >= 0 })
	if i < v.set.Len() && v.set.At(i).Addr == addr && v.set.At(i).UID == uid {
		return i
	}
	return -1
}

// maxTries bounds the endpoints that one request is offered to. Most of those that cannot be dialled refuse at once; the
// time that others take bounds the tries too, see Do.
const maxTries = 8

// A choice is the state of choosing endpoints for one request.
type choice struct {
	view  *view
	tried [maxTries]int
	n     int
	stay  bool // endpoints that are presumed to be leaving are not free
}

func (c *choice) has(i int) bool {
	for _, t := range c.tried[:c.n] {
		if t == i {
			return true
		}
	}
	return false
}

// take claims endpoint i for a try.
func (c *choice) take(i int, now int64) bool {
	if c.has(i) || !c.view.states[i].claim(now) {
		return false
	}
	c.tried[c.n] = i
	c.n++
	return true
}

// preferred takes the endpoint of the session's pin, or returns -1. One that is draining, or presumed to be leaving, is for
// pinned sessions; one that is about to end is for nobody who can go elsewhere.
func (c *choice) preferred(x *Exchange, now int64) int {
	if !x.Prefer.IsValid() {
		return -1
	}
	i := c.view.find(x.Prefer, x.PreferUID)
	if i < 0 {
		return -1
	}
	e := c.view.states[i]
	ends := c.view.set.At(i).State == discovery.Draining || !e.stays(now)
	if ends && !x.Pinned || e.leavesSoon(now) && c.another(i, now) || !c.take(i, now) {
		return -1
	}
	return i
}

// another reports whether an active endpoint other than i can take over a session.
func (c *choice) another(i int, now int64) bool {
	for _, j := range c.view.active {
		if e := c.view.states[j]; j != i && e.usable(now) && e.stays(now) {
			return true
		}
	}
	return false
}

// next takes an active endpoint, one that is presumed to be leaving only if there is no other, a draining one only if no
// active one can be tried, or returns -1.
func (c *choice) next(random func() uint64, now int64) int {
	if c.n == maxTries {
		return -1
	}
	c.stay = true
	if i := c.among(c.view.active, random, now); i >= 0 {
		return i
	}
	c.stay = false
	if i := c.among(c.view.active, random, now); i >= 0 {
		return i
	}
	return c.among(c.view.draining, random, now)
}

// among takes the less loaded of two endpoints drawn at random, which keeps the fullest one close to the average
// without looking at all of them. If neither can be tried, it takes the next that can.
func (c *choice) among(indexes []int, random func() uint64, now int64) int {
	n := uint64(len(indexes))
	if n == 0 {
		return -1
	}
	r := random()
	first := (r >> 32) % n
	if n > 1 {
		second := (first + 1 + (r&0xffffffff)%(n-1)) % n
		a, b := indexes[first], indexes[second]
		aFree, bFree := c.free(a, now), c.free(b, now)
		if bFree && (!aFree || c.load(b) < c.load(a)) {
			a, b, aFree, bFree = b, a, bFree, aFree
		}
		if aFree && c.take(a, now) {
			return a
		}
		if bFree && c.take(b, now) {
			return b
		}
	}
	for k := range n {
		if i := indexes[(first+k)%n]; c.free(i, now) && c.take(i, now) {
			return i
		}
	}
	return -1
}

func (c *choice) free(i int, now int64) bool {
	e := c.view.states[i]
	return !c.has(i) && e.usable(now) && (!c.stay || e.stays(now))
}

func (c *choice) load(i int) int64 { return c.view.states[i].inFlight.Load() }
