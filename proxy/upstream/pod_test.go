package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tellergate/discovery"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const patience = 10 * time.Second

// A pod is a raw TCP server: script is run for each connection and sees the very bytes.
type pod struct {
	addr     netip.AddrPort
	listener net.Listener
	done     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	seen  []string // heads and what scripts add
}

func (p *pod) record(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, s)
}

func (p *pod) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// dials is the number of connections that were made to the pod.
func (p *pod) dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func startPod(t testing.TB, script func(p *pod, c net.Conn, r *bufio.Reader)) *pod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &pod{listener: l, addr: l.Addr().(*net.TCPAddr).AddrPort()}
	p.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			p.done.Go(func() {
				defer c.Close()
				script(p, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(p.stop)
	return p
}

func (p *pod) stop() {
	p.listener.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
}

// readHead returns a request's header block as it came, "" at the end of the connection.
func readHead(r *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

// answering records each request and answers it with the same bytes; bodies of known length are read first.
func answering(answer string) func(*pod, net.Conn, *bufio.Reader) {
	return func(p *pod, c net.Conn, r *bufio.Reader) {
		for {
			head := readHead(r)
			if head == "" {
				return
			}
			p.record(head)
			if _, length, ok := strings.Cut(head, "Content-Length: "); ok {
				n := 0
				for _, d := range length[:strings.Index(length, "\r")] {
					n = n*10 + int(d-'0')
				}
				io.CopyN(io.Discard, r, int64(n))
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	}
}

const (
	status   = "HTTP/1.1 200 OK\r\n"
	coding   = "Transfer-Encoding: chunked\r\n"
	inChunks = status + coding
	ok       = status + "Content-Length: 2\r\n\r\nok"
)

func testOptions() Options {
	return Options{ConnectTimeout: 2 * time.Second, ResponseTimeout: 2 * time.Second, IdleTimeout: 5 * time.Second,
		PerEndpoint: 64}
}

// testPool runs a pool for the length of the test.
func testPool(t testing.TB, o Options) *Pool {
	t.Helper()
	p := NewPool(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return p
}

func podSet(addrs ...netip.AddrPort) *discovery.PodSet {
	endpoints := make([]discovery.Endpoint, len(addrs))
	for i, a := range addrs {
		endpoints[i] = discovery.Endpoint{Addr: a}
	}
	return discovery.NewPodSet(discovery.NewEndpointSet(endpoints))
}

func newExchange(method, target string) *Exchange {
	return &Exchange{Method: method, Head: []byte(method + " " + target + " HTTP/1.1\r\nHost: counter\r\n\r\n")}
}

// withLine adds a header line.
func withLine(x *Exchange, line string) {
	x.Head = append(x.Head[:len(x.Head)-2], line+"\r\n\r\n"...)
}

// withBody gives the request a body that is there already.
func withBody(x *Exchange, body string) {
	withLine(x, "Content-Length: "+strconv.Itoa(len(body)))
	x.Body, x.Length = []byte(body), int64(len(body))
}

// withStream gives the request a body that comes from r; length -1 sends it in chunks.
func withStream(x *Exchange, r io.Reader, length int) {
	if length < 0 {
		withLine(x, "Transfer-Encoding: chunked")
	} else {
		withLine(x, "Content-Length: "+strconv.Itoa(length))
	}
	x.Stream, x.Length = &readerStream{Reader: r}, int64(length)
}

// A readerStream is a request body out of a reader.
type readerStream struct {
	io.Reader
	trailer string
	stopped atomic.Bool
	stop    func() // called by Stop, unless nil
}

func (s *readerStream) Wait() error {
	if s.stopped.Load() {
		return errors.New("stopped")
	}
	return nil
}
func (s *readerStream) Trailer() []byte { return []byte(s.trailer) }

func (s *readerStream) Stop() {
	s.stopped.Store(true)
	if s.stop != nil {
		s.stop()
	}
}

// finish reads the answer's body whole and closes it.
func finish(x *Exchange) (string, error) {
	b, err := io.ReadAll(x)
	x.Close()
	return string(b), err
}

// carry sends the request and reads its answer to the end.
func carry(g *Group, x *Exchange) error {
	if err := g.Do(x); err != nil {
		return err
	}
	_, err := finish(x)
	return err
}

// fieldOf returns the first header of the answer with this name, or "".
func fieldOf(x *Exchange, name string) string {
	for _, f := range x.Answer.Fields {
		if string(f.Name) == name {
			return string(f.Value)
		}
	}
	return ""
}
