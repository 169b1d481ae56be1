package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tellergate/session"
	"tellergate/session/redis/redistest"
	"tellergate/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testSecret = []byte("a secret of the deployment")

// run opens a store and runs it until the test ends.
func run(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Secret == nil {
		o.Secret = testSecret
	}
	s, err := New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s
}

// testBudget: the conformance tests are about what is kept, not about time.
const testBudget = 10 * time.Second

func conform(t *testing.T, o Options) {
	late := func(idle time.Duration) time.Duration { return idle / 2 }
	sessiontest.Run(t, late, func(t *testing.T, now func() time.Time) sessiontest.Store {
		o := o
		o.Secret = []byte(rand.Text()) // tests that share servers do not see each other's pins
		o.Budget, o.Timeout, o.Now = testBudget, testBudget, now
		o.ServerTime = func(context.Context) (time.Time, error) { return now(), nil }
		return run(t, o)
	})
}

func TestConformanceSingle(t *testing.T) {
	conform(t, Options{Mode: Single, Addresses: []string{redistest.Single(t).Address}})
}

func TestConformanceSentinel(t *testing.T) {
	sentinels, _ := redistest.Sentinels(t)
	conform(t, Options{Mode: Sentinel, Master: "pins", Addresses: sentinels})
}

func TestConformanceCluster(t *testing.T) {
	var addresses []string
	for _, s := range redistest.Cluster(t) {
		addresses = append(addresses, s.Address)
	}
	conform(t, Options{Mode: Cluster, Addresses: addresses})
}

func key(value string) session.Key {
	return session.Key{Service: "counter", Attribute: "session", Value: value}
}

func pinned(version string) session.Pin {
	now := time.Now()
	return session.Pin{Version: version, Start: now, Renewed: now, Idle: 30 * time.Minute, End: now.Add(10 * time.Hour)}
}

func lookup(s *Store, k ...session.Key) string {
	out := make([]session.Pin, len(k))
	s.Lookup(k, out, nil)
	return out[0].Version
}

func TestTwoReplicasAgree(t *testing.T) {
	server := redistest.Single(t)
	o := Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget}
	a, b := run(t, o), run(t, o)
	for i := range 200 {
		k := key(fmt.Sprint(i))
		won := make(chan string, 2)
		go func() { won <- a.Claim([]session.Key{k}, pinned("v1"), nil).Version }()
		go func() { won <- b.Claim([]session.Key{k}, pinned("v2"), nil).Version }()
		require.Equal(t, <-won, <-won)
		require.Equal(t, lookup(a, k), lookup(b, k))
	}
}

func TestMovesReachOtherReplicas(t *testing.T) {
	server := redistest.Single(t)
	o := Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget}
	a, b := run(t, o), run(t, o)
	k := key("x")
	// Subscriptions begin in the background: a replica hears what is published after.
	require.Eventually(t, func() bool { return strings.Contains(server.Ask("PUBSUB NUMSUB "+channel), ":2\r\n") }, testBudget,
		time.Millisecond)
	a.Claim([]session.Key{k}, pinned("v1"), nil)
	require.Equal(t, "v1", b.Claim([]session.Key{k}, pinned("v2"), nil).Version)
	page, _, err := a.Sessions(session.Filter{}, "", 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	moved, err := a.MoveID(page[0].ID, "v3")
	require.NoError(t, err)
	require.True(t, moved)
	require.Eventually(t, func() bool { return lookup(b, k) == "v3" }, testBudget, time.Millisecond)
	require.Equal(t, 1, a.End([]session.Key{k}))
	require.Eventually(t, func() bool { return lookup(b, k) == "" }, testBudget, time.Millisecond)
	require.Equal(t, "v4", b.Claim([]session.Key{k}, pinned("v4"), nil).Version, "an ended session comes back nowhere")
}

func TestNothingOfTheTellerIsInRedis(t *testing.T) {
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget})
	pin := pinned("v1")
	pin.Subject = "9001/teller-42"
	s.Claim([]session.Key{key("cookie-77"), {Service: "counter", Attribute: "teller", Value: "9001/teller-42"}}, pin, nil)
	for _, k := range []string{"cookie-77", "teller-42"} {
		names := server.Ask("KEYS *")
		require.Contains(t, names, keyPrefix)
		require.NotContains(t, names, k)
		text := server.Ask("GET " + s.codec.name(key("cookie-77")))
		require.Contains(t, text, `"version":"v1"`)
		require.NotContains(t, text, k)
	}
}

func TestDamagedValuesAreAbsent(t *testing.T) {
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget})
	require.Eventually(t, s.setGet.Load, testBudget, time.Millisecond)
	server.Ask("SET " + s.codec.name(key("x")) + " rubbish")
	require.Equal(t, "v1", s.Claim([]session.Key{key("x")}, pinned("v1"), nil).Version)
	require.EqualValues(t, 1, s.Stats().Damaged)
	require.Contains(t, server.Ask("GET "+s.codec.name(key("x"))), `"version":"v1"`)
}

func TestFreshCopiesCostNothing(t *testing.T) {
	server := redistest.Single(t)
	s := run(t, Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget})
	keys, out := []session.Key{key("x")}, make([]session.Pin, 1)
	s.Claim(keys, pinned("v1"), nil)
	require.Eventually(t, func() bool { return s.Stats().Commands == 3 }, testBudget, time.Millisecond,
		"the claim, what the other replicas are told of it, and what they are asked at the beginning")
	before := s.Stats().Commands
	require.Zero(t, testing.AllocsPerRun(1000, func() { s.Lookup(keys, out, nil) }))
	require.Equal(t, "v1", out[0].Version)
	require.Equal(t, before, s.Stats().Commands)
}
