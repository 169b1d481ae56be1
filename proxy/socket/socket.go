// Package socket reads and writes connected stream sockets without telling Go's scheduler.
//
// An ordinary read or write is a system call that the runtime expects to block: it marks the processor as free for others,
// and its monitor thread takes it away when the call lasts longer than 20 µs. On a socket that never blocks, that is
// work for nothing: while requests come, the monitor wakes up every 20 µs, and threads hand the processor to each
// other. Sockets of package net never block, so here the calls are made as what they are: short. docs/design/0008 has
// the measurement.
//
// It is responsible for these calls and for the waiting around them. It knows nothing of HTTP, of deadlines (those set
// on the net.Conn hold) and of buffers, which are the caller's.
package socket

import (
	"io"
	"net"
	"syscall"
)

// A Conn is a connection that is read and written by this package's calls. One goroutine may read it while another one
// writes; two that read, or two that write, may not. The zero value is not usable.
type Conn struct {
	net.Conn
	raw syscall.RawConn // nil: not a socket; the Conn's own methods serve

	in      []byte // what Read reads into
	got     int
	readErr error
	receive func(fd uintptr) bool // c.tryReceive, bound once

	receiveNow func(fd uintptr) // the same for ReadNow

	out      []byte // what Write has left to write
	writeErr error
	send     func(fd uintptr) bool // c.trySend, bound once
}

// Init makes c the connection nc. It must be called once, before anything else.
func (c *Conn) Init(nc net.Conn) {
	c.Conn = nc
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	c.raw, c.receive, c.send = raw, c.tryReceive, c.trySend
	c.receiveNow = func(fd uintptr) { c.tryReceive(fd) }
}

// Raw returns access to the descriptor, or nil where the connection is not a socket.
func (c *Conn) Raw() syscall.RawConn { return c.raw }

// Read is net.Conn's Read.
func (c *Conn) Read(p []byte) (int, error) {
	if c.raw == nil || len(p) == 0 {
		return c.Conn.Read(p)
	}
	c.in = p
	err := c.raw.Read(c.receive)
	c.in = nil
	switch {
	case err != nil: // a deadline, or the connection is closed
		return 0, err
	case c.readErr != nil:
		return 0, c.failed("read", c.readErr)
	case c.got == 0:
		return 0, io.EOF
	}
	return c.got, nil
}

// ReadNow reads what has come into p, which is not empty, and does not wait. n is 0 without an error at the end of what the
// peer sends; the error is syscall.EAGAIN where nothing has come. The connection must be a socket.
func (c *Conn) ReadNow(p []byte) (n int, err error) {
	c.in = p
	err = c.raw.Control(c.receiveNow)
	c.in = nil
	if err == nil {
		n, err = c.got, c.readErr
	}
	return n, err
}

func (c *Conn) tryReceive(fd uintptr) bool {
	c.got, c.readErr = Receive(fd, c.in)
	return c.readErr != syscall.EAGAIN
}

// Write is net.Conn's Write.
func (c *Conn) Write(p []byte) (int, error) {
	if c.raw == nil || len(p) == 0 {
		return c.Conn.Write(p)
	}
	c.out, c.writeErr = p, nil
	err := c.raw.Write(c.send)
	written := len(p) - len(c.out)
	c.out = nil
	if err == nil && c.writeErr != nil {
		err = c.failed("write", c.writeErr)
	}
	return written, err
}

func (c *Conn) trySend(fd uintptr) bool {
	for len(c.out) > 0 {
		n, err := Send(fd, c.out[:min(len(c.out), largestCall)])
		c.out = c.out[max(n, 0):]
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			c.writeErr = err
			return true
		}
	}
	return true
}

// largestCall bounds what one call copies, so that a processor is not kept from others for long.
const largestCall = 256 << 10

func (c *Conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
