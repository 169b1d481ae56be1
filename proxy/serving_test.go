package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/config"
	"tellergate/rules"
	"tellergate/session"
)

func TestMatchingByHostAndPrefix(t *testing.T) {
	t.Parallel()
	service := func(name, match string) string {
		return fmt.Sprintf("  - {name: %s, match: %s, default: v1, versions: [{name: v1, pods: {static: [%q]}}]}\n",
			name, match, address(pod(t, name, nil)))
	}
	g := start(t, settings(), "services:\n"+
		service("counter", "{hosts: [counter.bank.example]}")+
		service("eod", "{hosts: [counter.bank.example], pathPrefix: /teller/eod}")+
		service("any", `{hosts: ["*.bank.example"]}`))
	for _, test := range []struct{ host, path, want string }{
		{"counter.bank.example", "/", "counter"},
		{"COUNTER.bank.example:8080", "/x", "counter"},
		{"counter.bank.example", "/teller/eod", "eod"},
		{"counter.bank.example", "/teller/eod/1", "eod"},
		{"counter.bank.example", "/teller/eods", "counter"},
		{"counter.bank.example", "/x/../teller/eods", "counter"},
		{"counter.bank.example", "/teller//eods", "counter"},
		{"counter.bank.example", "/teller/eod//%31", "eod"},
		{"other.bank.example", "/", "any"},
	} {
		answer := g.raw("GET " + test.path + " HTTP/1.1\r\nHost: " + test.host + "\r\nConnection: close\r\n\r\n")
		require.True(t, strings.HasSuffix(answer, "\r\n\r\n"+test.want), "%s %s: %s", test.host, test.path, answer)
	}
	status, code := g.code(ask{host: "elsewhere.example"})
	require.Equal(t, 404, status)
	require.Equal(t, "no_service", code)
	for _, ambiguous := range []string{"/x/../teller//eod", "/teller%2feod", "//teller/eod", "/teller/eod/../balance"} {
		answer := g.raw("GET " + ambiguous + " HTTP/1.1\r\nHost: counter.bank.example\r\nConnection: close\r\n\r\n")
		require.Contains(t, answer, `"code":"ambiguous_path"`, ambiguous)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), "")
	answer, _ := g.do(ask{path: "/-/lb"})
	require.Equal(t, 503, answer.StatusCode, "no table yet")
	status, code := g.code(ask{})
	require.Equal(t, 503, status)
	require.Equal(t, "not_ready", code)
	g.publish(oneVersion(dead(t)), nil)
	answer, _ = g.do(ask{path: "/-/lb"})
	require.Equal(t, 200, answer.StatusCode)
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	s := settings()
	second := s.Frontends[0]
	second.Name, second.Address = "second", netip.MustParseAddrPort(taken.Addr().String())
	s.Frontends = append(s.Frontends, second)
	g := gatewayUnbound(t, s)
	err = g.Listen()
	require.ErrorContains(t, err, fmt.Sprintf(
		`frontend "second" cannot listen on %s: the address is in use by another program; stop that program, or give `+
			`frontends[second].address another port`, taken.Addr()))
	_, err = net.Dial("tcp", g.Addresses()["counter"].String())
	require.Error(t, err, "on an error nothing stays bound")
}

func TestErrorsOfPods(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pod    func() string
		status int
		code   string
	}{
		"nobody listens": {func() string { return dead(t) }, 503, "no_endpoint"},
		"closes":         {func() string { return record(t, "").listener.Addr().String() }, 502, "upstream_reset"},
		"no HTTP":        {func() string { return record(t, "SSH-2.0-x\r\n\r\n").listener.Addr().String() }, 502, "upstream_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, settings(), oneVersion(test.pod()))
			status, code := g.code(ask{})
			require.Equal(t, test.code, code)
			require.Equal(t, test.status, status)
		})
	}
	t.Run("no endpoint", func(t *testing.T) {
		t.Parallel()
		g := start(t, settings(), oneVersion(dead(t)))
		for _, set := range g.podSets {
			set.Store(nil)
		}
		status, code := g.code(ask{})
		require.Equal(t, "no_endpoint", code)
		require.Equal(t, 503, status)
	})
}

// A pattern is a body of n bytes that is made and checked without being held.
type pattern struct{ at, n int }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	b = b[:min(len(b), p.n-p.at)]
	for i := range b {
		b[i] = byte((p.at + i) % 251)
	}
	p.at += len(b)
	return len(b), nil
}

// check reads a pattern of n bytes and says where it is not one.
func check(r io.Reader, n int) error {
	buffer, want := make([]byte, 64<<10), make([]byte, 64<<10)
	expected := &pattern{n: n}
	for {
		got, err := r.Read(buffer)
		if got > 0 {
			if _, short := io.ReadFull(expected, want[:got]); short != nil || string(want[:got]) != string(buffer[:got]) {
				return fmt.Errorf("wrong bytes before %d", expected.at)
			}
		}
		if err == io.EOF {
			if expected.at != n {
				return fmt.Errorf("%d bytes of %d", expected.at, n)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func TestLargeBodiesStream(t *testing.T) {
	const size = 64 << 20
	g := start(t, settings(), oneVersion(address(pod(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.Copy(w, &pattern{n: size})
			return
		}
		if err := check(r.Body, size); err != nil {
			fmt.Fprint(w, err)
			return
		}
		fmt.Fprint(w, "whole")
	}))))
	var peak atomic.Uint64
	stop, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	_, body := g.do(ask{method: http.MethodPost, body: &pattern{n: size}})
	require.Equal(t, "whole", body, "chunked upload")
	request, err := http.NewRequest(http.MethodPut, g.url, &pattern{n: size})
	require.NoError(t, err)
	request.ContentLength = size
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	require.Equal(t, "whole", string(text), "upload of known length")
	answer, err = http.Get(g.url)
	require.NoError(t, err)
	require.NoError(t, check(answer.Body, size), "download")
	answer.Body.Close()
	close(stop)
	<-sampled
	require.Less(t, peak.Load(), uint64(48<<20), "bodies are not held")
}

func TestBodyTooLarge(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Frontends[0].Limits.BodyBytes = 20000
	g := start(t, s, oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil {
			fmt.Fprint(w, n)
		}
	}))))
	_, body := g.do(ask{method: http.MethodPost, body: strings.NewReader(strings.Repeat("x", 20000))})
	require.Equal(t, "20000", body)
	status, code := g.code(ask{method: http.MethodPost, body: strings.NewReader(strings.Repeat("x", 20001))})
	require.Equal(t, 413, status)
	require.Equal(t, "body_too_large", code)
	answer := g.raw("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"4e21\r\n" + strings.Repeat("x", 20001) + "\r\n")
	require.Contains(t, answer, " 413 ")
	require.Contains(t, answer, "body_too_large")
	answer = g.raw("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 20001\r\n\r\n")
	require.True(t, strings.HasPrefix(answer, "HTTP/1.1 413 "), answer)
}

func TestEventStreamIsFlushedAsItComes(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	g := start(t, settings(), oneVersion(address(pod(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		w.WriteHeader(200)
		control.Flush()
		for event := range next {
			fmt.Fprintf(w, "data: %s\n\n", event)
			control.Flush()
		}
	}))))
	ended := sync.OnceFunc(func() { close(next) })
	defer ended()
	client := &http.Client{Timeout: patience}
	answer, err := client.Get(g.url)
	require.NoError(t, err, "the header comes before the first event")
	defer answer.Body.Close()
	reader := bufio.NewReader(answer.Body)
	for i := range 3 {
		next <- fmt.Sprint(i)
		line, err := reader.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("data: %d\n", i), line)
		_, _ = reader.ReadString('\n')
	}
	ended()
	_, err = io.ReadAll(reader)
	require.NoError(t, err)
}

func TestAnswerCutShortIsNotACleanEnd(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, settings(), oneVersion(record(t, answer).listener.Addr().String()))
			got, err := http.Get(g.url)
			if err == nil { // a short beginning may not have left before the end became known
				_, err = io.ReadAll(got.Body)
				got.Body.Close()
			}
			require.Error(t, err)
			require.Eventually(t, func() bool {
				lines := g.access.lines(t)
				return len(lines) == 1 && lines[0]["cutShort"] == true
			}, patience, 10*time.Millisecond)
		})
	}
}

func TestPublishUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	v1, v2 := application(t, "v1"), application(t, "v2")
	both := func(standard string) string {
		return fmt.Sprintf(`
services:
  - name: counter
    default: %s
    versions:
      - {name: v1, pods: {static: [%q]}}
      - {name: v2, pods: {static: [%q]}}
    sessions: {key: [session]}
`, standard, v1, v2)
	}
	g := start(t, settings(), both("v1"))
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=pinned"))
	var (
		revision atomic.Int64 // even: default v1, odd: v2; raised after Publish has returned
		sent     atomic.Int64
		clients  sync.WaitGroup
	)
	ctx, stop := context.WithCancel(t.Context())
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	failures := make(chan string, 8)
	for i := range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				before := revision.Load()
				request, _ := http.NewRequest(http.MethodGet, g.url, nil)
				if i%2 == 0 {
					request.Header.Set("Cookie", "JSESSIONID=pinned")
				}
				answer, err := transport.RoundTrip(request)
				if err != nil {
					failures <- err.Error()
					return
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				sent.Add(1)
				stable := revision.Load() == before && before%2 == 0 // before is even only while v1 is the default
				if err != nil || answer.StatusCode != 200 || i%2 == 0 && string(body) != "v1" ||
					i%2 == 1 && stable && string(body) != "v1" {
					failures <- fmt.Sprint(answer.StatusCode, string(body), err)
					return
				}
			}
		})
	}
	for i := range 40 {
		target := sent.Load() + 25
		require.Eventually(t, func() bool { return sent.Load() >= target || len(failures) > 0 }, patience, time.Millisecond)
		if i%2 == 0 {
			revision.Add(1)
			g.publish(both("v2"), nil)
		} else {
			g.publish(both("v1"), nil)
			revision.Add(1)
		}
	}
	stop()
	clients.Wait()
	close(failures)
	for failure := range failures {
		t.Error(failure)
	}
}

func TestShutdownLosesNoRequest(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Shutdown = config.Shutdown{Delay: 300 * time.Millisecond, Grace: patience}
	g := start(t, s, oneVersion(address(pod(t, "v1", nil))))
	slow := make(chan struct{})
	g.publish(oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-slow
		}
	}))), nil)
	inFlight := make(chan string, 1)
	go func() {
		answer, err := http.Get(g.url + "/slow")
		if err != nil {
			inFlight <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		inFlight <- string(body)
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	defer transport.CloseIdleConnections()
	var clients sync.WaitGroup
	served, failures := atomic.Int64{}, make(chan error, 4)
	for range 4 {
		clients.Go(func() {
			for {
				answer, err := transport.RoundTrip(mustRequest(g.url + "/"))
				if err != nil {
					var op *net.OpError
					if !errors.As(err, &op) || op.Op != "dial" {
						failures <- err
					}
					return // the listener has closed
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil || string(body) != "v1" {
					failures <- fmt.Errorf("%d %q %w", answer.StatusCode, body, err)
					return
				}
				served.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return served.Load() > 100 }, patience, time.Millisecond)
	stopped := make(chan struct{})
	go func() { defer close(stopped); g.stop() }()
	require.Eventually(t, func() bool {
		answer, err := transport.RoundTrip(mustRequest(g.url + "/-/lb"))
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == 503 && answer.Close
	}, patience, time.Millisecond, "health says so while requests are still served")
	clients.Wait()
	close(slow)
	require.Equal(t, "v1", <-inFlight, "what was in flight is finished")
	<-stopped
	close(failures)
	for err := range failures {
		t.Error(err)
	}
}

func mustRequest(url string) *http.Request {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	return request
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	s := settings()
	s.AccessLog.Mask = []string{"teller"}
	g := start(t, s, twoVersions(application(t, "v1"), application(t, "v2")))
	g.do(ask{method: http.MethodPost, path: "/transfer?amount=1", body: strings.NewReader("12345"), header: header(
		pilotBranch, "X-Teller-Id: 000123", "Cookie: JSESSIONID=secret", "X-Request-Id: r-1")})
	g.code(ask{header: header("X-Branch-Id: 1", "X-Branch-Id: 2", "X-Request-Id: r-2")})
	g.do(ask{path: "/-/lb"})
	g.stop()
	lines := g.access.lines(t)
	require.Len(t, lines, 2, "health checks are not logged")
	first := lines[0]
	for key := range first {
		if strings.HasSuffix(key, "Seconds") || key == "time" || key == "endpoint" {
			delete(first, key)
		}
	}
	require.Equal(t, map[string]any{
		"requestId": "r-1", "frontend": "counter", "client": "127.0.0.1", "method": "POST", "path": "/transfer",
		"status": 200.0, "service": "counter", "version": "v2", "rule": "pilot", "reason": "rule", "revision": 1.0,
		"attempts": 1.0, "bytesIn": 5.0, "bytesOut": 2.0,
		"identity": map[string]any{
			"legalEntity": "9001", "branch": "9001/0002", "teller": "9001/0***3", "session": "s***t",
		},
	}, first)
	require.Equal(t, "claim_duplicated", lines[1]["code"])
	require.Equal(t, "r-2", lines[1]["requestId"])
	require.Equal(t, 400.0, lines[1]["status"])
}

func TestDisagreementIsCountedAndLogged(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Identity[1].Sources = append(s.Identity[1].Sources, config.Source{Kind: config.SourceSubnets, Subnets: []config.Subnet{
		{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Value: "0001"},
		{Prefix: netip.MustParsePrefix("127.0.0.1/32"), Value: "0002"},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Value: "0003"},
	}})
	g := start(t, s, twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v2", g.get(), "the longest prefix says branch 0002")
	for range 3 {
		require.Equal(t, "v1", g.get(otherBranch), "the header comes first")
	}
	require.Equal(t, "v2", g.get(pilotBranch), "agreement")
	require.Equal(t, 3.0, g.metric("tellergate_identity_disagreements_total", "branch"))
	logged := g.logs.FilterMessageSnippet("differs from what the client's subnet says").Len()
	require.Positive(t, logged)
	require.LessOrEqual(t, logged, 2, "at most once a second")
}

// explosive panics in the midst of a request.
type explosive struct{ Pins }

func (explosive) Lookup([]session.Key, []session.Pin) { panic("BUG: for the test") }

func TestPanicBecomes500(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	g.Proxy.pins = explosive{g.pins}
	status, code := g.code(ask{header: header("Cookie: JSESSIONID=a")})
	require.Equal(t, 500, status)
	require.Equal(t, "internal", code)
	require.Equal(t, "v1", g.get(), "others are served")
	require.Equal(t, 1.0, g.metric("tellergate_panics_total"))
	entry := g.logs.FilterMessageSnippet("panic").All()
	require.Len(t, entry, 1)
	require.Contains(t, string(fmt.Sprint(entry[0].ContextMap()["stack"])), "Lookup")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	g.get(pilotBranch)
	g.get("Cookie: JSESSIONID=a")
	g.get("Cookie: JSESSIONID=a")
	g.code(ask{header: header("X-Branch-Id: 1", "X-Branch-Id: 2")})
	// A request is counted at its end, which comes a moment after its client has all of the answer.
	require.Eventually(t, func() bool {
		return g.metric("tellergate_requests_total", "2xx", "pin", "counter", "v1") == 1 &&
			g.metric("tellergate_requests_total", "2xx", "default", "counter", "v1") == 1 &&
			g.metric("tellergate_requests_total", "2xx", "rule", "counter", "v2") == 1
	}, patience, time.Millisecond)
	const requests = "tellergate_requests_total"
	require.Equal(t, 1.0, g.metric(requests, "2xx", "rule", "counter", "v2"))
	require.Equal(t, 1.0, g.metric(requests, "2xx", "default", "counter", "v1"))
	require.Equal(t, 1.0, g.metric(requests, "2xx", "pin", "counter", "v1"))
	require.Equal(t, 0.0, g.metric(requests, "5xx", "pin", "counter", "v1"))
	require.Equal(t, 1.0, g.metric("tellergate_refused_total", "claim_duplicated"))
	require.Equal(t, 1.0, g.metric("tellergate_endpoints", "counter", "active", "v2"))
	require.Equal(t, 0.0, g.metric("tellergate_endpoints", "counter", "draining", "v2"))
	require.Equal(t, 0.0, g.metric("tellergate_endpoints", "counter", "unusable", "v2"))
}

func TestReload(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v2", g.get(pilotBranch))
	require.NoError(t, g.Reload(strangers()))
	require.Equal(t, "v1", g.get(pilotBranch), "nobody is trusted any more")
	fewer := settings()
	fewer.Identity = fewer.Identity[:2]
	require.ErrorContains(t, g.Reload(fewer), "restart to change them")
	require.Equal(t, "v1", g.get(pilotBranch), "a bad reload changes nothing")
}

func TestAvailabilityAndEndpoints(t *testing.T) {
	t.Parallel()
	document := twoVersions(application(t, "v1"), application(t, "v2"))
	g := start(t, settings(), document)
	published := g.table.Load().rules
	require.True(t, g.Availability(published).Usable(0, 1))
	d, err := rules.Parse([]byte(strings.Replace(document, "name: v2", "name: v9", 1)))
	require.NoError(t, err)
	d.Services[0].Rules = nil
	draft, err := rules.Compile(d, rules.Inputs{Schema: g.schema})
	require.NoError(t, err)
	require.True(t, g.Availability(draft).Usable(0, 0))
	require.False(t, g.Availability(draft).Usable(0, 1), "nothing is known of a version that is not published")
	require.Len(t, g.Endpoints("counter", "v2"), 1)
	require.Nil(t, g.Endpoints("counter", "v9"))
}

func BenchmarkRequest(b *testing.B) {
	g := start(b, settings(), twoVersions(record1(b), record1(b)))
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	require.NoError(b, err)
	defer c.Close()
	request := []byte("GET /teller/balance?account=1 HTTP/1.1\r\nHost: counter.bank.example\r\nAccept: */*\r\n" +
		"X-Branch-Id: 0002\r\nX-Teller-Id: 7\r\nX-Request-Id: abc\r\nCookie: JSESSIONID=abcdef\r\n\r\n")
	reader := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		answer := 0
		for {
			line, err := reader.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if answer++; len(line) == 2 {
				break
			}
		}
		if _, err := reader.Discard(2); err != nil {
			b.Fatal(err)
		}
	}
}

// record1 is a pod that answers every request on kept connections without allocating, so that a benchmark measures the
// gateway.
func record1(b testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				buffer := make([]byte, 8<<10)
				for {
					n, err := c.Read(buffer)
					if err != nil {
						return
					}
					if n >= 4 && string(buffer[n-4:n]) == "\r\n\r\n" {
						if _, err := c.Write(quickAnswer); err != nil {
							return
						}
					}
				}
			})
		}
	})
	b.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

var quickAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
