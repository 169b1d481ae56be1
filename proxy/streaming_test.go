package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// expectLine reads one line and compares it.
func expectLine(t testing.TB, r *bufio.Reader, want string) {
	t.Helper()
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, want, strings.TrimRight(line, "\r\n"))
}

// expectHead reads a header block and returns its lines.
func expectHead(t testing.TB, r *bufio.Reader) (lines []string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return lines
		}
		lines = append(lines, line)
	}
}

func TestContinueIsOursAndComesAfterTheDecision(t *testing.T) {
	t.Parallel()
	heads := make(chan http.Header, 10)
	g := start(t, settings(), twoVersions(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		heads <- r.Header
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body))
	})), dead(t)))
	for _, size := range []int{5, 100_000} {
		c := g.dialRaw()
		r := bufio.NewReader(c)
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", size)
		expectLine(t, r, "HTTP/1.1 100 Continue")
		expectLine(t, r, "")
		io.WriteString(c, strings.Repeat("x", size))
		expectLine(t, r, "HTTP/1.1 200 OK")
		require.Empty(t, (<-heads).Values("Expect"))
	}
	// Who is refused is not told to go on: neither by the rules nor because nobody can be reached.
	unreachable := start(t, settings(), oneVersion(dead(t)))
	for want, lines := range map[string]string{
		"HTTP/1.1 400 Bad Request":         "X-Branch-Id: 1\r\nX-Branch-Id: 2\r\n",
		"HTTP/1.1 503 Service Unavailable": "",
	} {
		c := unreachable.dialRaw()
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\n%sExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n", lines)
		r := bufio.NewReader(c)
		expectLine(t, r, want)
		require.Contains(t, expectHead(t, r), "Connection: close")
	}
	// HTTP/1.0 does not know 100.
	c := g.dialRaw()
	io.WriteString(c, "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	expectLine(t, bufio.NewReader(c), "HTTP/1.1 200 OK")
}

// A pod that answers while it is still reading is heard at once, both when it refuses and when it talks along.
func TestAnswersWhileTheBodyIsComing(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(upgrading(t, "", func(c net.Conn, r *bufio.Reader, head string) {
		if strings.Contains(head, "/refused") {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			io.Copy(io.Discard, r)
			return
		}
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 3 {
			size, err := r.ReadString('\n')
			if err != nil {
				return
			}
			piece, _ := r.ReadString('\n')
			fmt.Fprintf(c, "%s%s", size, piece)
		}
		io.WriteString(c, "0\r\n\r\n")
		io.Copy(io.Discard, r)
	})))
	c := g.dialRaw()
	r := bufio.NewReader(c)
	io.WriteString(c, "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx")
	expectLine(t, r, "HTTP/1.1 403 Forbidden")
	require.Contains(t, expectHead(t, r), "Connection: close")
	rest, err := io.ReadAll(r)
	require.NoError(t, err, "the client can read it although it has not sent all")
	require.Equal(t, "no", string(rest))

	c = g.dialRaw()
	r = bufio.NewReader(c)
	io.WriteString(c, "POST /along HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	require.Equal(t, []string{"HTTP/1.1 103 Early Hints", "Link: </a>"}, expectHead(t, r))
	require.Contains(t, expectHead(t, r), "HTTP/1.1 200 OK")
	for i := range 3 {
		fmt.Fprintf(c, "6\r\npart %d\r\n", i)
		expectLine(t, r, "6")
		expectLine(t, r, fmt.Sprintf("part %d", i))
	}
	expectLine(t, r, "0")
}

// A fixed-length body that trickles is passed on as it comes, not when a buffer is full.
func TestTricklingBodyIsFlushed(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	g := start(t, settings(), oneVersion(upgrading(t, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n",
		func(c net.Conn, r *bufio.Reader, _ string) {
			for piece := range next {
				io.WriteString(c, piece)
			}
		})))
	c := g.dialRaw()
	r := bufio.NewReader(c)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.Contains(t, expectHead(t, r), "Content-Length: 6")
	buffer := make([]byte, 10)
	for _, piece := range []string{"ab", "cd", "ef"} {
		next <- piece
		n, err := r.Read(buffer)
		require.NoError(t, err)
		require.Equal(t, piece, string(buffer[:n]))
	}
	close(next)
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method string
		unsafe bool
		ends   bool
	}{
		"GET":                            {"GET", false, true},
		"POST is finished":               {"POST", false, false},
		"POST where the settings say so": {"POST", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settings()
			s.Upstream.AbandonUnsafe = test.unsafe
			started, ended := make(chan struct{}), make(chan bool, 1)
			g := start(t, s, oneVersion(upgrading(t, "", func(c net.Conn, r *bufio.Reader, _ string) {
				close(started)
				wait := patience
				if !test.ends {
					wait = 1500 * time.Millisecond
				}
				c.SetReadDeadline(time.Now().Add(wait))
				_, err := r.ReadByte()
				ended <- err == io.EOF
				if err != io.EOF {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})))
			c := g.dialRaw()
			fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: a\r\n\r\n", test.method)
			<-started
			c.Close()
			require.Equal(t, test.ends, <-ended)
			if test.ends {
				require.Eventually(t, func() bool {
					lines := g.access.lines(t)
					return len(lines) == 1 && lines[0]["code"] == "client_gone"
				}, patience, 5*time.Millisecond)
				require.Equal(t, 1.0, g.metric("tellergate_abandoned_total"))
			}
		})
	}
}

func TestDeadlinesOfClients(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Frontends[0].Limits.HeaderTimeout = 200 * time.Millisecond
	s.Frontends[0].Limits.IdleTimeout = 400 * time.Millisecond
	s.Frontends[0].Limits.WholeTimeout = 1500 * time.Millisecond
	release := make(chan struct{})
	g := start(t, s, oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			for {
				select {
				case <-release:
					return
				case <-r.Context().Done():
					return
				case <-time.After(50 * time.Millisecond):
					fmt.Fprint(w, "x")
					http.NewResponseController(w).Flush()
				}
			}
		}
		io.Copy(io.Discard, r.Body)
	}))))
	t.Cleanup(func() { close(release) })
	t.Run("header", func(t *testing.T) {
		t.Parallel()
		c, began := g.dialRaw(), time.Now()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: ")
		r := bufio.NewReader(c)
		expectLine(t, r, "HTTP/1.1 408 Request Timeout")
		require.GreaterOrEqual(t, time.Since(began), 190*time.Millisecond)
	})
	t.Run("header byte by byte", func(t *testing.T) {
		t.Parallel()
		c := g.dialRaw()
		go func() {
			for range 100 {
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"[:1]); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		expectLine(t, bufio.NewReader(c), "HTTP/1.1 408 Request Timeout")
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		c := g.dialRaw()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		all, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 200 OK\r\n"), "%q", all)
		require.NotContains(t, string(all), "408", "a client that asks nothing is told nothing")
	})
	t.Run("body", func(t *testing.T) {
		t.Parallel()
		c := g.dialRaw()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx")
		expectLine(t, bufio.NewReader(c), "HTTP/1.1 408 Request Timeout")
	})
	t.Run("whole", func(t *testing.T) {
		t.Parallel()
		c, began := g.dialRaw(), time.Now()
		io.WriteString(c, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
		all, _ := io.ReadAll(c)
		require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 200 OK\r\n"))
		require.False(t, strings.HasSuffix(string(all), "0\r\n\r\n"), "not a clean end")
		require.GreaterOrEqual(t, time.Since(began), 1400*time.Millisecond)
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

func TestConnectionCaps(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(connections, perSource *int){
		"of the frontend": func(connections, _ *int) { *connections = 2 },
		"of one source":   func(_, perSource *int) { *perSource = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settings()
			set(&s.Frontends[0].Limits.Connections, &s.Frontends[0].Limits.PerSource)
			g := start(t, s, oneVersion(address(pod(t, "v1", nil))))
			first, second := g.dialRaw(), g.dialRaw()
			require.Eventually(t, func() bool { return g.metric("tellergate_frontend_connections", "counter") == 2 }, patience, time.Millisecond)
			third := g.dialRaw()
			io.WriteString(third, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			all, err := io.ReadAll(third)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"), "%q", all)
			require.Contains(t, string(all), `"code":"too_many_connections"`)
			require.Equal(t, 1.0, g.metric("tellergate_refused_total", "too_many_connections"))
			first.Close()
			require.Eventually(t, func() bool { return g.metric("tellergate_frontend_connections", "counter") == 1 }, patience, time.Millisecond)
			for _, c := range []net.Conn{second, g.dialRaw()} {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				expectLine(t, bufio.NewReader(c), "HTTP/1.1 200 OK")
			}
		})
	}
}

// The answer to a request that is refused while its client is still sending arrives: closing at once would make the
// kernel take it back.
func TestRefusalIsReadAlthoughBytesWereLeft(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(dead(t)))
	for range 20 {
		c := g.dialRaw()
		go io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 300<<10))
		all, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 431 "), "%q", all)
	}
}

// A panic in the midst of a request is logged like any request and leaves no pod connection behind.
func TestPanicIsInTheAccessLog(t *testing.T) {
	t.Parallel()
	g := gatewayUnbound(t, settings())
	g.Proxy.pins = explosive{g.pins}
	g.serve(twoVersions(application(t, "v1"), application(t, "v2")))
	g.code(ask{header: header("Cookie: JSESSIONID=a", "X-Request-Id: r")})
	require.Eventually(t, func() bool { return len(g.access.lines(t)) == 1 }, patience, time.Millisecond)
	line := g.access.lines(t)[0]
	require.Equal(t, "internal", line["code"])
	require.Equal(t, "r", line["requestId"])
}

// DATAPLANE.md section 4: every request has an id; what clients were told and what pods did must agree.
func TestLedgerOverFaultyPods(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	executed := make(map[string]int)
	scripts := []func(c net.Conn, id string) bool{
		func(c net.Conn, id string) bool { return say(c, id) },
		func(c net.Conn, id string) bool { c.(*net.TCPConn).SetLinger(0); return false }, // resets
		func(c net.Conn, id string) bool { say(c, id); return false },                    // closes without saying so
		func(c net.Conn, id string) bool {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n%s", id)
			return false
		}, // truncates
		func(c net.Conn, id string) bool { time.Sleep(5 * time.Millisecond); return say(c, id) }, // slow
		func(c net.Conn, id string) bool { io.WriteString(c, "HTTP/1.1 200 O"); return false },   // dies in its header
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	var turn atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in, buffer := "", make([]byte, 8<<10)
				for {
					c.SetReadDeadline(time.Now().Add(30 * time.Millisecond)) // closes idle connections
					m, rest, err := parseStrict(in, "")
					if err != nil {
						n, err := c.Read(buffer)
						if err != nil {
							return
						}
						in += string(buffer[:n])
						continue
					}
					in = rest
					id := m.field["x-request-id"]
					mu.Lock()
					executed[id]++
					mu.Unlock()
					if !scripts[int(turn.Add(1))%len(scripts)](c, id) {
						return
					}
				}
			}()
		}
	}()
	g := start(t, settings(), oneVersion(l.Addr().String()))
	type outcome struct {
		acknowledged bool
		method       string
	}
	ledger := make(map[string]outcome)
	var clients sync.WaitGroup
	transport := transport(8)
	t.Cleanup(transport.CloseIdleConnections)
	for client := range 8 {
		clients.Go(func() {
			for n := range 150 {
				method := []string{"GET", "POST", "PUT", "DELETE"}[n%4]
				id := fmt.Sprintf("%s-%d-%d", method, client, n)
				request, _ := http.NewRequest(method, g.url, nil)
				if method == "POST" {
					request, _ = http.NewRequest(method, g.url, strings.NewReader("body"))
				}
				request.Header.Set("X-Request-Id", id)
				answer, err := transport.RoundTrip(request)
				done := false
				if err == nil {
					body, short := io.ReadAll(answer.Body)
					answer.Body.Close()
					done = answer.StatusCode == 200 && short == nil
					if done && string(body) != id {
						t.Errorf("%s has got the answer to %s", id, body)
					}
				}
				mu.Lock()
				ledger[id] = outcome{done, method}
				mu.Unlock()
				if n%10 == 0 {
					time.Sleep(time.Duration(25+n%10) * time.Millisecond) // about when the pods close
				}
			}
		})
	}
	clients.Wait()
	acknowledged := 0
	for id, o := range ledger {
		if o.acknowledged {
			acknowledged++
			require.Positive(t, executed[id], "%s is acknowledged and lost", id)
		}
		if o.method != "GET" {
			require.LessOrEqual(t, executed[id], 1, "%s was executed twice", id)
		}
		require.LessOrEqual(t, executed[id], 2, id)
	}
	require.Greater(t, acknowledged, len(ledger)/4, "the test shows little")
	t.Logf("%d requests, %d acknowledged, 0 lost, 0 unsafe ones twice, 0 answers to another", len(ledger), acknowledged)
}

func say(c net.Conn, id string) bool {
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
	return err == nil
}
