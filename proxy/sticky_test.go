package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/discovery"
)

// A session keeps its pod by the pod's identity and its address together: another pod that has been given the address is
// as good as any other, and the version stays.
func TestSessionsKeepTheirPodByIdentityAndAddress(t *testing.T) {
	t.Parallel()
	const n = 40
	answers := func(name string) netip.AddrPort {
		return netip.MustParseAddrPort(address(pod(t, name, func(http.ResponseWriter, *http.Request) {})))
	}
	a, b := answers("a"), answers("b")
	g := start(t, settings(), fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions: [{name: v1, pods: {static: ["%s"]}}]
    sessions: {key: [session]}
`, a))
	pods := g.podSets[fmt.Sprint([]netip.AddrPort{a})]
	// on returns how many sessions the pod at a answers.
	on := func() (at int) {
		for i := range n {
			answer, body := g.do(ask{header: header(fmt.Sprintf("Cookie: JSESSIONID=s%d", i))})
			require.Equal(t, http.StatusOK, answer.StatusCode, body)
			if string(body) == "a" {
				at++
			}
		}
		return at
	}
	set := func(endpoints ...discovery.Endpoint) { pods.Store(discovery.NewEndpointSet(endpoints)) }
	set(discovery.Endpoint{Addr: a, UID: "a1"})
	require.Equal(t, n, on())
	set(discovery.Endpoint{Addr: a, UID: "a1"}, discovery.Endpoint{Addr: b, UID: "b1"})
	require.Equal(t, n, on(), "its pod is there: every session stays")
	set(discovery.Endpoint{Addr: a, UID: "a2"}, discovery.Endpoint{Addr: b, UID: "b1"})
	spread := on()
	require.NotContains(t, []int{0, n}, spread, "another pod at the same address is not the same pod")
	require.Equal(t, spread, on(), "and then every session stays again")

	set(discovery.Endpoint{Addr: a, UID: "a3"})
	require.Equal(t, n, on())
	set(discovery.Endpoint{Addr: b, UID: "a3"}, discovery.Endpoint{Addr: a, UID: "b1"})
	spread = on()
	require.NotContains(t, []int{0, n}, spread, "nor is the same identity at another address")
	require.Equal(t, spread, on())
}
