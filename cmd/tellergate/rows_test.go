package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
)

// A rawPod answers with the bytes that its script has for the path, and keeps the header of every request by path.
type rawPod struct {
	address string
	answers map[string]string
	mu      sync.Mutex
	heads   map[string][]string // guarded by mu
	ended   map[string]bool     // guarded by mu; the connection ended while the pod held the answer back
}

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// hold, at the end of an answer, keeps the connection open until the gateway ends it.
const hold = "(hold)"

func serveRaw(t *testing.T, answers map[string]string) *rawPod {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	p := &rawPod{address: l.Addr().String(), answers: answers, heads: map[string][]string{}, ended: map[string]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *rawPod) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		head, length, chunked := "", 0, false
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
			if value, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(value))
			}
			chunked = chunked || line == "Transfer-Encoding: chunked\r\n"
		}
		path := strings.Fields(head)[1]
		p.mu.Lock()
		p.heads[path] = append(p.heads[path], head)
		p.mu.Unlock()
		answer, ok := p.answers[path]
		if !ok {
			answer = okay
		}
		if path != "/early" {
			if chunked {
				for line := ""; line != "0\r\n"; {
					var err error
					if line, err = r.ReadString('\n'); err != nil {
						return
					}
				}
				for line := ""; line != "\r\n"; {
					var err error
					if line, err = r.ReadString('\n'); err != nil {
						return
					}
				}
			} else if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
				return
			}
		}
		answer, holds := strings.CutSuffix(answer, hold)
		_, _ = io.WriteString(c, answer)
		if holds {
			_, _ = io.Copy(io.Discard, r)
			p.mu.Lock()
			p.ended[path] = true
			p.mu.Unlock()
		}
		if holds || path == "/cut" {
			return
		}
	}
}

// got returns the headers of the requests for path.
func (p *rawPod) got(path string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.heads[path]...)
}

func (p *rawPod) endedAt(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended[path]
}

// A row is one risk of HTTP/1.1 between client and pod, tried with the very bytes.
type row struct {
	name    string
	send    string   // | stands for CRLF; the path is the key of the pod's script and record
	want    string   // what the answer begins with
	has     []string // what else is in it
	not     []string // and what is not
	pod     []string // what the header that the pod got has; nil: nothing asked
	podNot  []string
	reaches int // requests at the pod; -1: not asked
}

// TestHTTPRows walks the risks that a gateway for HTTP/1.1 has to answer for, with raw sockets through the built program:
// the tables of package proxy are byte-exact and in process, this is the program as it is shipped. Memory, thousands of
// slow clients and stale connections are measured by bench/http1; descriptors have a test of their own.
func TestHTTPRows(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70_000)
	p := serveRaw(t, map[string]string{
		"/two-lengths": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"/both":        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"/coding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"/nominates":   "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\nContent-Length: 2\r\n\r\nok",
		"/hints":       "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + okay,
		"/hints10":     "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + okay,
		"/trailers":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n",
		"/204":         "HTTP/1.1 204 No Content\r\n\r\n", "/304": "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
		"/cut":    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
		"/events": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n" + hold,
		"/slow":   hold, "/busy": hold,
		"/early":   "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno" + hold,
		"/refuses": "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
	})
	dir := t.TempDir()
	g := gatewaytest.Start(t, dir, fmt.Sprintf(`
frontends:
  - {name: counter, address: "127.0.0.1:0", limits: {bodyBytes: 1048576, headerTimeout: 1s}}
identity: {branch: {header: X-Branch-Id}}
rules: {path: %s}
admin: {address: "127.0.0.1:0"}
accessLog: {path: "off"}
upstream: {perEndpoint: 12}
shutdown: {delay: 0s}
`, filepath.Join(dir, "data")))
	full := serveRaw(t, map[string]string{"/full/a": hold})
	g.PutRules(fmt.Sprintf("services:\n"+
		"  - {name: all, match: {pathPrefix: /}, default: v1, versions: [{name: v1, pods: {static: [%q]}}]}\n"+
		"  - {name: full, match: {pathPrefix: /full}, default: v1, versions: [{name: v1, pods: {static: [%q]}}]}\n", p.address, full.address))

	refused := func(name, status, code, send string) row {
		return row{name: name, send: send, want: "HTTP/1.1 " + status, has: []string{`"code":"` + code + `"`}}
	}
	bad := func(name, send string) row { return refused(name, "400", "bad_request", send) }
	passes := func(name, path, lines string, pod, podNot []string) row {
		return row{name: name, send: "GET " + path + " HTTP/1.1|Host: a|" + lines + "|", want: "HTTP/1.1 200 OK", pod: pod, podNot: podNot, reaches: 1}
	}
	const post = "POST / HTTP/1.1|Host: a|"
	rows := []row{
		bad("Content-Length and Transfer-Encoding", post+"Content-Length: 5|Transfer-Encoding: chunked||0||"),
		bad("two lengths", post+"Content-Length: 5|Content-Length: 5||hello"),
		bad("a list of lengths", post+"Content-Length: 5, 5||hello"),
		bad("a length with a sign", post+"Content-Length: +5||hello"),
		bad("a length that overflows", post+"Content-Length: 18446744073709551621||hello"),
		{name: "a length with zeros", send: "POST /zeros HTTP/1.1|Host: a|Content-Length: 005||hello", want: "HTTP/1.1 200", pod: []string{"\r\nContent-Length: 5\r\n"}, reaches: 1},
		bad("identity", post+"Transfer-Encoding: identity||"),
		bad("two codings lines", post+"Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||"),
		bad("a coding in HTTP/1.0", "POST / HTTP/1.0|Host: a|Transfer-Encoding: chunked||0||"),
		refused("another coding", "501", "not_implemented", post+"Transfer-Encoding: gzip, chunked||0||"),
		refused("a negative chunk", "400", "request_body", post+"Transfer-Encoding: chunked||-5|hello|0||"),
		refused("a chunk in 0x", "400", "request_body", post+"Transfer-Encoding: chunked||0x5|hello|0||"),
		refused("LF in a chunk extension", "400", "request_body", post+"Transfer-Encoding: chunked||5;a\nb|hello|0||"),
		refused("white space before a chunk size", "400", "request_body", post+"Transfer-Encoding: chunked|| 5|hello|0||"),
		{name: "an error in the midst of a body", send: "POST /mid HTTP/1.1|Host: a|Transfer-Encoding: chunked||11170|" + long + "|zz|",
			want: "HTTP/1.1 400", has: []string{"request_body", "Connection: close"}, reaches: -1},
		refused("a body over the limit, refused before it comes", "413", "body_too_large", post+"Content-Length: 1048577||"),
		{name: "an upgrade that the pod refuses", send: "GET /refuses HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket||", want: "HTTP/1.1 403", pod: []string{"Upgrade: websocket"}, reaches: 1},
		passes("h2c", "/two", "Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk|", nil, []string{"h2c", "HTTP2", "Upgrade"}),
		{name: "a pod with two lengths", send: "PUT /two-lengths HTTP/1.1|Host: a||", want: "HTTP/1.1 502", has: []string{"upstream_invalid"}, reaches: 1},
		{name: "a pod with length and coding", send: "GET /both HTTP/1.1|Host: a||", want: "HTTP/1.1 502", has: []string{"upstream_invalid"}, reaches: 1},
		{name: "a pod with another coding", send: "GET /coding HTTP/1.1|Host: a||", want: "HTTP/1.1 502", has: []string{"upstream_invalid"}, reaches: 1},
		bad("bare LF", "GET / HTTP/1.1\nHost: a\n\n"),
		bad("bare CR", "GET / HTTP/1.1|Host: a|X: 1\rY: 2||"),
		bad("NUL", "GET / HTTP/1.1|Host: a|X: a\x00b||"),
		bad("folding", "GET / HTTP/1.1|Host: a|X: 1| 2||"),
		bad("space before a colon", "GET / HTTP/1.1|Host: a|X : 1||"),
		bad("space in a name", "GET / HTTP/1.1|Host: a|Bad Name: 1||"),
		bad("no name", "GET / HTTP/1.1|Host: a|: 1||"),
		bad("no colon", "GET / HTTP/1.1|Host: a|what||"),
		bad("no Host", "GET / HTTP/1.1|X: 1||"),
		bad("two Hosts", "GET / HTTP/1.1|Host: a|Host: a||"),
		bad("userinfo in Host", "GET / HTTP/1.1|Host: u@a||"),
		bad("an absolute target of another host", "GET http://b/ HTTP/1.1|Host: a||"),
		bad("another scheme", "GET ftp://a/ HTTP/1.1|Host: a||"),
		{name: "an absolute target", send: "GET http://a/absolute HTTP/1.1|Host: a||", want: "HTTP/1.1 200", reaches: -1},
		refused("HTTP/1.2", "505", "version_not_supported", "GET / HTTP/1.2|Host: a||"),
		refused("HTTP/2.0", "505", "version_not_supported", "PRI * HTTP/2.0||SM||"),
		bad("HTTP/1.0 without Host", "GET / HTTP/1.0||"),
		{name: "HTTP/1.0", send: "GET /old HTTP/1.0|Host: a||", want: "HTTP/1.1 200", has: []string{"Connection: close"}, pod: []string{"GET /old HTTP/1.1\r\n"}, reaches: 1},
		refused("CONNECT", "501", "not_implemented", "CONNECT a:443 HTTP/1.1|Host: a||"),
		refused("TRACE", "405", "method_not_allowed", "TRACE / HTTP/1.1|Host: a||"),
		bad("a fragment", "GET /a#b HTTP/1.1|Host: a||"),
		bad("a byte that is not ASCII", "GET /\xe4 HTTP/1.1|Host: a||"),
		bad("a bad escape", "GET /%zz HTTP/1.1|Host: a||"),
		refused("another service behind dots", "400", "ambiguous_path", "GET /x/..%2ffull/a HTTP/1.1|Host: a||"),
		passes("dots of one service stay as they are", "/x/../dots", "", []string{"GET /x/../dots HTTP/1.1\r\n"}, nil),
		passes("a header of 12 KB", "/12k", "X: "+strings.Repeat("x", 12<<10)+"|", nil, nil),
		refused("a header of 64 KB", "431", "header_too_large", "GET / HTTP/1.1|Host: a|X: "+strings.Repeat("x", 64<<10)+"||"),
		refused("500 fields", "431", "header_too_large", "GET / HTTP/1.1|Host: a|"+strings.Repeat("X: 1|", 500)+"|"),
		refused("a header that does not come", "408", "request_timeout", "GET / HTTP/1.1|Host: a|X: "),
		passes("nominated by the client", "/nominated", "Connection: X-Secret, Host, X-Forwarded-For|X-Secret: 1|TE: x|", []string{"Host: a", "X-Forwarded-For: 127.0.0.1"}, []string{"Secret", "TE:"}),
		{name: "nominated by the pod", send: "GET /nominates HTTP/1.1|Host: a||", want: "HTTP/1.1 200", not: []string{"Secret", "Keep-Alive"}, reaches: 1},
		passes("the X-Forwarded family of a stranger", "/family", "X-Forwarded-For: 1.1.1.1|X-Forwarded-For: 2.2.2.2|X_Forwarded_For: 3.3.3.3|X-Real-IP: 4.4.4.4|Forwarded: for=5.5.5.5|X-Forwarded-Proto: https|",
			[]string{"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n"}, []string{"1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4", "5.5.5.5"}),
		passes("headers of tellergate's and claims of a stranger", "/ours", "X-Tellergate-Version: v9|X_Tellergate_Pin: 1|X-Branch-Id: 0001|X_Branch_Id: 2|", nil, []string{"ellergate", "Branch"}),
		refused("another expectation", "417", "expectation_failed", post+"Expect: tea|Content-Length: 5||hello"),
		{name: "100 after the decision", send: "POST /expect HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 5||", want: "HTTP/1.1 100 Continue\r\n\r\n", reaches: -1},
		{name: "no 100 with a refusal", send: post + "Expect: 100-continue|Content-Length: 1048577||", want: "HTTP/1.1 413", reaches: 0},
		{name: "103 to HTTP/1.1", send: "GET /hints HTTP/1.1|Host: a||", want: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200", reaches: 1},
		{name: "103 to HTTP/1.0", send: "GET /hints10 HTTP/1.0|Host: a||", want: "HTTP/1.1 200", not: []string{"103"}, reaches: 1},
		{name: "trailers", send: "GET /trailers HTTP/1.1|Host: a||", want: "HTTP/1.1 200", has: []string{"\r\n0\r\nX-Sum: 1\r\n\r\n"}, not: []string{"Set-Cookie"}, reaches: 1},
		{name: "HEAD", send: "HEAD /head HTTP/1.1|Host: a||", want: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", reaches: -1},
		{name: "204", send: "GET /204 HTTP/1.1|Host: a||", want: "HTTP/1.1 204 No Content\r\n\r\n", reaches: 1},
		{name: "304", send: "GET /304 HTTP/1.1|Host: a||", want: "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", reaches: 1},
		{name: "pipelined", send: "GET /p1 HTTP/1.1|Host: a||GET /p2 HTTP/1.1|Host: a|Connection: close||", want: okay + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", reaches: 1},
		{name: "a body that the pod cuts short", send: "GET /cut HTTP/1.1|Host: a||", want: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", reaches: 1},
		{name: "the first event comes before the second", send: "GET /events HTTP/1.1|Host: a||", want: "HTTP/1.1 200", has: []string{"data: 1\n\n"}, reaches: 1},
		{name: "an answer while the client still sends", send: "POST /early HTTP/1.1|Host: a|Content-Length: 1000000||x", want: "HTTP/1.1 403", has: []string{"no"}, reaches: 1},
	}
	t.Run("rows", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				r.walk(t, g, p)
			})
		}
	})
	t.Run("a cut answer is counted", func(t *testing.T) { require.Positive(t, g.Metric("tellergate_answers_cut_total")) })
	t.Run("nothing is invented", func(t *testing.T) {
		c := dial(t, g)
		_, err := io.WriteString(c, "GET /plain HTTP/1.1\r\nHost: a\r\nX-Request-Id: r\r\n\r\n")
		require.NoError(t, err)
		readUntil(t, c, okay)
		require.Equal(t, []string{"GET /plain HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n" +
			"X-Forwarded-Host: a\r\nX-Request-Id: r\r\n\r\n"}, p.got("/plain"))
	})
	t.Run("a client that goes away ends its request at the pod", func(t *testing.T) {
		c := dial(t, g)
		_, err := io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(p.got("/slow")) == 1 }, gatewaytest.Patience, time.Millisecond)
		require.NoError(t, c.Close())
		require.Eventually(t, func() bool { return p.endedAt("/slow") }, gatewaytest.Patience, time.Millisecond)
	})
	t.Run("all connections to a pod in use", func(t *testing.T) {
		for range 12 {
			c := dial(t, g)
			_, err := io.WriteString(c, "POST /full/a HTTP/1.1\r\nHost: a\r\n\r\n")
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return len(full.got("/full/a")) == 12 }, gatewaytest.Patience, time.Millisecond)
		c := dial(t, g)
		_, err := io.WriteString(c, "GET /full/b HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		answer := readUntil(t, c, "}\n")
		require.True(t, strings.HasPrefix(answer, "HTTP/1.1 503 "), answer)
		require.Contains(t, answer, "Retry-After: 1\r\n")
		require.Empty(t, full.got("/full/b"))
	})
	require.Zero(t, g.Metric("tellergate_panics_total"))
}

func dial(t *testing.T, g *gatewaytest.Gateway) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", g.Frontend)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(gatewaytest.Patience)))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// readUntil reads until all that is wanted has come, in any order, or the connection ends.
func readUntil(t *testing.T, c net.Conn, wanted ...string) string {
	t.Helper()
	var all strings.Builder
	buffer := make([]byte, 64<<10)
	for {
		missing := false
		for _, want := range wanted {
			missing = missing || !strings.Contains(all.String(), want)
		}
		if !missing {
			return all.String()
		}
		n, err := c.Read(buffer)
		all.Write(buffer[:n])
		if err != nil {
			require.ErrorIs(t, err, io.EOF, "%q", all.String())
			return all.String()
		}
	}
}

func (r *row) walk(t *testing.T, g *gatewaytest.Gateway, p *rawPod) {
	c := dial(t, g)
	_, err := io.WriteString(c, strings.ReplaceAll(r.send, "|", "\r\n"))
	require.NoError(t, err)
	got := readUntil(t, c, append([]string{r.want}, r.has...)...)
	require.True(t, strings.HasPrefix(got, r.want), "%q", got)
	for _, has := range r.has {
		require.Contains(t, got, has)
	}
	for _, not := range r.not {
		require.NotContains(t, got, not)
	}
	path := "/none"
	if words := strings.Fields(r.send); len(words) > 1 && r.reaches > 0 {
		path, _, _ = strings.Cut(words[1], "|")
	}
	heads := p.got(path)
	if r.reaches >= 0 {
		require.Len(t, heads, r.reaches)
	}
	for _, has := range r.pod {
		require.Contains(t, heads[0], has)
	}
	for _, not := range r.podNot {
		require.NotContains(t, heads[0], not)
	}
}
