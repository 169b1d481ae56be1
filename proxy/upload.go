package proxy

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tellergate/proxy/http1"
)

// An upload is the client's body on its way to the pod: counted, bounded, and given time as long as bytes come. It
// implements upstream.Stream: the goroutine that carries the body reads it, Stop and answering are called beside that.
type upload struct {
	conn    *conn
	body    http1.Body
	trailer []byte // what of the trailer section is forwarded
	r       *request

	limit   int64 // 0: none
	idle    time.Duration
	rate    int64 // bytes a second at least, 0: none; looked at after rateGrace
	bytes   int64
	started time.Time
	until   time.Time // the read deadline in force
	overrun bool
	err     error // how it ended, other than by its end

	stopped atomic.Bool
	mu      sync.Mutex
	expects bool // guarded by mu; the client waits for 100 (Continue) before it sends
}

// rateGrace is how long a body may be slow before its rate counts.
const rateGrace = 30 * time.Second

var (
	errOverrun = errors.New("the request body is larger than limits.bodyBytes")
	errSlow    = errors.New("the request body comes slower than limits.bodyRate")
	errStopped = errors.New("the request body is not wanted any more")
)

var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// begin makes u the body of this length that follows the header of r.
func (u *upload) begin(r *request, length int64) {
	limits := &r.frontend.limits
	u.conn, u.r, u.limit, u.idle, u.rate = r.conn, r, r.front.bodyBytes, limits.IdleTimeout, int64(limits.BodyRate)
	u.body.Begin(&r.conn.in, length)
	u.started, u.until = r.started, time.Time{}
}

// Wait waits for the next bytes. Before the first of them it tells a client that waits for it to go on.
func (u *upload) Wait() error {
	if err := u.permit(); err != nil {
		return err
	}
	if u.body.Ended() {
		return nil
	}
	if err := u.arm(); err != nil {
		return u.fail(err)
	}
	if err := u.conn.await(); err != nil {
		return u.fail(err)
	}
	return nil
}

// permit sends 100 (Continue) if the client waits for it and no answer has begun.
func (u *upload) permit() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.expects {
		return nil
	}
	u.expects = false
	// An interim answer of the pod may be written at this moment: only the connection's own Write takes turns.
	if _, err := u.conn.stream().Write(continueLine); err != nil {
		u.err = err
		return err
	}
	return nil
}

// answering says that an answer begins: a client that still waits for permission to send its body gets none.
func (u *upload) answering() {
	u.mu.Lock()
	u.expects = false
	u.mu.Unlock()
}

// arm gives the client time for the next bytes. A deadline that leaves enough is not worth setting anew.
func (u *upload) arm() error {
	if u.stopped.Load() {
		return errStopped
	}
	now := time.Now()
	took := now.Sub(u.started)
	if u.rate > 0 && took > u.conn.f.rateGrace && u.bytes < u.rate*int64(took/time.Millisecond)/1000 {
		return errSlow
	}
	if u.idle <= 0 || u.until.Sub(now) >= u.idle {
		return nil
	}
	u.until = now.Add(u.idle * 5 / 4)
	if err := u.conn.net.SetReadDeadline(u.until); err != nil {
		return err
	}
	if u.stopped.Load() {
		return errStopped
	}
	return nil
}

// Read returns what has come of the body, and io.EOF at its end.
func (u *upload) Read(p []byte) (int, error) {
	if err := u.permit(); err != nil {
		return 0, err
	}
	if err := u.arm(); err != nil {
		return 0, u.fail(err)
	}
	n, err := u.body.Read(p)
	u.bytes += int64(n)
	switch {
	case u.limit > 0 && u.bytes > u.limit:
		u.overrun = true
		return 0, u.fail(errOverrun)
	case err == io.EOF:
		u.trailer = u.r.appendTrailer(u.trailer[:0], u.body.Trailer)
		return n, err
	case err != nil:
		return n, u.fail(err)
	}
	return n, nil
}

func (u *upload) fail(err error) error {
	if u.err == nil {
		u.err = err
	}
	return err
}

// Trailer returns the trailer fields that are forwarded.
func (u *upload) Trailer() []byte { return u.trailer }

// Stop makes the reading of the body fail soon.
func (u *upload) Stop() {
	u.stopped.Store(true)
	_ = u.conn.net.SetReadDeadline(past)
}

// bodyTaken reports whether the connection stands at the beginning of the next request: there is no body, or all of it
// has been taken. What was refused before its body was looked at has to have none.
func (r *request) bodyTaken() bool {
	if r.upload.conn == nil {
		return r.framing.length == 0
	}
	return r.upload.finish()
}

// finish takes what is left of a body that has come whole already, and reports whether nothing is left.
func (u *upload) finish() bool {
	if u.stopped.Load() || u.err != nil {
		return false
	}
	if !u.body.Ended() {
		if _, ok := u.body.Whole(); !ok {
			return false
		}
	}
	if !u.until.IsZero() {
		return u.conn.net.SetReadDeadline(time.Time{}) == nil
	}
	return true
}

// timedOut reports whether the body ended because it came too slowly.
func (u *upload) timedOut() bool {
	return errors.Is(u.err, os.ErrDeadlineExceeded) || errors.Is(u.err, errSlow)
}

// reset forgets the request.
func (u *upload) reset() {
	trailer, body := u.trailer[:0], http1.Body{Trailer: u.body.Trailer[:0]}
	u.conn, u.r, u.trailer, u.body = nil, nil, trailer, body
	u.limit, u.idle, u.rate, u.bytes = 0, 0, 0, 0
	u.started, u.until = time.Time{}, time.Time{}
	u.overrun, u.err, u.expects = false, nil, false
	u.stopped.Store(false)
}
