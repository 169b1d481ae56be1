//go:build linux

package load

import (
	"context"
	"net/netip"
	"syscall"
	"time"
)

// A forwarder hands on bytes and understands none of them: what is left of a proxy when everything is taken away that
// is not a system call.
type forwarder struct {
	epoll  int
	ends   []*end // by descriptor
	to     peer
	listen int
	buffer []byte
}

// An end is one of the two sockets of a forwarded connection.
type end struct {
	fd      int
	other   *end
	waiting []byte // read from other, not yet taken by this socket
	blocked bool   // other has more to read once waiting is empty
	over    bool   // nothing more will be read from here
}

// Forward accepts connections and joins each to one of its own to the target. It tells where it listens by calling
// ready, and returns within a second of ctx's end, or on an error.
func Forward(ctx context.Context, target netip.AddrPort, ready func(netip.AddrPort)) error {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer syscall.Close(epoll)
	listener, at, err := listen()
	if err != nil {
		return err
	}
	defer syscall.Close(listener)
	f := &forwarder{epoll: epoll, to: peerOf(target), listen: listener, buffer: make([]byte, 256<<10)}
	defer func() {
		for _, e := range f.ends {
			if e != nil {
				_ = syscall.Close(e.fd)
			}
		}
	}()
	if err := watch(epoll, listener); err != nil {
		return err
	}
	ready(at)
	events := make([]syscall.EpollEvent, 256)
	for ctx.Err() == nil {
		n, err := wait(epoll, events, time.Second)
		if err != nil {
			return err
		}
		for _, event := range events[:n] {
			if int(event.Fd) == listener {
				if err := f.acceptAll(); err != nil {
					return err
				}
				continue
			}
			if e := f.ends[event.Fd]; e != nil {
				hangup := event.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
				f.ready(e, hangup)
			}
		}
	}
	return nil
}

func (f *forwarder) acceptAll() error {
	for {
		fd, err := accept(f.listen)
		if fd < 0 || err != nil {
			return err
		}
		out, err := dial(&f.to)
		if err != nil {
			return err
		}
		client, pod := &end{fd: fd}, &end{fd: out}
		client.other, pod.other = pod, client
		for _, e := range []*end{client, pod} {
			for e.fd >= len(f.ends) {
				f.ends = append(f.ends, nil)
			}
			f.ends[e.fd] = e
			if err := watch(f.epoll, e.fd); err != nil {
				return err
			}
		}
	}
}

// ready moves what can be moved in both directions.
func (f *forwarder) ready(e *end, hangup bool) {
	if len(e.waiting) > 0 {
		n, errno := write(e.fd, e.waiting)
		if errno != 0 && errno != syscall.EAGAIN {
			f.close(e)
			return
		}
		if errno == 0 {
			e.waiting = e.waiting[n:]
		}
		if len(e.waiting) == 0 && e.blocked {
			e.blocked = false
			f.move(e.other, true)
		}
	}
	if f.ends[e.fd] == e {
		f.move(e, hangup)
	}
}

// move reads from an end and writes to the other one, until there is nothing to read or the other takes no more. A read
// that did not fill the buffer has emptied the socket, unless its peer has ended.
func (f *forwarder) move(from *end, hangup bool) {
	to := from.other
	for !from.over {
		if len(to.waiting) > 0 {
			to.blocked = true
			return
		}
		n, errno := read(from.fd, f.buffer)
		switch {
		case errno == syscall.EAGAIN:
			return
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			f.close(from)
			return
		case n == 0:
			from.over = true
			if to.over {
				f.close(from)
				return
			}
			_ = syscall.Shutdown(to.fd, syscall.SHUT_WR)
			return
		}
		sent, errno := write(to.fd, f.buffer[:n])
		if errno != 0 && errno != syscall.EAGAIN {
			f.close(from)
			return
		}
		if errno == syscall.EAGAIN {
			sent = 0
		}
		if sent < n {
			to.waiting = append([]byte(nil), f.buffer[sent:n]...)
			continue
		}
		if n < len(f.buffer) && !hangup {
			return
		}
	}
}

// close ends both.
func (f *forwarder) close(e *end) {
	for _, e := range []*end{e, e.other} {
		f.ends[e.fd] = nil
		_ = syscall.Close(e.fd)
	}
}
