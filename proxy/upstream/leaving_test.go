package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/discovery"
)

func TestPresumedLeaving(t *testing.T) {
	t.Parallel()
	// Each letter is one answer: k keeps its connection open; r closes a reused one, n a new one; f closes a new one with
	// a fault; d closes a reused one of a draining endpoint, e one with a fault.
	for answers, leaves := range map[string]bool{
		"":        false,
		"nnnnnn":  false, // never keeps one
		"krrrrr":  false, // a number of requests for each connection
		"kn":      false,
		"knn":     true,
		"krnrn":   true,
		"krnkn":   false,
		"kffff":   false,
		"knnk":    false, // it was something else
		"knnknnn": true,
		"knnr":    true,
		"kd":      true,
		"d":       false,
		"ke":      false,
		"kdk":     false,
	} {
		e := NewPool(testOptions()).Group(podSet(netip.MustParseAddrPort(a1))).current().states[0]
		for _, a := range answers {
			status := http.StatusOK
			if a == 'f' || a == 'e' {
				status = http.StatusBadRequest
			}
			e.heard(status, a == 'r' || a == 'd' || a == 'e', a == 'k', a == 'd' || a == 'e')
		}
		now := time.Now()
		require.Equal(t, leaves, !e.stays(now.UnixNano()), answers)
		require.False(t, e.leavesSoon(now.UnixNano()))
		require.Equal(t, leaves, e.leavesSoon(now.Add(sessionsStay+time.Second).UnixNano()), answers)
		require.True(t, e.stays(now.Add(leavingFor).UnixNano()), "nothing is presumed for ever")
		require.False(t, e.leavesSoon(now.Add(leavingFor).UnixNano()))
		require.True(t, e.usable(now.UnixNano()))
	}
}

// A mortal is a pod with the server of Go's library that ends as docs/kubernetes.md asks of customers: it serves on with
// Connection: close and then leaves in order. Requests that this server has taken and not begun to execute by then, it
// drops without an answer.
type mortal struct {
	addr     netip.AddrPort
	server   *http.Server
	leaving  atomic.Bool
	requests atomic.Int64
	served   chan struct{}
}

// startMortal starts one at the address; it counts executions by path in executed.
func startMortal(t *testing.T, address string, executed *sync.Map) *mortal {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	m := &mortal{addr: l.Addr().(*net.TCPAddr).AddrPort(), served: make(chan struct{})}
	m.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		n, _ := executed.LoadOrStore(q.URL.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		m.requests.Add(1)
		if m.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		_, _ = io.WriteString(w, "ok")
	})}
	go func() {
		defer close(m.served)
		_ = m.server.Serve(l)
	}()
	t.Cleanup(func() { _ = m.server.Close(); <-m.served })
	return m
}

// TestLeavingPodsLoseNoPost: nobody can tell the gateway that pods end but their own answers. Before these were listened
// to, about one POST was lost for each pod.
func TestLeavingPodsLoseNoPost(t *testing.T) {
	t.Parallel()
	var executed sync.Map
	pods := []*mortal{startMortal(t, "127.0.0.1:0", &executed), startMortal(t, "127.0.0.1:0", &executed)}
	set := podSet()
	pool := testPool(t, testOptions())
	g := pool.Group(set)
	state := func(m *mortal) *endpoint { // also of pods that have left: nobody takes them out of the set
		v := g.current()
		return v.states[v.find(m.addr, "")]
	}
	publish := func() {
		var all []discovery.Endpoint
		for _, m := range pods {
			all = append(all, discovery.Endpoint{Addr: m.addr})
		}
		set.Store(discovery.NewEndpointSet(all))
	}
	publish()
	pool.Retain([]*Group{g})

	quit := make(chan struct{})
	var workers sync.WaitGroup
	var sent atomic.Int64
	var answered [4]atomic.Int64 // by worker
	failed := make(chan error, 1000)
	for i := range answered {
		workers.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				if err := carry(g, newExchange("POST", "/"+strconv.FormatInt(sent.Add(1), 10))); err != nil {
					failed <- err
				}
				answered[i].Add(1)
			}
		})
	}
	for range 20 {
		next := startMortal(t, "127.0.0.1:0", &executed)
		pods = append(pods, next)
		pods = pods[max(0, len(pods)-6):]
		publish()
		leaver := pods[len(pods)-3]
		require.Eventually(t, func() bool {
			return leaver.requests.Load() > 50 && next.requests.Load() > 0
		}, patience, time.Millisecond)
		leaver.leaving.Store(true)
		more := func() { // every worker has begun and ended a request
			for i := range answered {
				n := answered[i].Load() + 2
				require.Eventually(t, func() bool { return answered[i].Load() >= n }, patience, time.Millisecond)
			}
		}
		more() // what was begun before may still say that it keeps its connection
		e := state(leaver)
		require.Eventually(t, func() bool { return !e.stays(time.Now().UnixNano()) }, patience, time.Millisecond)
		more()
		before := leaver.requests.Load()
		more()
		require.Equal(t, before, leaver.requests.Load(), "whoever need not go there goes elsewhere")
		require.NoError(t, leaver.server.Shutdown(context.Background()))
	}
	close(quit)
	workers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	executed.Range(func(path, n any) bool {
		return assertOnce(t, path.(string), n.(*atomic.Int64).Load())
	})
	t.Logf("%d POSTs, 20 pods left", sent.Load())
}

func assertOnce(t *testing.T, path string, n int64) bool {
	if n != 1 {
		t.Errorf("%s was executed %d times", path, n)
	}
	return true
}

// TestPodThatLeftComesBack: what answers at the address of a pod that has left is another one, and takes its share at
// once.
func TestPodThatLeftComesBack(t *testing.T) {
	t.Parallel()
	var executed sync.Map
	other := startMortal(t, "127.0.0.1:0", &executed)
	leaver := startMortal(t, "127.0.0.1:0", &executed)
	pool := testPool(t, testOptions())
	g := pool.Group(podSet(other.addr, leaver.addr))
	pool.Retain([]*Group{g})
	e := g.current().states[g.current().find(leaver.addr, "")]
	post := func(until func() bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			return carry(g, newExchange("POST", "/")) == nil && until()
		}, patience, time.Millisecond)
	}
	post(func() bool { return leaver.requests.Load() > 0 })
	leaver.leaving.Store(true)
	post(func() bool { return !e.stays(time.Now().UnixNano()) })
	require.NoError(t, leaver.server.Shutdown(context.Background()))
	require.Eventually(t, func() bool { return e.leaving.Load() == 0 && e.down.Load() != 0 }, patience, time.Millisecond,
		"nobody asks it anything, and still it is noticed that it has gone")
	again := startMortal(t, leaver.addr.String(), &executed)
	post(func() bool { return again.requests.Load() > 0 })
}
