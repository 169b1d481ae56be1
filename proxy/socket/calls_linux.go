//go:build !race

package socket

import (
	"syscall"
	"unsafe"
)

// Receive reads what has come into b, which is not empty. n is 0 without an error at the end of what the peer sends;
// the error is syscall.EAGAIN where nothing has come. fd must be a socket that does not block.
func Receive(fd uintptr, b []byte) (n int, err error) {
	for {
		got, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(got), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN
		}
		return 0, errno
	}
}

// Send writes of b what there is room for, b not empty. The error is syscall.EAGAIN where there is no room at all. fd must
// be a socket that does not block.
func Send(fd uintptr, b []byte) (n int, err error) {
	for {
		sent, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(sent), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN
		}
		return 0, errno
	}
}

// Peek looks whether something has come, and leaves it there. The results are those of Receive with one byte of room.
func Peek(fd uintptr) (n int, err error) {
	var b [1]byte
	for {
		got, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1,
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(got), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN
		}
		return 0, errno
	}
}
