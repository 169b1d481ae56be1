package upstream

import (
	"errors"
	"net"
	"syscall"
	"time"

	"tellergate/proxy/http1"
	"tellergate/proxy/socket"
)

// headerLimit bounds the header block of an answer, in bytes.
const headerLimit = 64 << 10

// A conn is one connection to a pod. It belongs to the endpoint's idle list or to one request at a time; its buffer
// exists only while a request has it.
type conn struct {
	endpoint *endpoint
	net      socket.Conn
	used     time.Time // since when it has been idle
	heard    time.Time // when the pod last sent something, if that is known
	reused   bool      // it has carried an answer before

	idled     time.Duration // how long it had been idle when the request that has it took it
	ended     time.Duration // how long ago the pod had closed it when look found that it had
	announced time.Duration // how long the pod has said it keeps it when idle; 0: it has not

	exchange *Exchange     // that has the connection; nil while idle
	reader   http1.Reader  // over the conn itself; without a buffer while idle
	now      bool          // Read does not wait
	renewal  time.Duration // while > 0, each read may take this long; else the deadline set stands
	until    time.Time     // the deadline in force, as far as the goroutine of the exchange knows

	peek func(fd uintptr)      // c.look, bound once
	turn func(fd uintptr) bool // c.take, bound once
	out  []byte                // what turn has to send before it receives; nil: nothing
	n    int                   // bytes the last look saw, or the last turn sent
	err  error                 // and its error
}

func newConn(e *endpoint, nc net.Conn) (*conn, error) {
	c := &conn{endpoint: e}
	c.net.Init(nc)
	if c.net.Raw() == nil {
		return nil, errors.New("BUG: a connection without a descriptor")
	}
	c.peek, c.turn = c.look, c.take
	c.reader.Source = c
	return c, nil
}

// look peeks at what the pod has sent, without blocking.
func (c *conn) look(fd uintptr) {
	c.n, c.err = socket.Peek(fd)
	if c.err == nil {
		c.ended = sinceEnd(fd, c.n > 0)
	}
}

// quiet reports whether the connection is open and the pod has sent nothing on it. A connection that is not quiet
// while it is idle must not carry a request: what came belongs to no request, or the pod has closed it.
func (c *conn) quiet() bool {
	return c.net.Raw().Control(c.peek) == nil && c.err == syscall.EAGAIN
}

// errStale: the pod has closed an idle connection, or sent something that belongs to no request; nothing was sent on it.
var errStale = errors.New("connection is stale")

// ask makes sure that a connection that was idle is quiet, sends b on it, and waits for the first bytes of the answer,
// all in one use of the poller: reading at once, as Read does, would only find that nothing has come yet. It returns
// what could not be sent without waiting. Other errors than errStale are left for the next Write or Read to find.
func (c *conn) ask(b []byte) (rest []byte, err error) {
	c.out, c.n, c.err = b, 0, nil
	_ = c.net.Raw().Read(c.turn)
	c.out = nil
	if c.err == errStale {
		return nil, errStale
	}
	return b[max(c.n, 0):], nil
}

// take is one turn. The first one sends and is over, unless something could not be sent; each one that follows, when the
// poller has seen something come, receives. No answer can be missed between the two: the poller was armed before both.
func (c *conn) take(fd uintptr) bool {
	if c.out != nil {
		if c.look(fd); c.err != syscall.EAGAIN {
			c.n, c.err = 0, errStale
			return true
		}
		c.endpoint.patience.survived(c.idled)
		c.n, c.err = socket.Send(fd, c.out)
		sent := c.n == len(c.out)
		c.out = nil
		return !sent
	}
	n, err := socket.Receive(fd, c.reader.Room())
	c.reader.Filled(n)
	c.reader.Release()
	return err != syscall.EAGAIN
}

// begin prepares the connection for a request whose answer must have begun within timeout. A deadline that leaves at
// least that, and at most a quarter more, is not worth setting anew.
func (c *conn) begin(x *Exchange, now time.Time, timeout time.Duration) {
	c.exchange = x
	c.renewal = 0
	if left := c.until.Sub(now); left < timeout || left > timeout*5/4 {
		c.until = now.Add(timeout * 5 / 4)
		c.net.SetDeadline(c.until)
	}
}

// Read reads from the pod. It serves the conn's own reader.
func (c *conn) Read(p []byte) (int, error) {
	if c.now {
		n, err := c.net.ReadNow(p)
		if n == 0 {
			err = http1.ErrNotYet // an end or an error will be met again by who waits
		}
		return n, err
	}
	c.heard = time.Time{}
	if c.renewal > 0 {
		if now := time.Now(); c.until.Sub(now) < c.renewal {
			c.until = now.Add(c.renewal * 5 / 4)
			c.exchange.deadline(c, c.until)
		}
	}
	return c.net.Read(p)
}

// end gives the connection back, for another request if clean is set, and counts the request as ended.
func (c *conn) end(clean bool) {
	e := c.endpoint
	clean = clean && len(c.reader.Buffered()) == 0
	c.reader.Drop()
	c.exchange = nil
	if clean {
		e.keep(c)
	} else {
		e.discard(c)
	}
	e.inFlight.Add(-1)
}
