package kubetest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPartialList: the second page of a list never comes. What the first one says is believed by nobody.
func TestPartialList(t *testing.T) {
	const objects = 520 // more than a page holds
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := w; i < objects; i += 4 {
				name := fmt.Sprint("paged-", i)
				cluster.must("POST", slicesPath, sliceBody(name, "paged", "IPv4", []any{map[string]any{
					"addresses": []string{fmt.Sprintf("10.201.%d.%d", i/250, i%250+1)}}}), nil)
			}
		})
	}
	t.Cleanup(func() {
		cluster.must("DELETE", slicesPath+"?labelSelector=kubernetes.io/service-name=paged", nil, nil)
	})
	writers.Wait()
	m := startMiddle(t)
	config := t.TempDir() + "/kubeconfig"
	swap(t, config, cluster.kubeconfig(m.URL, "token: "+gatewayToken))
	g := startGatewayWith(t, "kubeconfig: "+config+", ")
	g.rules(document("paged", ""))
	eventually(t, "all endpoints, from two pages", func() bool { return len(g.endpoints("v1")) == objects })
	eventually(t, "the cache is written", func() bool { return g.cached("paged") == objects })

	// A gateway that is restarted lists anew.
	var begun, broken atomic.Int64
	breaks := func(q *http.Request) bool {
		list := strings.HasSuffix(q.URL.Path, "/endpointslices") && q.URL.Query().Get("watch") == ""
		if list && q.URL.Query().Get("continue") != "" {
			broken.Add(1)
			return true
		}
		if list {
			begun.Add(1)
		}
		return false
	}
	m.breaks.Store(&breaks)
	g.kill()
	g.start()
	eventually(t, "three lists lack their second page", func() bool { return begun.Load() > 3 && broken.Load() > 3 })
	require.Len(t, g.endpoints("v1"), objects)
	require.Equal(t, "1", g.metric("stale"))
	require.Equal(t, "0", g.metric("lists_total"))
	require.True(t, g.readiness().Ready)
	cluster.must("DELETE", slicesPath+"/paged-7", nil, nil)
	m.breaks.Store(nil)
	eventually(t, "the whole list is believed", func() bool {
		return len(g.endpoints("v1")) == objects-1 && g.metric("stale") == "0"
	})
}

// TestWatchExpiresAndRightsAreLost: the API server comes back without knowing the versions that the gateway's watches
// ended at (410), and without the gateway's rights (403), which are given back later. All the while no request fails and
// no pod is missing.
func TestWatchExpiresAndRightsAreLost(t *testing.T) {
	deploy(t, "expiry", 3)
	t.Cleanup(func() { require.NoError(t, cluster.restartControllers()) })
	g := startGateway(t, "")
	g.rules(document("expiry", ""))
	eventually(t, "three endpoints", func() bool { return states(g.endpoints("v1"))["active"] == 3 })
	lists := g.metric("lists_total")
	l := startLoad(t, g, 2, nil)
	var fewest atomic.Int64
	fewest.Store(3)
	quit, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-quit:
				return
			default:
				fewest.Store(min(fewest.Load(), int64(states(g.endpoints("v1"))["active"])))
			}
		}
	}()

	stop := sync.OnceFunc(func() { close(quit); <-watched })
	t.Cleanup(stop)

	for i := range 5 { // what happens to others makes the gateway's version an old one
		slice("aside", "aside", 1, i+1)
	}
	cluster.must("DELETE", slicesPath+"/aside", nil, nil)
	cluster.compact(t)
	const binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/bank/rolebindings"
	var role map[string]any
	cluster.must("GET", binding+"/tellergate-discovery", nil, &role)
	cluster.must("DELETE", binding+"/tellergate-discovery", nil, nil)
	cluster.killAPI()
	require.NoError(t, cluster.startAPI())
	role["metadata"] = map[string]any{"name": "tellergate-discovery", "namespace": "bank"}
	giveBack := sync.OnceFunc(func() { cluster.must("POST", binding, role, nil) })
	t.Cleanup(giveBack)
	eventually(t, "the lost right is said", func() bool {
		return strings.Contains(g.logged(), "deploy/kubernetes/rbac.yaml") && g.metric("stale") == "1"
	})
	since, err := g.number("stale_since_timestamp_seconds")
	require.NoError(t, err)
	require.Positive(t, since)
	require.Equal(t, lists, g.metric("lists_total"))
	giveBack()
	eventually(t, "the watch turns out to have expired, and a whole list is read", func() bool {
		return g.metric("lists_total") != lists && g.metric("stale") == "0"
	})
	stop()
	l.await(l.sent.Load() + 100)
	samples := l.end()
	failedGET, failedPOST, twice, faults := l.judge(samples)
	t.Logf("%d requests, %d GET and %d POST failed, %d executed twice %v", len(samples), failedGET, failedPOST, twice, faults)
	require.Zero(t, failedGET+failedPOST+twice)
	require.EqualValues(t, 3, fewest.Load())
}

// compact makes etcd forget every version but the present one.
func (c *Cluster) compact(t *testing.T) {
	t.Helper()
	etcd := func(path, body string) string {
		response, err := http.Post("http://127.0.0.1:2379/v3/"+path, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
		return string(text)
	}
	_, rest, found := strings.Cut(etcd("kv/range", `{"key":"Lw=="}`), `"revision":"`)
	require.True(t, found)
	revision, _, _ := strings.Cut(rest, `"`)
	etcd("kv/compaction", `{"revision":"`+revision+`","physical":true}`)
}

// TestRoleIsTheLeast: the role of deploy/kubernetes/rbac.yaml allows what discovery asks for and nothing beside it.
func TestRoleIsTheLeast(t *testing.T) {
	allowed := func(verb, group, resource, namespace string) bool {
		var review struct{ Status struct{ Allowed bool } }
		cluster.must("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{"spec": map[string]any{
			"user": gatewayAccount, "groups": []string{"system:serviceaccounts", "system:serviceaccounts:tellergate", "system:authenticated"},
			"resourceAttributes": map[string]any{"verb": verb, "group": group, "resource": resource, "namespace": namespace},
		}}, &review)
		return review.Status.Allowed
	}
	for _, verb := range []string{"list", "watch", "get", "create", "update", "patch", "delete", "deletecollection"} {
		reads := verb == "list" || verb == "watch"
		for resource, group := range map[string]string{"endpointslices": "discovery.k8s.io", "endpoints": "", "pods": ""} {
			require.Equal(t, reads, allowed(verb, group, resource, "bank"), "%s %s", verb, resource)
			require.False(t, allowed(verb, group, resource, "other"), "%s %s elsewhere", verb, resource)
			require.False(t, allowed(verb, group, resource, ""), "%s %s everywhere", verb, resource)
		}
		for resource, group := range map[string]string{"secrets": "", "configmaps": "", "services": "", "nodes": "", "pods/log": "",
			"pods/exec": "", "deployments": "apps", "leases": "coordination.k8s.io"} {
			require.False(t, allowed(verb, group, resource, "bank"), "%s %s", verb, resource)
		}
	}
}
