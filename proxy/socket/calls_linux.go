//go:build !race

package socket

import (
	"syscall"
	"unsafe"
)

// Receive reads what has come into b, which is not empty. n is 0 without an error at the end of what the peer sends;
// the error is syscall.EAGAIN where nothing has come. fd must be a socket that does not block.
func Receive(fd uintptr, b []byte) (n int, err error) {
	return call(syscall.SYS_RECVFROM, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b), syscall.MSG_DONTWAIT)
}

// Send writes of b what there is room for, b not empty. The error is syscall.EAGAIN where there is no room at all. fd must
// be a socket that does not block.
func Send(fd uintptr, b []byte) (n int, err error) {
	return call(syscall.SYS_SENDTO, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

// Peek looks whether something has come, and leaves it there. The results are those of Receive with one byte of room.
func Peek(fd uintptr) (n int, err error) {
	var b [1]byte
	return call(syscall.SYS_RECVFROM, fd, unsafe.Pointer(&b), len(b), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// call makes one system call on n bytes at p, again where a signal came. Calls without flags ignore them.
func call(number, fd uintptr, p unsafe.Pointer, n int, flags uintptr) (int, error) {
	for {
		done, _, errno := syscall.RawSyscall6(number, fd, uintptr(p), uintptr(n), flags, 0, 0)
		switch errno {
		case 0:
			return int(done), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
