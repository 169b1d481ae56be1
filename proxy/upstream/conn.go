package upstream

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// readerSize is the buffer most answers are read with; headerLimit is that of an answer whose header does not fit.
	readerSize  = 4 << 10
	headerLimit = 64 << 10
)

var (
	readers      = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerSize) }}
	largeReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headerLimit) }}
)

// A conn is one connection to a pod. It belongs to the endpoint's idle list or to one request at a time; its buffer
// exists only while a request has it.
type conn struct {
	endpoint *endpoint
	net      net.Conn
	raw      syscall.RawConn
	used     time.Time // when it last became idle
	reused   bool      // it has carried an answer before

	reader  *bufio.Reader // over the conn itself; nil while idle
	early   []byte        // read before the reader was replaced by a larger one
	renewal time.Duration // while > 0, each read may take this long; else the deadline set stands
	until   time.Time     // the read deadline in force

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

// begin prepares the connection for a request whose answer must have begun within timeout.
func (c *conn) begin(now time.Time, timeout time.Duration) {
	c.reader = readers.Get().(*bufio.Reader)
	c.reader.Reset(c)
	c.early = nil
	c.renewal = 0
	c.until = now.Add(timeout)
	c.net.SetDeadline(c.until)
}

// expect sets the deadline of the answer's header.
func (c *conn) expect(until time.Time) {
	c.until = until
	c.net.SetReadDeadline(until)
}

// enlarge replaces a full reader by one that holds headerLimit, keeping what was read. It reports whether it could.
func (c *conn) enlarge() bool {
	if c.reader.Size() >= headerLimit {
		return false
	}
	full, _ := c.reader.Peek(c.reader.Buffered())
	c.early = append([]byte(nil), full...)
	c.letGo()
	c.reader = largeReaders.Get().(*bufio.Reader)
	c.reader.Reset(c)
	return true
}

func (c *conn) letGo() {
	if c.reader == nil {
		return
	}
	c.reader.Reset(nil)
	if c.reader.Size() >= headerLimit {
		largeReaders.Put(c.reader)
	} else {
		readers.Put(c.reader)
	}
	c.reader = nil
}

// Read reads from the pod. It serves the conn's own reader.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	if c.renewal > 0 {
		// A deadline that has most of its time left is not worth setting anew.
		if now := time.Now(); c.until.Sub(now) < c.renewal*3/4 {
			c.expect(now.Add(c.renewal))
		}
	}
	return c.net.Read(p)
}

// end gives the connection back, for another request if clean is set, and counts the request as ended.
func (c *conn) end(clean bool) {
	e := c.endpoint
	clean = clean && c.reader.Buffered() == 0 && len(c.early) == 0
	c.letGo()
	if clean {
		e.keep(c)
	} else {
		e.discard(c)
	}
	e.inFlight.Add(-1)
}
