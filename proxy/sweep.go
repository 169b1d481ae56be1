package proxy

import (
	"context"
	"time"
)

// Deadlines of clients are not timers: one goroutine of each frontend looks at every connection once in a while and ends
// what has taken too long. A request then costs a few atomic stores, and an idle connection nothing.

const (
	longestSweep  = 400 * time.Millisecond
	shortestSweep = 10 * time.Millisecond
)

// firstMoment is when the process began.
var firstMoment = time.Now()

// momentOf is a time as phases are measured in it: positive, in ms, on the clock that nobody sets, so that a stepped wall
// clock ends no connection.
func momentOf(t time.Time) int64 { return t.Sub(firstMoment).Milliseconds() + 1 }

// sweepEvery is the time between two sweeps: a fraction of the shortest limit, so that limits are kept to within it.
func (f *frontend) sweepEvery() time.Duration {
	every := longestSweep
	for _, limit := range []time.Duration{f.limits.HeaderTimeout, f.limits.IdleTimeout, f.limits.WholeTimeout} {
		if limit > 0 {
			every = min(every, limit/4)
		}
	}
	return max(every, shortestSweep)
}

// sweep runs until ctx ends.
func (f *frontend) sweep(ctx context.Context) {
	tick := time.NewTicker(f.sweepEvery())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := momentOf(time.Now())
		f.mu.Lock()
		for c := f.first; c != nil; c = c.next {
			c.check(now)
		}
		f.mu.Unlock()
	}
}

// check ends what has taken the connection too long at the moment now.
func (c *conn) check(now int64) {
	state := c.state.Load()
	age := time.Duration(now-state>>momentAt) * time.Millisecond
	limits := &c.f.limits
	switch phaseOf(state) {
	case idle, unread:
		switch {
		case age >= limits.IdleTimeout || c.f.closing.Load():
			c.expire(state)
		case phaseOf(state) == unread && age >= c.f.sweepEvery():
			c.checkEnd(state)
		}
	case fresh:
		if age >= limits.IdleTimeout || c.f.closing.Load() && age >= freshGrace {
			c.expire(state)
		}
	case handshaking:
		if age >= limits.HeaderTimeout || c.f.closing.Load() && age >= freshGrace {
			c.expire(state)
		}
	case reading:
		if age >= limits.HeaderTimeout {
			c.expire(state)
		}
	case writing:
		if age >= limits.IdleTimeout {
			c.expire(state)
		}
	case waiting:
		if age >= c.f.sweepEvery() {
			c.checkClient()
		}
	}
	if began := c.began.Load(); began > 0 && limits.WholeTimeout > 0 &&
		time.Duration(now-began)*time.Millisecond >= limits.WholeTimeout && phaseOf(state) != tunnelled {
		c.overdue()
	}
	if c.tls != nil && phaseOf(state) != tunnelled {
		// TLS may have to write while it reads, which is no phase.
		if stalled := c.tls.Stalled(); stalled > 0 && stalled >= limits.IdleTimeout {
			_ = c.net.SetDeadline(past)
		}
	}
}

// expire ends a phase whose time is over, unless it has just been left. A client that does not send may still be told
// so; one that does not read may not.
func (c *conn) expire(state int64) {
	if !c.state.CompareAndSwap(state, state|late) {
		return
	}
	if p := phaseOf(state); p == writing || p == handshaking {
		_ = c.net.SetDeadline(past)
	} else {
		_ = c.net.SetReadDeadline(past)
	}
}

// checkEnd ends an unread connection that the client has ended, and takes others to be idle.
func (c *conn) checkEnd(state int64) {
	if c.closedByClient() {
		c.expire(state)
		return
	}
	c.state.CompareAndSwap(state, state&^phases|int64(idle))
}

// checkClient cancels the exchange of a client that has gone away: nobody will read the answer.
func (c *conn) checkClient() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exchange == nil || !c.mayLeave || c.gone || !c.closedByClient() {
		return
	}
	c.gone = true
	c.f.p.metrics.abandoned.Inc()
	c.exchange.Cancel()
}

// overdue ends a request that has taken longer than limits.wholeTimeout.
func (c *conn) overdue() {
	c.mu.Lock()
	if c.exchange != nil {
		c.exchange.Cancel()
	}
	c.mu.Unlock()
	_ = c.net.SetReadDeadline(past)
}
