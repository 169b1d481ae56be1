package kubetest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var requestID = regexp.MustCompile(`"requestId":"[^"]*"|10\.244\.\d+\.\d+|:\d{4,5}`)

// long tells whether the long forms are to be run: make test-faults.
func long() bool { return os.Getenv("TELLERGATE_LONG") != "" }

func choose[T any](short, longer T) T {
	if long() {
		return longer
	}
	return short
}

// deploy creates a Deployment and a Service of the name, and removes both at the end of the test. The Service takes the
// pods of every Deployment of the test.
func deploy(t *testing.T, name string, replicas int) { deployVersion(t, name, "v1", replicas) }

// deployVersion is deploy with the value of the pods' label version.
func deployVersion(t *testing.T, name, version string, replicas int) {
	t.Helper()
	labels := map[string]any{"app": name, "version": version, "test": strings.ToLower(t.Name())}
	cluster.must("POST", "/apis/apps/v1/namespaces/bank/deployments", map[string]any{
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"replicas": replicas, "selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"strategy": map[string]any{"rollingUpdate": map[string]any{"maxUnavailable": 0, "maxSurge": 1}},
			"template": template(labels, "1"),
		},
	}, nil)
	cluster.must("POST", "/api/v1/namespaces/bank/services", map[string]any{
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"selector": map[string]any{"test": strings.ToLower(t.Name())},
			"ports":    []any{map[string]any{"name": "http", "port": 80, "targetPort": 8080}},
		},
	}, nil)
	cluster.kubelet.setOver(name, false)
	t.Cleanup(func() {
		cluster.kubelet.setOver(name, true)
		// Children first: the garbage collector is not among the controllers that run.
		cluster.must("DELETE", "/apis/apps/v1/namespaces/bank/deployments/"+name, nil, nil)
		cluster.must("DELETE", "/apis/apps/v1/namespaces/bank/replicasets?labelSelector=app="+name, nil, nil)
		cluster.must("DELETE", "/api/v1/namespaces/bank/services/"+name, nil, nil)
		eventually(t, "the pods end", func() bool {
			// Again and again: a controller that has just come back may know the ReplicaSet and not its end.
			cluster.must("DELETE", "/api/v1/namespaces/bank/pods?labelSelector=app="+name, nil, nil)
			var list podList
			cluster.must("GET", "/api/v1/namespaces/bank/pods?labelSelector=app="+name, nil, &list)
			return len(list.Items) == 0
		})
	})
}

func template(labels map[string]any, change string) map[string]any {
	return map[string]any{
		"metadata": map[string]any{"labels": labels, "annotations": map[string]any{"change": change}},
		"spec": map[string]any{
			"terminationGracePeriodSeconds": 30,
			"containers": []any{map[string]any{"name": "main", "image": "none",
				"ports": []any{map[string]any{"name": "http", "containerPort": 8080}}}},
		},
	}
}

func scale(name string, replicas int) {
	cluster.must("PATCH", "/apis/apps/v1/namespaces/bank/deployments/"+name,
		map[string]any{"spec": map[string]any{"replicas": replicas}}, nil)
}

// document has one service with one version on the Service of the name.
func document(service string, sessions string) string {
	return fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: {kubernetes: {namespace: bank, service: %s, port: http}}}
    %s
`, service, sessions)
}

// roll changes the template and waits until the Deployment is on the new pods only.
func roll(t *testing.T, name, change string) {
	t.Helper()
	cluster.must("PATCH", "/apis/apps/v1/namespaces/bank/deployments/"+name, map[string]any{
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{"change": change}}}},
	}, nil)
	begin := time.Now()
	for {
		var d struct {
			Metadata struct{ Generation int }
			Spec     struct{ Replicas int }
			Status   struct{ ObservedGeneration, UpdatedReplicas, Replicas, AvailableReplicas int }
		}
		cluster.must("GET", "/apis/apps/v1/namespaces/bank/deployments/"+name, nil, &d)
		if d.Status.ObservedGeneration == d.Metadata.Generation && d.Status.UpdatedReplicas == d.Spec.Replicas &&
			d.Status.Replicas == d.Spec.Replicas && d.Status.AvailableReplicas == d.Spec.Replicas {
			return
		}
		require.Less(t, time.Since(begin), 5*time.Minute, "the rolling update: %+v", d.Status)
		time.Sleep(20 * time.Millisecond)
	}
}

// rolling updates a Deployment of six pods under load and returns what went wrong.
func rolling(t *testing.T, name, sessions string, enough int64) (failedGET, failedPOST, twice int) {
	deploy(t, name, 6)
	g := startGateway(t, "")
	g.rules(document(name, sessions))
	eventually(t, "six endpoints", func() bool { return states(g.endpoints("v1"))["active"] == 6 })
	first := map[string]bool{}
	for _, e := range g.endpoints("v1") {
		first[e.UID] = true
		require.Equal(t, "zone-a", e.Zone)
	}

	l := startLoad(t, g, 6, func(i int) (string, string) { return "X-Session-Id", fmt.Sprint(name, "-", i) })
	l.await(enough / 5)
	begin := time.Now()
	for change := 2; ; change++ { // as many updates as the requests last for, one at least
		roll(t, name, fmt.Sprint(change))
		if l.sent.Load() >= enough*4/5 {
			break
		}
	}
	end := time.Now()
	l.await(max(enough, l.sent.Load()+1000))
	// Those that were told to end are gone from the routing, and nothing of the first generation is left.
	eventually(t, "six new endpoints", func() bool {
		now := g.endpoints("v1")
		for _, e := range now {
			if first[e.UID] {
				return false
			}
		}
		return len(now) == 6
	})
	samples := l.end()
	failedGET, failedPOST, twice, faults := l.judge(samples)
	t.Logf("%d requests, %s of rolling updates: %d GET and %d POST failed, %d POSTs executed twice; p99 %s before, %s during; %v",
		len(samples), end.Sub(begin).Round(time.Millisecond), failedGET, failedPOST, twice,
		p99(samples, samples[0].at, begin), p99(samples, begin, end), faults)
	return failedGET, failedPOST, twice
}

func TestRollingUpdate(t *testing.T) {
	failedGET, failedPOST, twice := rolling(t, "rolling", "", choose[int64](10_000, 100_000))
	assert.Zero(t, failedGET)
	assert.Zero(t, failedPOST)
	assert.Zero(t, twice)
}

// TestRollingUpdateUnderSessions: every session is pinned to its pod, stays with it to its end, and goes on elsewhere.
func TestRollingUpdateUnderSessions(t *testing.T) {
	failedGET, failedPOST, twice := rolling(t, "sessions", "sessions: {key: [session]}", choose[int64](10_000, 100_000))
	assert.Zero(t, failedGET)
	assert.Zero(t, failedPOST)
	assert.Zero(t, twice)
}

// TestRollingUpdateOfAbruptPods: pods that exit as soon as they are told to end break what is under way on them; only
// that no POST is executed twice can be promised.
func TestRollingUpdateOfAbruptPods(t *testing.T) {
	cluster.kubelet.setAbrupt(true)
	t.Cleanup(func() { cluster.kubelet.setAbrupt(false) })
	_, _, twice := rolling(t, "abrupt", "", choose[int64](5_000, 100_000))
	assert.Zero(t, twice)
}
