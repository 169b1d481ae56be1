package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tellergate/proxy/http1"
	"tellergate/proxy/socket"
	"tellergate/proxy/upstream"
)

// A phase is what a client's connection is doing. The time in it is bounded by the frontend's sweep.
type phase int64

const (
	idle        phase = iota // between requests: no buffer, no request
	reading                  // a header has begun
	receiving                // a small body is read whole
	waiting                  // for the pod, or with it
	writing                  // to the client
	tunnelled                // bytes pass both ways after an upgrade
	leaving                  // the last answer has been written
	fresh                    // idle, and no request has come yet
	handshaking              // of TLS
	unread                   // idle, and it is not known whether the client has ended the connection: the sweep looks, once
)

// A state is the moment since when the connection is in its phase, late, and the phase.
const (
	late     = 1 << 4 // the time of the phase was over: whoever leaves it finds this
	phases   = late - 1
	momentAt = 5
)

func phaseOf(state int64) phase { return phase(state & phases) }

// past is a deadline that ends whatever is waiting.
var past = time.Unix(1, 0)

// A conn is one client's connection. Everything but state, exchange and the links belongs to the goroutine in serve; the
// one that uploads a body reads from it meanwhile (upload).
type conn struct {
	f    *frontend
	net  socket.Conn
	tls  *socket.TLS // nil: plain; else what is read and written through net
	peer netip.Addr
	in   http1.Reader
	cut  bool // the answer was cut short: the client must not take the end of the connection for its end

	shaky bool // in TLS the client must not be told that all has been said: the answer was cut short, or there is no TLS
	deaf  bool // what still comes is not decrypted

	at    time.Time // the clock when it was last read: since then nothing has been waited for
	state atomic.Int64
	began atomic.Int64 // the moment the request began; 0 while there is none

	mu       sync.Mutex
	exchange *upstream.Exchange // guarded by mu; what the sweep may cancel
	mayLeave bool               // guarded by mu; the exchange ends when the client goes away
	gone     bool               // guarded by mu; the client has gone away

	previous, next *conn // guarded by f.mu

	receive func(fd uintptr) bool // c.tryReceive, c.tryPeek and c.tryServe, bound once
	peek    func(fd uintptr) bool
	turn    func(fd uintptr) bool
	n       int   // what they got
	err     error // and what went wrong

	ending ending   // of the turn
	late   bool     // the time to wait for what has come in the turn was over
	parked *request // that a turn has ended with
}

func newConn(f *frontend, nc net.Conn) *conn {
	c := &conn{f: f, peer: peerOf(nc.RemoteAddr()), at: time.Now()}
	c.net.Init(nc)
	c.in.Source = &c.net
	if t := f.tls.Load(); t != nil {
		c.tls = new(socket.TLS)
		c.tls.Init(&c.net, t.config)
		c.in.Source = c.tls
	}
	c.receive, c.peek, c.turn = c.tryReceive, c.tryPeek, c.tryServe
	return c
}

// enter begins a phase at c.at. It reports whether the time of the one before was over.
func (c *conn) enter(p phase) (wasLate bool) {
	return c.state.Swap(momentOf(c.at)<<momentAt|int64(p))&late != 0
}

// enterNow begins a phase after something was waited for.
func (c *conn) enterNow(p phase) (wasLate bool) {
	c.at = time.Now()
	return c.enter(p)
}

// fill waits for more from the client. While nothing comes, no buffer is held.
func (c *conn) fill(limit int) error {
	raw := c.net.Raw()
	if raw == nil || len(c.in.Buffered()) > 0 {
		return c.in.Fill(limit)
	}
	if err := raw.Read(c.receive); err != nil {
		return err
	}
	return c.received()
}

// received is what became of tryReceive.
func (c *conn) received() error {
	if c.err == nil && c.n == 0 {
		return io.EOF
	}
	return c.err
}

// tryReceive reads what there is into the buffer, or gives the buffer back and asks to be called again.
func (c *conn) tryReceive(fd uintptr) bool {
	if c.tls != nil {
		c.n, c.err = c.tls.Receive(fd, c.in.Room())
	} else {
		c.n, c.err = socket.Receive(fd, c.in.Room())
	}
	c.in.Filled(c.n)
	c.in.Release()
	return c.err != syscall.EAGAIN
}

// await waits until there is something to read, or the connection has ended; no buffer is held meanwhile.
func (c *conn) await() error {
	raw := c.net.Raw()
	if raw == nil || len(c.in.Buffered()) > 0 {
		return nil
	}
	return raw.Read(c.peek)
}

// tryPeek looks whether there is something to read; the end of the connection and errors are left for Read to find.
func (c *conn) tryPeek(fd uintptr) bool {
	_, err := c.look(fd)
	return err != syscall.EAGAIN
}

// look looks whether there is something to read. The results are those of socket.Peek.
func (c *conn) look(fd uintptr) (n int, err error) {
	if c.tls != nil && !c.deaf {
		return c.tls.Look(fd)
	}
	return socket.Peek(fd)
}

// hasMore reports whether bytes of another request have come.
func (c *conn) hasMore() bool {
	if len(c.in.Buffered()) > 0 {
		return true
	}
	more := false
	if raw := c.net.Raw(); raw != nil {
		_ = raw.Control(func(fd uintptr) {
			n, err := c.look(fd)
			more = err == nil && n > 0
		})
	}
	return more
}

// closedByClient reports whether the client has ended its side of the connection and nothing is left to be read from it.
// Other goroutines may read and write meanwhile.
func (c *conn) closedByClient() bool {
	closed := false
	if raw := c.net.Raw(); raw != nil {
		err := raw.Control(func(fd uintptr) {
			if c.tls != nil {
				closed = c.tls.Ended(fd)
				return
			}
			n, err := socket.Peek(fd)
			closed = n == 0 && err == nil || err == syscall.ECONNRESET
		})
		closed = closed || err != nil
	}
	return closed
}

// serve answers requests until the connection ends. It is the goroutine of the connection; the frontend joins it.
func (c *conn) serve() {
	defer c.f.forget(c)
	defer c.net.Close()
	defer c.in.Drop()
	defer c.recover()
	if c.tls != nil && !c.shakeHands() {
		return
	}
	for first := true; c.serveNext(first); first = false {
	}
	c.farewell()
}

// farewell tells the client in TLS that nothing follows, unless that is not so.
func (c *conn) farewell() {
	if c.tls != nil && !c.shaky {
		c.tls.Finish()
	}
}

// recover is for what request.recover does not cover; the connection is lost.
func (c *conn) recover() {
	if failure := recover(); failure != nil {
		c.f.p.panicked(failure, nil)
	}
}

// serveNext answers one request, or several. It reports whether another may follow.
func (c *conn) serveNext(first bool) bool {
	ending, ok := c.awaitRequest(first)
	if !ok {
		return false
	}
	again := false
	switch ending {
	case served:
		return true
	case final:
	case parked:
		r := c.parked
		c.parked = nil
		again = r.goOn()
	default:
		r := c.f.p.requests.Get().(*request)
		r.begin(c)
		block, no := c.readBlock()
		if block == nil && no == nil {
			r.release()
			return false
		}
		again = r.handle(block, no, false)
	}
	return again || c.leave()
}

// awaitRequest waits for the first byte of a request. It reports whether it came, and what a turn has made of it.
func (c *conn) awaitRequest(first bool) (ending, bool) {
	if len(c.in.Buffered()) > 0 {
		c.enter(reading)
		return unfinished, true
	}
	c.in.Release()
	if !first {
		c.enter(idle)
		if c.f.closing.Load() && !c.hasMore() {
			return unfinished, false
		}
	}
	ending, err := c.serveTurn()
	if ending != unfinished {
		return ending, true
	}
	late := c.enterNow(reading) || c.late
	if err == nil && !late {
		return unfinished, true
	}
	// The frontend ends idle connections: one that has just sent a request is answered all the same.
	if (late || errors.Is(err, os.ErrDeadlineExceeded)) && c.hasMore() {
		_ = c.net.SetReadDeadline(time.Time{})
		return unfinished, true
	}
	return unfinished, false
}

// readBlock reads a header block. Nothing at all means that the client is gone.
func (c *conn) readBlock() ([]byte, *refusal) {
	skipped := false
	for seen := 0; ; {
		b := c.in.Buffered()
		// A client may send one empty line too many after a body (RFC 9112, section 2.2).
		if !skipped && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
			c.in.Discard(2)
			skipped, seen = true, 0
			continue
		}
		if block, no := c.block(seen); block != nil || no != nil {
			return block, no
		}
		if len(b) > 0 && (b[0] != '\r' && !http1.IsToken(b[:1]) || http1.Hopeless(b)) {
			return nil, &badRequest
		}
		seen = len(b)
		err := c.fill(c.f.headerBytes)
		c.at = time.Now()
		switch {
		case err == nil:
		case errors.Is(err, http1.ErrTooLong):
			return nil, &headerTooLarge
		case errors.Is(err, os.ErrDeadlineExceeded) && len(c.in.Buffered()) > 0:
			return nil, &requestTimeout
		default:
			return nil, nil
		}
	}
}

// block takes the header block that stands at the beginning of what has come, or returns nothing where its end has not
// come. The first seen bytes are known not to end one.
func (c *conn) block(seen int) ([]byte, *refusal) {
	block := c.in.Block(seen)
	switch {
	case block == nil:
		return nil, nil
	case len(block) > c.f.headerBytes:
		return nil, &headerTooLarge
	}
	c.in.Discard(len(block))
	if c.enter(waiting) {
		return nil, &requestTimeout
	}
	return block, nil
}

// write sends bytes to the client after something else was waited for. The time it may take is bounded by the sweep.
func (c *conn) write(b []byte) error {
	c.at = time.Now()
	return c.answer(b)
}

// answer is write at c.at, for what is sent without having waited.
func (c *conn) answer(b []byte) error {
	c.enter(writing)
	var err error
	if c.tls != nil {
		_, err = c.tls.Write(b)
	} else {
		_, err = c.net.Write(b)
	}
	c.enterNow(waiting)
	return err
}

// watch makes the exchange one that the sweep may cancel, until unwatch; mayLeave says whether the client's going away is
// a reason.
func (c *conn) watch(x *upstream.Exchange, mayLeave bool) {
	c.mu.Lock()
	c.exchange, c.mayLeave = x, mayLeave
	c.mu.Unlock()
}

func (c *conn) unwatch() {
	c.mu.Lock()
	c.exchange = nil
	c.mu.Unlock()
}

// hasGone reports whether the sweep found that the client has gone away.
func (c *conn) hasGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// leave ends a connection that carries no other request. It returns false.
func (c *conn) leave() bool {
	if !c.cut {
		c.linger()
	} else if hard, ok := c.net.Conn.(interface{ SetLinger(int) error }); ok {
		_ = hard.SetLinger(0)
	}
	return false
}

// What a client that is still sending may send after the last answer before the connection is closed.
const (
	lingerBytes = 512 << 10
	lingerTime  = 2 * time.Second
)

// linger closes the connection in a way that lets the client read the answer: closing while bytes of the client are
// unread would make the kernel take back what it has not delivered.
func (c *conn) linger() {
	c.enterNow(leaving)
	c.farewell()
	c.deaf = true
	half, ok := c.net.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.in.Drop()
	until := time.Now().Add(lingerTime)
	if c.net.SetReadDeadline(until) != nil {
		return
	}
	for left := lingerBytes; left > 0; {
		if c.await() != nil {
			return
		}
		buffer := http1.Buffer(32 << 10)
		n, err := c.net.Read(buffer)
		http1.Recycle(buffer)
		if err != nil {
			return
		}
		left -= n
	}
}
