package session_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tellergate/session"
	"tellergate/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	for _, entries := range []int{1000, 100_000} { // one shard, many shards
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			t.Parallel()
			sessiontest.Run(t, nil, func(_ *testing.T, now func() time.Time) sessiontest.Store {
				return session.NewMemory(entries, now)
			})
		})
	}
}

func key(i int) session.Key {
	return session.Key{Service: "counter", Attribute: "session", Value: fmt.Sprint("session-", i)}
}

func pinFrom(start time.Time, idle time.Duration) session.Pin {
	return session.Pin{Version: "v1", Start: start, Idle: idle, End: start.Add(10 * time.Hour)}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	for _, entries := range []int{1, 2, 1000, 10_000, 70_001} {
		clock := sessiontest.NewClock()
		m := session.NewMemory(entries, clock.Now)
		added := 2*entries + 10
		for i := range added {
			m.Swap([]session.Key{key(i)}, session.Pin{}, pinFrom(clock.Now(), time.Hour), nil)
			kept, _ := m.Keys()
			if i%1000 == 0 {
				require.LessOrEqual(t, kept, entries)
			}
		}
		kept, evicted := m.Keys()
		require.LessOrEqual(t, kept, entries)
		require.Greater(t, kept, entries*9/10, "an uneven spread wastes little")
		require.EqualValues(t, added-kept, evicted)
		require.Equal(t, kept, counts(m)[0].Sessions)
	}
}

func TestLeastRecentlyUsedKeyFalls(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	m := session.NewMemory(3, clock.Now)
	for i := range 3 {
		m.Swap([]session.Key{key(i)}, session.Pin{}, pinFrom(clock.Now(), time.Hour), nil)
	}
	var out [5]session.Pin
	m.Lookup([]session.Key{key(0)}, out[:1], nil)
	m.Peek([]session.Key{key(1)}, out[:1], nil) // an operator's look is no use
	m.Swap([]session.Key{key(3)}, session.Pin{}, pinFrom(clock.Now(), time.Hour), nil)
	m.Peek([]session.Key{key(0), key(1), key(2), key(3)}, out[:4], nil)
	require.Equal(t, []bool{true, false, true, true},
		[]bool{out[0].Version != "", out[1].Version != "", out[2].Version != "", out[3].Version != ""})

	// A session of which one key fell lives on under the others.
	m = session.NewMemory(2, clock.Now)
	m.Swap([]session.Key{key(0), key(1)}, session.Pin{}, pinFrom(clock.Now(), time.Hour), nil)
	m.Lookup([]session.Key{key(1)}, out[:1], nil)
	m.Swap([]session.Key{key(2)}, session.Pin{}, pinFrom(clock.Now(), time.Hour), nil)
	page, _, err := m.Sessions(session.Filter{}, "", 10)
	require.NoError(t, err)
	require.Len(t, page, 2)
	require.ElementsMatch(t, []session.Key{key(1), key(2)}, []session.Key{page[0].Keys[0], page[1].Keys[0]})
}

// TestDeadPinsGiveWay: pins with a short limit, never asked for again, hide behind a live one with a long limit that is
// the least recently used. They must be gone before anything live is evicted.
func TestDeadPinsGiveWay(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	m := session.NewMemory(1000, clock.Now)
	m.Swap([]session.Key{key(-1)}, session.Pin{}, pinFrom(clock.Now(), 9*time.Hour), nil)
	for i := range 500 {
		m.Swap([]session.Key{key(i)}, session.Pin{}, pinFrom(clock.Now(), time.Minute), nil)
	}
	clock.Advance(time.Hour)
	for i := 1000; i < 1490; i++ {
		m.Swap([]session.Key{key(i)}, session.Pin{}, pinFrom(clock.Now(), time.Minute), nil)
	}
	kept, evicted := m.Keys()
	require.Zero(t, evicted)
	require.LessOrEqual(t, kept, 1+490+20, "the dead have been swept away")
	var out [1]session.Pin
	m.Peek([]session.Key{key(-1)}, out[:], nil)
	require.Equal(t, "v1", out[0].Version)
}

// TestRewrittenSessionStaysOne: a request that carries only some of a session's keys, or a new one, and writes its pin
// again does not tear the session in two.
func TestRewrittenSessionStaysOne(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	m := session.NewMemory(100_000, clock.Now)
	pin := pinFrom(clock.Now(), time.Hour)
	pin.Subject = "9001/1"
	m.Swap([]session.Key{key(1), key(2)}, session.Pin{}, pin, nil)
	clock.Advance(time.Minute)
	pin.Version = "v2"
	m.Swap([]session.Key{key(1)}, session.Pin{}, pin, nil)
	m.Swap([]session.Key{key(3), key(2)}, session.Pin{}, pin, nil)
	page, _, err := m.Sessions(session.Filter{}, "", 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, []session.Key{key(1), key(2), key(3)}, page[0].Keys)
	require.Equal(t, "v2", page[0].Pin.Version)
	require.Equal(t, clock.Now(), page[0].Pin.Renewed)

	another := pin
	another.Subject = "9001/2"
	m.Swap([]session.Key{key(1)}, session.Pin{}, another, nil)
	require.Equal(t, []session.Count{{Service: "counter", Version: "v2", Sessions: 2, Oldest: pin.Start}}, counts(m), "another person's session")
	require.Equal(t, 1, m.End([]session.Key{key(3), key(2)}))
	require.Equal(t, 1, counts(m)[0].Sessions)
}

func TestDeadPinIsRemovedWhenMet(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	m := session.NewMemory(1000, clock.Now)
	m.Swap([]session.Key{key(1), key(2)}, session.Pin{}, pinFrom(clock.Now(), time.Minute), nil)
	clock.Advance(time.Hour)
	var out [1]session.Pin
	m.Lookup([]session.Key{key(1)}, out[:], nil)
	kept, evicted := m.Keys()
	require.Equal(t, 1, kept)
	require.Zero(t, evicted)
}

// TestRealClock: a session lives by the monotonic clock, which the real one carries.
func TestRealClock(t *testing.T) {
	t.Parallel()
	m := session.NewMemory(1000, nil)
	m.Swap([]session.Key{key(1)}, session.Pin{}, pinFrom(time.Now(), time.Hour), nil)
	var out [1]session.Pin
	m.Lookup([]session.Key{key(1)}, out[:], nil)
	require.Equal(t, "v1", out[0].Version)
	require.Contains(t, out[0].Renewed.String(), " m=", "Renewed keeps the monotonic clock, so a stepped clock ends no session")
	m.Swap([]session.Key{key(2)}, session.Pin{}, pinFrom(time.Now(), 0), nil)
	m.Lookup([]session.Key{key(2)}, out[:], nil)
	require.Equal(t, session.Pin{}, out[0])
}

func TestLookupAllocatesNothing(t *testing.T) {
	m := session.NewMemory(100_000, nil)
	keys := []session.Key{key(1), key(2), key(3)}
	m.Swap(keys[:2], session.Pin{}, pinFrom(time.Now(), time.Hour), nil)
	out := make([]session.Pin, len(keys))
	require.Zero(t, testing.AllocsPerRun(1000, func() { m.Lookup(keys, out, nil) }))
	require.Zero(t, testing.AllocsPerRun(1000, func() { m.Peek(keys, out, nil) }))
	require.Zero(t, testing.AllocsPerRun(1000, func() { m.Claim(keys, session.Pin{}, nil) }), "a claim that loses")
}

// TestHammer runs everything against everything on few keys; afterwards every key belongs to exactly one session.
func TestHammer(t *testing.T) {
	t.Parallel()
	for _, entries := range []int{16, 200_000} {
		m := session.NewMemory(entries, nil)
		start := time.Now()
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(worker)))
				out := make([]session.Pin, 3)
				for range 3000 {
					keys := []session.Key{key(random.IntN(24)), key(random.IntN(24)), key(random.IntN(24))}
					keys = keys[:1+random.IntN(3)]
					pin := pinFrom(time.Now(), time.Duration(random.IntN(3))*time.Millisecond)
					pin.Version = fmt.Sprint("v", random.IntN(3))
					if random.IntN(2) == 0 {
						pin.Start = start // a session that is rewritten
					}
					switch random.IntN(8) {
					case 0, 1:
						m.Swap(keys, session.Pin{}, pin, nil)
					case 2, 3:
						m.Claim(keys, pin, nil)
					case 4:
						m.Lookup(keys, out[:len(keys)], nil)
					case 5:
						m.End(keys)
					case 6:
						m.Peek(keys, out[:len(keys)], nil)
						counts(m)
					case 7:
						page, _, err := m.Sessions(session.Filter{}, "", 5)
						if err != nil {
							panic(err)
						}
						for _, s := range page {
							if random.IntN(2) == 0 {
								_, _ = m.MoveID(s.ID, "v9")
							} else {
								_, _ = m.EndID(s.ID)
							}
						}
					}
				}
			})
		}
		all.Wait()
		for i := range 24 {
			m.Swap([]session.Key{key(i)}, session.Pin{}, pinFrom(time.Now(), time.Hour), nil)
		}
		kept, _ := m.Keys()
		page, _, err := m.Sessions(session.Filter{}, "", 100)
		require.NoError(t, err)
		require.Len(t, page, kept)
		for _, s := range page {
			require.Len(t, s.Keys, 1)
			require.Equal(t, 1, m.End(s.Keys))
		}
		kept, _ = m.Keys()
		require.Zero(t, kept)
	}
}

func BenchmarkMemoryLookup(b *testing.B) {
	const sessions = 100_000
	m := session.NewMemory(4*sessions, nil)
	keys := make([][]session.Key, sessions)
	for i := range keys {
		keys[i] = []session.Key{key(i), {Service: "counter", Attribute: "teller", Value: fmt.Sprintf("9001/%06d", i)}}
		m.Swap(keys[i], session.Pin{}, pinFrom(time.Now(), time.Hour), nil)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var out [2]session.Pin
		for i := rand.IntN(sessions); pb.Next(); i++ {
			m.Lookup(keys[i%sessions], out[:], nil)
		}
	})
}

func BenchmarkMemoryClaimNew(b *testing.B) {
	m := session.NewMemory(100_000, nil)
	pin := pinFrom(time.Now(), time.Hour)
	b.ReportAllocs()
	for i := range b.N {
		m.Claim([]session.Key{key(i)}, pin, nil)
	}
}

// BenchmarkMemoryFull tells what a million keys of half a million sessions cost: memory for each key, and the time of
// the operator's calls, which look at every key.
func BenchmarkMemoryFull(b *testing.B) {
	const sessions = 500_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := session.NewMemory(2*sessions, nil)
	for i := range sessions {
		teller := fmt.Sprintf("9001/%06d", i)
		pin := pinFrom(time.Now(), time.Hour)
		pin.Subject, pin.Branch = teller, "9001/3201"
		m.Claim([]session.Key{key(i), {Service: "counter", Attribute: "teller", Value: teller}}, pin, nil)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	kept, _ := m.Keys()
	b.ResetTimer()
	for range b.N {
		counts(m)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(kept), "B/key")
}

func counts(m *session.Memory) []session.Count {
	out, _ := m.Counts() // memory always knows
	return out
}
