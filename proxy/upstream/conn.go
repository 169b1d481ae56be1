package upstream

import (
	"errors"
	"net"
	"syscall"
	"time"

	"tellergate/proxy/http1"
)

// headerLimit bounds the header block of an answer, in bytes.
const headerLimit = 64 << 10

// A conn is one connection to a pod. It belongs to the endpoint's idle list or to one request at a time; its buffer
// exists only while a request has it.
type conn struct {
	endpoint *endpoint
	net      net.Conn
	raw      syscall.RawConn
	used     time.Time // when it last became idle
	reused   bool      // it has carried an answer before

	exchange *Exchange     // that has the connection; nil while idle
	reader   http1.Reader  // over the conn itself; without a buffer while idle
	renewal  time.Duration // while > 0, each read may take this long; else the deadline set stands
	until    time.Time     // the deadline in force, as far as the goroutine of the exchange knows

	peek func(fd uintptr) // c.look, bound once
	seen [1]byte
	n    int   // bytes the last look saw
	err  error // and its error
}

func newConn(e *endpoint, nc net.Conn) (*conn, error) {
	c := &conn{endpoint: e, net: nc}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("BUG: a connection without a descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c.raw = raw
	c.peek = c.look
	c.reader.Source = c
	return c, nil
}

// look peeks at what the pod has sent, without blocking.
func (c *conn) look(fd uintptr) {
	for {
		c.n, _, c.err = syscall.Recvfrom(int(fd), c.seen[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if c.err != syscall.EINTR {
			return
		}
	}
}

// quiet reports whether the connection is open and the pod has sent nothing on it. A connection that is not quiet
// while it is idle must not carry a request: what came belongs to no request, or the pod has closed it.
func (c *conn) quiet() bool {
	return c.raw.Control(c.peek) == nil && c.err == syscall.EAGAIN
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
