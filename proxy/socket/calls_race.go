//go:build race

package socket

import "syscall"

// The race detector learns what happened before what from the calls of package syscall: what was sent through a socket
// before what was received from it. So a program that is built with it makes them instead; their results are the same.

// Receive is the Receive of other builds.
func Receive(fd uintptr, b []byte) (n int, err error) {
	return again(func() (int, error) { return syscall.Read(int(fd), b) })
}

// Send is the Send of other builds.
func Send(fd uintptr, b []byte) (n int, err error) {
	return again(func() (int, error) { return syscall.Write(int(fd), b) })
}

// Peek is the Peek of other builds.
func Peek(fd uintptr) (n int, err error) {
	var b [1]byte
	return again(func() (int, error) {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return n, err
	})
}

func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
