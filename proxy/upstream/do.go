package upstream

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"tellergate/discovery"
	"tellergate/proxy/http1"
)

const (
	// gather is the largest streamed body that is read from the client whole before a connection is taken.
	gather = 8 << 10
	// pieceSize is the buffer that a longer body passes through.
	pieceSize = 64 << 10
)

// Do sends the request to an endpoint of the group and reads the header of the answer. It returns nil, or an error that
// matches one of this package's with errors.Is.
//
// A request is sent again only if no connection to the endpoint could be made, or if it went out on a reused
// connection that ended before the first byte of an answer and it is Idempotent, or its method is GET, HEAD or OPTIONS
// and it has no body; at most once per endpoint, never with a body that is streamed, and under the version's budget. The
// second sending goes to the same endpoint, on a new connection: a pod that closes idle connections is not a pod that is
// gone, and sessions stay where they are. If that connection ends before an answer, too, the pod is going, and the
// request goes to one other endpoint.
// A request that prefers an endpoint waits for a connection to it; others go to another endpoint while there
// is one with a connection free. Endpoints are tried while they refuse, eight at most, and no longer than it takes
// three of them to say nothing at all.
//
// A small body of known length is read from the client whole before a connection is taken: it leaves in one write with
// the header, and a slow client holds no connection to a pod.
func (g *Group) Do(x *Exchange) error {
	defer g.settle(x)
	return g.do(x)
}

func (g *Group) do(x *Exchange) error {
	x.Endpoint, x.Attempts, x.Dialled, x.Connect, x.Header = discovery.Endpoint{}, 0, false, 0, 0
	x.cancelled.Store(false)
	if err := x.gather(); err != nil {
		return err
	}
	c := choice{view: g.current()}
	start := time.Now()
	now := start.UnixNano()
	busy := -1
	failure, moved := ErrNoEndpoint, false
	i := c.preferred(x, now)
	wait := i >= 0
	for ; ; i, wait = -1, false {
		if i < 0 {
			i = c.next(g.random, now)
		}
		if i < 0 && busy >= 0 {
			i, busy, wait = busy, -1, true
		}
		if i < 0 {
			return failure
		}
		e := c.view.states[i]
		x.Endpoint = c.view.set.At(i)
		err := e.try(x, g, start, wait)
		if err == nil {
			return nil
		}
		start = time.Now()
		switch {
		case errors.Is(err, ErrBusy) && !wait:
			busy, failure = i, err
		case errors.Is(err, ErrNotConnected) && x.Connect < 2*g.pool.options.ConnectTimeout:
			failure = err
		case errors.Is(err, errGoing) && !moved:
			failure, moved = err, true
		default:
			return err
		}
	}
}

// gather makes x.out of all that can be sent at once. Its error matches ErrClientBody.
func (x *Exchange) gather() error {
	if x.Stream == nil && len(x.Body) == 0 {
		x.out = x.Head
		return nil
	}
	x.Head = append(x.Head, x.Body...)
	x.out = x.Head
	if x.Stream == nil || x.Length < 0 || x.Length > gather {
		return nil
	}
	for left := x.Length; left > 0; {
		x.Head = slices.Grow(x.Head, int(left))
		n, err := x.Stream.Read(x.Head[len(x.Head) : len(x.Head)+int(left)])
		x.Head = x.Head[:len(x.Head)+n]
		left -= int64(n)
		if err != nil && left > 0 {
			return fmt.Errorf("%w: %w", ErrClientBody, err)
		}
	}
	x.out, x.Stream = x.Head, nil
	return nil
}

// errGoing: a request that may be repeated was, on a new connection to the same pod, and that ended as well. It is an
// ErrReset.
var errGoing = fmt.Errorf("%w, twice", ErrReset)

// try offers the request of a group to the endpoint at the moment now, on a new connection once more if the retry rule
// allows it.
func (e *endpoint) try(x *Exchange, g *Group, now time.Time, wait bool) error {
	for reuse := true; ; now = time.Now() {
		x.Attempts++
		e.inFlight.Add(1)
		c, sent, err := e.connect(now, reuse, wait, !x.repeatable())
		x.Connect += sent.Sub(now)
		if err != nil {
			e.inFlight.Add(-1)
			return fmt.Errorf("%w (%s)", err, e.address)
		}
		x.Dialled = !c.reused
		again := reuse && c.reused && x.repeatable()
		err = c.carry(x, sent)
		x.Answered = time.Now()
		x.Header = x.Answered.Sub(sent)
		if err == nil {
			c.heard = x.Answered
			e.reached()
			return nil
		}
		if err == errStale {
			c.closedIdle(c.idled)
			x.Attempts--
			continue
		}
		if err == errEnded && c.reused {
			e.patience.exhausted(c.idled)
		}
		if err == errEnded && again && g.mayRepeat(x) {
			reuse, wait = false, true
			continue
		}
		switch {
		case err == errLate:
			err = ErrTimeout
		case err == errEnded && !reuse && x.repeatable():
			err = errGoing
		case err == errEnded:
			err = ErrReset
		}
		return fmt.Errorf("%w (%s)", err, e.address)
	}
}

// repeatable reports whether a request may be sent again when nobody knows whether the pod has seen it.
func (x *Exchange) repeatable() bool {
	if x.Stream != nil || x.Upgrade != "" || x.cancelled.Load() {
		return false
	}
	if x.Idempotent {
		return true
	}
	if x.Length != 0 || len(x.Body) > 0 {
		return false
	}
	return x.Method == "GET" || x.Method == "HEAD" || x.Method == "OPTIONS"
}

// carry sends the request on c and receives the answer's header. On an error c has been closed; the error is errStale,
// errEnded, errLate, or matches ErrClientBody, ErrReset, ErrCancelled or ErrBadResponse.
func (c *conn) carry(x *Exchange, now time.Time) error {
	timeout := c.endpoint.pool.options.ResponseTimeout
	x.upload.err = nil
	c.begin(x, now, timeout)
	x.body, x.keep = http1.Body{Trailer: x.body.Trailer[:0]}, false
	if !x.attach(c) {
		x.abandon(c)
		return ErrCancelled
	}
	written, rest := true, x.out
	if c.reused {
		var err error
		if rest, err = c.first(x); err != nil {
			x.abandon(c)
			return err
		}
	}
	if len(rest) > 0 {
		if _, err := c.net.Write(rest); err != nil {
			c.expect(time.Now().Add(lastWords)) // it may have said why before it closed
			written = false
		} else if x.Stream != nil {
			x.start(c, timeout)
		}
	}
	err := c.finalHead(x, written)
	if err == nil {
		x.upload.answered.Store(true)
		return nil
	}
	return x.because(c, err)
}

// first sends on a connection that was idle, unless a stream follows: then it only looks whether the connection is
// quiet. The error is errStale.
func (c *conn) first(x *Exchange) (rest []byte, err error) {
	if x.Stream == nil {
		return c.ask(x.out)
	}
	if !c.quiet() {
		return nil, errStale
	}
	c.endpoint.patience.survived(c.idled)
	return x.out, nil
}

// because abandons the connection and says what the failure err of it came from: the client's body or going away first.
func (x *Exchange) because(c *conn, err error) error {
	x.abandon(c)
	switch {
	case x.upload.err != nil:
		return fmt.Errorf("%w: %w", ErrClientBody, x.upload.err)
	case x.cancelled.Load():
		return ErrCancelled
	}
	return err
}

// abandon closes the connection in the midst of an exchange.
func (x *Exchange) abandon(c *conn) {
	x.detach()
	x.upload.join(c)
	c.end(false)
	x.upload.rethrow()
}
