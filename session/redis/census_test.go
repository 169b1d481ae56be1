package redis

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

// count returns how many sessions a fresh census finds on v1.
func count(t *testing.T, s *Store) int {
	t.Helper()
	c, err := s.Census(testBudget)
	require.NoError(t, err)
	n, _ := c.Of("counter", "v1")
	return n
}

func testCensus(t *testing.T, o Options) {
	o.Budget, o.Timeout = testBudget, testBudget
	a, b := run(t, o), run(t, o)
	const n = 900
	for i := range n {
		pin := pinned("v1")
		pin.Start = pin.Start.Add(time.Duration(i%7) * time.Second) // many begin at the same moment
		pin.Branch = fmt.Sprintf("9001/%d", i%3)
		[]*Store{a, b}[i%2].Claim([]session.Key{key(fmt.Sprint(i)), {Service: "counter", Attribute: "teller", Value: fmt.Sprint(i)}}, pin, nil)
	}
	require.Equal(t, n, count(t, a), "a session is counted once, whoever wrote it and under however many keys")
	c, err := b.Census(testBudget)
	require.NoError(t, err)
	require.Len(t, c.Counts, 3)
	require.Equal(t, 300, c.Counts[0].Sessions)

	seen := map[string]bool{}
	last := time.Time{}
	pages := 0
	for after := ""; ; pages++ {
		page, next, err := a.Sessions(session.Filter{Service: "counter", Version: "v1", Branch: "9001/1"}, after, 100)
		require.NoError(t, err)
		for _, row := range page {
			require.False(t, seen[row.ID], "no session is on two pages")
			require.False(t, row.Pin.Start.Before(last), "oldest first")
			require.Len(t, row.Keys, 2)
			seen[row.ID], last = true, row.Pin.Start
		}
		if after = next; after == "" {
			break
		}
		if pages == 0 { // another replica moves one away that has not been shown yet
			gone, _, err := b.Sessions(session.Filter{Branch: "9001/1"}, next, 1)
			require.NoError(t, err)
			there, err := b.MoveID(gone[0].ID, "v2")
			require.NoError(t, err)
			require.True(t, there)
		}
	}
	require.Len(t, seen, 299, "what has been moved is not shown")
	require.Equal(t, 2, pages)
	require.Equal(t, n-1, count(t, b))
}

func TestCensusSingle(t *testing.T) {
	testCensus(t, Options{Mode: Single, Addresses: []string{redistest.Single(t).Address}})
}

func TestCensusCluster(t *testing.T) {
	var addresses []string
	for _, s := range redistest.Cluster(t) {
		addresses = append(addresses, s.Address)
	}
	testCensus(t, Options{Mode: Cluster, Addresses: addresses})
}

// A server that was restarted in the middle knows nothing of what was counted before: such a census is void.
func TestCensusOfTwoRunsIsVoid(t *testing.T) {
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget, Failures: 1000})
	for i := range 2 * scanKeys {
		s.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v1"), nil)
	}
	steps := 0
	err := s.scan(context.Background(), func() error {
		if steps++; steps == 1 {
			server.Kill()
			server.Start()
		}
		return nil
	}, func(string, string) {})
	require.ErrorIs(t, err, session.ErrUnknown)
	require.ErrorContains(t, err, "another server answers")
}

// A census that nobody waits for any more ends; one that somebody asks for twice is taken once.
func TestCensusOnlyWhileSomebodyAsks(t *testing.T) {
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget, Reuse: time.Minute})
	s.Claim([]session.Key{key("x")}, pinned("v1"), nil)
	first, err := s.Census(testBudget)
	require.NoError(t, err)
	second, err := s.Census(testBudget)
	require.NoError(t, err)
	require.Equal(t, first.Began, second.Began, "a census of a moment ago does")
	s.counting.until = time.Time{} // nobody waits
	err = s.scan(context.Background(), func() error { return errUnwanted }, func(string, string) {})
	require.NoError(t, err, "what is complete in one step is complete")
	require.False(t, s.counting.still(time.Now()))
	page, _, err := s.Sessions(session.Filter{}, "", 1)
	require.NoError(t, err)
	_, err = s.MoveID(page[0].ID, "v2")
	require.NoError(t, err)
	third, err := s.Census(testBudget)
	require.NoError(t, err)
	moved, _ := third.Of("counter", "v2")
	require.Equal(t, 1, moved, "what an operator has just done is counted")
}

// member is a replica that drains v1.
func member(name string, resting *atomic.Bool) func() session.Replica {
	started := time.Now()
	return func() session.Replica {
		return session.Replica{Name: name, Started: started, Since: started, Revision: 7, Versions: []session.Running{
			{Service: "counter", Version: "v1", Active: !resting.Load(), Resting: started}}}
	}
}

func find(t *testing.T, s *Store, name string) *session.Replica {
	t.Helper()
	registry, err := s.Registry()
	require.NoError(t, err)
	for i := range registry.Replicas {
		if registry.Replicas[i].Name == name {
			return &registry.Replicas[i]
		}
	}
	return nil
}

// Replicas know of each other: who comes, who leaves in order, who falls silent, who is forgotten.
func TestRegistry(t *testing.T) {
	server := redistest.Single(t)
	var resting atomic.Bool
	resting.Store(true)
	o := Options{Mode: Single, Addresses: []string{server.Address}}
	o.Self = member("gate-1", &resting)
	a := run(t, o)
	o.Self = member("gate-2", &resting)
	o.Secret = testSecret
	b, err := New(o)
	require.NoError(t, err)
	ctx, leave := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() { left <- b.Run(ctx) }()
	require.Eventually(t, func() bool {
		r := find(t, a, "gate-2")
		return r != nil && find(t, a, "gate-1") != nil && !r.Flushed.IsZero() && r.Freshness == time.Minute && r.Revision == 7
	}, testBudget, 10*time.Millisecond)
	registry, err := a.Registry()
	require.NoError(t, err)
	require.Equal(t, a.self, registry.Self)
	require.WithinDuration(t, time.Now(), registry.Since, testBudget)

	leave()
	require.NoError(t, <-left)
	require.Nil(t, find(t, a, "gate-2"), "who leaves in order is not waited for")

	silent := `{"name":"gate-3","seen":%q,"versions":[]}`
	server.Ask(fmt.Sprintf("HSET %s silent %q", registryName, fmt.Sprintf(silent, time.Now().Add(-time.Minute).Format(time.RFC3339))))
	r := find(t, a, "gate-3")
	require.NotNil(t, r)
	require.True(t, r.LateAt(time.Now()))
	forgotten, err := a.Forget("silent")
	require.NoError(t, err)
	require.True(t, forgotten)
	forgotten, err = a.Forget("silent")
	require.NoError(t, err)
	require.False(t, forgotten)
	server.Ask(fmt.Sprintf("HSET %s silent %q", registryName, fmt.Sprintf(silent, time.Now().Add(-session.Gone-time.Second).Format(time.RFC3339))))
	require.Nil(t, find(t, a, "gate-3"), "who has been silent for long is dead")
	require.NotContains(t, server.Ask("HKEYS "+registryName), "silent")

	server.Kill()
	require.Eventually(t, func() bool {
		_, err := a.Registry()
		return err != nil
	}, testBudget, 10*time.Millisecond)
	_, err = a.Registry()
	require.ErrorIs(t, err, session.ErrUnknown)
	require.ErrorIs(t, a.Watch().Unknown, session.ErrUnknown)
	server.Start()
}

// The watermark stands while something that this replica knows may be missing in Redis, and what a Redis that came back
// empty lacks of a draining version is in it again before the watermark moves.
func TestWatermark(t *testing.T) {
	server := redistest.Single(t)
	var resting atomic.Bool
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Probe: 20 * time.Millisecond, Self: member("gate-1", &resting)})
	for i := range 300 {
		s.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v1"), nil)
	}
	flushed := func() time.Time { return time.Unix(0, s.flushed.Load()) }
	moves := func() {
		t.Helper()
		from := time.Now()
		require.Eventually(t, func() bool { return flushed().After(from) }, testBudget, 10*time.Millisecond)
	}
	moves()
	server.Ask("FLUSHALL") // Redis has lost everything, and nobody has noticed
	require.Zero(t, count(t, s))
	resting.Store(true) // the version drains
	moves()
	require.Equal(t, 300, count(t, s), "what it has copies of is in Redis again")

	server.Stop()
	for i := 0; s.Stats().Degraded.IsZero(); i++ {
		require.Less(t, i, 1000)
		s.Claim([]session.Key{key(fmt.Sprint("away", i))}, pinned("v1"), nil)
	}
	stands := flushed()
	time.Sleep(session.Heartbeat) // long enough to see that it does not move
	require.Equal(t, stands, flushed())
	w := s.Watch()
	require.ErrorIs(t, w.Unknown, session.ErrUnknown)
	require.False(t, func() bool { v := session.Retirement("counter", "v1", &w); return v.Safe }())
	server.Continue()
	moves()
	require.Greater(t, count(t, s), 300, "those that came meanwhile are in Redis")
}

// BenchmarkCensus counts a million sessions. TELLERGATE_SESSIONS says another number. Run it alone on the machine:
// go test ./session/redis -run '^$' -bench Census -benchtime 1x
func BenchmarkCensus(b *testing.B) {
	n := sessionsWanted(b)
	server := redistest.Single(b)
	s := run(b, Options{Mode: Single, Addresses: []string{server.Address}, Budget: time.Minute, Timeout: time.Minute, Patience: time.Hour,
		Reuse: time.Hour})
	fill(b, s, server, n)
	pings := newPings(b, server.Address)
	idle := cpuOf(b, server)
	quietly := pings.during(func() { time.Sleep(5 * time.Second) })
	idle = (cpuOf(b, server) - idle) / 5
	heap := heapInUse()
	used := cpuOf(b, server)
	var most atomic.Uint64
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				if now := heapInUse(); now > most.Load() {
					most.Store(now)
				}
			}
		}
	}()
	b.ResetTimer()
	began := time.Now()
	meanwhile := pings.during(func() {
		for range b.N {
			c, err := s.Census(time.Hour)
			require.NoError(b, err)
			found, _ := c.Of("counter", "v1")
			require.Equal(b, n, found)
		}
	})
	took := time.Since(began)
	b.StopTimer()
	close(stop)
	runtime.GC()
	b.ReportMetric(took.Seconds()/float64(b.N), "s/census")
	b.ReportMetric(100*((cpuOf(b, server)-used)/took.Seconds()-idle), "%redis-cpu")
	b.ReportMetric(float64(most.Load()-heap)/(1<<20), "MiB-heap-at-most")
	b.ReportMetric(float64(heapInUse()-heap)/(1<<20), "MiB-heap-kept")
	for name, p := range map[string][]time.Duration{"before": quietly, "meanwhile": meanwhile} {
		b.ReportMetric(float64(percentile(p, 50).Microseconds()), "µs-ping-p50-"+name)
		b.ReportMetric(float64(percentile(p, 99).Microseconds()), "µs-ping-p99-"+name)
		b.ReportMetric(float64(percentile(p, 99.9).Microseconds()), "µs-ping-p99.9-"+name)
	}
	page, next, err := s.Sessions(session.Filter{Version: "v1"}, "", 1000)
	require.NoError(b, err)
	require.Len(b, page, 1000)
	began = time.Now()
	_, _, err = s.Sessions(session.Filter{Version: "v1"}, next, 1000)
	require.NoError(b, err)
	b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms/page-of-1000")
}
