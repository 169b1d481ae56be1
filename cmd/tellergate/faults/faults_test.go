package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
	"tellergate/session/redis/redistest"
)

const sessions = 2000

// long skips a test unless the long forms are wanted.
func long(t *testing.T) {
	if os.Getenv("TELLERGATE_LONG") == "" {
		t.Skip("this takes minutes and both cores: make test-faults runs it")
	}
}

// A setup is two gateways that share Redis, and the pods of two versions.
type setup struct {
	t        *testing.T
	gateways []*gateway
	v1, v2   *gatewaytest.Pods
}

func newSetup(t *testing.T, redis string) *setup {
	s := &setup{t: t, v1: gatewaytest.ServePods(t, "v1", 1), v2: gatewaytest.ServePods(t, "v2", 1)}
	for range 2 {
		s.gateways = append(s.gateways, start(t, redis))
	}
	return s
}

const pins = "sessions: {key: [session]}"

// rules gives both gateways the same document: everybody new to version.
func (s *setup) rules(version, sessions, state string) {
	s.t.Helper()
	for _, g := range s.gateways {
		if g.dead.Load() {
			continue
		}
		g.PutRules(fmt.Sprintf(`services:
  - name: counter
    default: %s
    versions:
      - {name: v1, pods: %s, state: %s}
      - {name: v2, pods: %s}
    %s
`, version, s.v1.Static(), state, s.v2.Static(), sessions))
	}
}

// A load sends requests of many sessions through the gateways that live, each session's one after the other.
type load struct {
	*setup
	first                 []atomic.Pointer[string] // the version that each session started on
	stop                  chan struct{}
	all                   sync.WaitGroup
	sent, failed, changed atomic.Int64
	slowest               atomic.Int64 // nanoseconds
	failure               atomic.Pointer[string]
	client                *http.Client
	through               atomic.Int64 // requests so far, to alternate
}

func newLoad(s *setup, n int) *load {
	l := &load{setup: s, first: make([]atomic.Pointer[string], n), stop: make(chan struct{}),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	s.t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// run has workers walk through the sessions until end, paced to rate requests a second together.
func (l *load) run(rate int) {
	const workers = 16
	every := time.Second * workers / time.Duration(rate)
	for w := range workers {
		l.all.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := w; ; i += workers {
				if i >= len(l.first) {
					i = w
				}
				select {
				case <-l.stop:
					return
				case <-tick.C:
					l.request(i)
				}
			}
		})
	}
}

func (l *load) end() {
	close(l.stop)
	l.all.Wait()
}

// once sends one request of every session, as fast as it goes.
func (l *load) once() {
	const workers = 16
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < len(l.first); i += workers {
				l.request(i)
			}
		})
	}
	all.Wait()
}

// request sends one request through either gateway; through the other where it finds a gateway dead.
func (l *load) request(i int) {
	n := int(l.through.Add(1))
	for attempt := range len(l.gateways) {
		g := l.gateways[(n+attempt)%len(l.gateways)]
		if g.dead.Load() {
			continue
		}
		started := time.Now()
		request, _ := http.NewRequest(http.MethodGet, "http://"+g.Frontend+"/", nil)
		request.Header.Set("X-Session-Id", "session-"+strconv.Itoa(i))
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
		if took := time.Since(started).Nanoseconds(); took > l.slowest.Load() {
			l.slowest.Store(took)
		}
		l.sent.Add(1)
		if err != nil || response.StatusCode != http.StatusOK {
			l.fail(fmt.Sprintf("%d %s %v", response.StatusCode, body, err))
			return
		}
		version := string(body)
		if !l.first[i].CompareAndSwap(nil, &version) && *l.first[i].Load() != version {
			l.changed.Add(1)
		}
		return
	}
	l.fail("no gateway lives")
}

func (l *load) fail(why string) {
	l.failed.Add(1)
	l.failure.Store(&why)
}

// holds demands what every fault must leave: no failed request and no session that left its version.
func (l *load) holds(what string) {
	l.t.Helper()
	commands, found := 0.0, 0.0
	for _, g := range l.gateways {
		if !g.dead.Load() {
			commands += g.Metric("tellergate_redis_commands_total")
			found += g.Metric("tellergate_redis_copies_found_total")
		}
	}
	why := ""
	if l.failure.Load() != nil {
		why = *l.failure.Load()
	}
	l.t.Logf("%s: %d requests of %d sessions, %d failed, %d version changes, slowest %s, %.0f Redis commands, %.0f keys "+
		"answered by copies", what, l.sent.Load(), len(l.first), l.failed.Load(), l.changed.Load(),
		time.Duration(l.slowest.Load()).Round(time.Millisecond), commands, found)
	require.Zero(l.t, l.failed.Load(), "failed requests, the last: %s", why)
	require.Zero(l.t, l.changed.Load(), "version changes")
}

// settled starts every session on v1, has each known to both gateways, and then changes the rules so that a fresh
// decision for each of them is v2.
func settled(s *setup) *load {
	s.rules("v1", pins, "active")
	l := newLoad(s, sessions)
	for _, g := range s.gateways { // one alone, then the other
		for _, other := range s.gateways {
			other.dead.Store(other != g)
		}
		l.once()
	}
	for _, g := range s.gateways {
		g.dead.Store(false)
	}
	s.rules("v2", pins, "active")
	return l
}

func (l *load) under(fault func()) {
	l.run(1000)
	time.Sleep(5 * time.Second) // some load before, and after
	fault()
	time.Sleep(10 * time.Second)
	l.end()
}

func single(address string) string { return fmt.Sprintf("mode: single, addresses: [%q]", address) }

func TestControlWithoutPins(t *testing.T) {
	long(t)
	s := newSetup(t, single(redistest.Single(t).Address))
	s.rules("v1", "", "active")
	l := newLoad(s, sessions)
	l.once()
	s.rules("v2", "", "active")
	l.once()
	require.Zero(t, l.failed.Load())
	require.EqualValues(t, sessions, l.changed.Load(), "without pins every session must change, or the tests below show nothing")
}

func TestGatewayKilled(t *testing.T) {
	long(t)
	// The second gateway learns of each session from Redis. The budget is wide because what is shown is not speed: on a
	// machine that is busy with other tests an answer may take longer than the 20 ms of production.
	s := newSetup(t, single(redistest.Single(t).Address)+", budget: 900ms")
	// Only the first gateway knows these sessions.
	s.rules("v1", pins, "active")
	second := s.gateways[1]
	second.dead.Store(true)
	l := newLoad(s, sessions)
	l.once()
	second.dead.Store(false)
	s.rules("v2", pins, "active")
	l.under(s.gateways[0].kill)
	l.once()
	l.holds("gateway killed")
}

func TestRedisKilledAndBackEmpty(t *testing.T) {
	long(t)
	server := redistest.Single(t)
	s := newSetup(t, single(server.Address))
	l := settled(s)
	l.under(func() {
		server.Kill()
		time.Sleep(30 * time.Second)
		server.Start()
	})
	for _, g := range s.gateways {
		require.Eventually(t, func() bool { return g.Metric("tellergate_redis_degraded_since_timestamp_seconds") == 0 },
			20*time.Second, 50*time.Millisecond)
	}
	l.holds("Redis killed and back empty")
	require.Eventually(t, func() bool { return strings.Contains(server.Ask("DBSIZE"), ":2") }, 20*time.Second,
		50*time.Millisecond, "the pins are in Redis again")
}

func TestRedisStopped(t *testing.T) {
	long(t)
	server := redistest.Single(t)
	s := newSetup(t, single(server.Address))
	l := settled(s)
	most := 0.0
	l.under(func() {
		server.Stop()
		for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
			time.Sleep(500 * time.Millisecond)
			for _, g := range s.gateways {
				most = max(most, g.Metric("go_goroutines"))
			}
		}
		server.Continue()
	})
	l.holds("Redis stopped")
	require.Less(t, most, 500.0, "goroutines while Redis hangs")
}

func TestSentinelFailOver(t *testing.T) {
	long(t)
	t.Parallel() // with the other that waits for an election
	sentinels, servers := redistest.Sentinels(t)
	quoted, err := json.Marshal(sentinels)
	require.NoError(t, err)
	s := newSetup(t, fmt.Sprintf("mode: sentinel, master: pins, addresses: %s", quoted))
	l := settled(s)
	l.under(func() {
		servers[0].Kill()
		time.Sleep(20 * time.Second)
	})
	l.holds("Sentinel fail-over")
}

func TestClusterPrimaryKilled(t *testing.T) {
	long(t)
	t.Parallel() // with the other that waits for an election
	servers := redistest.Cluster(t)
	var addresses []string
	for _, server := range servers {
		addresses = append(addresses, server.Address)
	}
	quoted, err := json.Marshal(addresses)
	require.NoError(t, err)
	s := newSetup(t, fmt.Sprintf("mode: cluster, addresses: %s", quoted))
	l := settled(s)
	l.under(func() {
		servers[0].Kill()
		time.Sleep(20 * time.Second)
	})
	l.holds("Cluster primary killed")
}

func TestDrainingThenDisabled(t *testing.T) {
	long(t)
	s := newSetup(t, single(redistest.Single(t).Address))
	l := settled(s)
	s.rules("v2", pins, "draining")
	l.once()
	l.holds("version draining")
	s.rules("v2", pins, "disabled")
	l.once()
	require.EqualValues(t, sessions, l.changed.Load(), "at disabled every session is decided anew, from the first request on")
}

func TestCommandsOfNewSessions(t *testing.T) {
	long(t)
	const n = 100_000
	s := newSetup(t, single(redistest.Single(t).Address))
	s.rules("v1", pins, "active")
	l := newLoad(s, n)
	started := time.Now()
	l.once()
	took := time.Since(started)
	commands := 0.0
	for _, g := range s.gateways {
		commands += g.Metric("tellergate_redis_commands_total")
	}
	require.Zero(t, l.failed.Load())
	t.Logf("%d new sessions in %s: %.3f Redis commands for each request", n, took.Round(time.Millisecond), commands/float64(n))
	require.LessOrEqual(t, commands/float64(n), 1.1)
}
