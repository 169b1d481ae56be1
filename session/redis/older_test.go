package redis

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

func TestConformanceBeforeRedis7(t *testing.T) {
	address, _ := redistest.Older(t, "6.2.14")
	conform(t, Options{Mode: Single, Addresses: []string{address}})
}

// agree requires that the first of two replicas to claim a session decides it.
func agree(t *testing.T, a, b *Store) {
	t.Helper()
	for i := range 20 {
		k := []session.Key{key(fmt.Sprint(i))}
		require.Equal(t, "v1", a.Claim(k, pinned("v1"), nil).Version)
		require.Equal(t, "v1", b.Claim(k, pinned("v2"), nil).Version)
	}
	require.Zero(t, a.Stats().Failures)
	require.Zero(t, b.Stats().Failures)
}

func TestServerBeforeRedis7IsDetected(t *testing.T) {
	address, _ := redistest.Older(t, "6.2.14")
	o := Options{Mode: Single, Addresses: []string{address}, Budget: testBudget, Timeout: testBudget}
	a, b := run(t, o), run(t, o)
	agree(t, a, b)
	require.False(t, a.setGet.Load())
}

// A server that calls itself 7 and refuses what 7 can is believed the refusal.
func TestServerThatRefusesTheOneCommandIsDetected(t *testing.T) {
	address, _ := redistest.Older(t, "")
	o := Options{Mode: Single, Addresses: []string{address}, Budget: testBudget, Timeout: testBudget}
	a, b := run(t, o), run(t, o)
	require.Eventually(t, func() bool { return a.setGet.Load() && b.setGet.Load() }, testBudget, time.Millisecond)
	agree(t, a, b)
	require.False(t, a.setGet.Load())
}

func TestServerThatDoesNotTellItsVersion(t *testing.T) {
	server := redistest.Single(t)
	require.Contains(t, server.Ask("ACL SETUSER quiet on >word ~* &* +@all -info"), "OK")
	o := Options{Mode: Single, Addresses: []string{server.Address}, Budget: testBudget, Timeout: testBudget,
		Credentials: func() (string, string) { return "quiet", "word" }}
	a, b := run(t, o), run(t, o)
	agree(t, a, b)
	require.False(t, a.setGet.Load() || b.setGet.Load())
	require.Contains(t, server.Ask("INFO commandstats"), "cmdstat_eval:calls=40,", "the script has done it")
}
