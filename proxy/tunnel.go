package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tellergate/proxy/http1"
)

// tunnel passes bytes both ways after the pod has agreed to switch protocols, until both sides have ended, nothing has
// passed for limits.tunnelIdle, or the replica stops. Each side may end its own direction alone. Before the replica stops,
// both sides of a WebSocket are told by a closing frame, those of another protocol by the end of the stream.
func (r *request) tunnel() {
	x := &r.exchange
	r.keep(x.Answer.Status, nil)
	defer r.closeExchange()
	a := &x.Answer
	b := r.appendHead(r.out[:0], a, 0)
	b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.upgrade...), "\r\n\r\n"...)
	pod, early := x.Tunnel()
	r.out, r.begun = append(b, early...), true
	if r.conn.write(r.out) != nil {
		return
	}
	c := r.conn
	c.enter(tunnelled)
	c.f.tunnels.Add(1)
	defer c.f.tunnels.Add(-1)
	t := &tunnel{
		up:   direction{from: c.stream(), to: pod, frames: frames{masked: true}},
		down: direction{from: pod, to: c.stream()},
		f:    c.f,
	}
	if !equalFold([]byte(r.upgrade), "websocket") {
		t.up.frames.lost, t.down.frames.lost = true, true
	}
	t.down.frames.follow(early)
	t.moved.Store(time.Now().UnixNano())
	waiting := append([]byte(nil), c.in.Buffered()...)
	c.in.Drop()
	t.run(waiting)
	c.at = time.Now()
	r.upload.bytes, r.bytesOut = t.up.bytes, int64(len(early))+t.down.bytes
	r.whole = !t.expired.Load()
}

// A tunnel is two connections that are joined.
type tunnel struct {
	f        *frontend
	up, down direction
	moved    atomic.Int64 // Unix ns when a byte last passed
	expired  atomic.Bool  // it was ended from here
	leaving  atomic.Int64 // Unix ns until which it may take to end, once it has been told to; 0: it has not
	aborted  atomic.Bool
}

// A direction is one of the two ways through a tunnel. It belongs to the goroutine that carries it.
type direction struct {
	from, to net.Conn
	frames   frames // that have passed; lost where the protocol is not WebSocket
	bytes    int64  // passed
}

// run carries bytes, first of all what the client has sent already, until both directions have ended.
func (t *tunnel) run(waiting []byte) {
	ended := make(chan struct{})
	var watching, carrying sync.WaitGroup
	watching.Go(func() { t.watch(ended) })
	var panicked any
	carrying.Go(func() {
		defer func() {
			if panicked = recover(); panicked != nil {
				t.abort()
			}
		}()
		if len(waiting) > 0 && !t.pass(&t.up, waiting) {
			return
		}
		t.carry(&t.up)
	})
	defer func() {
		close(ended)
		watching.Wait()
	}()
	t.carry(&t.down)
	carrying.Wait()
	if panicked != nil {
		panic(panicked) // in the goroutine of the request, which knows what to do with one
	}
}

// pass sends a piece on. It reports whether the other side took it; if not, the tunnel ends.
func (t *tunnel) pass(d *direction, piece []byte) bool {
	t.moved.Store(time.Now().UnixNano())
	if _, err := d.to.Write(piece); err != nil {
		t.abort()
		return false
	}
	d.bytes += int64(len(piece))
	d.frames.follow(piece)
	return true
}

// carry copies one direction and passes its end on. What ends it in another way ends both directions.
func (t *tunnel) carry(d *direction) {
	buffer := http1.Buffer(smallPiece)
	defer func() { http1.Recycle(buffer) }()
	for {
		leaving := t.leaving.Load() != 0
		if leaving && (d.frames.lost || d.frames.between()) {
			t.say(d)
			t.drain(d, buffer)
			return
		}
		got, err := d.from.Read(buffer)
		if got > 0 {
			piece := buffer[:got]
			if leaving {
				ahead := d.frames // only to the end of the frame under way: what begins after it is too late
				piece = piece[:ahead.next(piece)]
			}
			if !t.pass(d, piece) {
				return
			}
			if got == len(buffer) && got < largePiece {
				http1.Recycle(buffer)
				buffer = http1.Buffer(largePiece)
			}
		}
		if err == nil || t.goesOn(d, err) {
			continue
		}
		if err != io.EOF || closeWrite(d.to) != nil {
			t.abort()
		}
		return
	}
}

// goesOn reports whether a read was interrupted only because the tunnel is told to end, and gives it the time to do so.
func (t *tunnel) goesOn(d *direction, err error) bool {
	until := t.leaving.Load()
	if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().UnixNano() >= until {
		return false
	}
	_ = d.from.SetReadDeadline(time.Unix(0, until))
	return !t.aborted.Load()
}

// say ends a direction from here: with a closing frame if it is a WebSocket's that has not had one.
func (t *tunnel) say(d *direction) {
	if d.frames.between() && !d.frames.closed {
		if _, err := d.to.Write(appendClose(nil, d.frames.masked)); err != nil {
			t.abort()
			return
		}
	}
	_ = closeWrite(d.to)
}

// drain reads what still comes, to no end but that of the sender: its own closing frame or the end of the stream.
func (t *tunnel) drain(d *direction, buffer []byte) {
	for !d.frames.closed {
		n, err := d.from.Read(buffer)
		d.frames.follow(buffer[:n])
		if err != nil && !t.goesOn(d, err) {
			return
		}
	}
}

func closeWrite(c net.Conn) error {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// abort ends both directions.
func (t *tunnel) abort() {
	t.aborted.Store(true)
	_ = t.up.from.SetDeadline(past)
	_ = t.down.from.SetDeadline(past)
}

// watch ends the tunnel when its time is over.
func (t *tunnel) watch(ended <-chan struct{}) {
	leave, stopped, idle := t.f.leave, t.f.grace, t.f.limits.TunnelIdle
	check := time.NewTicker(max(min(idle/4, time.Minute), 10*time.Millisecond))
	defer check.Stop()
	for {
		select {
		case <-ended:
			return
		case <-leave:
			leave = nil
			t.expired.Store(true)
			t.leaving.Store(t.f.leaveUntil.UnixNano())
			_ = t.up.from.SetReadDeadline(past) // interrupts the goroutines that carry: see goesOn
			_ = t.down.from.SetReadDeadline(past)
		case <-stopped:
			stopped = nil
			t.expired.Store(true)
			t.abort()
		case now := <-check.C:
			if idle > 0 && now.UnixNano()-t.moved.Load() >= int64(idle) {
				t.expired.Store(true)
				t.abort()
			}
		}
	}
}
