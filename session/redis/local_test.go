package redis

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"tellergate/session"
)

func TestCopiesAreBoundedAndEvictionsCounted(t *testing.T) {
	const entries = 100_000
	l := newLocal(entries)
	require.Len(t, l.shards, localShards)
	used := make(map[*localShard]int)
	for i := range 3 * entries {
		k := key(fmt.Sprint(i))
		l.put(k, new(copied))
		used[l.shard(k)]++
	}
	n, _ := l.size()
	require.Equal(t, entries, n)
	require.EqualValues(t, 2*entries, l.evicted.Load())
	require.Len(t, used, localShards, "keys spread over every shard, so that cores do not meet at one lock")
	for _, keys := range used {
		require.InDelta(t, 3*entries/localShards, keys, 3*entries/localShards/5)
	}
	require.GreaterOrEqual(t, unsafe.Sizeof(l.shards[0]), uintptr(64+unsafe.Sizeof(l.shards[0].mu)), "two locks do not lie on one cache line")
	require.NotNil(t, l.find(key(fmt.Sprint(3*entries-1))), "the last used stay")
	_, found := l.size()
	require.EqualValues(t, 1, found)
}

// BenchmarkLookupOfCopies is what a request of a known session costs: cores go on side by side.
func BenchmarkLookupOfCopies(b *testing.B) {
	s, err := New(Options{Mode: Single, Addresses: []string{"127.0.0.1:1"}, Secret: testSecret})
	require.NoError(b, err)
	defer s.client.Close()
	const n = 100_000
	now := time.Now()
	for i := range n {
		k := []session.Key{key(fmt.Sprint(i))}
		s.installing.Lock()
		s.file(k, &value{session: uint64(i), generation: 1, pin: pinned("v1"), keys: k}, now)
		s.installing.Unlock()
	}
	var core atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		i := int(core.Add(1)) * 7919
		keys, out := make([]session.Key, 1), make([]session.Pin, 1)
		names := make([]string, 1024)
		for j := range names {
			names[j] = fmt.Sprint((i + j*31) % n)
		}
		for pb.Next() {
			i++
			keys[0] = key(names[i%len(names)])
			s.Lookup(keys, out, nil)
		}
	})
}
