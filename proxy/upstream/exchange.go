package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"tellergate/proxy/http1"
)

// past is a deadline that ends whatever is waiting.
var past = time.Unix(1, 0)

// attach gives the exchange the connection that Cancel has to interrupt. It reports whether it is still wanted.
func (x *Exchange) attach(c *conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn = c
	return !x.cancelled.Load()
}

// detach takes the connection away from Cancel, for good, and returns it.
func (x *Exchange) detach() *conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.conn
	x.conn = nil
	return c
}

// Cancel ends the exchange early: Do, or the reading of the body, fails soon and the connection to the pod is closed.
func (x *Exchange) Cancel() {
	x.cancelled.Store(true)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn != nil {
		x.conn.net.SetDeadline(past)
	}
}

// Read returns what the pod has sent of its body as soon as it comes. Whatever ends it before its end is an error, never
// io.EOF, so that the client's connection is cut too.
func (x *Exchange) Read(p []byte) (int, error) {
	n, err := x.body.Read(p)
	if err != nil && (errors.Is(err, http1.ErrMalformed) || errors.Is(err, http1.ErrTooLong)) {
		err = fmt.Errorf("%w: its body: %w", ErrBadResponse, err)
	}
	return n, err
}

// Whole returns the answer's body if all of it has come already, valid until Close.
func (x *Exchange) Whole() (body []byte, ok bool) {
	if !x.Sent() {
		return nil, false
	}
	return x.body.Whole()
}

// Gather takes in what has come of a chunked answer, about limit bytes at most, without waiting: Whole may then find it
// whole. It may be called once.
func (x *Exchange) Gather(limit int) {
	if x.Answer.Length != http1.Chunked || !x.Sent() {
		return
	}
	c := x.conn
	x.header = c.reader.Detach() // the answer's fields are views of it
	c.now = true
	for c.reader.Fill(limit) == nil {
	}
	c.now = false
}

// ReadNow reads what has come of the answer's body, without waiting, where its length is known. What ended it before its
// end is left for Read to find.
func (x *Exchange) ReadNow(p []byte) (n int) {
	if x.Answer.Length <= 0 || !x.Sent() {
		return 0
	}
	x.conn.now = true
	for n < len(p) && !x.body.Ended() {
		got, err := x.body.Read(p[n:])
		if n += got; err != nil {
			break
		}
	}
	x.conn.now = false
	return n
}

// Ended reports whether the answer's body has been read to its end.
func (x *Exchange) Ended() bool { return x.body.Ended() }

// Trailer returns the field lines that followed the answer's body, each with its CRLF.
func (x *Exchange) Trailer() []byte { return x.body.Trailer }

// Sent reports whether all of the request has been sent. While it has not, the client may still be sending.
func (x *Exchange) Sent() bool {
	return !x.upload.running || x.upload.ended() || x.upload.ending.Load() && x.upload.soon()
}

// Tunnel returns the connection to a pod that has answered 101, and what it has sent already after that answer. It is
// the caller's until Close, which closes it.
func (x *Exchange) Tunnel() (net.Conn, []byte) {
	x.conn.net.SetDeadline(time.Time{})
	return x.conn.net.Conn, x.conn.reader.Buffered()
}

// Close gives the connection back: for reuse if both messages were carried to their end, else it is closed. It waits
// until nothing reads the request's body any more.
func (x *Exchange) Close() {
	c := x.detach()
	if c == nil {
		return
	}
	whole := x.upload.join(c)
	if x.header != nil {
		http1.Recycle(x.header)
		x.header = nil
	}
	c.end(whole && x.keep && x.body.Ended() && !x.cancelled.Load())
	x.body = http1.Body{Trailer: x.body.Trailer[:0]}
	x.upload.rethrow()
}

// An upload sends a streamed body to the pod in a goroutine of its own, so that the answer is read meanwhile: a pod may
// refuse early, or answer while it is still reading. The exchange owns it and joins it.
type upload struct {
	running  bool // started and not joined
	stream   Stream
	answered atomic.Bool   // the final answer's header has come
	ending   atomic.Bool   // the last piece is being written
	failed   atomic.Bool   // the client's body has
	done     chan struct{} // closed at its end
	err      error         // of the client, once done is closed
	whole    bool          // all was sent, once done is closed
	panicked any           // what a panic in it was about, once done is closed
}

// start begins to send what follows the head. Until it has ended, nothing but the client's own time bounds the wait for
// an answer: a pod may take all of the body before it says a word.
func (x *Exchange) start(c *conn, timeout time.Duration) {
	u := &x.upload
	u.running, u.stream, u.done, u.err, u.whole, u.panicked = true, x.Stream, make(chan struct{}), nil, false, nil
	u.answered.Store(false)
	u.ending.Store(false)
	u.failed.Store(false)
	x.deadline(c, time.Time{})
	go func() {
		defer close(u.done)
		defer func() {
			if u.panicked = recover(); u.panicked != nil {
				c.net.SetReadDeadline(past)
			}
		}()
		u.whole, u.err = send(c, u.stream, x.Length, timeout, &u.ending)
		switch {
		case u.err != nil:
			u.failed.Store(true)
			c.net.SetReadDeadline(past) // the answer is of no interest any more
		case u.answered.Load():
		case !u.whole:
			x.deadline(c, time.Now().Add(lastWords))
		default:
			x.deadline(c, time.Now().Add(timeout))
		}
	}()
}

// deadline sets the deadline of reading from the pod, unless Cancel has set one that stands.
func (x *Exchange) deadline(c *conn, until time.Time) {
	c.net.SetReadDeadline(until)
	if x.cancelled.Load() {
		c.net.SetDeadline(past)
	}
}

// soon waits a moment for the end: a pod's answer may be here before the goroutine that sent the last piece says so.
func (u *upload) soon() bool {
	moment := time.NewTimer(20 * time.Millisecond)
	defer moment.Stop()
	select {
	case <-u.done:
		return true
	case <-moment.C:
		return false
	}
}

func (u *upload) ended() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// join ends the upload if it has not ended, and waits for it. It reports whether the body was sent whole.
func (u *upload) join(c *conn) bool {
	if !u.running {
		return true
	}
	stop := !u.ended() && !u.failed.Load()
	if stop {
		c.net.SetWriteDeadline(past)
		u.stream.Stop()
	}
	<-u.done
	if stop {
		u.err = nil // of having been stopped: it is not the client who failed
	}
	u.running = false
	c.until = time.Time{} // the deadline that is set is not the one that was noted
	return u.whole
}

// rethrow makes a panic of the upload one of the goroutine that joined it, which knows what to do with one.
func (u *upload) rethrow() {
	if failure := u.panicked; failure != nil {
		u.panicked = nil
		panic(failure)
	}
}

// send carries the stream to the pod in pieces. The error is the client's; if the pod does not read on, whole is false.
// It sets ending before the last piece.
func send(c *conn, stream Stream, length int64, timeout time.Duration, ending *atomic.Bool) (whole bool, err error) {
	for left := length; left != 0; {
		if err := stream.Wait(); err != nil {
			return false, err
		}
		buffer := http1.Buffer(pieceSize)
		n, err := stream.Read(buffer[http1.FrameRoom : len(buffer)-http1.FrameEnd])
		out := buffer[http1.FrameRoom : http1.FrameRoom+n]
		if length == http1.Chunked && n > 0 {
			out = http1.Frame(buffer, n)
		} else {
			left -= int64(n)
		}
		if err == io.EOF && length == http1.Chunked {
			out, left = http1.AppendLastChunk(out[:len(out):len(out)], stream.Trailer()), 0
			err = nil
		} else if err == io.EOF && left == 0 {
			err = nil
		}
		if left == 0 {
			ending.Store(true)
		}
		sent := len(out) == 0 || c.push(out, timeout)
		http1.Recycle(buffer)
		if err != nil {
			return false, err
		}
		if !sent {
			return false, nil
		}
	}
	return true, nil
}

// push writes a piece of a body.
func (c *conn) push(piece []byte, timeout time.Duration) bool {
	c.net.SetWriteDeadline(time.Now().Add(timeout))
	if c.exchange.cancelled.Load() {
		c.net.SetDeadline(past)
	}
	_, err := c.net.Write(piece)
	return err == nil
}
