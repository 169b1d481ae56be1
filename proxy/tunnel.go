package proxy

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"tellergate/proxy/http1"
)

// tunnel passes bytes both ways after the pod has agreed to switch protocols, until both sides have ended, nothing has
// passed for limits.tunnelIdle, or the replica stops. Each side may end its own direction alone.
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
	t := tunnel{client: c.net.Conn, pod: pod, idle: c.f.limits.TunnelIdle, stopped: c.f.grace}
	t.moved.Store(time.Now().UnixNano())
	waiting := append([]byte(nil), c.in.Buffered()...)
	c.in.Drop()
	r.bytesOut = int64(len(early))
	up, down := t.run(waiting)
	r.upload.bytes, r.bytesOut = up, r.bytesOut+down
	r.whole = !t.expired.Load()
}

// A tunnel is two connections that are joined.
type tunnel struct {
	client, pod net.Conn
	idle        time.Duration // 0: none
	stopped     <-chan struct{}
	moved       atomic.Int64 // Unix ns when a byte last passed
	expired     atomic.Bool  // it was ended from here
}

// run carries bytes, first of all what the client has sent already, until both directions have ended.
func (t *tunnel) run(waiting []byte) (up, down int64) {
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
		if len(waiting) > 0 {
			if _, err := t.pod.Write(waiting); err != nil {
				t.abort()
				return
			}
		}
		up = int64(len(waiting)) + t.carry(t.pod, t.client)
	})
	defer func() {
		close(ended)
		watching.Wait()
	}()
	down = t.carry(t.client, t.pod)
	carrying.Wait()
	if panicked != nil {
		panic(panicked) // in the goroutine of the request, which knows what to do with one
	}
	return up, down
}

// carry copies one direction and passes its end on. What ends it in another way ends both directions.
func (t *tunnel) carry(to, from net.Conn) (n int64) {
	buffer := http1.Buffer(smallPiece)
	defer func() { http1.Recycle(buffer) }()
	for {
		got, err := from.Read(buffer)
		if got > 0 {
			t.moved.Store(time.Now().UnixNano())
			if _, werr := to.Write(buffer[:got]); werr != nil {
				t.abort()
				return n
			}
			n += int64(got)
			if got == len(buffer) && got < largePiece {
				http1.Recycle(buffer)
				buffer = http1.Buffer(largePiece)
			}
		}
		if err == nil {
			continue
		}
		half, ok := to.(interface{ CloseWrite() error })
		if !errIsEnd(err) || !ok || half.CloseWrite() != nil {
			t.abort()
		}
		return n
	}
}

// abort ends both directions.
func (t *tunnel) abort() {
	_ = t.client.SetDeadline(past)
	_ = t.pod.SetDeadline(past)
}

// watch ends the tunnel when its time is over.
func (t *tunnel) watch(ended <-chan struct{}) {
	stopped := t.stopped
	check := time.NewTicker(max(min(t.idle/4, time.Minute), 10*time.Millisecond))
	defer check.Stop()
	for {
		select {
		case <-ended:
			return
		case <-stopped:
			stopped = nil
			t.expired.Store(true)
			t.abort()
		case now := <-check.C:
			if t.idle > 0 && now.UnixNano()-t.moved.Load() >= int64(t.idle) {
				t.expired.Store(true)
				t.abort()
			}
		}
	}
}

// errIsEnd reports whether a direction ended as its sender wished.
func errIsEnd(err error) bool { return err == io.EOF }
