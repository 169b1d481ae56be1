package redis

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

func TestBreaker(t *testing.T) {
	b := breaker{threshold: 3}
	at := time.Unix(1_764_000_000, 0)
	b.failed(at)
	b.failed(at)
	b.succeeded()
	b.failed(at)
	b.failed(at)
	require.False(t, b.open(), "two in a row")
	b.failed(at.Add(time.Second))
	require.True(t, b.open())
	require.Equal(t, at.Add(time.Second).UnixNano(), b.since.Load())
	b.failed(at.Add(time.Minute))
	b.succeeded()
	require.Equal(t, at.Add(time.Second).UnixNano(), b.since.Load(), "only a probe closes it, and it says since when")
	b.close()
	require.False(t, b.open())
	b.failed(at)
	b.failed(at)
	require.False(t, b.open(), "it counts anew")
}

// While Redis hangs only probes ask it, and the first that it answers lets requests ask again.
func TestOnlyProbesAskARedisThatHangs(t *testing.T) {
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Probe: 20 * time.Millisecond, Timeout: 200 * time.Millisecond})
	require.Eventually(t, s.setGet.Load, testBudget, time.Millisecond)
	server.Stop()
	defer server.Continue()
	before := time.Now()
	for i := 0; s.Stats().Degraded.IsZero(); i++ {
		require.Less(t, i, 1000, "it opens after some failures")
		s.Claim([]session.Key{key(fmt.Sprint("before", i))}, pinned("v1"), nil)
	}
	since := s.Stats().Degraded
	require.WithinRange(t, since, before, time.Now())
	commands, skipped, goroutines := s.Stats().Commands, s.Stats().Skipped, runtime.NumGoroutine()
	var all sync.WaitGroup
	for i := range 2000 {
		all.Go(func() { s.Claim([]session.Key{key(fmt.Sprint("while", i))}, pinned("v1"), nil) })
	}
	all.Wait()
	require.LessOrEqual(t, s.Stats().Commands-commands, uint64(5), "no request asks; those may that began before")
	require.Equal(t, skipped+2000, s.Stats().Skipped)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+5 }, testBudget, time.Millisecond,
		"none of them leaves a goroutine behind: before there were %d", goroutines)
	require.Equal(t, since, s.Stats().Degraded)
	server.Continue()
	require.Eventually(t, func() bool { return s.Stats().Degraded.IsZero() }, testBudget, time.Millisecond, "no request is needed")
	names := make([]string, 2000)
	for i := range names {
		names[i] = s.codec.name(key(fmt.Sprint("while", i)))
	}
	require.Eventually(t, func() bool { return server.Ask("EXISTS "+strings.Join(names, " ")) == ":2000\r\n" }, testBudget,
		10*time.Millisecond, "what was decided meanwhile is written")
}

// Without Redis each replica decides; with it again the first writer wins, the other adopts, and it is counted.
func TestReconciliation(t *testing.T) {
	const n = 50
	server := redistest.Single(t)
	o := Options{Mode: Single, Addresses: []string{server.Address}, Probe: 20 * time.Millisecond}
	a, b := run(t, o), run(t, o)
	require.Eventually(t, func() bool { return a.setGet.Load() && b.setGet.Load() }, testBudget, time.Millisecond)
	server.Kill()
	for i := range n {
		k := []session.Key{key(fmt.Sprint(i)), {Service: "counter", Attribute: "teller", Value: fmt.Sprint(i)}}
		require.Equal(t, "v1", a.Claim(k, pinned("v1"), nil).Version)
		require.Equal(t, "v2", b.Claim(k, pinned("v2"), nil).Version, "a session that only one replica knows is decided anew by the other")
		require.Equal(t, "v1", lookup(a, k...), "and goes on where it is known")
	}
	require.Zero(t, a.Stats().Adopted+b.Stats().Adopted)
	_, err := a.Counts()
	require.ErrorIs(t, err, session.ErrUnknown, "an unreachable Redis is not an empty one")
	server.Start()
	require.Eventually(t, func() bool {
		return a.Stats().Adopted+b.Stats().Adopted == n && a.pending.Load() == 0 && b.pending.Load() == 0
	}, testBudget, 5*time.Millisecond, "each session has one loser: %v", lazily(func() any { return []Stats{a.Stats(), b.Stats()} }))
	for i := range n {
		k := key(fmt.Sprint(i))
		version := lookup(a, k)
		require.Equal(t, version, lookup(b, k))
		require.Contains(t, server.Ask("GET "+a.codec.name(k)), fmt.Sprintf(`"version":%q`, version))
	}
	require.EqualValues(t, n, a.Stats().Adopted+b.Stats().Adopted, "none is counted twice")
}

// A message that a replica missed while its subscription was down costs it nothing once it is back: every copy has become
// stale, and none is gone.
func TestLostSubscription(t *testing.T) {
	const n = 100
	server := redistest.Single(t)
	o := Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget, Probe: 20 * time.Millisecond}
	a, b := run(t, o), run(t, o)
	for i := range n {
		a.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v1"), nil)
		require.Equal(t, "v1", b.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v2"), nil).Version)
	}
	moved := *b.local.get(key("7")).state.Load()
	moved.generation++
	moved.pin.Version = "v9"
	require.NoError(t, a.client.Set(context.Background(), a.codec.name(key("7")), a.codec.encode(&moved, a.ahead()), time.Hour).Err())
	require.Equal(t, "v1", lookup(b, key("7")), "nobody has told it: its copy is fresh")
	lapses := b.Stats().Lapses
	require.Eventually(t, func() bool { // it may not be subscribed yet
		server.Ask("CLIENT KILL TYPE PUBSUB")
		return b.Stats().Lapses > lapses
	}, testBudget, 10*time.Millisecond)
	require.Eventually(t, func() bool { return lookup(b, key("7")) == "v9" }, testBudget, time.Millisecond)
	require.Equal(t, n, b.Stats().Copies, "none has fallen")
	server.Kill()
	require.Eventually(t, func() bool { return b.Stats().Lapses > lapses+1 }, testBudget, time.Millisecond)
	for i := range n {
		want := "v1"
		if i == 7 {
			want = "v9"
		}
		require.Equal(t, want, lookup(b, key(fmt.Sprint(i))), "a stale copy rules where Redis does not answer")
	}
}

// A copy in use is read again in the background before it is stale, many with one command.
func TestCopiesAreRefreshed(t *testing.T) {
	const n = 300
	for _, mode := range []Mode{Single, Cluster} {
		t.Run(string(mode), func(t *testing.T) {
			var addresses []string
			if mode == Single {
				addresses = []string{redistest.Single(t).Address}
			} else {
				for _, s := range redistest.Cluster(t) {
					addresses = append(addresses, s.Address)
				}
			}
			var ahead atomic.Int64
			s := run(t, Options{Mode: mode, Addresses: addresses, Budget: testBudget, Timeout: testBudget,
				Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
			for i := range n {
				s.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v1"), nil)
			}
			visit := func() {
				for i := range n {
					require.Equal(t, "v1", lookup(s, key(fmt.Sprint(i))))
				}
			}
			commands := s.Stats().Commands
			for range 3 {
				refreshed := s.Stats().Refreshed
				visit()
				require.Equal(t, refreshed, s.Stats().Refreshed, "a young copy is not read again")
				ahead.Add(int64(50 * time.Second))
				visit()
				require.Eventually(t, func() bool { return s.Stats().Refreshed == refreshed+n }, testBudget, time.Millisecond, "%+v", s.Stats())
			}
			require.Zero(t, s.Stats().Stale, "no request waited for a stale copy in 150 s")
			if mode == Single {
				require.Less(t, s.Stats().Commands-commands, uint64(3*n/10), "many with one command")
			}
		})
	}
}

// An answer that comes after its request has gone on is worth as much: nothing is asked twice, and what has happened to the
// session meanwhile stays.
func TestAnswersThatComeLate(t *testing.T) {
	const n = 50
	server := redistest.Single(t)
	a, b := pair(t, server, Options{Timeout: testBudget, Failures: 1000})
	server.Ask("CONFIG RESETSTAT")
	server.Stop()
	defer server.Continue()
	pod := netip.MustParseAddrPort("10.2.0.7:8080")
	for i := range n {
		k := []session.Key{key(fmt.Sprint(i)), teller(fmt.Sprint(i))}
		pin := a.Claim(k, pinnedFor("v1", fmt.Sprint(i)), nil)
		require.Equal(t, "v1", pin.Version)
		next := pin
		next.Endpoint = pod
		require.True(t, a.Swap(k, pin, next, nil))
	}
	require.EqualValues(t, n, a.Stats().Late)
	require.Equal(t, n, a.Stats().Pending, "nobody may think that all is written")
	server.Continue()
	require.Eventually(t, func() bool { return a.Stats().Pending == 0 }, testBudget, time.Millisecond)
	knows(t, b, 2*n)
	require.NotContains(t, server.Ask("INFO commandstats"), "cmdstat_eval")
	require.Zero(t, a.Stats().Adopted)
	for i := range n {
		require.Contains(t, server.Ask("GET "+a.codec.name(teller(fmt.Sprint(i)))), `"version":"v1"`)
		c := a.local.get(key(fmt.Sprint(i)))
		require.Equal(t, pod, c.current().Endpoint)
		require.False(t, c.alone.Load() || c.unwritten.Load())
	}
}

// A Redis that was late for a while, and is the same, is not written everything that replicas know.
func TestLatenessIsNoLoss(t *testing.T) {
	const n = 300
	server := redistest.Single(t)
	var ahead atomic.Int64
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Timeout: testBudget, Probe: 20 * time.Millisecond,
		Now:        func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		ServerTime: func(context.Context) (time.Time, error) { return time.Now().Add(time.Duration(ahead.Load())), nil }})
	require.Eventually(t, s.setGet.Load, testBudget, time.Millisecond)
	for i := range n {
		s.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v1"), nil)
	}
	require.Eventually(t, func() bool { return s.Stats().Pending == 0 && s.Stats().Degraded.IsZero() }, testBudget, time.Millisecond)
	ahead.Store(int64(time.Minute))
	again := s.Stats().Reasserted
	server.Stop()
	defer server.Continue()
	for i := 0; s.Stats().Degraded.IsZero(); i++ {
		require.Less(t, i, 1000)
		s.Claim([]session.Key{key(fmt.Sprint("late", i))}, pinned("v1"), nil)
	}
	server.Continue()
	require.Eventually(t, func() bool { return s.Stats().Degraded.IsZero() && s.Stats().Pending == 0 }, testBudget, time.Millisecond)
	require.Less(t, s.Stats().Reasserted-again, uint64(n/3), "only what is of that time")
}

// What an answer that never comes has left unwritten is written when Redis is back.
func TestAnswersThatNeverCome(t *testing.T) {
	const n = 50
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Timeout: 200 * time.Millisecond, Probe: 20 * time.Millisecond})
	require.Eventually(t, s.setGet.Load, testBudget, time.Millisecond)
	server.Stop()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { s.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v1"), nil) })
	}
	all.Wait()
	server.Kill()
	server.Start()
	for i := range n {
		require.Eventually(t, func() bool { return server.Ask("EXISTS "+s.codec.name(key(fmt.Sprint(i)))) == ":1\r\n" }, testBudget,
			time.Millisecond)
	}
	require.Eventually(t, func() bool { return s.Stats().Pending == 0 }, testBudget, time.Millisecond)
}

// Operators learn that Redis is away also where no request asks it.
func TestAwayWithoutRequests(t *testing.T) {
	warned := make(chan string, 100)
	s := run(t, Options{Mode: Single, Addresses: []string{"127.0.0.1:1"}, Probe: 20 * time.Millisecond, Failures: 2,
		Warn: func(text string) { warned <- text }})
	require.Eventually(t, func() bool { return !s.Stats().Degraded.IsZero() }, testBudget, 10*time.Millisecond)
	require.Contains(t, <-warned, "Redis does not answer")
}

// All that a request asks while Redis hangs waits for one budget together, and each call without a request for one of its
// own.
func TestARequestWaitsForOneBudget(t *testing.T) {
	const budget = 400 * time.Millisecond
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: budget, Timeout: testBudget, Failures: 1000})
	require.Eventually(t, s.setGet.Load, testBudget, time.Millisecond)
	known := []session.Key{key("known")}
	var pin session.Pin
	require.Eventually(t, func() bool {
		pin = s.Claim(known, pinned("v1"), nil)
		return s.Stats().Copies == 1 && s.Stats().Late == 0
	}, testBudget, time.Millisecond)
	server.Stop()
	defer server.Continue()
	var wait session.Wait
	began := time.Now()
	s.Claim([]session.Key{key("new")}, pinned("v1"), &wait)
	s.Peek([]session.Key{key("another")}, make([]session.Pin, 1), &wait)
	require.True(t, s.Swap(append(known, key("joins")), pin, pin, &wait))
	require.EqualValues(t, 3, s.Stats().Late)
	took := time.Since(began)
	require.GreaterOrEqual(t, wait.Spent, onTime(budget), "it has waited")
	require.LessOrEqual(t, wait.Spent, took)
	require.Less(t, wait.Spent, 2*budget, "once")
	s.Claim([]session.Key{key("apart")}, pinned("v1"), nil)
	require.GreaterOrEqual(t, time.Since(began)-took, onTime(budget))
}

// lazily is printed as what it returns then.
type lazily func() any

func (f lazily) String() string { return fmt.Sprintf("%+v", f()) }
