package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	tests := []struct {
		name   string
		method string
		answer string
		status int
		body   string
		stays  bool // the connection can be used again
	}{
		{"fixed length", "GET", ok, 200, "ok", true},
		{"empty body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true},
		{"longer than the buffer", "GET", status + "Content-Length: 10000\r\n\r\n" + long, 200, long, true},
		{"chunked", "GET", inChunks + "\r\n1\r\no\r\n01;a=b\r\nk\r\n0\r\n\r\n", 200, "ok", true},
		{"chunked, empty", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", true},
		{"chunked, long", "GET",
			status + "Transfer-Encoding: Chunked\r\n\r\n2710\r\n" + long + "\r\n0\r\n\r\n", 200, long, true},
		{"trailers", "GET",
			status + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", 200, "ok", true},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", 200, "", true},
		{"HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "", true},
		{"HEAD without a length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, "", true},
		{"204", "DELETE", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true},
		{"304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n", 304, "", true},
		{"Connection: close", "GET", status + "Connection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		{"Connection: x, Close", "GET", status + "connection: x, Close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		{"HTTP/1.0 keep-alive", "GET",
			"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
		{"more than was promised", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay", 200, "ok", false},
		{"a body where there is none", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "", false},
		{"no reason phrase", "GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
		{"long header", "GET", status + "X-Note: " + long + "\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
		{"long header and body", "GET",
			status + "X-Note: " + long + "\r\nContent-Length: 10000\r\n\r\n" + long, 200, long, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPod(t, answering(tt.answer))
			g := testPool(t, testOptions()).Group(podSet(p.addr))
			for round := 1; round <= 3; round++ {
				x := newExchange(tt.method, "/")
				require.NoError(t, g.Do(x))
				require.Equal(t, tt.status, x.Answer.Status)
				body, err := finish(x)
				require.NoError(t, err)
				require.Equal(t, tt.body, body)
				if tt.stays {
					require.Equal(t, 1, p.dials())
				} else {
					require.Equal(t, round, p.dials())
				}
				require.Zero(t, g.Status()[0].InFlight)
			}
		})
	}
}

func TestAnswerUntilClose(t *testing.T) {
	t.Parallel()
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nall there is")
	})
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	x := newExchange("GET", "/")
	require.NoError(t, g.Do(x))
	body, err := finish(x)
	require.NoError(t, err)
	require.Equal(t, "all there is", body)
	require.Zero(t, g.Status()[0].Idle)
}

// A body that is not read to its end leaves the connection in an unknown place.
func TestUnreadBodyClosesConnection(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"+strings.Repeat("x", 10_000)))
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	x := newExchange("GET", "/")
	require.NoError(t, g.Do(x))
	x.Read(make([]byte, 5_000))
	x.Close()
	x.Close()
	require.Zero(t, g.Status()[0].Idle)
	require.Zero(t, g.Status()[0].InFlight)
}

// An event stream's events arrive one by one, and each may take as long as an answer.
func TestBodyIsStreamedAsItComes(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for event := range next {
			fmt.Fprintf(c, "%x\r\n%s\r\n", len(event), event)
		}
		io.WriteString(c, "0\r\n\r\n")
	})
	o := testOptions()
	o.ResponseTimeout = 500 * time.Millisecond
	x := newExchange("GET", "/")
	require.NoError(t, testPool(t, o).Group(podSet(p.addr)).Do(x))
	buffer := make([]byte, 100)
	for i := range 8 { // 800 ms in all
		time.Sleep(100 * time.Millisecond)
		want := fmt.Sprintf("event %d", i)
		next <- want
		n, err := x.Read(buffer)
		require.NoError(t, err)
		require.Equal(t, want, string(buffer[:n]))
	}
	_, err := x.Read(buffer)
	require.ErrorContains(t, err, "timeout")
	require.NotErrorIs(t, err, io.EOF)
	x.Close()
	close(next)
}

// TestWithoutWaiting: what has come is taken as far as it goes; ends and errors are met by who waits.
func TestWithoutWaiting(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20_000)
	more := make(chan struct{})
	piecemeal := func(first, rest string) func(p *pod, c net.Conn, r *bufio.Reader) {
		return func(p *pod, c net.Conn, r *bufio.Reader) {
			if readHead(r) == "" {
				return
			}
			_, _ = io.WriteString(c, first)
			<-more
			_, _ = io.WriteString(c, rest)
		}
	}
	begun := func(answer, rest string) *Exchange {
		x := newExchange("GET", "/")
		p := startPod(t, piecemeal(answer, rest))
		require.NoError(t, testPool(t, testOptions()).Group(podSet(p.addr)).Do(x))
		return x
	}
	gathers := func(x *Exchange, enough func() bool) {
		require.Eventually(t, func() bool { return enough() }, patience, time.Millisecond)
	}

	fixed := begun(status+"Content-Length: 20000\r\n\r\n"+long[:15_000], long[15_000:])
	room, n := make([]byte, 32<<10), 0
	gathers(fixed, func() bool { n += fixed.ReadNow(room[n:]); return n == 15_000 })
	require.Zero(t, fixed.ReadNow(room[n:]), "nothing else has come")
	require.False(t, fixed.Ended())

	cut := begun(status+"Content-Length: 20000\r\n\r\n"+long[:15_000], "")
	close(more)
	gathers(fixed, func() bool { n += fixed.ReadNow(room[n:]); return fixed.Ended() })
	require.Equal(t, long, string(room[:n]))
	n = 0
	gathers(cut, func() bool { n += cut.ReadNow(room[n:]); return n == 15_000 })
	require.Zero(t, cut.ReadNow(room[n:]))
	require.False(t, cut.Ended())
	_, err := cut.Read(room)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	for _, x := range []*Exchange{fixed, cut} {
		x.Close()
	}
}

// TestGather: a chunked answer that has come is whole, and what its header says stays as it was.
func TestGather(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20_000)
	p := startPod(t, answering(status+"X-Note: stays\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n"+long+"\r\n0\r\n\r\n"))
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	for found := 0; found < 3; {
		x := newExchange("GET", "/")
		require.NoError(t, g.Do(x))
		x.Gather(32 << 10)
		body, whole := x.Whole()
		if whole {
			found++
			require.Equal(t, long, string(body))
		} else {
			rest, err := io.ReadAll(x) // it had not come yet
			require.NoError(t, err)
			require.Equal(t, long, string(rest))
		}
		require.Equal(t, "OK", string(x.Answer.Reason))
		require.Equal(t, "stays", string(x.Answer.Fields[0].Value))
		x.Close()
	}
	require.Equal(t, 1, p.dials(), "the connection is clean after each")
}
