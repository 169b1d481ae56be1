package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	firstBackoff = 250 * time.Millisecond // an endpoint that could not be dialled is left alone this long at first
	lastBackoff  = time.Second            // and never longer than this
	probeEvery   = 250 * time.Millisecond // the pool looks this often for endpoints to try again
	busyWait     = time.Second            // a request waits this long at most for a connection
)

// maxTime is later than any moment a connection was last used.
var maxTime = time.Unix(1<<40, 0)

// A dialer makes a connection within timeout.
type dialer func(address string, timeout time.Duration) (net.Conn, error)

func dialTCP(address string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(context.Background(), "tcp", address)
}

// An endpoint is the runtime state of one pod: its load, its connections, and whether it can be dialled. It is safe
// for concurrent use.
type endpoint struct {
	inFlight atomic.Int64 // requests chosen for this endpoint and not yet ended
	down     atomic.Int64 // Unix ns before which nobody tries it; 0 while it can be dialled
	leaving  atomic.Int64 // Unix ns until which it is presumed to be leaving; 0: it is not
	_        [40]byte     // the counters above change with every request; what follows must not share their line

	pool      *Pool
	address   string
	departure departure
	patience  patienceOf

	mu       sync.Mutex
	idle     []*conn   // guarded by mu; least recently used first
	open     int       // guarded by mu; connections, idle or not, and those being dialled
	waiters  []*waiter // guarded by mu; first come first served
	failures int       // guarded by mu; dials failed in a row
	failed   time.Time // guarded by mu; when the last of them was noted
	awake    bool      // guarded by mu; the pool's Run looks after it
	retired  bool      // guarded by mu; forgotten by the pool: nothing is kept any more
}

// A waiter is a request that waits for a connection. It is given one, or nil as the permission to dial.
type waiter struct {
	given chan *conn
}

func newEndpoint(p *Pool, addr netip.AddrPort) *endpoint {
	return &endpoint{pool: p, address: addr.String()}
}

// usable reports whether a request may try the endpoint at now (Unix ns).
func (e *endpoint) usable(now int64) bool { return e.down.Load() <= now }

// claim takes the right to try the endpoint. While it is not known to be dialled, one request at a time has it.
func (e *endpoint) claim(now int64) bool {
	until := e.down.Load()
	if until == 0 {
		return true
	}
	probe := now + int64(e.pool.options.ConnectTimeout+busyWait)
	return until <= now && e.down.CompareAndSwap(until, probe)
}

// probe tries an endpoint that could not be dialled, shortly before requests would have to: the first to pay is nobody.
// A connection that can be made is kept for the first request.
func (e *endpoint) probe(now time.Time) {
	until := e.down.Load()
	if until == 0 || until > now.Add(probeEvery).UnixNano() ||
		!e.down.CompareAndSwap(until, now.Add(e.pool.options.ConnectTimeout+busyWait).UnixNano()) {
		return
	}
	e.mu.Lock()
	full := e.retired || e.open >= e.pool.options.PerEndpoint
	if !full {
		e.open++
	}
	e.mu.Unlock()
	if full {
		e.down.Store(until)
		return
	}
	if c, err := e.dial(); err == nil {
		e.keep(c)
	}
}

// connect returns a connection of its own for one request, an idle one if reuse is set; with careful, which says that the
// request cannot be sent twice, only one that its pod is not about to close. It waits for a connection to become free only
// if wait is set. One that was idle may be stale: sending on it finds out. at is when the connection was there, now where it
// was at hand. The error matches ErrBusy or ErrNotConnected.
func (e *endpoint) connect(now time.Time, reuse, wait, careful bool) (c *conn, at time.Time, err error) {
	e.mu.Lock()
	for reuse && len(e.idle) > 0 {
		c := e.idle[len(e.idle)-1]
		idled := now.Sub(c.used)
		expired := c.expired(idled)
		if careful && !expired && !c.far(idled) {
			e.pool.avoided.Add(1)
			break
		}
		e.idle[len(e.idle)-1] = nil
		e.idle = e.idle[:len(e.idle)-1]
		e.mu.Unlock()
		if !expired {
			c.idled, c.reused = idled, true
			return c, now, nil
		}
		c.net.Close()
		e.mu.Lock()
		e.open--
	}
	if e.open >= e.pool.options.PerEndpoint && len(e.idle) > 0 {
		oldest := e.idle[0]
		e.idle = slices.Delete(e.idle, 0, 1)
		oldest.net.Close()
		e.open--
	}
	if e.open < e.pool.options.PerEndpoint {
		e.open++
		e.wake()
		e.mu.Unlock()
		c, err = e.dial()
		return c, time.Now(), err
	}
	if !wait || len(e.waiters) >= e.pool.options.PerEndpoint {
		e.mu.Unlock()
		return nil, now, ErrBusy
	}
	w := &waiter{given: make(chan *conn, 1)}
	e.waiters = append(e.waiters, w)
	e.mu.Unlock()
	c, err = e.await(w)
	return c, time.Now(), err
}

func (e *endpoint) await(w *waiter) (*conn, error) {
	timeout := time.NewTimer(busyWait)
	defer timeout.Stop()
	var c *conn
	select {
	case c = <-w.given:
	case <-timeout.C:
		e.mu.Lock()
		i := slices.Index(e.waiters, w)
		if i >= 0 {
			e.waiters = slices.Delete(e.waiters, i, i+1)
		}
		e.mu.Unlock()
		if i >= 0 {
			return nil, ErrBusy
		}
		c = <-w.given // given in the very moment
	}
	if c != nil {
		if c.quiet() {
			c.idled, c.reused = 0, true
			return c, nil
		}
		c.net.Close() // its place among the open ones is taken over
	}
	return e.dial()
}

// dial makes a connection for which the caller has counted open up.
func (e *endpoint) dial() (*conn, error) {
	started := time.Now()
	nc, err := e.pool.dial(e.address, e.pool.options.ConnectTimeout)
	if err == nil {
		var c *conn
		if c, err = newConn(e, nc); err == nil {
			e.reached()
			return c, nil
		}
		nc.Close()
	}
	e.vacate()
	if !ownFault(err) {
		e.unreachable(started)
	}
	return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
}

// ownFault reports whether a dial failed for want of resources here, which says nothing about the endpoint.
func ownFault(err error) bool {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// reached notes that the pod was dialled, or has answered.
func (e *endpoint) reached() {
	if e.down.Load() == 0 {
		return
	}
	e.mu.Lock()
	e.failures = 0
	e.down.Store(0)
	e.mu.Unlock()
}

// unreachable leaves the endpoint alone for a time that doubles with each failure in a row. Dials that were under way
// at the same time count as one failure; started is when this one was.
func (e *endpoint) unreachable(started time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if started.Before(e.failed) {
		return
	}
	backoff := min(firstBackoff<<min(e.failures, 16), lastBackoff)
	e.failures++
	e.failed = time.Now()
	e.wake()
	e.left()
	e.down.Store(e.failed.Add(backoff).UnixNano())
}

// keep takes c back after an answer that left it clean. The next waiter gets it, or it waits for a request.
func (e *endpoint) keep(c *conn) {
	if c.used = c.heard; c.used.IsZero() {
		c.used = time.Now()
	}
	e.mu.Lock()
	if len(e.waiters) > 0 {
		e.next().given <- c
		e.mu.Unlock()
		return
	}
	if e.retired || e.pool.closed.Load() {
		e.open--
		e.mu.Unlock()
		c.net.Close()
		return
	}
	e.idle = append(e.idle, c)
	e.mu.Unlock()
}

// discard closes c, which is not idle.
func (e *endpoint) discard(c *conn) {
	c.net.Close()
	e.vacate()
}

// vacate gives up one place among the open connections: the next waiter may dial, if there is one.
func (e *endpoint) vacate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiters) > 0 {
		e.next().given <- nil
		return
	}
	e.open--
}

// next takes the first waiter off the queue; e.mu is held and there is one.
func (e *endpoint) next() *waiter {
	w := e.waiters[0]
	e.waiters[0] = nil
	e.waiters = e.waiters[1:]
	return w
}

// closeIdle closes the idle connections last used before limit.
func (e *endpoint) closeIdle(limit time.Time) {
	e.mu.Lock()
	n := 0
	for n < len(e.idle) && e.idle[n].used.Before(limit) {
		n++
	}
	old := slices.Clone(e.idle[:n])
	e.idle = slices.Delete(e.idle, 0, n)
	e.open -= n
	e.mu.Unlock()
	for _, c := range old {
		c.net.Close()
	}
}

// retire reports whether the endpoint has come to rest; if so it keeps no connection from now on.
func (e *endpoint) retire() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retired = e.open == 0 && len(e.waiters) == 0 && e.inFlight.Load() == 0
	return e.retired
}

func (e *endpoint) idleCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.idle)
}
