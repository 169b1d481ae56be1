package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
)

// A setup is two gateways that share Redis, and the pods of two versions.
type setup struct {
	t        *testing.T
	form     form
	gateways []*gateway
	v1, v2   *gatewaytest.Pods
}

func newSetup(t *testing.T, form form, redis string) *setup {
	s := &setup{t: t, form: form, v1: gatewaytest.ServePods(t, "v1", 1), v2: gatewaytest.ServePods(t, "v2", 1)}
	for range 2 {
		s.gateways = append(s.gateways, start(t, redis))
	}
	return s
}

// rules gives every gateway that lives the same document: everybody new to version, and v1 in a state. The service
// control is the same without pins.
func (s *setup) rules(version, state string) {
	s.t.Helper()
	document := "services:\n"
	for _, service := range []struct{ name, match, sessions string }{
		{"control", "match: {pathPrefix: /control}", ""},
		{"counter", "", "sessions: {key: [session]}"},
	} {
		document += fmt.Sprintf(`  - name: %s
    %s
    default: %s
    versions:
      - {name: v1, pods: %s, state: %s}
      - {name: v2, pods: %s}
    %s
`, service.name, service.match, version, s.v1.Static(), state, s.v2.Static(), service.sessions)
	}
	for _, g := range s.gateways {
		if !g.dead.Load() {
			g.PutRules(document)
		}
	}
}

// only has the load balancer send everything to one gateway, or to all with nil.
func (s *setup) only(one *gateway) {
	for _, g := range s.gateways {
		g.dead.Store(one != nil && g != one)
	}
}

// sessions are what a load asks for under one path, and the version that each started on.
type sessions struct {
	path    string
	first   []atomic.Pointer[string]
	left    []atomic.Bool // that have been answered by another version than the first
	changes atomic.Int64  // answers by another version
}

func newSessions(path string, n int) *sessions {
	return &sessions{path: path, first: make([]atomic.Pointer[string], n), left: make([]atomic.Bool, n)}
}

// changed returns how many sessions have left their version.
func (s *sessions) changed() (n int) {
	for i := range s.left {
		if s.left[i].Load() {
			n++
		}
	}
	return n
}

// A load is what clients and their load balancer do.
type load struct {
	*setup
	pinned, control *sessions
	fresh           *sessions // that begin under load, two requests each
	sent, failed    atomic.Int64
	slowest         atomic.Int64 // nanoseconds
	failure         atomic.Pointer[string]
	client          *http.Client
	through         atomic.Int64 // requests so far, to alternate
}

func newLoad(s *setup, n int) *load {
	l := &load{setup: s, pinned: newSessions("/", n), control: newSessions("/control", n), fresh: newSessions("/fresh", 100_000),
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	s.t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// run sends requests until ctx ends, at the rate of the form whatever becomes of them: of ten, six by known sessions, two
// by new ones, two by the control's.
func (l *load) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	const every = 5 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	n := len(l.pinned.first)
	sent, began := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := int(time.Since(began).Seconds() * float64(l.form.rate))
		if due-sent > l.form.rate/10 { // the test itself was kept waiting: it does not send everything at once then
			began = began.Add(time.Duration(due-sent) * time.Second / time.Duration(l.form.rate))
			continue
		}
		for ; sent < due; sent++ {
			i := sent
			switch i % 10 {
			case 8, 9:
				all.Go(func() { l.request(l.control, i%n) })
			case 6, 7:
				if i/10 < len(l.fresh.first) {
					all.Go(func() { l.request(l.fresh, i/10) })
				}
			default:
				all.Go(func() { l.request(l.pinned, (i/10*6+i%10)%n) })
			}
		}
	}
}

// once sends one request of every session of a kind, as fast as it goes.
func (l *load) once(kinds ...*sessions) {
	const workers = 16
	var all sync.WaitGroup
	for _, kind := range kinds {
		for w := range workers {
			all.Go(func() {
				for i := w; i < len(kind.first); i += workers {
					l.request(kind, i)
				}
			})
		}
	}
	all.Wait()
}

// paced sends one request of each pinned session a second, for a while.
func (l *load) paced(during time.Duration) {
	const workers = 32
	var all sync.WaitGroup
	until := time.Now().Add(during)
	for w := range workers {
		all.Go(func() {
			tick := time.NewTicker(time.Second * workers / time.Duration(len(l.pinned.first)))
			defer tick.Stop()
			for i := w; time.Now().Before(until); i += workers {
				<-tick.C
				l.request(l.pinned, i%len(l.pinned.first))
			}
		})
	}
	all.Wait()
}

// request sends one request through either gateway; through the other where it finds a gateway dead.
func (l *load) request(of *sessions, i int) {
	n := int(l.through.Add(1))
	for attempt := range 2 * len(l.gateways) { // twice: one may come while the other goes
		g := l.gateways[(n+attempt)%len(l.gateways)]
		if g.dead.Load() {
			continue
		}
		started := time.Now()
		request, _ := http.NewRequest(http.MethodGet, "http://"+g.Frontend+of.path, nil)
		request.Header.Set("X-Session-Id", strings.Trim(of.path, "/")+"-"+strconv.Itoa(i))
		response, err := l.client.Do(request)
		if err != nil {
			if g.dead.Load() {
				continue // the load balancer's part
			}
			l.fail(err.Error())
			return
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil && g.dead.Load() {
			continue
		}
		for took := time.Since(started).Nanoseconds(); ; {
			if slowest := l.slowest.Load(); took <= slowest || l.slowest.CompareAndSwap(slowest, took) {
				break
			}
		}
		l.sent.Add(1)
		if of != l.control {
			g.sent.Add(1)
		}
		if err != nil || response.StatusCode != http.StatusOK {
			l.fail(fmt.Sprintf("%d %s %v", response.StatusCode, body, err))
			return
		}
		version := string(body)
		if !of.first[i].CompareAndSwap(nil, &version) && *of.first[i].Load() != version {
			of.changes.Add(1)
			of.left[i].Store(true)
		}
		return
	}
	l.fail("no gateway lives")
}

func (l *load) fail(why string) {
	l.failed.Add(1)
	l.failure.Store(&why)
}

// settled starts every session on v1, each through one of the gateways only, and then changes the rules so that a fresh
// decision for each of them is v2.
func settled(s *setup) *load {
	s.rules("v1", "active")
	l := newLoad(s, s.form.sessions)
	l.once(l.pinned, l.control)
	s.told(s.form.sessions)
	s.rules("v2", "active")
	return l
}

// told waits until every gateway knows n sessions, its own or another's.
func (s *setup) told(n int) {
	s.t.Helper()
	for _, g := range s.gateways {
		if !assert.Eventually(s.t, func() bool { return g.Metric("tellergate_redis_copies") >= float64(n) },
			gatewaytest.Patience, 10*time.Millisecond) {
			_, metrics := g.Call(http.MethodGet, "/metrics", "", nil)
			s.t.Fatalf("the gateway should know %d sessions:\n%s", n, metrics)
		}
	}
}

// under does something while clients go on, and has every session asked for once more afterwards.
func (l *load) under(fault func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	time.Sleep(l.form.before) // some load before, and after
	fault()
	time.Sleep(l.form.after)
	cancel()
	<-done
	l.once(l.pinned, l.control)
}

// holds demands what every fault must leave: no failed request and no session that left its version, where without pins
// every one has left it.
func (l *load) holds(what string) {
	l.t.Helper()
	var commands, found, stale, asked, late, longest, waited, within float64
	sent := int64(0)
	for _, g := range l.gateways {
		if !g.dead.Load() {
			sent += g.sent.Load()
			commands += g.Metric("tellergate_redis_commands_total")
			found += g.Metric("tellergate_redis_copies_found_total")
			stale += g.Metric("tellergate_redis_copies_stale_total")
			asked += g.Metric("tellergate_redis_asked_total")
			late += g.Metric("tellergate_redis_late_total")
			longest = max(longest, g.Metric("tellergate_session_wait_max_seconds"))
			waited += g.Metric("tellergate_session_wait_seconds_count")
			within += g.Metric(`tellergate_session_wait_seconds_bucket{le="0.02"}`)
		}
	}
	l.t.Logf("| %s | requests %d | failed %d | sessions %d | version changes %d | of %d without pins %d changed | slowest %s | "+
		"waited for Redis %.0f, %.0f of them longer than 20 ms, the longest %.1f ms | late %.0f | commands a request %.4f | hit rate %.2f %% |", what, l.sent.Load(), l.failed.Load(),
		len(l.pinned.first)+l.begun(), l.pinned.changes.Load()+l.fresh.changes.Load(), len(l.control.first), l.control.changed(),
		time.Duration(l.slowest.Load()).Round(time.Millisecond), waited, waited-within, 1000*longest, late, commands/float64(sent), 100*(found-stale)/(found+asked))
	why := ""
	if l.failure.Load() != nil {
		why = *l.failure.Load()
	}
	require.Zero(l.t, l.failed.Load(), "failed requests, the last: %s", why)
	require.Zero(l.t, l.pinned.changes.Load(), "version changes")
	require.Zero(l.t, l.fresh.changes.Load(), "version changes of sessions that began under load")
	require.Equal(l.t, len(l.control.first), l.control.changed(),
		"without pins every session must change, or this test shows nothing")
}

// begun is how many sessions began under load.
func (l *load) begun() (n int) {
	for i := range l.fresh.first {
		if l.fresh.first[i].Load() != nil {
			n++
		}
	}
	return n
}
