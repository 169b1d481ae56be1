package socket_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/proxy/socket"
)

// pair returns both ends of a TCP connection over loopback, the first as a socket.Conn.
func pair(t *testing.T) (*socket.Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = there.Close() })
	nc, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	here := new(socket.Conn)
	here.Init(nc)
	require.NotNil(t, here.Raw())
	return here, there.(*net.TCPConn)
}

// TestBothWays carries more than the kernel holds in each direction at once, so that calls have to wait.
func TestBothWays(t *testing.T) {
	here, there := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20)
	var both sync.WaitGroup
	both.Go(func() {
		n, err := here.Write(sent)
		if err != nil || n != len(sent) {
			t.Errorf("wrote %d of %d bytes: %v", n, len(sent), err)
		}
		_ = here.Conn.(*net.TCPConn).CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(there, bytes.NewReader(sent))
		_ = there.CloseWrite()
	})
	both.Go(func() {
		got, err := io.ReadAll(there)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("the other side got %d bytes: %v", len(got), err)
		}
	})
	got, err := io.ReadAll(here)
	require.NoError(t, err)
	require.True(t, bytes.Equal(got, sent), "got %d bytes", len(got))
	both.Wait()
}

func TestDeadlines(t *testing.T) {
	here, _ := pair(t)
	require.NoError(t, here.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	n, err := here.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, n)

	more := make([]byte, 64<<20) // than the kernel takes of it
	require.NoError(t, here.SetWriteDeadline(time.Now().Add(time.Second)))
	n, err = here.Write(more)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Positive(t, n, "what went before the deadline is told")
	require.Less(t, n, 64<<20)
}

func TestEndsAndErrors(t *testing.T) {
	here, there := pair(t)
	require.NoError(t, there.CloseWrite())
	_, err := here.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)

	here, there = pair(t)
	require.NoError(t, there.SetLinger(0))
	require.NoError(t, there.Close())
	_, err = here.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = here.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EPIPE)

	require.NoError(t, here.Close())
	_, err = here.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = here.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestCalls looks at the calls one by one: none of them waits, and Peek takes nothing.
func TestCalls(t *testing.T) {
	here, there := pair(t)
	on := func(call func(fd uintptr)) { require.NoError(t, here.Raw().Control(call)) }
	b := make([]byte, 8)
	on(func(fd uintptr) {
		_, err := socket.Peek(fd)
		require.Equal(t, syscall.EAGAIN, err)
		_, err = socket.Receive(fd, b)
		require.Equal(t, syscall.EAGAIN, err)
	})
	_, err := there.Write([]byte("abc"))
	require.NoError(t, err)
	require.Eventually(t, func() (came bool) {
		on(func(fd uintptr) { n, err := socket.Peek(fd); came = n == 1 && err == nil })
		return came
	}, 5*time.Second, time.Millisecond)
	on(func(fd uintptr) {
		n, err := socket.Receive(fd, b)
		require.NoError(t, err)
		require.Equal(t, "abc", string(b[:n]))
		for err = nil; err == nil; {
			_, err = socket.Send(fd, make([]byte, 1<<20))
		}
		require.Equal(t, syscall.EAGAIN, err, "the kernel holds no more")
	})
}

// TestNoSocket: a connection that is none is served by its own methods.
func TestNoSocket(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	var c socket.Conn
	c.Init(other)
	require.Nil(t, c.Raw())
	go func() { _, _ = one.Write([]byte("hello")) }()
	b := make([]byte, 8)
	n, err := c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	go func() { _, _ = io.ReadFull(one, b[:2]) }()
	n, err = c.Write([]byte("ok"))
	require.NoError(t, err)
	require.Equal(t, 2, n)
}
