package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// closedPort returns an address that refuses connections.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// A pod that closes connections after a short idle time must cost no GET, however the two meet.
func TestIdleClosingPodFailsNoGet(t *testing.T) {
	t.Parallel()
	const idle = 20 * time.Millisecond
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		// The limit is on idle connections: a new one has time for its first request, however busy the machine is.
		for readHead(r) != "" {
			io.WriteString(c, ok)
			c.SetReadDeadline(time.Now().Add(idle))
		}
	})
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	for i := range 150 {
		require.NoError(t, carry(g, newExchange("GET", "/")))
		time.Sleep(idle - 5*time.Millisecond + time.Duration(i%10)*time.Millisecond)
	}
	require.Greater(t, p.dials(), 1, "the pod never closed an idle connection: the test shows nothing")
}

func TestHungPodExecutesOnce(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
				for head := readHead(r); head != ""; head = readHead(r) {
					p.record(head)
				}
			})
			o := testOptions()
			o.ResponseTimeout = 50 * time.Millisecond
			x := newExchange(method, "/")
			g := testPool(t, o).Group(podSet(p.addr))
			require.ErrorIs(t, g.Do(x), ErrTimeout)
			require.Len(t, p.requests(), 1)
			require.Equal(t, 1, x.Attempts)
			require.Zero(t, g.Status()[0].Idle)
			require.Zero(t, g.Status()[0].InFlight)
		})
	}
}

// once answers the first request of each connection and resets it at the second, having seen it.
func once(p *pod, c net.Conn, r *bufio.Reader) {
	p.record(readHead(r))
	io.WriteString(c, ok)
	if head := readHead(r); head != "" {
		p.record(head)
		c.(*net.TCPConn).SetLinger(0)
	}
}

func TestResetBeforeAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		method   string
		shape    func(*Exchange)
		err      error
		seen     int // executions, the one that opened the connection included
		attempts int
	}{
		{"GET is repeated on a new connection", "GET", nil, nil, 3, 2},
		{"HEAD is repeated", "HEAD", nil, nil, 3, 2},
		{"OPTIONS is repeated", "OPTIONS", nil, nil, 3, 2},
		{"POST never", "POST", nil, ErrReset, 2, 1},
		{"PUT never", "PUT", nil, ErrReset, 2, 1},
		{"DELETE never", "DELETE", nil, ErrReset, 2, 1},
		{"GET with a body never", "GET", func(x *Exchange) { withBody(x, "teller") }, ErrReset, 2, 1},
		{"POST that the pod knows again is repeated", "POST", func(x *Exchange) { x.Idempotent = true; withBody(x, "teller") }, nil, 3, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPod(t, once)
			g := testPool(t, testOptions()).Group(podSet(p.addr))
			trustPatience(g)
			require.NoError(t, carry(g, newExchange("POST", "/first")))
			x := newExchange(tt.method, "/second")
			if tt.shape != nil {
				tt.shape(x)
			}
			err := carry(g, x)
			require.ErrorIs(t, err, tt.err)
			require.Len(t, p.requests(), tt.seen)
			require.Equal(t, tt.attempts, x.Attempts)
		})
	}
}

func TestResetOnNewConnectionIsNotRepeated(t *testing.T) {
	t.Parallel()
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) { p.record(readHead(r)) })
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	require.ErrorIs(t, carry(g, newExchange("GET", "/")), ErrReset)
	require.Len(t, p.requests(), 1)
}

func TestRefusedDialGoesToAnotherEndpoint(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	dead := closedPort(t)
	g := testPool(t, testOptions()).Group(podSet(dead, p.addr))
	for range 20 {
		x := newExchange("POST", "/")
		withStream(x, strings.NewReader(strings.Repeat("x", 100_000)), 100_000)
		require.NoError(t, carry(g, x))
		require.Equal(t, p.addr, x.Endpoint.Addr)
	}
	require.True(t, g.Usable())
	for _, s := range g.Status() {
		require.Equal(t, s.Addr == p.addr, s.Usable, s.Addr)
	}
}

// A pod that comes back is found without a request having to pay for the discovery, and soon.
func TestUndialableEndpointIsProbedInTheBackground(t *testing.T) {
	t.Parallel()
	addr := closedPort(t)
	g := testPool(t, testOptions()).Group(podSet(addr))
	require.ErrorIs(t, carry(g, newExchange("GET", "/")), ErrNotConnected)
	require.False(t, g.Usable())
	err := carry(g, newExchange("GET", "/"))
	require.ErrorIs(t, err, ErrNoEndpoint)
	require.NotErrorIs(t, err, ErrNotConnected)
	e := g.current().states[0]
	require.Eventually(t, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.failures >= 4
	}, patience, 5*time.Millisecond, "nobody tried it again")
	require.False(t, g.Usable())

	l, err := net.Listen("tcp", addr.String())
	require.NoError(t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		readHead(bufio.NewReader(c))
		io.WriteString(c, ok)
		c.Close()
	}()
	back := time.Now()
	// Between the end of a pause and the probe it may be tried by whoever comes first: that is not the end of it.
	require.Eventually(t, func() bool { return e.down.Load() == 0 }, patience, time.Millisecond)
	require.Less(t, time.Since(back), 3*time.Second)
	require.True(t, g.Usable())
	require.NoError(t, carry(g, newExchange("GET", "/")), "on the connection that the probe made")
}

// Dials that fail together count once, and a probe is made by one request only.
func TestBackoff(t *testing.T) {
	t.Parallel()
	e := newEndpoint(NewPool(testOptions()), netip.MustParseAddrPort("127.0.0.1:1"))
	start := time.Now()
	for range 10 {
		e.unreachable(start)
	}
	require.Equal(t, 1, e.failures)
	var pauses []time.Duration
	for range 7 {
		pauses = append(pauses, time.Duration(e.down.Load()-e.failed.UnixNano()))
		e.unreachable(time.Now())
	}
	ms := time.Millisecond
	require.Equal(t, []time.Duration{250 * ms, 500 * ms, time.Second, time.Second, time.Second, time.Second, time.Second}, pauses)
	later := e.down.Load()
	require.False(t, e.claim(later-1))
	require.True(t, e.claim(later))
	require.False(t, e.claim(later), "two requests probe at once")
	e.reached()
	require.True(t, e.claim(start.UnixNano()))
	require.Zero(t, e.failures)
}

// A pod that goes away while the client is still sending, or pausing, is not the client's fault.
func TestPodEndsInTheMidstOfAnUpload(t *testing.T) {
	t.Parallel()
	for _, pausing := range []bool{true, false} {
		p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) { p.record(readHead(r)) })
		g := testPool(t, testOptions()).Group(podSet(p.addr))
		body, client := io.Pipe()
		x := newExchange("POST", "/")
		withStream(x, body, -1)
		x.Stream.(*readerStream).stop = func() { body.CloseWithError(os.ErrDeadlineExceeded) }
		go func() {
			for err := error(nil); err == nil; {
				if _, err = io.WriteString(client, "amount=100"); pausing {
					return
				}
			}
		}()
		err := carry(g, x)
		require.ErrorIs(t, err, ErrReset, "pausing: %t", pausing)
		require.NotErrorIs(t, err, ErrClientBody)
		require.Len(t, p.requests(), 1)
		client.Close()
	}
}

// Want of descriptors or ports here says nothing about pods.
func TestOwnFaultLeavesEndpointUsable(t *testing.T) {
	t.Parallel()
	for cause, usable := range map[syscall.Errno]bool{
		syscall.EMFILE: true, syscall.EADDRNOTAVAIL: true, syscall.ECONNREFUSED: false, syscall.ETIMEDOUT: false,
	} {
		pool := NewPool(testOptions())
		pool.dial = func(string, time.Duration) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", cause)}
		}
		g := pool.Group(podSet(netip.MustParseAddrPort("127.0.0.1:1")))
		err := carry(g, newExchange("GET", "/"))
		require.ErrorIs(t, err, ErrNotConnected)
		require.ErrorIs(t, err, cause)
		require.Equal(t, usable, g.Usable(), cause)
	}
}

func TestTruncatedBody(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, answer string }{
		{"fixed length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"},
		{"no byte of it", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"},
		{"within a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n12345"},
		{"between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"},
		{"before the trailers end", inChunks + "\r\n5\r\n12345\r\n0\r\nX: y\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, tt.answer)
			})
			g := testPool(t, testOptions()).Group(podSet(p.addr))
			x := newExchange("GET", "/")
			require.NoError(t, g.Do(x))
			require.Equal(t, 1, g.Status()[0].InFlight)
			body, err := finish(x)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.LessOrEqual(t, len(body), 5)
			require.Zero(t, g.Status()[0].Idle)
			require.Zero(t, g.Status()[0].InFlight)
		})
	}
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, answer string }{
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n"},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n"},
		{"no status", "HTTP/1.1 OK\r\n\r\n"},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n"},
		{"status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"},
		{"two Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"},
		{"list of Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"},
		{"signed Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"},
		{"negative Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"},
		{"empty Content-Length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok"},
		{"Content-Length overflows", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok"},
		{"Content-Length then chunked", status + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"chunked then Content-Length", inChunks + "Content-Length: 2\r\n\r\n0\r\n\r\n"},
		{"Transfer-Encoding identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n"},
		{"Transfer-Encoding list", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		{"Transfer-Encoding twice", inChunks + "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"Transfer-Encoding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"folded header", status + "X-Note: a\r\n b\r\nContent-Length: 2\r\n\r\nok"},
		{"folded framing", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n 3\r\n\r\nok"},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"},
		{"no colon", "HTTP/1.1 200 OK\r\nwhat\r\n\r\n"},
		{"bare LF between lines", "HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 2\r\n\r\nok"},
		{"bare CR in a value", "HTTP/1.1 200 OK\r\nX: 1\rContent-Length: 5\r\nContent-Length: 2\r\n\r\nok"},
		{"NUL in a value", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok"},
		{"switching protocols unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"},
		{"endless interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9) + ok},
		{"header without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", headerLimit) + "\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPod(t, answering(tt.answer))
			g := testPool(t, testOptions()).Group(podSet(p.addr))
			x := newExchange("GET", "/")
			require.ErrorIs(t, g.Do(x), ErrBadResponse)
			require.Len(t, p.requests(), 1)
			require.Zero(t, g.Status()[0].Idle)
			require.Zero(t, g.Status()[0].InFlight)
		})
	}
}

func TestBadChunks(t *testing.T) {
	t.Parallel()
	for _, chunks := range []string{
		"\r\n", "-2\r\nok\r\n0\r\n\r\n", "0x2\r\nok\r\n0\r\n\r\n", " 2\r\nok\r\n0\r\n\r\n", "2\nok\r\n0\r\n\r\n",
		"2 2\r\nok\r\n0\r\n\r\n", "2;a\x01\r\nok\r\n0\r\n\r\n", "2;a\rb\r\nok\r\n0\r\n\r\n", "2\r\nokay\r\n0\r\n\r\n",
		"fffffffffffffffff\r\nok\r\n0\r\n\r\n", "2\r\nok\n0\r\n\r\n", "2\r\nok0\r\n\r\n",
		"0\r\n" + strings.Repeat("X-Trailer: "+strings.Repeat("x", 1000)+"\r\n", 20) + "\r\n",
	} {
		p := startPod(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks))
		g := testPool(t, testOptions()).Group(podSet(p.addr))
		x := newExchange("GET", "/")
		err := g.Do(x)
		if err == nil {
			_, err = finish(x)
		}
		require.ErrorIs(t, err, ErrBadResponse, "%q", chunks[:min(len(chunks), 40)])
		require.Zero(t, g.Status()[0].Idle)
	}
}

// failingBody gives some bytes and then the client's error.
type failingBody struct{ left int }

func (f *failingBody) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, errors.New("the client went away")
	}
	n := min(f.left, len(p))
	f.left -= n
	return n, nil
}

func TestClientBodyFails(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int{"fixed length": 100_000, "chunked": -1, "small": 5_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
				all, _ := io.ReadAll(r)
				got <- string(all)
			})
			g := testPool(t, testOptions()).Group(podSet(p.addr))
			x := newExchange("POST", "/")
			withStream(x, &failingBody{left: 4_000}, length)
			require.ErrorIs(t, g.Do(x), ErrClientBody)
			if name == "small" {
				require.Zero(t, p.dials(), "a body that could be gathered must reach no pod in part")
				return
			}
			body := <-got
			require.Greater(t, len(body), 4_000)
			require.False(t, strings.HasSuffix(body, "0\r\n\r\n"), "the pod must not take the body for whole")
		})
	}
}

// A pod that refuses an upload answers and stops reading; the answer arrives, and the connection is not used again.
func TestEarlyRefusal(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int{"fixed length": 64 << 20, "chunked": -1} {
		for _, how := range []string{"closes", "stays"} {
			t.Run(name+" and the pod "+how, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				defer close(release)
				p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
					readHead(r)
					io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
					if how == "closes" {
						c.(*net.TCPConn).CloseWrite()
						io.CopyN(io.Discard, r, 1<<20)
						return
					}
					<-release
				})
				g := testPool(t, testOptions()).Group(podSet(p.addr))
				x := newExchange("POST", "/")
				withStream(x, &failingBody{left: 64 << 20}, length)
				require.NoError(t, g.Do(x))
				require.Equal(t, 413, x.Answer.Status)
				body, err := finish(x)
				require.NoError(t, err)
				require.Equal(t, "no!", body)
				require.Zero(t, g.Status()[0].Idle)
			})
		}
	}
}

// A success that comes early does not end the upload; what follows it depends on the rest.
func TestEarlySuccess(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
		n, _ := io.CopyN(io.Discard, r, size)
		fmt.Fprintf(c, "%d", n)
	})
	x := newExchange("POST", "/")
	withStream(x, &failingBody{left: size}, size)
	require.NoError(t, testPool(t, testOptions()).Group(podSet(p.addr)).Do(x))
	body, err := finish(x)
	require.NoError(t, err)
	require.Equal(t, "8388608", body)
}

func TestPodStopsReading(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		p.record(readHead(r))
		<-release
	})
	o := testOptions()
	o.ResponseTimeout = 50 * time.Millisecond
	g := testPool(t, o).Group(podSet(p.addr))
	x := newExchange("POST", "/")
	withStream(x, &failingBody{left: 64 << 20}, 64<<20)
	require.ErrorIs(t, g.Do(x), ErrTimeout)
	require.Len(t, p.requests(), 1)
	require.Zero(t, g.Status()[0].InFlight)
}

func TestInterimAnswersArePassedOver(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+ok))
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	trustPatience(g)
	for range 3 {
		x := newExchange("POST", "/")
		withStream(x, &failingBody{left: 100_000}, 100_000)
		require.NoError(t, g.Do(x))
		require.Equal(t, 200, x.Answer.Status)
		body, err := finish(x)
		require.NoError(t, err)
		require.Equal(t, "ok", body)
	}
	require.Equal(t, 1, p.dials())
}

// TestRepeatLeavesAPodThatIsGoing: a pod that is killed ends its connections and may still take one more before its
// listener is gone. The repeat that falls into that goes to another pod, once.
func TestRepeatLeavesAPodThatIsGoing(t *testing.T) {
	t.Parallel()
	going := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		p.record(readHead(r))
		if len(p.requests()) == 1 {
			_, _ = io.WriteString(c, ok)
			p.record(readHead(r))
		}
	})
	other := startPod(t, answering(ok))
	set := podSet(going.addr)
	g := testPool(t, testOptions()).Group(set)
	require.NoError(t, carry(g, newExchange("GET", "/first")))
	set.Store(podSet(going.addr, other.addr).Load())
	x := newExchange("GET", "/second")
	x.Prefer = going.addr
	require.NoError(t, carry(g, x))
	require.Equal(t, other.addr, x.Endpoint.Addr)
	require.Len(t, going.requests(), 3)
	require.Len(t, other.requests(), 1)
	require.Equal(t, 3, x.Attempts)
}
