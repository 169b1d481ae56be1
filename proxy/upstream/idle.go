package upstream

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tellergate/proxy/http1"
)

// A pod that closes a connection because nothing has come on it for a while does not know that a request is on its way.
// The request is lost, and nobody can tell whether it was executed. One that may be repeated is; for the others this file
// keeps out of the pod's way: they are sent on a connection only if it has been idle for at most half of the time that
// connections to this pod are known to survive. Knowing takes no request: it comes from looking at connections that are
// idle anyway.

// briefly is an idle time that every pod is taken to allow. A pod that closes sooner than this after an answer would fail
// clients of any kind.
const briefly = 5 * time.Millisecond

// patienceOf is what an endpoint is known to allow idle connections. It is safe for concurrent use; the zero value knows
// nothing. Two goroutines that learn at the same moment may undo each other's step, which the next look mends.
type patienceOf struct {
	known atomic.Int64 // ns; 0: nothing is known, hasty: the pod has closed within briefly
}

const hasty = -1

// survived notes that a connection was open after it had been idle for d.
func (p *patienceOf) survived(d time.Duration) {
	if int64(d) > p.known.Load() {
		p.known.Store(int64(d))
	}
}

// exhausted notes that a connection was closed by the pod after it had been idle for d. What was believed before and is
// longer than that is forgotten: the pod has changed, or has other reasons to close than time, and has to be seen to be
// patient again.
func (p *patienceOf) exhausted(d time.Duration) {
	switch {
	case d < briefly:
		p.known.Store(hasty)
	case int64(d) < p.known.Load():
		p.known.Store(int64(d))
	}
}

// safe returns the idle time below which the pod is far from closing.
func (p *patienceOf) safe() time.Duration {
	known := p.known.Load()
	if known == hasty {
		return hasty
	}
	return max(time.Duration(known/2), briefly)
}

// far reports whether the pod is far from closing c, which has been idle for d: by what the endpoint is known to allow,
// and by what the pod has said itself.
func (c *conn) far(d time.Duration) bool {
	return d <= c.endpoint.patience.safe() && (c.announced == 0 || d <= c.announced/2)
}

// expired reports whether c has been idle for too long to be used at all.
func (c *conn) expired(d time.Duration) bool {
	return d >= c.endpoint.pool.options.IdleTimeout || c.announced > 0 && d >= c.announced
}

// sinceEnd returns how long ago the kernel was told that the pod closes the connection, as well as that is known; data says
// that bytes came before that. The acknowledgement that was received last came with the end of the stream, and keep-alive
// probes can only make it look later than it was: the pod seems more patient by less than the time since then.
func sinceEnd(fd uintptr, data bool) time.Duration {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	ms := info.Last_ack_recv
	if data {
		ms = info.Last_data_recv
	}
	return time.Duration(ms) * time.Millisecond
}

// closedIdle notes that the pod has closed c, or has said something unasked, before a request was sent on it. c has been
// looked at when it had been idle for d.
func (c *conn) closedIdle(d time.Duration) {
	c.endpoint.pool.closedIdle.Add(1)
	c.endpoint.patience.exhausted(d - c.ended)
}

// inspect looks at the connections that have been idle longest: those that the pod has closed are closed here too, and
// the first that is open shows how patient the pod is.
func (e *endpoint) inspect(now time.Time) {
	for {
		e.mu.Lock()
		if len(e.idle) == 0 {
			e.mu.Unlock()
			return
		}
		c := e.idle[0]
		idled := now.Sub(c.used)
		quiet := c.quiet() // does not block
		if !quiet {
			e.idle[0] = nil
			e.idle = e.idle[1:]
		}
		e.mu.Unlock()
		if quiet {
			e.patience.survived(idled)
			return
		}
		c.closedIdle(idled)
		e.discard(c)
	}
}

// announced reads the timeout parameter of a Keep-Alive header, as servers send it; ok is false where it has none.
func announced(list []byte) (d time.Duration, ok bool) {
	const timeout = "timeout="
	for len(list) > 0 {
		var element []byte
		element, list = http1.CutElement(list)
		if len(element) <= len(timeout) || !http1.Is(element[:len(timeout)], timeout) {
			continue
		}
		if n, valid := http1.ParseLength(element[len(timeout):]); valid {
			return time.Duration(min(n, int64(24*time.Hour/time.Second))) * time.Second, true
		}
	}
	return 0, false
}
