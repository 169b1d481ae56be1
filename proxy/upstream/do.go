package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"tellergate/discovery"
)

// Do sends x.Request to an endpoint of the group and reads the header of the answer. It returns nil, or an error that
// matches one of this package's with errors.Is.
//
// A request is sent again only if no connection to the endpoint could be made, or if it went out on a reused
// connection that ended before the first byte of an answer and its method is GET, HEAD or OPTIONS without a body; at
// most once per endpoint, and never after a byte of a streamed body was sent. The second sending goes to the same
// endpoint, on a new connection: a pod that closes idle connections is not a pod that is gone, and sessions stay where
// they are. A request that prefers an endpoint waits for a connection to it; others go to another endpoint while there
// is one with a connection free.
func (g *Group) Do(x *Exchange) error {
	x.Endpoint, x.Attempts, x.Dialled, x.Connect, x.Header = discovery.Endpoint{}, 0, false, 0, 0
	w := wires.Get().(*wire)
	defer w.release()
	if err := w.build(x.Request); err != nil {
		return err
	}
	c := choice{view: g.current()}
	start := time.Now()
	now := start.UnixNano()
	busy := -1
	failure := ErrNoEndpoint
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
		err := e.try(x, w, wait)
		if err == nil {
			return nil
		}
		switch {
		case errors.Is(err, ErrBusy) && !wait:
			busy, failure = i, err
		case errors.Is(err, ErrNotConnected):
			failure = err
		default:
			return err
		}
	}
}

// try offers the request to the endpoint, on a new connection once more if the retry rule allows it.
func (e *endpoint) try(x *Exchange, w *wire, wait bool) error {
	for reuse := true; ; reuse, wait = false, true {
		x.Attempts++
		e.inFlight.Add(1)
		before := time.Now()
		c, err := e.connect(reuse, wait)
		sent := time.Now()
		x.Connect += sent.Sub(before)
		if err != nil {
			e.inFlight.Add(-1)
			return fmt.Errorf("%w (%s)", err, e.address)
		}
		x.Dialled = !c.reused
		again := reuse && c.reused && w.stream == nil && repeatable(x.Request)
		err = c.exchange(x, w, sent)
		x.Header = time.Since(sent)
		if err == nil {
			e.reached()
			return nil
		}
		if err == errEnded && again {
			continue
		}
		switch {
		case err == errLate:
			err = ErrTimeout
		case err == errEnded:
			err = ErrReset
		}
		return fmt.Errorf("%w (%s)", err, e.address)
	}
}

// repeatable reports whether a request may be sent again when nobody knows whether the pod has seen it.
func repeatable(r *fasthttp.Request) bool {
	h := &r.Header
	bare := h.ContentLength() == 0 || h.ContentLength() == -2
	return bare && (h.IsGet() || h.IsHead() || h.IsOptions())
}

// exchange sends the request on c and receives the answer's header. On an error c has been closed; the error is
// errEnded, errLate, or matches ErrClientBody, ErrReset or ErrBadResponse.
func (c *conn) exchange(x *Exchange, w *wire, now time.Time) error {
	timeout := c.endpoint.pool.options.ResponseTimeout
	c.begin(now, timeout)
	whole, err := w.send(c, timeout)
	if err == nil {
		var h head
		if h, err = c.finalHead(); err == nil {
			err = c.receive(x, h, whole && !x.Request.Header.ConnectionClose())
		}
	}
	if err != nil {
		c.end(false)
	}
	return err
}

// blank empties a response, keeping the settings of its header that Reset would lose.
func blank(r *fasthttp.Response) {
	r.ResetBody()
	r.Header.Read(bufio.NewReader(bytes.NewReader(nil))) // resets the header before it finds nothing to read
}
