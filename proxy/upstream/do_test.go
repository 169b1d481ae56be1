package upstream

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequestLeavesByteForByte(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		method string
		target string
		shape  func(x *Exchange)
		want   string // header and body as the pod sees them
	}{
		{"bare GET", "GET", "/a//b/../c?x=%2f", nil, "GET /a//b/../c?x=%2f HTTP/1.1\r\nHost: counter\r\n\r\n"},
		{"names as received", "GET", "/", func(x *Exchange) { withLine(x, "x-BRANCH-id: 0001") },
			"GET / HTTP/1.1\r\nHost: counter\r\nx-BRANCH-id: 0001\r\n\r\n"},
		{"empty POST", "POST", "/", func(x *Exchange) { withBody(x, "") },
			"POST / HTTP/1.1\r\nHost: counter\r\nContent-Length: 0\r\n\r\n"},
		{"buffered body without a type", "PUT", "/", func(x *Exchange) { withBody(x, "teller") },
			"PUT / HTTP/1.1\r\nHost: counter\r\nContent-Length: 6\r\n\r\nteller"},
		{"small stream", "POST", "/", func(x *Exchange) { withStream(x, strings.NewReader("teller"), 6) },
			"POST / HTTP/1.1\r\nHost: counter\r\nContent-Length: 6\r\n\r\nteller"},
		{"stream of unknown length", "POST", "/", func(x *Exchange) {
			withStream(x, strings.NewReader("teller"), -1)
		}, "POST / HTTP/1.1\r\nHost: counter\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nteller\r\n0\r\n\r\n"},
		{"stream with trailers", "POST", "/", func(x *Exchange) {
			withStream(x, strings.NewReader("teller"), -1)
			x.Stream.(*readerStream).trailer = "X-Sum: 1\r\n"
		}, "POST / HTTP/1.1\r\nHost: counter\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nteller\r\n0\r\nX-Sum: 1\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			p := startPod(t, func(_ *pod, c net.Conn, r *bufio.Reader) {
				b := make([]byte, len(tt.want))
				io.ReadFull(r, b)
				io.WriteString(c, ok)
				rest, _ := io.ReadAll(r) // until the pool closes
				got <- string(b) + string(rest)
			})
			x := newExchange(tt.method, tt.target)
			if tt.shape != nil {
				tt.shape(x)
			}
			o := testOptions()
			o.IdleTimeout = 20 * time.Millisecond
			require.NoError(t, testPool(t, o).Group(podSet(p.addr)).Do(x))
			body, err := finish(x)
			require.NoError(t, err)
			require.Equal(t, "ok", body)
			require.Equal(t, tt.want, <-got)
		})
	}
}

func TestConnectionIsReused(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	trustPatience(g)
	for i := range 10 {
		x := newExchange("POST", "/")
		require.NoError(t, carry(g, x))
		require.Equal(t, i == 0, x.Dialled)
		require.Equal(t, 1, x.Attempts)
		require.Equal(t, p.addr, x.Endpoint.Addr)
	}
	require.Equal(t, 1, p.dials())
	require.Equal(t, 1, g.Status()[0].Idle)
	require.Zero(t, g.Status()[0].InFlight)
}

// While endpoints refuse at once, the next one is tried: the first request already reaches the one of eight that is there.
func TestTheOneThatIsThereIsFound(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	addrs := []netip.AddrPort{p.addr}
	for len(addrs) < maxTries {
		if a := closedPort(t); !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	for range 5 {
		x := newExchange("POST", "/")
		require.NoError(t, carry(testPool(t, testOptions()).Group(podSet(addrs...)), x))
		require.Equal(t, p.addr, x.Endpoint.Addr)
	}
}

// Endpoints that say nothing at all are not waited for one after another: the time that three of them take is the end.
func TestSilentEndpointsAreNotAllWaitedFor(t *testing.T) {
	t.Parallel()
	o := testOptions()
	o.ConnectTimeout = 20 * time.Millisecond
	pool := NewPool(o)
	pool.dial = func(_ string, timeout time.Duration) (net.Conn, error) {
		time.Sleep(timeout)
		return nil, os.ErrDeadlineExceeded
	}
	x := newExchange("GET", "/")
	require.ErrorIs(t, pool.Group(manyEndpoints(20)).Do(x), ErrNotConnected)
	require.LessOrEqual(t, x.Attempts, 3)
}
