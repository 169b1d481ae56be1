package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tellergate/config"
	"tellergate/discovery"
	"tellergate/proxy/upstream"
	"tellergate/rules"
	"tellergate/session"
)

func TestMain(m *testing.M) {
	http.DefaultTransport.(*http.Transport).TLSClientConfig = trusting()
	goleak.VerifyTestMain(m)
}

const patience = 10 * time.Second

// loopback is every address that tests come from.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// settings are those of a bank with three claims and a session cookie, on one frontend that trusts loopback with
// identity.
func settings() *config.Settings {
	return &config.Settings{
		Frontends: []config.Frontend{{
			Name:    "counter",
			Address: netip.MustParseAddrPort("127.0.0.1:0"),
			Trust:   config.Trust{Identity: loopback},
			Health:  config.Health{Path: "/-/lb"},
			Limits: config.Limits{
				HeaderBytes: 32 << 10, HeaderCount: 200, HeaderTimeout: patience, IdleTimeout: 75 * time.Second,
				Connections: 1000,
			},
		}},
		Identity: config.Identity{
			{Name: "legalEntity", Claim: true, Default: "9001",
				Sources: []config.Source{{Kind: config.SourceHeader, Name: "X-Legal-Entity"}}},
			{Name: "branch", Claim: true, Within: "legalEntity", Sources: []config.Source{
				{Kind: config.SourceHeader, Name: "X-Branch-Id"},
				{Kind: config.SourceQuery, Name: "branch"},
				{Kind: config.SourceCookie, Name: "BRANCH"},
			}},
			{Name: "teller", Claim: true, Within: "legalEntity",
				Sources: []config.Source{{Kind: config.SourceHeader, Name: "X-Teller-Id"}}},
			{Name: "session", Sources: []config.Source{
				{Kind: config.SourceCookie, Name: "JSESSIONID"}, {Kind: config.SourceHeader, Name: "X-Session-Id"},
			}},
		},
		Testers:   config.Testers{Header: "X-Tellergate-Version"},
		AccessLog: config.AccessLog{Buffer: 1024},
		Shutdown:  config.Shutdown{Delay: 0, Grace: patience},
	}
}

// A gateway is a Proxy that serves on loopback until the test ends.
type gateway struct {
	*Proxy
	t        testing.TB
	url      string
	client   *tls.Config // of raw connections; nil: trusting
	pins     *session.Memory
	pool     *upstream.Pool
	metrics  *prometheus.Registry
	logs     *observer.ObservedLogs
	access   *lockedBuffer
	podSets  map[string]*discovery.PodSet // by address list
	revision uint64
	stop     func() // and wait
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// lines returns the access log so far.
func (b *lockedBuffer) lines(t testing.TB) []map[string]any {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(b.b.String()), "\n") {
		if line == "" {
			continue
		}
		var l map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &l), line)
		lines = append(lines, l)
	}
	return lines
}

// gatewayUnbound makes a gateway that does not listen yet.
func gatewayUnbound(t testing.TB, s *config.Settings) *gateway {
	t.Helper()
	if *overTLS {
		s = secured(s)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	g := &gateway{
		t: t, pins: session.NewMemory(10000, nil), metrics: prometheus.NewRegistry(), logs: logs,
		access: new(lockedBuffer), podSets: make(map[string]*discovery.PodSet),
	}
	var attributes []rules.Attribute
	for _, a := range s.Identity {
		attributes = append(attributes, rules.Attribute{Name: a.Name, Within: a.Within, Claim: a.Claim})
	}
	var frontends []string
	for _, f := range s.Frontends {
		frontends = append(frontends, f.Name)
	}
	g.pool = upstream.NewPool(upstream.Options{
		ConnectTimeout: 2 * time.Second, ResponseTimeout: patience, IdleTimeout: 15 * time.Second, PerEndpoint: 100,
	})
	var err error
	g.Proxy, err = New(Options{
		Settings: s, Schema: rules.NewSchema(attributes, frontends, false), Pins: g.pins, Pool: g.pool,
		PodSet: g.podSet, Log: zap.New(core), Metrics: g.metrics, AccessLog: g.access,
	})
	require.NoError(t, err)
	return g
}

// start runs a gateway with these settings and this rule document; an empty document publishes nothing.
func start(t testing.TB, s *config.Settings, document string) *gateway {
	t.Helper()
	g := gatewayUnbound(t, s)
	g.serve(document)
	return g
}

// serve runs the gateway until the test ends.
func (g *gateway) serve(document string) {
	t := g.t
	t.Helper()
	require.NoError(t, g.Listen())
	if document != "" {
		g.publish(document, nil)
	}
	ctx, cancel := context.WithCancel(context.Background())
	pooling, done := make(chan struct{}), make(chan error, 1)
	poolContext, stopPool := context.WithCancel(context.Background())
	go func() { defer close(pooling); _ = g.pool.Run(poolContext) }()
	go func() { done <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		require.NoError(t, <-done)
		stopPool()
		<-pooling
	})
	t.Cleanup(g.stop)
	g.url = "http://" + g.Addresses()[g.frontends[0].name].String()
	if g.frontends[0].tls.Load() != nil {
		g.url = "https" + strings.TrimPrefix(g.url, "http")
	}
}

func (g *gateway) podSet(v *rules.CompiledVersion) (*discovery.PodSet, error) {
	key := fmt.Sprint(v.Static())
	if g.podSets[key] == nil {
		var endpoints []discovery.Endpoint
		for _, address := range v.Static() {
			endpoints = append(endpoints, discovery.Endpoint{Addr: address})
		}
		g.podSets[key] = discovery.NewPodSet(discovery.NewEndpointSet(endpoints))
	}
	return g.podSets[key], nil
}

// publish compiles a document and makes it the next revision.
func (g *gateway) publish(document string, overrides map[string]rules.Override) {
	g.t.Helper()
	d, err := rules.Parse([]byte(document))
	require.NoError(g.t, err)
	rs, err := rules.Compile(d, rules.Inputs{Schema: g.schema, Overrides: overrides})
	require.NoError(g.t, err)
	g.revision++
	require.NoError(g.t, g.Publish(rs, g.revision))
}

// metric returns the value of a counter or gauge; the label values are in the order of the labels' names.
func (g *gateway) metric(name string, labels ...string) float64 {
	g.t.Helper()
	families, err := g.metrics.Gather()
	require.NoError(g.t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var values []string
			for _, label := range m.GetLabel() {
				values = append(values, label.GetValue())
			}
			if slices.Equal(values, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	g.t.Fatalf("no metric %s%q", name, labels)
	return 0
}

// An ask is one request of a test client.
type ask struct {
	method, path, host string
	header             http.Header
	body               io.Reader
	client             *http.Client
}

// header makes a http.Header of "Name: value" lines.
func header(lines ...string) http.Header {
	h := make(http.Header)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h[name] = append(h[name], value)
	}
	return h
}

// do sends a request and returns the answer with its body read.
func (g *gateway) do(a ask) (*http.Response, string) {
	g.t.Helper()
	if a.method == "" {
		a.method = http.MethodGet
	}
	if a.path == "" {
		a.path = "/"
	}
	if a.client == nil {
		a.client = http.DefaultClient
	}
	request, err := http.NewRequest(a.method, g.url+a.path, a.body)
	require.NoError(g.t, err)
	if a.header != nil {
		request.Header = a.header
	}
	request.Host = a.host
	answer, err := a.client.Do(request)
	require.NoError(g.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(g.t, err)
	return answer, string(body)
}

// get returns the body of a plain request with these header lines.
func (g *gateway) get(lines ...string) string {
	g.t.Helper()
	_, body := g.do(ask{header: header(lines...)})
	return body
}

// code returns status and code of an error answer.
func (g *gateway) code(a ask) (int, string) {
	g.t.Helper()
	answer, body := g.do(a)
	var e struct{ Code, Message, RequestID string }
	require.NoError(g.t, json.Unmarshal([]byte(body), &e), body)
	require.NotEmpty(g.t, e.Message)
	require.NotEmpty(g.t, e.RequestID)
	return answer.StatusCode, e.Code
}

// raw sends bytes and returns everything that comes back until the connection closes or the answer is complete.
func (g *gateway) raw(request string) string {
	g.t.Helper()
	c := g.dialRaw()
	defer c.Close()
	_, err := io.WriteString(c, request)
	require.NoError(g.t, err)
	all, err := io.ReadAll(c)
	require.NoError(g.t, err)
	return string(all)
}

// pod starts a pod that answers with its name unless handler does otherwise.
func pod(t testing.TB, name string, handler func(http.ResponseWriter, *http.Request)) *httptest.Server {
	t.Helper()
	if handler == nil {
		handler = func(http.ResponseWriter, *http.Request) {}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &lazyWriter{ResponseWriter: w}
		handler(recorder, r)
		if !recorder.written {
			io.WriteString(w, name)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

type lazyWriter struct {
	http.ResponseWriter
	written bool
}

func (w *lazyWriter) Write(b []byte) (int, error) { w.written = true; return w.ResponseWriter.Write(b) }
func (w *lazyWriter) WriteHeader(status int)      { w.written = true; w.ResponseWriter.WriteHeader(status) }
func (w *lazyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// A recorder is a pod that keeps the very bytes it is sent and answers each request with answer.
type recorder struct {
	listener net.Listener
	answer   string
	requests chan string
}

func record(t testing.TB, answer string) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &recorder{listener: listener, answer: answer, requests: make(chan string, 100)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return r
}

// serve answers one request for each header block and closes.
func (r *recorder) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var got []byte
	buffer := make([]byte, 64<<10)
	for !bytes.Contains(got, []byte("\r\n\r\n")) {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		got = append(got, buffer[:n]...)
	}
	r.requests <- string(got)
	io.WriteString(c, r.answer)
}

// next returns the next request.
func (r *recorder) next(t testing.TB) string {
	t.Helper()
	select {
	case request := <-r.requests:
		return request
	case <-time.After(patience):
		t.Fatal("the pod got no request")
		return ""
	}
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

// oneVersion is a document with one version on one pod.
func oneVersion(pod string) string {
	return fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: {static: [%q]}}
`, pod)
}

// twoVersions is a document that pins sessions: v1 for everybody, v2 for branch 9001/0002.
func twoVersions(v1, v2 string) string {
	return fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: {static: [%q]}}
      - {name: v2, pods: {static: [%q]}}
    sessions: {key: [session, teller], subject: teller, end: {paths: [/logout]}}
    rules:
      - name: pilot
        priority: 100
        when: {attribute: branch, is: "9001/0002"}
        then: {version: v2}
`, v1, v2)
}
