package kubetest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPodKilledWithoutNotice(t *testing.T) {
	deploy(t, "killed", 3)
	g := startGateway(t, "")
	g.rules(document("killed", ""))
	eventually(t, "three endpoints", func() bool { return states(g.endpoints("v1"))["active"] == 3 })
	l := startLoad(t, g, 6, nil)
	for range choose(1, 5) {
		l.await(l.sent.Load() + 2000)
		name := cluster.kubelet.kill()
		l.await(l.sent.Load() + 2000) // the API server does not know yet
		cluster.must("DELETE", "/api/v1/namespaces/bank/pods/"+name+"?gracePeriodSeconds=0", nil, nil)
		eventually(t, "three endpoints again", func() bool {
			return states(g.endpoints("v1"))["active"] == 3 && !strings.Contains(fmt.Sprint(g.endpoints("v1")), name)
		})
	}
	samples := l.end()
	failedGET, failedPOST, twice, faults := l.judge(samples)
	t.Logf("%d requests: %d GET and %d POST failed, %d executed twice; %v", len(samples), failedGET, failedPOST, twice, faults)
	assert.Zero(t, failedGET)
	assert.Zero(t, twice)
	for _, s := range samples {
		if s.fault != "" {
			assert.Contains(t, s.fault, `"code":"upstream_reset"`)
		}
	}
}

// TestAPIServerAway: the API server is killed under load while pods change; it is back, and a gateway is restarted
// meanwhile.
func TestAPIServerAway(t *testing.T) {
	deploy(t, "away", 4)
	handmade(t, "byhand", 1)
	t.Cleanup(func() { require.NoError(t, cluster.restartControllers()) })
	text := document("away", "") + `
  - name: byhand
    match: {pathPrefix: /byhand}
    default: v1
    versions:
      - {name: v1, pods: {kubernetes: {namespace: bank, service: byhand, port: http}}}
`
	g, restarted := startGateway(t, ""), startGateway(t, "")
	for _, g := range []*gateway{g, restarted} {
		g.rules(text)
		eventually(t, "four endpoints", func() bool { return states(g.endpoints("v1"))["active"] == 4 })
	}
	eventually(t, "the cache is written; kill gives no last chance", func() bool {
		return restarted.cached("away") == 4 && restarted.cached("byhand") == 1
	})
	l := startLoad(t, g, 4, nil)
	l.await(2000)

	cluster.killAPI()
	killed := time.Now()
	eventually(t, "stale is said", func() bool {
		r := g.readiness()
		return r.Ready && strings.Contains(strings.Join(r.Notes, "\n"), "stale: 2 of 2 pod sets")
	})
	restarted.kill()
	begin := time.Now()
	restarted.start()
	eventually(t, "the restarted gateway serves", func() bool {
		response, err := http.Get("http://" + restarted.frontend + "/-/lb")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	serves := time.Since(begin)
	response, err := http.Get("http://" + restarted.frontend + "/")
	require.NoError(t, err)
	_ = response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, strings.Join(restarted.readiness().Notes, "\n"), "stale: 2 of 2")
	cluster.kubelet.leave() // a pod ends in order, and nobody can tell the gateway

	time.Sleep(choose(8*time.Second, 2*time.Minute) - time.Since(killed))
	require.NoError(t, cluster.startAPI())
	back := time.Now()
	slice("byhand-0", "byhand", 0, 3)
	for _, g := range []*gateway{g, restarted} {
		eventually(t, "the change is seen", func() bool {
			var service struct {
				Versions []struct{ Endpoints []endpoint }
			}
			g.get("/api/v1/services/byhand", &service)
			return len(service.Versions[0].Endpoints) == 3
		})
	}
	converged := time.Since(back)
	eventually(t, "nothing is stale", func() bool { return !strings.Contains(strings.Join(g.readiness().Notes, "\n"), "stale") })
	l.await(l.sent.Load() + 1000)
	samples := l.end()
	failedGET, failedPOST, twice, faults := l.judge(samples)
	t.Logf("away for %s: %d requests, %d GET and %d POST failed, %d executed twice %v; restarted gateway serves after %s; converged %s after the return",
		back.Sub(killed).Round(time.Second), len(samples), failedGET, failedPOST, twice, faults, serves.Round(time.Millisecond),
		converged.Round(time.Millisecond))
	assert.Zero(t, failedGET+failedPOST+twice)
	assert.Less(t, serves, time.Second)
	assert.Less(t, converged, time.Second)
}

// TestScaleWithPinnedSessions: 2 → 50 → 0 → 2.
func TestScaleWithPinnedSessions(t *testing.T) {
	deploy(t, "scale", 2)
	g := startGateway(t, "")
	g.rules(document("scale", "sessions: {key: [session]}"))
	count := func(n int) {
		eventually(t, fmt.Sprint(n, " active endpoints"), func() bool { return states(g.endpoints("v1"))["active"] == n })
	}
	count(2)
	session := func(i int) (string, string) { return "X-Session-Id", fmt.Sprint("session-", i) }
	l := startLoad(t, g, 8, session)
	l.await(1000)
	scale("scale", 50)
	count(50)
	l.await(l.sent.Load() + 1000)
	samples := l.end()
	failedGET, failedPOST, twice, faults := l.judge(samples)
	t.Logf("2 → 50: %d requests, %d GET and %d POST failed, %d twice %v", len(samples), failedGET, failedPOST, twice, faults)
	require.Zero(t, failedGET+failedPOST+twice)
	pods := map[string]bool{}
	for _, s := range samples {
		pods[s.pod] = true
	}
	require.LessOrEqual(t, len(pods), 2, "pinned sessions stay on their pods")

	scale("scale", 0)
	eventually(t, "no endpoint", func() bool { return len(g.endpoints("v1")) == 0 })
	client := &http.Client{Timeout: patience}
	get := func() int {
		request, err := http.NewRequest("GET", "http://"+g.frontend+"/", nil)
		require.NoError(t, err)
		request.Header.Set(session(0))
		response, err := client.Do(request)
		require.NoError(t, err)
		_ = response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, http.StatusServiceUnavailable, get())
	scale("scale", 2)
	count(2)
	require.Equal(t, http.StatusOK, get(), "the session goes on, on a new pod")
	l = startLoad(t, g, 8, session)
	l.await(1000)
	failedGET, failedPOST, twice, _ = l.judge(l.end())
	require.Zero(t, failedGET+failedPOST+twice)
}
