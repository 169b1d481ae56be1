package proxy

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/config"
	"tellergate/session"
)

var sessionFilter = session.Filter{}

// lineOf returns the value of the only header line with this name, which is compared with regard to case.
func lineOf(t testing.TB, request, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`: *([^\r]*)\r$`).FindAllStringSubmatch(request, -1)
	require.Len(t, found, 1, "%s in %q", name, request)
	return found[0][1]
}

// strangers makes nobody trusted.
func strangers() *config.Settings {
	s := settings()
	s.Frontends[0].Trust = config.Trust{}
	return s
}

func TestSessionCookieOfStrangerIsForwardedByteForByte(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, strangers(), oneVersion(pod.listener.Addr().String()))
	const cookie = `a="b c";JSESSIONID=0000abc:1x!%zz"\{};  weird; =x; JSESSIONID=second`
	g.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: " + cookie + "\r\n\r\n")
	require.Equal(t, cookie, lineOf(t, pod.next(t), "Cookie"))
}

func TestClaimsOfStrangersAreRemoved(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, strangers(), oneVersion(pod.listener.Addr().String()))
	g.raw("GET /a?x=1&branch=0002&y=%20&br%61nch=3&z=1;branch=0002 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" +
		"X-Branch-Id: 0002\r\nX_Branch_Id: 0002\r\nx-branch_id: 0002\r\nX-Teller-Id: 7\r\nX-LEGAL-ENTITY: 9002\r\n" +
		"Cookie: A=\"1;BRANCH=0002; JSESSIONID=ab cd, BRANCH=0002\r\nX-Session-Id: s\r\n\r\n")
	request := pod.next(t)
	require.True(t, strings.HasPrefix(request, "GET /a?x=1&y=%20&z=1 HTTP/1.1\r\n"), request)
	lowered := strings.ToLower(request)
	for _, gone := range []string{"branch", "x-teller", "entity", "0002", "9002"} {
		require.NotContains(t, lowered, gone)
	}
	require.Equal(t, `A="1; JSESSIONID=ab cd`, lineOf(t, request, "Cookie"))
	require.Equal(t, "s", lineOf(t, request, "X-Session-Id"))
}

func TestOnlyClaimInCookieLeavesNoCookieHeader(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, strangers(), oneVersion(pod.listener.Addr().String()))
	g.raw("GET /?branch=2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: BRANCH=0002\r\n\r\n")
	request := pod.next(t)
	require.NotContains(t, request, "Cookie")
	require.True(t, strings.HasPrefix(request, "GET / HTTP/1.1\r\n"), request)
}

func TestClaimsOfTheTrustedReachThePod(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, settings(), oneVersion(pod.listener.Addr().String()))
	g.raw("GET /?branch=0002 HTTP/1.1\r\nHost: a\r\nConnection: close, X-Branch-Id\r\nX-Branch-Id: 0002\r\nX_Branch_Id: 3\r\n\r\n")
	request := pod.next(t)
	require.Equal(t, "0002", lineOf(t, request, "X-Branch-Id"))
	require.NotContains(t, request, "_")
	require.True(t, strings.HasPrefix(request, "GET /?branch=0002 HTTP/1.1\r\n"), request)
}

func TestBadClaims(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(dead(t)))
	status, code := g.code(ask{header: header("X-Branch-Id: 1", "X-Branch-Id: 2")})
	require.Equal(t, 400, status)
	require.Equal(t, "claim_duplicated", code)
	status, code = g.code(ask{header: header("X-Branch-Id: " + strings.Repeat("1", 257))})
	require.Equal(t, 400, status)
	require.Equal(t, "claim_malformed", code)
}

func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	sent := "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX_Forwarded_For: 3.3.3.3\r\nX-Forwarded-Proto: https\r\n" +
		"X-Forwarded-Host: bank.example\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 4.4.4.4\r\nForwarded: for=5.5.5.5\r\n"
	for name, test := range map[string]struct {
		forwarded []netip.Prefix
		want      map[string]string
		gone      []string
	}{
		"untrusted": {nil, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "a:80",
		}, []string{"1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4", "5.5.5.5", "-Port"}},
		"trusted": {loopback, map[string]string{
			"X-Forwarded-For": "1.1.1.1, 2.2.2.2, 127.0.0.1", "X-Forwarded-Proto": "https",
			"X-Forwarded-Host": "bank.example", "X-Forwarded-Port": "443", "X-Real-IP": "4.4.4.4",
			"Forwarded": "for=5.5.5.5",
		}, []string{"3.3.3.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := record(t, plainAnswer)
			s := settings()
			s.Frontends[0].Trust.Forwarded = test.forwarded
			g := start(t, s, oneVersion(pod.listener.Addr().String()))
			g.raw("GET / HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n" + sent + "\r\n")
			request := pod.next(t)
			for header, value := range test.want {
				want := header + ": " + value + "\r\n"
				if test.forwarded == nil {
					want = g.atPod(want) // else the peer says how it was asked
				}
				require.Equal(t, want, header+": "+lineOf(t, request, header)+"\r\n")
			}
			for _, gone := range test.gone {
				require.NotContains(t, request, gone)
			}
		})
	}
}

func TestHopByHopHeadersOfTheRequest(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, settings(), oneVersion(pod.listener.Addr().String()))
	g.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Host, X-Request-Id, Traceparent\r\nX-Secret: 1\r\n" +
		"Keep-Alive: timeout=5\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Connection: keep-alive\r\n" +
		"Proxy-Authorization: Basic x\r\nX-Tellergate-Pin: v2\r\nX_Tellergate_Version: v2\r\n" +
		"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Request-Id: abc-1\r\nX-Kept: 1\r\n\r\n")
	request := pod.next(t)
	for _, gone := range []string{"Connection", "Secret", "Keep-Alive", "gzip", "h2c", "2-Settings", "Proxy", "ellergate"} {
		require.NotContains(t, request, gone)
	}
	require.Equal(t, "a", lineOf(t, request, "Host"))
	require.Equal(t, "abc-1", lineOf(t, request, "X-Request-Id"))
	require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", lineOf(t, request, "Traceparent"))
	require.Equal(t, "1", lineOf(t, request, "X-Kept"))
}

func TestHopByHopHeadersOfTheAnswer(t *testing.T) {
	t.Parallel()
	pod := record(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\n"+
		"Keep-Alive: timeout=5\r\nDate: Tue, 24 Nov 2026 02:00:00 GMT\r\nX-Kept: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok")
	g := start(t, settings(), oneVersion(pod.listener.Addr().String()))
	answer, body := g.do(ask{})
	require.Equal(t, "ok", body)
	require.False(t, answer.Close, "the pod's wish to close is not the client's")
	answer.Header.Del("Content-Length")
	require.Equal(t, map[string][]string{
		"Date": {"Tue, 24 Nov 2026 02:00:00 GMT"}, "X-Kept": {"1"}, "Set-Cookie": {"a=1", "b=2"},
	}, map[string][]string(answer.Header), "nothing is invented")
}

func TestNothingIsInventedInRequests(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, settings(), oneVersion(pod.listener.Addr().String()))
	g.raw("GET //a/../b%2fc?q=1+2%20;x HTTP/1.0\r\nHost: Bank.Example:8080\r\nX-Request-Id: r\r\nX-B: 1\r\nX-B: 2\r\n\r\n")
	lines := strings.Split(strings.TrimSpace(pod.next(t)), "\r\n")
	require.Equal(t, "GET //a/../b%2fc?q=1+2%20;x HTTP/1.1", lines[0], "the target is the client's own")
	require.ElementsMatch(t, []string{
		"Host: Bank.Example:8080", "X-Request-Id: r", "X-B: 1", "X-B: 2", "X-Forwarded-For: 127.0.0.1",
		strings.TrimSpace(g.atPod("X-Forwarded-Proto: http\r\n")), "X-Forwarded-Host: Bank.Example:8080",
	}, lines[1:])
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, settings(), oneVersion(pod.listener.Addr().String()))
	for _, bad := range []string{"", "X-Request-Id: a b\r\n", "X-Request-Id: <script>\r\n",
		"X-Request-Id: " + strings.Repeat("a", 129) + "\r\n"} {
		g.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + bad + "\r\n")
		require.Regexp(t, `^[0-9a-f]{32}$`, lineOf(t, pod.next(t), "X-Request-Id"))
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(address(pod(t, "v1", nil))))
	for name, test := range map[string]struct{ request, status, code string }{
		"fragment":          {"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400", "bad_request"},
		"not ASCII":         {"GET /\xe6 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "bad_request"},
		"bad escape":        {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400", "bad_request"},
		"CONNECT":           {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "501", "not_implemented"},
		"TRACE":             {"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "405", "method_not_allowed"},
		"no host":           {"GET / HTTP/1.1\r\n\r\n", "400", "bad_request"},
		"another host":      {"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400", "bad_request"},
		"other version":     {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505", "version_not_supported"},
		"bare LF":           {"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", "400", "bad_request"},
		"both lengths":      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "bad_request"},
		"identity coding":   {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", "400", "bad_request"},
		"two lengths":       {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400", "bad_request"},
		"signed length":     {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", "400", "bad_request"},
		"too many headers":  {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: 1\r\n", 200) + "\r\n", "431", "header_too_large"},
		"header too large":  {filled("GET / HTTP/1.1\r\nHost: a\r\nX: ", 32<<10), "431", "header_too_large"},
		"bad chunk":         {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400", "request_body"},
		"userinfo in host":  {"GET / HTTP/1.1\r\nHost: u:p@a\r\n\r\n", "400", "bad_request"},
		"nobody's protocol": {"nonsense\r\n\r\n", "400", "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := g.raw(test.request)
			require.True(t, strings.HasPrefix(answer, "HTTP/1.1 "+test.status+" "), answer)
			require.Contains(t, answer, `"code":"`+test.code+`"`)
			require.Contains(t, answer, "Connection: close\r\n")
		})
	}
}

// filled prolongs a header to exactly n bytes: not one of them is left unread when the answer comes, which would make the
// kernel reset the connection and the answer with it.
func filled(beginning string, n int) string {
	return beginning + strings.Repeat("x", n-len(beginning))
}

func TestAbsoluteTarget(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, settings(), oneVersion(pod.listener.Addr().String()))
	g.raw("GET http://A/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.True(t, strings.HasPrefix(pod.next(t), "GET /x?y HTTP/1.1\r\n"))
	g.raw("GET http://a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.True(t, strings.HasPrefix(pod.next(t), "GET / HTTP/1.1\r\n"))
}
