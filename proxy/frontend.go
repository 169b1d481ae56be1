package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"tellergate/config"
)

// A frontend is one fixed listen address and the connections that came in through it.
type frontend struct {
	p           *Proxy
	index       int // in the settings
	name        string
	address     netip.AddrPort
	healthPath  string
	defaultHost []byte
	headerBytes int
	limits      config.Limits
	rateGrace   time.Duration // how long a body may be slower than limits.bodyRate

	proto string // the line that tells pods how the client asked

	tls      atomic.Pointer[frontendTLS] // nil: plain; what Reload replaces
	shaken   map[handshakeKind]prometheus.Counter
	unshaken map[string]prometheus.Counter // handshakes that failed, by reason

	socket net.Listener
	bound  netip.AddrPort

	closing atomic.Bool   // no connection is kept after its answer any more
	leave   chan struct{} // closed when tunnels are told to end
	grace   chan struct{} // closed when what is still in flight is to end
	tunnels atomic.Int64

	leaveUntil time.Time // how long tunnels may take to do so; written before leave is closed

	serving sync.WaitGroup // one for each connection, and the sweep

	mu       sync.Mutex
	first    *conn              // guarded by mu; every open connection
	count    int                // guarded by mu
	sources  map[netip.Addr]int // guarded by mu; connections of each peer; nil where they are not bounded
	refusing int                // guarded by mu; connections that are being turned away
}

func newFrontend(p *Proxy, index int, settings *config.Frontend) *frontend {
	f := &frontend{
		p: p, index: index, name: settings.Name, address: settings.Address, healthPath: settings.Health.Path,
		defaultHost: []byte(settings.DefaultHost), headerBytes: settings.Limits.HeaderBytes, limits: settings.Limits,
		rateGrace: rateGrace, leave: make(chan struct{}), grace: make(chan struct{}),
	}
	f.secure(newFrontendTLS(settings.TLS))
	f.proto = "X-Forwarded-Proto: http\r\n"
	if settings.TLS != nil {
		f.proto = "X-Forwarded-Proto: https\r\n"
	}
	if f.limits.PerSource > 0 {
		f.sources = make(map[netip.Addr]int)
	}
	return f
}

// listen binds the address.
func (f *frontend) listen() error {
	network := "tcp" // with [::], both families
	if f.address.Addr().Is4() {
		network = "tcp4" // else 0.0.0.0 would take IPv6 connections too
	}
	socket, err := net.Listen(network, f.address.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("frontend %q cannot listen on %s: the address is in use by another program; stop that program, "+
			"or give frontends[%s].address another port: %w", f.name, f.address, f.name, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("frontend %q cannot listen on %s: this machine does not have that address; give "+
			"frontends[%s].address one of its own: %w", f.name, f.address, f.name, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("frontend %q cannot listen on %s: ports below 1024 need a permission; grant CAP_NET_BIND_SERVICE "+
			"or give frontends[%s].address a higher port: %w", f.name, f.address, f.name, err)
	case err != nil:
		return fmt.Errorf("frontend %q cannot listen on %s: %w", f.name, f.address, err)
	}
	f.socket = socket
	f.bound = socket.Addr().(*net.TCPAddr).AddrPort()
	f.bound = netip.AddrPortFrom(f.bound.Addr().Unmap(), f.bound.Port())
	return nil
}

// run accepts connections until the socket is closed and then waits for those that are open.
func (f *frontend) run() error {
	ctx, stop := context.WithCancel(context.Background())
	var sweeping sync.WaitGroup
	sweeping.Go(func() { f.sweep(ctx) })
	err := f.accept()
	f.serving.Wait()
	stop()
	sweeping.Wait()
	if err != nil {
		return fmt.Errorf("frontend %q stopped accepting on %s: %w", f.name, f.bound, err)
	}
	return nil
}

// accept takes connections until the socket is closed. Where descriptors or memory run out it waits for some to be
// given back: it neither spins nor ends.
func (f *frontend) accept() error {
	pause := time.Duration(0)
	for {
		nc, err := f.socket.Accept()
		switch {
		case err == nil:
			pause = 0
			f.admit(nc)
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return f.acceptLast()
		case isPassing(err):
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			f.p.metrics.acceptFailed.Inc()
			if suppressed, ok := f.p.acceptFailed.allow(time.Now()); ok {
				f.p.log.Warn("connections cannot be accepted at the moment; raise the limit of open files, or lower "+
					"limits.connections", zap.String("frontend", f.name), zap.Error(err), zap.Uint64("notLogged", suppressed))
			}
			time.Sleep(pause)
		default:
			return err
		}
	}
}

// acceptLast takes over the connections that the kernel has made already, without waiting, and closes the socket in the
// same breath: what is left in its queue then is reset.
func (f *frontend) acceptLast() error {
	var last []int
	if raw, err := f.socket.(syscall.Conn).SyscallConn(); err == nil {
		_ = raw.Control(func(socket uintptr) {
			for {
				fd, _, err := syscall.Accept4(int(socket), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
				if err == syscall.EINTR || err == syscall.ECONNABORTED {
					continue
				}
				if err != nil {
					return
				}
				last = append(last, fd)
			}
		})
	}
	err := f.socket.Close()
	for _, fd := range last {
		file := os.NewFile(uintptr(fd), "connection")
		if nc, err := net.FileConn(file); err == nil {
			f.admit(nc)
		}
		_ = file.Close()
	}
	return err
}

// isPassing reports whether accept may succeed later on.
func isPassing(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EINTR, syscall.EPERM, syscall.EPROTO} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// maxRefusing bounds the connections that are turned away with an answer; more than that are just closed.
const maxRefusing = 64

// admit gives a connection its goroutine, or turns it away where there are too many.
func (f *frontend) admit(nc net.Conn) {
	c := newConn(f, nc)
	f.mu.Lock()
	full := f.limits.Connections > 0 && f.count >= f.limits.Connections ||
		f.sources != nil && f.sources[c.peer] >= f.limits.PerSource
	if full {
		answered := f.refusing < maxRefusing
		if answered {
			f.refusing++
			f.serving.Add(1)
		}
		f.mu.Unlock()
		f.p.metrics.refused[&tooManyConnections].Inc()
		if !answered {
			_ = nc.Close()
			return
		}
		go f.turnAway(c)
		return
	}
	f.count++
	if f.sources != nil {
		f.sources[c.peer]++
	}
	c.next = f.first
	if f.first != nil {
		f.first.previous = c
	}
	f.first = c
	f.serving.Add(1)
	f.mu.Unlock()
	if c.tls != nil {
		c.enter(handshaking)
	} else {
		c.enter(fresh)
	}
	go c.serve()
}

// turnAway tells a client that there are too many connections.
func (f *frontend) turnAway(c *conn) {
	defer f.serving.Done()
	defer c.recover()
	defer func() {
		_ = c.net.Close()
		f.mu.Lock()
		f.refusing--
		f.mu.Unlock()
	}()
	_ = c.net.SetDeadline(time.Now().Add(lingerTime))
	if c.tls != nil && c.tls.Handshake() != nil {
		return
	}
	if _, err := c.stream().Write(tooManyConnections.answer()); err == nil {
		c.linger()
	}
}

// forget takes a connection that has been closed off the books.
func (f *frontend) forget(c *conn) {
	f.mu.Lock()
	if c.previous != nil {
		c.previous.next = c.next
	} else {
		f.first = c.next
	}
	if c.next != nil {
		c.next.previous = c.previous
	}
	f.count--
	if f.sources != nil {
		if f.sources[c.peer]--; f.sources[c.peer] == 0 {
			delete(f.sources, c.peer)
		}
	}
	f.mu.Unlock()
	f.serving.Done()
}

// open returns how many connections there are.
func (f *frontend) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// freshGrace is how long a connection that has not said anything may take to begin once the socket is closed.
const freshGrace = time.Second

// stop closes the socket and lets every connection end with the answer it is at; idle ones end at once.
func (f *frontend) stop() {
	// The goroutine that accepts closes the socket; where it has not begun yet it finds that it is too late.
	_ = f.socket.(interface{ SetDeadline(time.Time) error }).SetDeadline(past)
	f.closing.Store(true)
	f.each(func(c *conn) {
		if state := c.state.Load(); phaseOf(state) == idle || phaseOf(state) == unread {
			c.expire(state)
		}
	})
}

// notify tells tunnels to end; they may take until then.
func (f *frontend) notify(until time.Time) {
	f.leaveUntil = until
	close(f.leave)
}

// abort ends whatever is still in flight.
func (f *frontend) abort() {
	close(f.grace)
	f.each(func(c *conn) {
		c.mu.Lock()
		if c.exchange != nil {
			c.exchange.Cancel()
		}
		c.mu.Unlock()
		_ = c.net.SetDeadline(past)
	})
}

func (f *frontend) each(do func(*conn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := f.first; c != nil; c = c.next {
		do(c)
	}
}
