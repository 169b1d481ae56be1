package redis

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tellergate/session"
	"tellergate/session/redis/redistest"
	"tellergate/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

var testSecret = []byte("a secret of the deployment")

// run opens a store and runs it until the test ends.
func run(t testing.TB, o Options) *Store {
	t.Helper()
	o.Secret = testSecret
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

func conform(t *testing.T, o Options, clear func()) {
	late := func(idle time.Duration) time.Duration { return idle / 2 }
	sessiontest.Run(t, late, func(t *testing.T, now func() time.Time) sessiontest.Store {
		o := o
		clear()
		o.Budget, o.Timeout, o.Now = testBudget, testBudget, now
		o.ServerTime = func(context.Context) (time.Time, error) { return now(), nil }
		return run(t, o)
	})
}

func TestConformanceSingle(t *testing.T) {
	sessiontest.Run(t, func(idle time.Duration) time.Duration { return idle / 2 },
		func(t *testing.T, now func() time.Time) sessiontest.Store {
			return run(t, Options{Mode: Single, Addresses: []string{redistest.Single(t).Address}, Budget: testBudget,
				Timeout: testBudget, Now: now, ServerTime: func(context.Context) (time.Time, error) { return now(), nil }})
		})
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
	s.Lookup(k, out)
	return out[0].Version
}

func peek(s *Store, k session.Key) string {
	out := make([]session.Pin, 1)
	s.Peek([]session.Key{k}, out)
	return out[0].Version
}

func TestTwoReplicasAgree(t *testing.T) {
	server := redistest.Single(t)
	o := Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget}
	a, b := run(t, o), run(t, o)
	for i := range 200 {
		k := key(fmt.Sprint(i))
		won := make(chan string, 2)
		go func() { won <- a.Claim([]session.Key{k}, pinned("v1")).Version }()
		go func() { won <- b.Claim([]session.Key{k}, pinned("v2")).Version }()
		require.Equal(t, <-won, <-won)
		require.Equal(t, lookup(a, k), lookup(b, k))
	}
}
