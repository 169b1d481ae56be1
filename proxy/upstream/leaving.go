package upstream

import (
	"sync/atomic"
	"time"
)

const (
	// leavingFor is how long an endpoint is presumed to be leaving: what Kubernetes gives a pod to end by default. One that
	// is still there then closes its connections for another reason.
	leavingFor = 30 * time.Second
	// sessionsStay is how long sessions that are pinned to the endpoint still go there. docs/kubernetes.md asks pods to serve
	// on for 5 seconds: what the last of these sessions have begun ends before the pod does.
	sessionsStay = 3 * time.Second
	// leavingAfter is how many new connections in a row have to be closed after their first answer.
	leavingAfter = 2
)

// A departure is what the answers of an endpoint tell of its end. A pod that is told to end answers with Connection:
// close, and nobody else may be able to say so: the API server is away, or the pod is not one of Kubernetes'. What is on
// its way to it at the instant of its exit is lost, and a POST among that cannot be repeated, so whoever need not go
// there goes elsewhere.
//
// It is presumed of an endpoint that has kept connections open and now closes even new ones after their first answer.
// So neither servers that never keep a connection are meant, nor those that allow each a number of requests, nor the
// answer to a fault. Of one that is draining, one answer that closes its connection is enough. It is a preference only:
// where there is no other endpoint, this one is as good as ever.
type departure struct {
	keeps  atomic.Bool  // it has kept a connection open since it was last presumed to be leaving
	closed atomic.Int32 // new connections closed after their first answer, in a row
	asked  atomic.Bool  // somebody finds out whether it has left
}

// heard takes note of whether an answer leaves its connection open.
func (e *endpoint) heard(status int, reused, keep, draining bool) {
	d := &e.departure
	switch {
	case keep:
		if !d.keeps.Load() {
			d.keeps.Store(true)
		}
		if d.closed.Load() != 0 {
			e.left()
		}
	case reused && !draining || status >= 400 || !d.keeps.Load():
	case d.closed.Add(1) == leavingAfter || draining:
		d.keeps.Store(false)
		e.leaving.Store(time.Now().Add(leavingFor).UnixNano())
		e.closeIdle(maxTime)
	}
}

// stays reports whether the endpoint is not presumed to be leaving at now (Unix ns).
func (e *endpoint) stays(now int64) bool { return e.leaving.Load() <= now }

// leavesSoon reports whether the endpoint has been presumed to be leaving for so long that it may end at any moment.
func (e *endpoint) leavesSoon(now int64) bool {
	until := e.leaving.Load()
	return until > now && until-now < int64(leavingFor-sessionsStay)
}

// left ends the presumption: the endpoint is gone, or is not leaving after all.
func (e *endpoint) left() {
	e.departure.closed.Store(0)
	e.leaving.Store(0)
}

// lookAfter finds out whether an endpoint that is presumed to be leaving can still be dialled. Once it cannot, what answers
// there next is not the pod that left.
func (e *endpoint) lookAfter() {
	if !e.departure.asked.CompareAndSwap(false, true) {
		return
	}
	defer e.departure.asked.Store(false)
	e.mu.Lock()
	full := e.retired || e.open >= e.pool.options.PerEndpoint
	if !full {
		e.open++
	}
	e.mu.Unlock()
	if full {
		return
	}
	if c, err := e.dial(); err == nil {
		e.discard(c)
	}
}
