package redis

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

// pair returns two replicas that hear each other.
func pair(t *testing.T, server *redistest.Server, o Options) (a, b *Store) {
	t.Helper()
	o.Mode, o.Addresses = Single, []string{server.Address}
	a, b = run(t, o), run(t, o)
	require.Eventually(t, func() bool {
		return strings.Contains(server.Ask("PUBSUB NUMSUB "+channel), ":2\r\n") &&
			strings.Contains(server.Ask("PUBSUB NUMSUB "+newsChannel), ":2\r\n") && a.setGet.Load() && b.setGet.Load()
	}, testBudget, time.Millisecond)
	return a, b
}

// knows waits until a replica has n keys.
func knows(t *testing.T, s *Store, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return s.Stats().Copies == n }, testBudget, time.Millisecond, "%d keys, not %d", n, s.Stats().Copies)
}

// A session outlives the replica that began it also while Redis does not answer: the others have heard of it, under all
// its keys, though none of its requests came to them.
func TestReplicasHearOfSessionsBeforeTheyAreAsked(t *testing.T) {
	const n = 300
	server := redistest.Single(t)
	a, b := pair(t, server, Options{Budget: testBudget, Timeout: testBudget, Probe: 20 * time.Millisecond})
	for i := range n {
		a.Claim([]session.Key{key(fmt.Sprint(i)), teller(fmt.Sprint(i))}, pinnedFor("v1", fmt.Sprint(i)), nil)
	}
	begun := []session.Key{key("set by an answer")}
	require.True(t, a.Swap(begun, session.Pin{}, pinned("v1"), nil))
	knows(t, b, 2*n+1)
	require.Less(t, a.Stats().Commands, uint64(2*n+n/2), "many with one message")

	asked := b.Stats().Stale
	require.Equal(t, "v1", lookup(b, key("7")))
	require.Equal(t, asked+1, b.Stats().Stale, "what was heard is no more than that: while Redis answers, it is asked")
	server.Kill()
	for i := range n {
		require.Equal(t, "v1", lookup(b, key(fmt.Sprint(i))))
		require.Equal(t, "v1", lookup(b, teller(fmt.Sprint(i))))
	}
	require.Equal(t, "v1", lookup(b, begun...))
	server.Start()
	require.Eventually(t, func() bool { return server.Ask("EXISTS "+b.codec.name(key("3"))) == ":1\r\n" }, testBudget,
		time.Millisecond, "what either knows is in Redis again")
}

// Sessions that began while Redis was away are told of when it is back, and renewals keep what was heard alive.
func TestNewsOfOutagesAndRenewals(t *testing.T) {
	server := redistest.Single(t)
	a, b := pair(t, server, Options{Probe: 20 * time.Millisecond, Timeout: testBudget})
	server.Kill()
	pin := pinned("v1")
	pin.Idle = 600 * time.Millisecond
	require.Equal(t, "v1", a.Claim([]session.Key{key("x")}, pin, nil).Version)
	server.Start()
	knows(t, b, 1)
	for until := time.Now().Add(3 * pin.Idle); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		require.Equal(t, "v1", lookup(a, key("x")))
	}
	require.True(t, b.local.get(key("x")).live(b.now()), "longer than idle after it began")
}

// A replica that could not hear for a while is told again what it missed.
func TestNewsThatWasMissed(t *testing.T) {
	server := redistest.Single(t)
	a, b := pair(t, server, Options{Budget: testBudget, Timeout: testBudget, Probe: 50 * time.Millisecond})
	for i := range 200 {
		if i%20 == 0 {
			server.Ask("CLIENT KILL TYPE PUBSUB")
		}
		a.Claim([]session.Key{key(fmt.Sprint(i))}, pinned("v1"), nil)
	}
	knows(t, b, 200)
}

func TestNewsThatIsOlderOrWrong(t *testing.T) {
	now := time.Now()
	fresh := func(t *testing.T) *Store {
		s, err := New(Options{Mode: Single, Addresses: []string{"127.0.0.1:1"}, Secret: testSecret, Entries: 2})
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.client.Close() })
		return s
	}
	of := func(id uint64, generation uint32, version string, keys ...session.Key) *value {
		return &value{session: id, generation: generation, pin: pinned(version), keys: keys}
	}
	hear := func(s *Store, values ...*value) {
		message := "another"
		for _, v := range values {
			message += "\n" + s.codec.encode(v, 0)
		}
		s.hearNews(message)
	}
	version := func(s *Store, k session.Key) string {
		if c := s.local.get(k); c != nil && c.live(now) {
			return c.current().Version
		}
		return ""
	}
	k, l, m := key("k"), key("l"), key("m")

	t.Run("a later generation stays", func(t *testing.T) {
		s := fresh(t)
		hear(s, of(1, 2, "v2", k))
		hear(s, of(1, 1, "v1", k))
		require.Equal(t, "v2", version(s, k))
		hear(s, of(1, 3, "v3", k))
		require.Equal(t, "v3", version(s, k))
		require.False(t, s.fresh(s.local.get(k), now))
	})
	t.Run("of two sessions under a key Redis says which", func(t *testing.T) {
		s := fresh(t)
		c := s.file([]session.Key{k}, of(1, 1, "v1", k), now)
		require.True(t, s.fresh(c, now))
		hear(s, of(2, 1, "v2", k))
		require.Equal(t, "v1", version(s, k))
		require.False(t, s.fresh(c, now))
	})
	t.Run("an ended session stays ended, and its key may be another's", func(t *testing.T) {
		s := fresh(t)
		ended := of(1, 2, "v1", k)
		ended.ended = true
		s.file([]session.Key{k}, ended, now)
		hear(s, of(1, 9, "v1", k))
		require.Equal(t, "", version(s, k))
		hear(s, of(2, 1, "v2", k))
		require.Equal(t, "v2", version(s, k))
	})
	t.Run("it takes no room from what is in use", func(t *testing.T) {
		s := fresh(t)
		hear(s, of(1, 1, "v1", k), of(2, 1, "v1", l), of(3, 1, "v1", m))
		require.Equal(t, "v1", version(s, k)+version(s, m))
		require.Zero(t, s.local.evicted.Load())
		over := of(4, 1, "v1", l)
		over.pin.End = now
		s.local.get(l).state.Store(over)
		s.local.get(k) // is used after it
		hear(s, of(3, 1, "v1", m))
		require.Equal(t, "v1", version(s, m), "but of what is over")
	})
	t.Run("what cannot be read is counted, its own is not heard", func(t *testing.T) {
		s := fresh(t)
		s.hearNews("another\nrubbish\n" + s.codec.encode(of(1, 1, "v1", k), 0))
		require.Equal(t, "v1", version(s, k))
		require.EqualValues(t, 1, s.Stats().Damaged)
		s.hearNews(s.self + "\n" + s.codec.encode(of(2, 1, "v1", l), 0))
		require.Equal(t, "", version(s, l))
		for _, text := range []string{"", "another", "another ", "another x", "another 99999999999999999999", "\n\n"} {
			s.hearNews(text)
		}
	})
}

// An end is final, also where another replica goes on with the session at the same moment, before it has heard of it.
func TestAnEndIsFinal(t *testing.T) {
	server := redistest.Single(t)
	a, b := pair(t, server, Options{Budget: testBudget, Timeout: testBudget})
	over := func(t *testing.T, s *Store, k ...session.Key) {
		t.Helper()
		require.Eventually(t, func() bool {
			for _, k := range k {
				if strings.Contains(server.Ask("GET "+s.codec.name(k)), "{") {
					return false
				}
			}
			return lookup(a, k...) == "" && lookup(b, k...) == "" && a.pending.Load() == 0 && b.pending.Load() == 0
		}, testBudget, time.Millisecond, "Redis has: %s", server.Ask("GET "+s.codec.name(k[0])))
	}
	known := func(t *testing.T, k session.Key) session.Pin {
		t.Helper()
		pin := a.Claim([]session.Key{k}, pinned("v1"), nil)
		require.Equal(t, "v1", b.Claim([]session.Key{k}, pinned("v2"), nil).Version)
		return pin
	}

	t.Run("another replica has gone on twice", func(t *testing.T) {
		k := key("further")
		pin := known(t, k)
		// What b does is not heard by a: as if its subscription were down.
		held := *b.local.get(k).state.Load()
		held.generation += 2
		held.pin = pin
		b.local.get(k).state.Store(&held)
		require.NoError(t, b.client.Set(context.Background(), b.codec.name(k), b.codec.encode(&held, 0), time.Hour).Err())
		require.Equal(t, 1, a.End([]session.Key{k}))
		over(t, a, k)
	})
	t.Run("a request writes over the end", func(t *testing.T) {
		k, joins := key("over"), key("joins")
		known(t, k)
		require.Equal(t, 1, a.End([]session.Key{k}))
		require.NoError(t, a.settled())
		require.Eventually(t, func() bool { return lookup(b, k) == "" }, testBudget, time.Millisecond)
		// A request at b that began before: it writes now, and tells.
		live := *b.local.get(k).state.Load()
		live.ended = false
		live.keys = append(live.keys[:1:1], joins)
		live.generation++
		require.NoError(t, b.client.Set(context.Background(), b.codec.name(k), b.codec.encode(&live, 0), time.Hour).Err())
		require.NoError(t, b.client.Publish(context.Background(), channel, b.message("set", &live)).Err())
		over(t, a, k)
	})
	t.Run("at the same moment, many times", func(t *testing.T) {
		for i := range 100 {
			k, joins := key(fmt.Sprint("moment", i)), key(fmt.Sprint("moment joins", i))
			known(t, k)
			pin := make([]session.Pin, 1)
			b.Lookup([]session.Key{k}, pin, nil)
			done := make(chan bool)
			go func() { done <- b.Swap([]session.Key{joins, k}, pin[0], pin[0], nil) }()
			a.End([]session.Key{k})
			<-done
			over(t, a, k)
		}
	})
	t.Run("the end is known under another key", func(t *testing.T) {
		k := []session.Key{key("one"), key("two")}
		a.Claim(k, pinned("v1"), nil)
		session := *a.local.get(k[0]).state.Load()
		a.End(k[:1])
		require.NoError(t, a.settled())
		// A replica that had not heard of it has written the second key once more.
		require.NoError(t, a.client.Set(context.Background(), a.codec.name(k[1]), a.codec.encode(&session, 0), time.Hour).Err())
		a.local.drop(k[1], a.local.get(k[1]))
		require.Equal(t, "v3", a.Claim(k[1:], pinned("v3"), nil).Version)
	})
}

// The clock goes by the monotonic one: a step of the machine's clock changes nothing.
func TestNobodySetsTheClock(t *testing.T) {
	now := steady()
	first := now()
	for range 1000 {
		next := now()
		require.Equal(t, next.Sub(first), next.Round(0).Sub(first.Round(0)), "Round takes the monotonic reading away")
		first = next
	}
	pin := session.Pin{Start: time.Now()}
	at := ownPin(pin, now()).Start
	require.True(t, at.Equal(pin.Start))
	require.True(t, ownPin(session.Pin{}, now()).Start.IsZero())
}
