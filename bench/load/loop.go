//go:build linux

package load

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// A Loop is the thread that pods and generator share. Its methods are called from one goroutine, which has locked its
// thread; nothing runs between calls, so pods answer only during a Run, a Hold or a Serve.
type Loop struct {
	epoll   int
	sockets []*socket // by descriptor
	events  [256]syscall.EpollEvent
	scratch []byte // what has just been read
	begin   time.Time

	tls  *tls.Config // of clients; nil: plain
	pods []*Pod
	sink netip.AddrPort
	run  *run // nil: pods only
	// unreadable is the first request that a pod could not make sense of.
	unreadable error
}

// A socket is a descriptor with what has to be remembered of it between two events.
type socket struct {
	fd   int
	kind kind
	pod  *Pod // of a listener or a pod's connection; nil: the sink's

	out []byte    // what could not be sent yet
	tls *tls.Conn // of a client that speaks TLS

	head []byte // an unfinished header
	rest int    // bytes of a body still to come; of a held client: received

	// of a client:
	request int           // index in the mix; -1: idle
	due     time.Duration // when the request was due
	marks   [marks]byte
	closes  bool // the reply asks to close
}

type kind uint8

const (
	listener kind = iota
	podConnection
	client
	held // a client that idles until the Hold ends
	sink // whatever comes is forgotten
)

// A Pod answers every request with the same bytes.
type Pod struct {
	Address netip.AddrPort
	Version byte // '1' or '2'
	Mark    byte
	reply   []byte
	fd      int
}

// NewLoop opens pods on loopback, perVersion of each of two versions.
func NewLoop(perVersion int) (*Loop, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	l := &Loop{epoll: epoll, scratch: make([]byte, 256<<10), begin: time.Now()}
	for i := range 2 * perVersion {
		fd, at, err := listen()
		if err != nil {
			l.Close()
			return nil, err
		}
		pod := &Pod{Address: at, Version: '1' + byte(i/perVersion), Mark: 'a' + byte(i), fd: fd}
		l.pods = append(l.pods, pod)
		if err := l.add(&socket{fd: fd, kind: listener, pod: pod}); err != nil {
			l.Close()
			return nil, err
		}
	}
	fd, at, err := listen()
	if err == nil {
		l.sink, err = at, l.add(&socket{fd: fd, kind: listener})
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	l.SetReply(300)
	return l, exactTimers()
}

// Pods returns the pods, those of version 1 first.
func (l *Loop) Pods() []*Pod { return l.pods }

// Sink is where bytes may be sent that nobody reads: logs.
func (l *Loop) Sink() netip.AddrPort { return l.sink }

// SetReply makes every pod answer with size bytes from now on.
func (l *Loop) SetReply(size int) {
	for _, p := range l.pods {
		p.reply = Reply(p.Version, p.Mark, size)
	}
}

// Close closes every socket.
func (l *Loop) Close() {
	for _, s := range l.sockets {
		if s != nil {
			l.drop(s)
		}
	}
	_ = syscall.Close(l.epoll)
}

// Serve has only the pods work, for a while.
func (l *Loop) Serve(d time.Duration) error {
	for end := l.now() + d; ; {
		left := end - l.now()
		if left <= 0 {
			return nil
		}
		if err := l.turn(left); err != nil {
			return err
		}
	}
}

func (l *Loop) now() time.Duration { return time.Since(l.begin) }

func (l *Loop) add(s *socket) error {
	for s.fd >= len(l.sockets) {
		l.sockets = append(l.sockets, nil)
	}
	l.sockets[s.fd] = s
	return watch(l.epoll, s.fd)
}

// drop closes a socket and forgets it.
func (l *Loop) drop(s *socket) {
	l.sockets[s.fd] = nil
	_ = syscall.Close(s.fd)
}

// turn handles what has happened, waiting for it at most as long as the timeout says.
func (l *Loop) turn(timeout time.Duration) error {
	n, err := wait(l.epoll, l.events[:], timeout)
	if err != nil {
		return err
	}
	for i := range n {
		// A socket that an earlier event closed may have a late one; a new socket with its number takes it for a spurious one.
		s := l.sockets[l.events[i].Fd]
		if s == nil {
			continue
		}
		ended := l.events[i].Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
		switch s.kind {
		case listener:
			err = l.acceptAll(s)
		case podConnection:
			l.servePod(s, ended)
		case client:
			err = l.run.ready(s, ended)
		case held, sink:
			l.drain(s, ended)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// send sends b, after what waits already, and keeps what the socket does not take. It reports whether the socket lives.
func (s *socket) send(b []byte) bool {
	if len(s.out) > 0 {
		panic("BUG: one message at a time")
	}
	s.out = b
	return s.flush()
}

// flush goes on sending; a socket that takes no more is told of by epoll.
func (s *socket) flush() bool {
	for len(s.out) > 0 {
		n, errno := write(s.fd, s.out)
		switch errno {
		case 0:
			s.out = s.out[n:]
		case syscall.EAGAIN:
			return true
		case syscall.EINTR:
		default:
			return false
		}
	}
	return true
}

func (l *Loop) acceptAll(s *socket) error {
	for {
		fd, err := accept(s.fd)
		if fd < 0 || err != nil {
			return err
		}
		what := podConnection
		if s.pod == nil {
			what = sink
		}
		if err := l.add(&socket{fd: fd, kind: what, pod: s.pod}); err != nil {
			return err
		}
	}
}

// servePod reads what a proxy asks and answers each whole request. A read that did not fill the buffer has emptied the
// socket, unless the other side has ended: what comes later is told of anew.
func (l *Loop) servePod(s *socket, ended bool) {
	if !s.flush() {
		l.drop(s)
		return
	}
	for {
		n, errno := read(s.fd, l.scratch)
		switch {
		case errno == syscall.EAGAIN:
			return
		case errno == syscall.EINTR:
			continue
		case errno != 0, n == 0:
			l.drop(s)
			return
		}
		if !l.take(s, l.scratch[:n]) {
			l.drop(s)
			return
		}
		if n < len(l.scratch) && !ended {
			return
		}
	}
}

// take consumes bytes of requests. It reports whether the connection may go on.
func (l *Loop) take(s *socket, b []byte) bool {
	for len(b) > 0 {
		if s.rest > 0 {
			n := min(s.rest, len(b))
			b, s.rest = b[n:], s.rest-n
			if s.rest == 0 && !s.send(s.pod.reply) {
				return false
			}
			continue
		}
		if len(s.head) > 0 {
			b = append(s.head, b...)
			s.head = nil
		}
		total, _, ok, err := sizeOf(b, true)
		switch {
		case err != nil:
			l.unreadable = err
			return false
		case !ok:
			s.head = append([]byte(nil), b...)
			return true
		case total > len(b):
			s.rest = total - len(b)
			return true
		}
		b = b[total:]
		if !s.send(s.pod.reply) {
			return false
		}
	}
	return true
}

// drain reads and forgets.
func (l *Loop) drain(s *socket, ended bool) {
	for {
		n, errno := s.hear(l.scratch)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return
		case errno != 0, n == 0:
			l.drop(s)
			return
		}
		s.rest += n
		if n < len(l.scratch) && !ended && s.tls == nil {
			return
		}
	}
}
