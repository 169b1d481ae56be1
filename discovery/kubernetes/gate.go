package kubernetes

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// probeEvery is how often an API server that cannot be reached is tried, by one follower for all of them.
const probeEvery = 250 * time.Millisecond

// warming is how long an API server that has just come back may refuse what it will allow once it has read all it needs.
const warming = 5 * time.Second

// A gate keeps hundreds of followers from knocking at an API server that is away: while it is closed, one at a time
// passes. It opens with the first success of anybody. It is safe for concurrent use; create it with newGate.
type gate struct {
	notify  func(reachable bool, err error) // called without the lock held, on each change
	warming time.Duration

	mu      sync.Mutex
	refuses time.Time     // since when it has answered, if only to refuse, though the gate is closed; guarded by mu
	closed  bool          // guarded by mu
	probing bool          // somebody has passed the closed gate and not come back; guarded by mu
	next    time.Time     // when the next one may pass; guarded by mu
	changed chan struct{} // closed and replaced when somebody should look again; guarded by mu
	opened  chan struct{} // closed and replaced when the gate opens; guarded by mu
}

func newGate(notify func(reachable bool, err error)) *gate {
	return &gate{notify: notify, warming: warming, changed: make(chan struct{}), opened: make(chan struct{})}
}

// enter waits until the caller may ask the API server, and returns ctx's error if that ends first. Whoever enters
// comes back with succeeded or failed.
func (g *gate) enter(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		g.mu.Lock()
		now := time.Now()
		if !g.closed {
			g.mu.Unlock()
			return nil
		}
		if !g.probing && !now.Before(g.next) {
			g.probing = true
			g.mu.Unlock()
			return nil
		}
		changed, wait := g.changed, g.next.Sub(now)
		if g.probing {
			wait = time.Minute
		}
		g.mu.Unlock()
		timer := time.NewTimer(wait + rand.N(probeEvery/10)) // so that another one has a turn
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// succeeded opens the gate.
func (g *gate) succeeded() {
	g.mu.Lock()
	was := g.closed
	if was {
		g.open()
	}
	g.mu.Unlock()
	if was {
		g.notify(true, nil)
	}
}

// open lets everybody pass. g.mu is held.
func (g *gate) open() {
	g.closed, g.probing, g.refuses = false, false, time.Time{}
	close(g.changed)
	close(g.opened)
	g.changed, g.opened = make(chan struct{}), make(chan struct{})
}

// failed closes the gate if the API server could not be reached, and opens it if the API server has come back to refuse:
// then everybody learns, and says, what is refused. away tells whether the gate is closed now, so that the caller waits at
// it rather than by itself.
func (g *gate) failed(err error) (away bool) {
	now := time.Now()
	g.mu.Lock()
	was := g.closed
	switch {
	case transportFault(err):
		g.refuses = time.Time{}
		g.closed = true
	case was && g.refuses.IsZero():
		g.refuses = now
	case was && now.Sub(g.refuses) >= g.warming:
		g.open()
	}
	if away = g.closed; away {
		g.probing, g.next = false, now.Add(probeEvery)
		close(g.changed)
		g.changed = make(chan struct{})
	}
	g.mu.Unlock()
	if away != was {
		g.notify(!away, err)
	}
	return away
}

// abandoned is what a follower says that entered and ends without having learnt anything.
func (g *gate) abandoned() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		g.probing = false
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// opening returns a channel that is closed when the gate next opens.
func (g *gate) opening() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}
