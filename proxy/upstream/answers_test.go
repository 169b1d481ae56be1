package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
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
		{"folded header", "GET", status + "X-Note: a\r\n b\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
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
				require.Equal(t, tt.status, x.Response.StatusCode())
				require.False(t, x.Response.ConnectionClose(), "of this hop only")
				require.Empty(t, x.Response.Header.Peek("Trailer"))
				require.Equal(t, "HTTP/1.1", string(x.Response.Header.Protocol()))
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

func TestRequestMayAskToClose(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	x := newExchange("GET", "/")
	x.Request.Header.SetConnectionClose()
	require.NoError(t, g.Do(x))
	require.Zero(t, g.Status()[0].Idle)
}

// A body that is not read to its end leaves the connection in an unknown place.
func TestUnreadBodyClosesConnection(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"+strings.Repeat("x", 10_000)))
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	x := newExchange("GET", "/")
	require.NoError(t, g.Do(x))
	stream := x.Response.BodyStream().(io.ReadCloser)
	stream.Read(make([]byte, 5_000))
	require.NoError(t, stream.Close())
	require.NoError(t, stream.Close())
	_, err := stream.Read(make([]byte, 1))
	require.Error(t, err)
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
		n, err := x.Response.BodyStream().Read(buffer)
		require.NoError(t, err)
		require.Equal(t, want, string(buffer[:n]))
	}
	_, err := x.Response.BodyStream().Read(buffer)
	require.ErrorContains(t, err, "timeout")
	require.NotErrorIs(t, err, io.EOF)
	x.Response.CloseBodyStream()
	close(next)
}

// serve is a minimal frontend: what clients see of an answer through fasthttp's server. It returns an HTTP client.
func serve(t *testing.T, g *Group) *http.Client {
	t.Helper()
	l := fasthttputil.NewInmemoryListener()
	s := &fasthttp.Server{
		StreamRequestBody: true, DisablePreParseMultipartForm: true, NoDefaultDate: true,
		NoDefaultContentType: true, NoDefaultServerHeader: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			x := &Exchange{Request: &ctx.Request, Response: &ctx.Response}
			if err := g.Do(x); err != nil {
				ctx.Response.Reset()
				ctx.Response.SetStatusCode(fasthttp.StatusBadGateway)
				ctx.Response.SetBodyString(err.Error())
				ctx.Response.SetConnectionClose()
			}
		},
	}
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(l) }()
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return l.Dial() },
		DisableCompression: true,
	}
	t.Cleanup(func() { transport.CloseIdleConnections(); l.Close(); s.Shutdown(); <-served })
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func startNetHTTP(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestThroughServer(t *testing.T) {
	t.Parallel()
	addr := startNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %d %v", r.Method, r.RequestURI, r.ContentLength, r.TransferEncoding))
		if r.URL.Path == "/chunked" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}
		w.Write(body)
	})
	client := serve(t, testPool(t, testOptions()).Group(podSet(addr)))
	tests := []struct {
		name, method, path string
		length             int
		known              bool
		seen               string
	}{
		{"GET", "GET", "/", 0, true, "GET / 0 []"},
		{"OPTIONS", "OPTIONS", "/?a=%20b", 0, true, "OPTIONS /?a=%20b 0 []"},
		{"HEAD", "HEAD", "/", 0, true, "HEAD / 0 []"},
		{"small both ways", "POST", "/", 100, true, "POST / 100 []"},
		{"chunked both ways", "POST", "/chunked", 100_000, false, "POST /chunked -1 [chunked]"},
		{"chunked in", "PUT", "/", 100, false, "PUT / -1 [chunked]"},
		{"chunked out", "POST", "/chunked", 300_000, true, "POST /chunked 300000 []"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var body io.Reader
			if tt.length > 0 {
				body = strings.NewReader(strings.Repeat("x", tt.length))
				if !tt.known {
					body = io.MultiReader(body)
				}
			}
			r, err := http.NewRequest(tt.method, "http://counter"+tt.path, body)
			require.NoError(t, err)
			for range 3 {
				if tt.length > 0 {
					r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", tt.length)))
				}
				answer, err := client.Do(r)
				require.NoError(t, err)
				got, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				require.NoError(t, err)
				require.Equal(t, 200, answer.StatusCode, string(got))
				require.Equal(t, tt.seen, answer.Header.Get("X-Seen"))
				require.Len(t, got, tt.length)
			}
		})
	}
}

// fasthttp's server adds a length to requests that have none; the pod must not see it.
func TestNothingIsInventedThroughServer(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	client := serve(t, testPool(t, testOptions()).Group(podSet(p.addr)))
	for _, method := range []string{"GET", "DELETE", "OPTIONS", "POST"} {
		r, err := http.NewRequest(method, "http://counter/a%2fb", nil)
		require.NoError(t, err)
		r.Header["User-Agent"] = nil
		answer, err := client.Do(r)
		require.NoError(t, err)
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	require.Equal(t, []string{
		"GET /a%2fb HTTP/1.1\r\nHost: counter\r\n\r\n",
		"DELETE /a%2fb HTTP/1.1\r\nHost: counter\r\n\r\n",
		"OPTIONS /a%2fb HTTP/1.1\r\nHost: counter\r\n\r\n",
		"POST /a%2fb HTTP/1.1\r\nHost: counter\r\nContent-Length: 0\r\n\r\n",
	}, p.requests())
}

// A cut answer is never a whole one to the client.
func TestTruncatedAnswerCutsClient(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"fixed length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
		"chunked":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, answer)
			})
			client := serve(t, testPool(t, testOptions()).Group(podSet(p.addr)))
			got, err := client.Get("http://counter/")
			if err == nil {
				_, err = io.ReadAll(got.Body)
				got.Body.Close()
			}
			require.Error(t, err)
		})
	}
}

// block is what large bodies are made of; its odd length makes a lost or doubled piece visible.
var block = bytes.Repeat([]byte("9001/0001/000017;"), 1021)

// pattern is a long body; sum is taken of what was read of it.
type pattern struct {
	left, at int
	sum      hash.Hash
}

func (s *pattern) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.left)], block[s.at:])
	s.at = (s.at + n) % len(block)
	s.left -= n
	s.sum.Write(p[:n])
	return n, nil
}

// 64 MiB go up and down without being held anywhere.
func TestLargeBodiesAreStreamed(t *testing.T) {
	const size = 64 << 20
	var high atomic.Uint64
	addr := startNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		io.Copy(sum, r.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
		io.Copy(w, &pattern{left: size, sum: sha256.New()})
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		high.Store(max(high.Load(), m.HeapAlloc))
	})
	client := serve(t, testPool(t, testOptions()).Group(podSet(addr)))
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, length := range []int64{size, -1} {
		up := &pattern{left: size, sum: sha256.New()}
		r, err := http.NewRequest("POST", "http://counter/", up)
		require.NoError(t, err)
		r.ContentLength = length
		answer, err := client.Do(r)
		require.NoError(t, err)
		down := sha256.New()
		n, err := io.Copy(down, answer.Body)
		answer.Body.Close()
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.Equal(t, fmt.Sprintf("%x", up.sum.Sum(nil)), answer.Header.Get("X-Sum"))
		want := &pattern{left: size, sum: sha256.New()}
		io.Copy(io.Discard, want)
		require.Equal(t, want.sum.Sum(nil), down.Sum(nil))
	}
	require.Less(t, int64(high.Load())-int64(before.HeapAlloc), int64(16<<20))
}
