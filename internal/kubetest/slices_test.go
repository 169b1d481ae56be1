package kubetest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const slicesPath = "/apis/discovery.k8s.io/v1/namespaces/bank/endpointslices"

// handmade creates slices of a service that no controller knows, one endpoint each.
func handmade(t *testing.T, service string, n int) {
	t.Helper()
	for i := range n {
		slice(fmt.Sprint(service, "-", i), service, i, 1)
	}
	t.Cleanup(func() {
		cluster.must("DELETE", slicesPath+"?labelSelector=kubernetes.io/service-name="+service, nil, nil)
	})
}

// slice creates or replaces a slice of n endpoints whose addresses begin at 10.200.x.1, x from the number.
func slice(name, service string, number, n int) {
	var endpoints []any
	for i := range n {
		endpoints = append(endpoints, map[string]any{
			"addresses":  []string{fmt.Sprintf("10.200.%d.%d", number, i+1)},
			"conditions": map[string]any{"ready": true}, "zone": "zone-b",
			"targetRef": map[string]any{"kind": "Pod", "name": fmt.Sprint(name, "-", i), "uid": fmt.Sprint(name, "-", i)},
		})
	}
	putSlice(name, service, "IPv4", endpoints)
}

func putSlice(name, service, family string, endpoints []any) {
	body := sliceBody(name, service, family, endpoints)
	if cluster.call("PUT", slicesPath+"/"+name, body, nil) != nil {
		cluster.must("POST", slicesPath, body, nil)
	}
}

func sliceBody(name, service, family string, endpoints []any) map[string]any {
	return map[string]any{
		"metadata":    map[string]any{"name": name, "labels": map[string]any{"kubernetes.io/service-name": service}},
		"addressType": family, "endpoints": endpoints,
		"ports": []any{map[string]any{"name": "http", "port": 8080, "protocol": "TCP"}},
	}
}

func addresses(endpoints []endpoint) (out []string) {
	for _, e := range endpoints {
		out = append(out, e.Address+" "+e.State)
	}
	return out
}

func TestSlicesByHand(t *testing.T) {
	handmade(t, "hands", 3)
	g := startGateway(t, "")
	g.rules(document("hands", ""))
	is := func(what string, want ...string) {
		t.Helper()
		var got []string
		begin := time.Now()
		for got = addresses(g.endpoints("v1")); !slices.Equal(want, got); got = addresses(g.endpoints("v1")) {
			require.Less(t, time.Since(begin), patience, "%s: %v instead of %v", what, got, want)
			time.Sleep(2 * time.Millisecond)
		}
	}
	is("three slices", "10.200.0.1:8080 active", "10.200.1.1:8080 active", "10.200.2.1:8080 active")

	// Slices renamed and rebuilt: the endpoint stands in two slices for a while and is never missing.
	lost, quit := make(chan int), make(chan struct{})
	go func() {
		n := 0
		for {
			select {
			case <-quit:
				lost <- n
				return
			default:
				if !slices.Contains(addresses(g.endpoints("v1")), "10.200.0.1:8080 active") {
					n++
				}
			}
		}
	}()
	slice("hands-renamed", "hands", 0, 1)
	cluster.must("DELETE", slicesPath+"/hands-0", nil, nil)
	slice("hands-0", "hands", 0, 1)
	cluster.must("DELETE", slicesPath+"/hands-renamed", nil, nil)
	slice("marker", "hands", 9, 1)
	is("a marker", "10.200.0.1:8080 active", "10.200.1.1:8080 active", "10.200.2.1:8080 active", "10.200.9.1:8080 active")
	close(quit)
	require.Zero(t, <-lost)

	putSlice("six", "hands", "IPv6", []any{map[string]any{"addresses": []string{"fd00::7"},
		"conditions": map[string]any{"ready": false, "serving": true, "terminating": true}}})
	putSlice("names", "hands", "FQDN", []any{map[string]any{"addresses": []string{"pods.example"}}})
	is("IPv6, draining", "10.200.0.1:8080 active", "10.200.1.1:8080 active", "10.200.2.1:8080 active",
		"10.200.9.1:8080 active", "[fd00::7]:8080 draining")
	eventually(t, "the FQDN slice is refused with a message", func() bool {
		return strings.Contains(g.logged(), "EndpointSlice names: its addresses are of type FQDN") && g.metric("refused") == "1"
	})
	for _, name := range []string{"hands-0", "hands-1", "hands-2", "marker", "six", "names"} {
		cluster.must("DELETE", slicesPath+"/"+name, nil, nil)
	}
	took := eventually(t, "the last endpoint's removal is believed at once", func() bool { return len(g.endpoints("v1")) == 0 })
	require.Less(t, took, 10*time.Second)
	require.Equal(t, "0", g.metric("held_total"))
}

// TestIPv6 sends to a pod that has an IPv6 address, and not to its port for something else.
func TestIPv6(t *testing.T) {
	listener, err := net.Listen("tcp", "["+podIPv6+"]:8080")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("this machine has no IPv6: ", err)
	}
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.WriteString(w, q.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	body := sliceBody("six", "six", "IPv6", []any{map[string]any{"addresses": []string{podIPv6}}})
	body["ports"] = []any{map[string]any{"name": "metrics", "port": 9090}, map[string]any{"name": "http", "port": 8080}}
	cluster.must("POST", slicesPath, body, nil)
	t.Cleanup(func() { cluster.must("DELETE", slicesPath+"/six", nil, nil) })
	g := startGateway(t, "")
	g.rules(document("six", ""))
	eventually(t, "the endpoint", func() bool { return len(g.endpoints("v1")) == 1 })
	response, err := http.Get("http://" + g.frontend + "/")
	require.NoError(t, err)
	require.Equal(t, "["+podIPv6+"]:8080", readAll(response))
}

// metric returns the value of tellergate_kubernetes_NAME.
func (g *gateway) metric(name string) string {
	g.t.Helper()
	response, err := http.Get("http://" + g.admin + "/metrics")
	require.NoError(g.t, err)
	for line := range strings.Lines(readAll(response)) {
		if value, ok := strings.CutPrefix(line, "tellergate_kubernetes_"+name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return ""
}

func TestVersionsByPodLabels(t *testing.T) {
	deployVersion(t, "labels-one", "v1", 2)
	deployVersion(t, "labels-two", "v2", 3)
	g := startGateway(t, "")
	g.rules(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: {kubernetes: {namespace: bank, service: labels-one, port: "8080", podLabels: {version: v1}}}}
      - {name: v2, pods: {kubernetes: {namespace: bank, service: labels-one, port: http, podLabels: {version: v2}}}}
    rules:
      - {name: new, priority: 1, when: {attribute: teller, is: "7"}, then: {version: v2}}
`)
	eventually(t, "two and three endpoints", func() bool {
		return states(g.endpoints("v1"))["active"] == 2 && states(g.endpoints("v2"))["active"] == 3
	})
	for teller, want := range map[string]string{"6": "v1", "7": "v2"} {
		request, err := http.NewRequest("GET", "http://"+g.frontend+"/", nil)
		require.NoError(t, err)
		request.Header.Set("X-Teller-Id", teller)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.Equal(t, want, readAll(response))
	}
	// A pod that loses its label leaves the version, though it is still in the slice.
	var list podList
	cluster.must("GET", "/api/v1/namespaces/bank/pods?labelSelector=app=labels-two", nil, &list)
	cluster.must("PATCH", "/api/v1/namespaces/bank/pods/"+list.Items[0].Metadata.Name,
		map[string]any{"metadata": map[string]any{"labels": map[string]any{"version": "v3"}}}, nil)
	eventually(t, "two and two endpoints", func() bool {
		return len(g.endpoints("v1")) == 2 && len(g.endpoints("v2")) == 2
	})
}

func TestLegacyEndpoints(t *testing.T) {
	deploy(t, "legacy", 3)
	g := startGateway(t, "source: endpoints, ")
	g.rules(document("legacy", ""))
	eventually(t, "three endpoints", func() bool { return states(g.endpoints("v1"))["active"] == 3 })
	require.Contains(t, g.logged(), "legacy Endpoints")
	var list podList
	cluster.must("GET", "/api/v1/namespaces/bank/pods?labelSelector=app=legacy", nil, &list)
	gone := list.Items[0].Metadata
	cluster.must("DELETE", "/api/v1/namespaces/bank/pods/"+gone.Name, nil, nil)
	eventually(t, "the deleted pod is gone, not draining, and another has come", func() bool {
		now := g.endpoints("v1")
		require.Zero(t, states(now)["draining"])
		return len(now) == 3 && !slices.ContainsFunc(now, func(e endpoint) bool { return e.UID == gone.UID })
	})

	const path = "/api/v1/namespaces/bank/endpoints"
	cluster.must("POST", path, map[string]any{
		"metadata": map[string]any{"name": "truncated", "annotations": map[string]any{"endpoints.kubernetes.io/over-capacity": "truncated"}},
		"subsets": []any{map[string]any{"addresses": []any{map[string]any{"ip": "10.200.0.1"}},
			"ports": []any{map[string]any{"name": "http", "port": 8080}}}},
	}, nil)
	t.Cleanup(func() { cluster.must("DELETE", path+"/truncated", nil, nil) })
	g.rules(document("truncated", ""))
	eventually(t, "the alarm", func() bool { return g.metric("over_capacity") == "1" && len(g.endpoints("v1")) == 1 })
}

// TestForbiddenNamespace: what the role does not allow is said clearly, and disturbs nobody else.
func TestForbiddenNamespace(t *testing.T) {
	t.Parallel()
	handmade(t, "allowed", 1)
	g := startGateway(t, "")
	g.rules(document("allowed", "") + `
  - name: forbidden
    match: {pathPrefix: /forbidden}
    default: v1
    versions:
      - {name: v1, pods: {kubernetes: {namespace: other, service: counter, port: http}}}
`)
	eventually(t, "the allowed service", func() bool { return len(g.endpoints("v1")) == 1 })
	eventually(t, "the message", func() bool {
		return strings.Contains(g.logged(), "EndpointSlices of service other/counter cannot be read") &&
			strings.Contains(g.logged(), "deploy/kubernetes/rbac.yaml")
	})
	r := g.readiness()
	require.False(t, r.Ready)
	require.Contains(t, strings.Join(r.Missing, "\n"), "the pods of other/counter:http have not been read yet")
	eventually(t, "the rest serves after ten seconds", func() bool { return g.readiness().Ready })
	require.Contains(t, strings.Join(g.readiness().Notes, "\n"), "other/counter:http")
}

// TestTimeFromWriteToRouting measures from the API server's answer to a write to the routing change, by polling.
func TestTimeFromWriteToRouting(t *testing.T) {
	handmade(t, "timed", 1)
	g := startGateway(t, "")
	g.rules(document("timed", ""))
	eventually(t, "the first", func() bool { return len(g.endpoints("v1")) == 1 })
	var added, removed []time.Duration
	for range choose(50, 500) {
		for _, n := range []int{2, 1} {
			begin := time.Now()
			slice("timed-0", "timed", 0, n)
			for len(g.endpoints("v1")) != n {
				require.Less(t, time.Since(begin), patience)
			}
			if n == 2 {
				added = append(added, time.Since(begin))
			} else {
				removed = append(removed, time.Since(begin))
			}
		}
	}
	slices.Sort(added)
	slices.Sort(removed)
	at := func(d []time.Duration, percent int) time.Duration {
		return d[len(d)*percent/100].Round(100 * time.Microsecond)
	}
	t.Logf("from the beginning of the write to the routing change, %d each: addition p50 %s p99 %s, removal p50 %s p99 %s",
		len(added), at(added, 50), at(added, 99), at(removed, 50), at(removed, 99))
	assert.Less(t, at(added, 50), 200*time.Millisecond)
	assert.Less(t, at(removed, 50), 200*time.Millisecond)
}
