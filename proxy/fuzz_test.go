package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A tokenPod answers each request with a token of its own and keeps what it was sent.
type tokenPod struct {
	mu       sync.Mutex
	requests []message
	faults   []string
}

func startTokenPod(t testing.TB) (*tokenPod, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &tokenPod{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return p, l.Addr().String()
}

func (p *tokenPod) serve(c net.Conn) {
	defer c.Close()
	in, buffer := "", make([]byte, 16<<10)
	for {
		m, rest, err := parseStrict(in, "")
		if errors.Is(err, errShort) {
			n, err := c.Read(buffer)
			if err != nil {
				return
			}
			in += string(buffer[:n])
			continue
		}
		p.mu.Lock()
		if err != nil {
			p.faults = append(p.faults, fmt.Sprintf("%v in %q", err, in))
			p.mu.Unlock()
			return
		}
		p.requests = append(p.requests, m)
		token := len(p.requests)
		p.mu.Unlock()
		in = rest
		body := "ok"
		if strings.HasPrefix(m.first, "HEAD ") {
			body = ""
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Token: %d\r\nContent-Length: 2\r\n\r\n%s", token, body); err != nil {
			return
		}
	}
}

// take returns what has come since the last time.
func (p *tokenPod) take() (requests []message, faults []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests, faults = p.requests, p.faults
	p.requests, p.faults = nil, nil
	return requests, faults
}

// A pairedConn is one end of a socket pair that says it comes from loopback: fuzzing would run out of TCP ports.
type pairedConn struct{ *net.UnixConn }

func (pairedConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// connectPair gives the frontend a connection and returns the client's end.
func connectPair(t testing.TB, f *frontend) *net.UnixConn {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(file)
		require.NoError(t, err)
		file.Close()
		ends[i] = c.(*net.UnixConn)
	}
	f.admit(pairedConn{ends[0]})
	return ends[1]
}

// FuzzClient sends whatever it likes on one connection, in two pieces. What reaches the pod is canonical HTTP/1.1 by a
// parser that shares nothing with ours; every execution is answered to this client, once, in order; nothing else is.
func FuzzClient(f *testing.F) {
	for _, cases := range [][]rawCase{requestLines(), hosts(), fieldLines(), hopByHopFields(), bodies()} {
		for i := range cases {
			if len(cases[i].send) < 2000 {
				f.Add([]byte(wire(cases[i].send, "r")+wire(last, "r")), uint16(len(cases[i].send)/2))
			}
		}
	}
	p, addr := startTokenPod(f)
	s := settings()
	s.Frontends[0].Limits.HeaderTimeout = 500 * time.Millisecond
	g := gatewayUnbound(f, s)
	g.Proxy.access = nil
	g.serve(oneVersion(addr))
	abandoned := 0.0
	f.Fuzz(func(t *testing.T, b []byte, split uint16) {
		if len(b) > 8<<10 {
			return
		}
		p.take()
		c := connectPair(t, g.frontends[0])
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		at := min(int(split), len(b))
		c.Write(b[:at])
		if at < len(b) {
			c.Write(b[at:]) // fails where the first piece was refused
		}
		c.CloseWrite()
		all, err := io.ReadAll(c)
		require.NoError(t, err)
		requests, faults := p.take()
		require.Empty(t, faults)
		answered := checkAnswers(t, string(all), requests)
		if answered != len(requests) {
			// On a machine under load a pod takes longer than a sweep, and a client that has ended its side counts as gone.
			now := g.abandonedTotal(t)
			require.Greater(t, now, abandoned, "executed and not answered, or the other way round")
			abandoned = now
		}
	})
}

// abandonedTotal is metric without the test that the gateway belongs to, which may not be used while it fuzzes.
func (g *gateway) abandonedTotal(t *testing.T) float64 {
	families, err := g.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "tellergate_abandoned_total" {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// checkAnswers reads everything that a client got and returns how many of the answers are the pod's.
func checkAnswers(t *testing.T, in string, requests []message) (answered int) {
	t.Helper()
	for in != "" {
		if rest, interim := strings.CutPrefix(in, "HTTP/1.1 100 Continue\r\n\r\n"); interim {
			in = rest
			continue
		}
		method := "GET"
		if answered < len(requests) {
			method, _, _ = strings.Cut(requests[answered].first, " ")
		}
		m, rest, err := parseStrict(in, method)
		if err == nil && m.field["x-token"] != "" {
			require.Equal(t, fmt.Sprint(answered+1), m.field["x-token"], "an answer to another request")
			answered++
			in = rest
			continue
		}
		// One of ours: JSON, or its header alone if it was asked for by HEAD.
		m, rest, err = parseStrict(in, "GET")
		if err != nil || !strings.HasPrefix(m.body, "{\"") {
			m, rest, err = parseStrict(in, "HEAD")
		}
		require.NoError(t, err, "%q", in)
		require.Empty(t, m.field["x-token"])
		require.Equal(t, "application/json; charset=utf-8", m.field["content-type"], "%q", in)
		in = rest
	}
	return answered
}

// FuzzPod answers a request with whatever it likes. What reaches the client is canonical HTTP/1.1, the pod's answer is
// never taken for more than one, and the next request gets its own.
func FuzzPod(f *testing.F) {
	for _, cases := range [][]rawCase{answerHeads(), answerBodies()} {
		for i := range cases {
			if len(cases[i].answer) < 2000 {
				f.Add([]byte(wire(cases[i].answer, "r")), strings.HasPrefix(cases[i].send, "HEAD"))
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f, err)
	f.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	var answer []byte
	executed := 0
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buffer := make([]byte, 4<<10)
				for {
					n, err := c.Read(buffer)
					if err != nil || n == 0 {
						return
					}
					if strings.Contains(string(buffer[:n]), " /next ") {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Next: yes\r\nContent-Length: 4\r\n\r\nnext")
						continue
					}
					mu.Lock()
					executed++
					c.Write(answer)
					mu.Unlock()
					c.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, c)
					return
				}
			}()
		}
	}()
	g := gatewayUnbound(f, settings())
	g.Proxy.access = nil
	g.serve(oneVersion(l.Addr().String()))
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		if len(b) > 8<<10 {
			return
		}
		mu.Lock()
		answer, executed = b, 0
		mu.Unlock()
		c := connectPair(t, g.frontends[0])
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		method := "PUT"
		if head {
			method = "HEAD"
		}
		io.WriteString(c, method+" / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		got, err := io.ReadAll(c)
		in := string(got)
		mu.Lock()
		most := 1
		if head {
			most = 2 // HEAD may be repeated on a new connection
		}
		require.LessOrEqual(t, executed, most)
		mu.Unlock()
		if err != nil {
			return // cut, and seen to be
		}
		for {
			m, rest, err := parseStrict(in, method)
			if errors.Is(err, errShort) {
				return // cut short, and seen to be
			}
			require.NoError(t, err, "%q", in)
			in = rest
			if m.first[9] != '1' {
				break
			}
		}
		m, rest, err := parseStrict(in, "GET")
		require.NoError(t, err, "%q", in)
		require.Empty(t, rest)
		require.Equal(t, "next", m.body)
		require.Equal(t, "yes", m.field["x-next"])
	})
}
