package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/config"
	"tellergate/rules"
	"tellergate/session"
)

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

func (explosive) Lookup([]session.Key, []session.Pin, *session.Wait) { panic("BUG: for the test") }

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

// A client that resets the connection in the midst of an answer did not get it: the access log says so.
func TestAccessLogMarksWhatTheClientCutShort(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	g := start(t, settings(), oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		io.Copy(w, &pattern{n: size})
	}))))
	c := g.dialRaw()
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 100_000))
	require.NoError(t, err)
	require.NoError(t, c.SetLinger(0))
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return len(g.access.lines(t)) == 1 }, patience, time.Millisecond)
	line := g.access.lines(t)[0]
	require.Equal(t, true, line["cutShort"])
	require.Equal(t, 200.0, line["status"])
	require.Less(t, line["bytesOut"], float64(size))
	require.Zero(t, g.metric("tellergate_answers_cut_total"), "that counts what pods cut short")
}
