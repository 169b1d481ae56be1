package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/discovery"
	"tellergate/rules"
	"tellergate/session"
)

// told returns what X-Session-Moved says in the answer to a request with these header lines.
func (g *gateway) told(lines ...string) string {
	g.t.Helper()
	answer, body := g.do(ask{header: header(lines...)})
	require.Equal(g.t, http.StatusOK, answer.StatusCode, body)
	require.LessOrEqual(g.t, len(answer.Header.Values(movedHeader)), 1)
	return answer.Header.Get(movedHeader)
}

// liar is a pod that says X-Session-Moved itself, and tells whether it was sent one.
func liar(t testing.TB, name string) netip.AddrPort {
	return netip.MustParseAddrPort(address(pod(t, name, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(movedHeader, "by the pod")
		if r.URL.Path == "/login" {
			w.Header().Set("Set-Cookie", "JSESSIONID="+r.URL.Query().Get("id"))
		}
		for spelled := range r.Header {
			if spelledLike([]byte(spelled), movedHeader) {
				w.WriteHeader(http.StatusTeapot)
			}
		}
	})))
}

// TestSessionMoved follows a session from pod to pod and from version to version.
func TestSessionMoved(t *testing.T) {
	t.Parallel()
	a, b, c := liar(t, "a"), liar(t, "b"), liar(t, "c")
	document := func(state string) string {
		return fmt.Sprintf(`
services:
  - name: counter
    default: v2
    versions:
      - {name: v1, pods: {static: ["%s", "%s"]}, state: %s}
      - {name: v2, pods: {static: ["%s"]}}
    sessions: {key: [session, teller], subject: teller}
    rules:
      - {name: pilot, priority: 1, when: {attribute: branch, is: "9001/0002"}, then: {version: v1}}
`, a, b, state, c)
	}
	g := start(t, settings(), document("active"))
	both := []netip.AddrPort{a, b}
	slices.SortFunc(both, netip.AddrPort.Compare)
	pods := g.podSets[fmt.Sprint(both)]
	only := func(endpoints ...discovery.Endpoint) { pods.Store(discovery.NewEndpointSet(endpoints)) }
	session1 := []string{"Cookie: JSESSIONID=s1", pilotBranch, "X-Session-Moved: pod", "X_Session_Moved: pod"}

	only(discovery.Endpoint{Addr: a, UID: "a1"})
	require.Empty(t, g.told(pilotBranch), "anonymous")
	require.Empty(t, g.told(session1...), "a new session")
	require.Empty(t, g.told(session1...), "it has kept its pod")
	only(discovery.Endpoint{Addr: b, UID: "b1"})
	require.Equal(t, "pod", g.told(session1...), "its pod is gone")
	require.Empty(t, g.told(session1...), "that is its pod now")
	only(discovery.Endpoint{Addr: b, UID: "b2"})
	require.Equal(t, "pod", g.told(session1...), "another pod has its address")
	require.Empty(t, g.told("Cookie: JSESSIONID=s1", "X-Teller-Id: 7", pilotBranch), "its teller appears, its pod stays")
	only(discovery.Endpoint{Addr: a, UID: "a2"})
	require.Equal(t, "pod", g.told("X-Teller-Id: 7", pilotBranch), "known by the teller alone")
	require.Empty(t, g.told("Cookie: JSESSIONID=s1", "X-Teller-Id: 8", pilotBranch), "another teller's session had no pod")

	page, _, err := g.pins.Sessions(session.Filter{}, "", 10)
	require.NoError(t, err)
	for _, row := range page {
		if row.Pin.Subject == "9001/8" {
			_, err := g.pins.MoveID(row.ID, "v2")
			require.NoError(t, err)
		}
	}
	require.Equal(t, "version", g.told("X-Teller-Id: 8"), "an operator has moved it")
	require.Empty(t, g.told("X-Teller-Id: 8"))

	g.publish(document("disabled"), nil)
	require.Equal(t, "version", g.told("X-Teller-Id: 7"), "its version was disabled")
	require.Empty(t, g.told("X-Teller-Id: 7"))
	g.publish(document("active"), map[string]rules.Override{"counter": {Version: "v1", Pinned: rules.PinnedMove}})
	require.Equal(t, "version", g.told("X-Teller-Id: 7"), "an override has moved it")

	answer, _ := g.do(ask{path: "/login?id=s9", header: header("X-Teller-Id: 7")})
	require.Empty(t, answer.Header.Get(movedHeader), "a new id, the same pod")
	require.Empty(t, g.told("Cookie: JSESSIONID=s9"))
}
