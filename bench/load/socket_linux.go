package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// The system calls that are made for every request go past the Go scheduler: they never block.

func read(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		0, 0, 0)
	return int(n), errno
}

// write sends without ever raising SIGPIPE.
func write(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// sysEpollPwait2 has one number on every architecture whose table is the generic one or amd64's.
const sysEpollPwait2 = 441

// wait blocks until there are events or the timeout is over; a negative one is none. It keeps its P while it does, for
// which others need a second one: told of it, the scheduler would look after it every 20 µs, on the core that is measured
// with.
func wait(epoll int, events []syscall.EpollEvent, timeout time.Duration) (int, error) {
	var limit *syscall.Timespec
	if timeout >= 0 {
		t := syscall.NsecToTimespec(int64(timeout))
		limit = &t
	}
	n, _, errno := syscall.RawSyscall6(sysEpollPwait2, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(unsafe.Pointer(limit)), 0, 0)
	runtime.KeepAlive(limit)
	if errno == syscall.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("epoll_pwait2: %w", errno)
	}
	return int(n), nil
}

// exactTimers makes the calling thread's timeouts end when they should and not up to 50 µs later.
func exactTimers() error {
	const setTimerSlack = 29
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0); errno != 0 {
		return fmt.Errorf("prctl(PR_SET_TIMERSLACK): %w", errno)
	}
	return nil
}

// watch registers a socket for all that may happen to it, each told once.
func watch(epoll, fd int) error {
	const edgeTriggered = 1 << 31
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edgeTriggered, Fd: int32(fd)}
	if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func listen() (fd int, at netip.AddrPort, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, at, fmt.Errorf("socket: %w", err)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = syscall.Listen(fd, 4096)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return 0, at, fmt.Errorf("listening on loopback: %w", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return 0, at, fmt.Errorf("getsockname: %w", err)
	}
	in := name.(*syscall.SockaddrInet4)
	return fd, netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)), nil
}

// accept returns -1 where nobody waits.
func accept(listener int) (int, error) {
	fd, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	switch err {
	case nil:
		return fd, syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	case syscall.EAGAIN, syscall.EINTR, syscall.ECONNABORTED:
		return -1, nil
	}
	return -1, fmt.Errorf("accept: %w", err)
}

// A peer is an address as connect wants it.
type peer [syscall.SizeofSockaddrInet4]byte

func peerOf(to netip.AddrPort) (p peer) {
	binary.NativeEndian.PutUint16(p[0:], syscall.AF_INET)
	binary.BigEndian.PutUint16(p[2:], to.Port())
	ip := to.Addr().As4()
	copy(p[4:], ip[:])
	return p
}

// dial begins a connection and does not wait for it.
func dial(to *peer) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("TCP_NODELAY: %w", err)
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), uintptr(len(to)))
	if errno != 0 && errno != syscall.EINPROGRESS {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("connect: %w", errno)
	}
	return fd, nil
}
