//go:build linux

package load

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLoop(t *testing.T) *Loop {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	l, err := NewLoop(2)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

// right fails the test unless all answers were.
func right(t *testing.T, r *Result) {
	t.Helper()
	require.NoError(t, r.Why)
	require.Zero(t, r.Failed)
	require.Zero(t, r.Wrong)
	require.Zero(t, r.Wandered)
	require.Positive(t, r.Answered)
}

func TestClosedLoopAgainstAPod(t *testing.T) {
	l := newLoop(t)
	for _, size := range []int{300, 16 << 10, 1 << 20} {
		l.SetReply(size)
		begun, ended := 0, 0
		result, err := l.Do(Run{Target: l.Pods()[0].Address, Mix: NewMix(MixOptions{Count: 100, Any: true}), Connections: 8,
			Warm: 10 * time.Millisecond, Window: 200 * time.Millisecond, Begin: func() { begun++ }, End: func() { ended++ }})
		require.NoError(t, err)
		right(t, result)
		require.Equal(t, []int{1, 1}, []int{begun, ended})
		require.GreaterOrEqual(t, result.Window, 150*time.Millisecond)
	}
}

func TestPostingsAndSingleConnections(t *testing.T) {
	l := newLoop(t)
	result, err := l.Do(Run{Target: l.Pods()[0].Address, Mix: NewMix(MixOptions{Count: 4, Any: true, Body: 600 << 10}),
		Connections: 4, Window: 200 * time.Millisecond})
	require.NoError(t, err)
	right(t, result)

	server := serve(t, func(c net.Conn) bool {
		_, _ = c.Write(Reply('1', 'a', 300))
		return false
	})
	for _, rate := range []float64{0, 500} {
		result, err = l.Do(Run{Target: server, Mix: NewMix(MixOptions{Count: 50, Anonymous: true, Close: true}), Connections: 4,
			Each: true, Rate: rate, Window: 300 * time.Millisecond})
		require.NoError(t, err)
		right(t, result)
		require.Greater(t, result.Answered, 16)
	}
}

func TestOpenLoopKeepsItsRate(t *testing.T) {
	l := newLoop(t)
	result, err := l.Do(Run{Target: l.Pods()[0].Address, Mix: NewMix(MixOptions{Count: 100, Any: true}), Connections: 16,
		Rate: 1000, Warm: 50 * time.Millisecond, Window: time.Second, Seed: 3})
	require.NoError(t, err)
	right(t, result)
	require.InDelta(t, 1000, result.Answered, 200)
	require.Zero(t, result.Unstarted)
}

// A generator with coordinated omission would report two slow requests of a server that stands still for 400 ms: one
// on each connection.
func TestLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	l := newLoop(t)
	var stall sync.Once
	var pause sync.Mutex
	begin := time.Now()
	server := serve(t, func(c net.Conn) bool {
		pause.Lock()
		if time.Since(begin) > 300*time.Millisecond {
			stall.Do(func() { time.Sleep(400 * time.Millisecond) })
		}
		pause.Unlock()
		_, err := c.Write(Reply('1', 'a', 300))
		return err == nil
	})
	result, err := l.Do(Run{Target: server, Mix: NewMix(MixOptions{Count: 100, Any: true}), Connections: 2, Rate: 500,
		Window: time.Second, Seed: 4})
	require.NoError(t, err)
	right(t, result)
	require.Greater(t, result.Latency.Quantile(0.85), 100*time.Millisecond, "a fifth of all requests waited")
	require.Greater(t, result.Late.Quantile(0.85), 100*time.Millisecond, "for a free connection")
}

func TestWrongAnswersAreSeen(t *testing.T) {
	l := newLoop(t)
	var mu sync.Mutex
	pod := byte('a')
	for name, c := range map[string]struct {
		answer func() []byte
		check  func(t *testing.T, r *Result)
	}{
		"version": {func() []byte { return Reply('2', 'a', 300) },
			func(t *testing.T, r *Result) { require.Positive(t, r.Wrong) }},
		"pod": {func() []byte { pod ^= 3; return Reply('1', pod, 300) },
			func(t *testing.T, r *Result) { require.Positive(t, r.Wandered) }},
		"status": {func() []byte { return []byte("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno") },
			func(t *testing.T, r *Result) { require.ErrorContains(t, r.Why, "503") }},
		"length": {func() []byte { return []byte("HTTP/1.1 200 OK\r\n\r\nx") },
			func(t *testing.T, r *Result) { require.ErrorContains(t, r.Why, "unknown length") }},
		"asks to close": {func() []byte {
			return []byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n1a")
		}, func(t *testing.T, r *Result) {
			require.Equal(t, r.Answered, r.Closed)
			right(t, r)
		}},
		"close": {func() []byte { return nil },
			func(t *testing.T, r *Result) { require.ErrorContains(t, r.Why, "closed the connection") }},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(conn net.Conn) bool {
				mu.Lock()
				answer := c.answer()
				mu.Unlock()
				_, _ = conn.Write(answer)
				return len(answer) > 0
			})
			mix := NewMix(MixOptions{Count: 1})
			mix.Versions[0] = '1'
			result, err := l.Do(Run{Target: server, Mix: mix, Connections: 2, Rate: 100, Window: 200 * time.Millisecond})
			require.NoError(t, err)
			c.check(t, result)
		})
	}
}

func TestHold(t *testing.T) {
	l := newLoop(t)
	held, err := l.Hold(l.Pods()[0].Address, NewMix(MixOptions{Count: 10, Any: true}), 50)
	require.NoError(t, err)
	require.NoError(t, l.Serve(20*time.Millisecond))
	require.Equal(t, 50, held.Alive())
	held.Release()
	require.Zero(t, held.Alive())
}

// serve answers each request on loopback with what answer writes, until it returns false.
func serve(t *testing.T, answer func(net.Conn) bool) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				for in := bufio.NewReader(conn); ; {
					request, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					if !answer(conn) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func TestForward(t *testing.T) {
	l := newLoop(t)
	at := make(chan netip.AddrPort)
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- Forward(ctx, l.Pods()[2].Address, func(a netip.AddrPort) { at <- a }) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	target := <-at
	for _, size := range []int{300, 1 << 20} {
		l.SetReply(size)
		result, err := l.Do(Run{Target: target, Mix: NewMix(MixOptions{Count: 10, Any: true, Body: size / 2}), Connections: 8,
			Window: 300 * time.Millisecond})
		require.NoError(t, err)
		right(t, result)
	}
}
