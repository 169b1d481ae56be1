package upstream

import (
	"slices"
	"sync"
	"time"
)

// Of the requests under way at a version, one in repeatShare may be one that is sent again, and leastRepeats in any case.
const (
	repeatShare  = 5
	leastRepeats = 3
)

// A budget bounds how many requests of one version are sent again at the same time: pods in trouble are not given more
// work for being in trouble. Beyond it requests wait for one another, but not long: what a dying pod had under way comes
// back all at once, and each is soon done elsewhere.
//
// A request that no connection could be made for needs none of it: no pod has any work of that.
type budget struct {
	mu      sync.Mutex
	taken   int             // guarded by mu
	waiters []chan struct{} // guarded by mu; first come first served, each is given what is given back
}

// take waits for the right to send one request again, for busyWait at most, while limit of them are.
func (b *budget) take(limit int) bool {
	b.mu.Lock()
	if b.taken < limit && len(b.waiters) == 0 {
		b.taken++
		b.mu.Unlock()
		return true
	}
	given := make(chan struct{}, 1)
	b.waiters = append(b.waiters, given)
	b.mu.Unlock()
	timeout := time.NewTimer(busyWait)
	defer timeout.Stop()
	select {
	case <-given:
	case <-timeout.C:
		b.mu.Lock()
		i := slices.Index(b.waiters, given)
		if i >= 0 {
			b.waiters = slices.Delete(b.waiters, i, i+1)
		}
		b.mu.Unlock()
		return i < 0 // given in the very moment
	}
	return true
}

// give gives back what take has granted.
func (b *budget) give() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiters) == 0 {
		b.taken--
		return
	}
	b.waiters[0] <- struct{}{}
	b.waiters = slices.Delete(b.waiters, 0, 1)
}

// repeats is how many requests of the version may be sent again at the same time.
func (v *view) repeats() int {
	active := int64(0)
	for _, e := range v.states {
		active += e.inFlight.Load()
	}
	return max(int(active/repeatShare), leastRepeats)
}

// mayRepeat reports whether x may be sent again, which it has to wait for where many are.
func (g *Group) mayRepeat(x *Exchange) bool {
	if x.repeating {
		return true
	}
	if x.repeating = g.budget.take(g.current().repeats()); x.repeating {
		g.pool.repeated.Add(1)
	} else {
		g.pool.overBudget.Add(1)
	}
	return x.repeating
}

// settle gives back what x holds of the budget.
func (g *Group) settle(x *Exchange) {
	if x.repeating {
		x.repeating = false
		g.budget.give()
	}
}

// Repeats counts the requests that were sent again, and those that were not because too many of their version were.
type Repeats struct{ Sent, OverBudget int64 }

// Repeats returns the counts since the pool was made.
func (p *Pool) Repeats() Repeats {
	return Repeats{Sent: p.repeated.Load(), OverBudget: p.overBudget.Load()}
}
