package redis

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

// Two replicas whose clocks are ten minutes apart, five on each side of Redis's, end a session at the same moment, exact
// to two seconds, and say that their clocks are wrong.
func TestSkewedClocks(t *testing.T) {
	const skew, life = 5 * time.Minute, 4 * time.Second
	server := redistest.Single(t)
	var warnings [2]atomic.Int64
	var stores [2]*Store
	clocks := [2]func() time.Time{}
	for i, by := range []time.Duration{skew, -skew} {
		clocks[i] = func() time.Time { return time.Now().Add(by) }
		stores[i] = run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget,
			Now: clocks[i], Warn: func(string) { warnings[i].Add(1) }})
	}
	for i, s := range stores {
		require.Eventually(t, func() bool { return warnings[i].Load() == 1 }, testBudget, time.Millisecond, "above 2 s it warns")
		require.InDelta(t, []float64{-300, 300}[i], s.Stats().Offset.Seconds(), 1)
	}

	k := []session.Key{key("x")}
	mine := func(i int, version string) session.Pin {
		now := clocks[i]()
		return session.Pin{Version: version, Start: now, Renewed: now, Idle: 30 * time.Minute, End: now.Add(life)}
	}
	first := mine(0, "v1")
	end := time.Now().Add(life) // by the clock of the machine that Redis runs on
	require.Equal(t, "v1", stores[0].Claim(k, first, nil).Version)
	found := stores[1].Claim(k, mine(1, "v2"), nil)
	require.Equal(t, "v1", found.Version)
	require.WithinDuration(t, end.Add(-skew), found.End, 2*time.Second, "as the other's clock says it")

	ended := [3]time.Time{}
	for ended[0].IsZero() || ended[1].IsZero() || ended[2].IsZero() {
		now := time.Now()
		require.Less(t, now.Sub(end), testBudget)
		for i, s := range stores {
			if ended[i].IsZero() && lookup(s, k...) == "" {
				ended[i] = now
			}
		}
		if ended[2].IsZero() && server.Ask("EXISTS "+stores[0].codec.name(k[0])) == ":0\r\n" {
			ended[2] = now
		}
		time.Sleep(5 * time.Millisecond)
	}
	for i, at := range ended {
		require.WithinDuration(t, end, at, 2*time.Second, "the first replica, the second, Redis: %d", i)
	}
}

// An offset below two seconds is no warning, and one that appears while the store runs is corrected.
func TestClockThatIsSet(t *testing.T) {
	server := redistest.Single(t)
	var by, warned atomic.Int64
	by.Store(int64(time.Second))
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget,
		Now:  func() time.Time { return time.Now().Add(time.Duration(by.Load())) },
		Warn: func(string) { warned.Add(1) }})
	require.Eventually(t, func() bool { return s.Stats().Offset != 0 }, testBudget, time.Millisecond)
	require.InDelta(t, -1, s.Stats().Offset.Seconds(), 0.5)
	require.Zero(t, warned.Load())
	for i, d := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
		by.Store(int64(d))
		s.compareClocks(context.Background())
		require.InDelta(t, -d.Seconds(), s.Stats().Offset.Seconds(), 1)
		require.InDelta(t, -d.Seconds(), s.ahead().Seconds(), 1, "what is written is corrected by it")
		require.EqualValues(t, 1, warned.Load(), "it is told once, not every ten seconds: %d", i)
	}
	at := s.now().Add(time.Hour)
	pin := pinned("v1")
	pin.End, pin.Renewed, pin.Idle = at, s.now(), 30*time.Minute
	s.Claim([]session.Key{key("x")}, pin, nil)
	var seconds int
	_, err := fmt.Sscanf(server.Ask("TTL "+s.codec.name(key("x"))), ":%d", &seconds)
	require.NoError(t, err)
	require.InDelta(t, 45*60, seconds, 2, "1.5 times idle")
}
