package redis

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

func sessionsWanted(b *testing.B) int {
	n := 1_000_000
	if text := os.Getenv("TELLERGATE_SESSIONS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	return n
}

// fill writes n sessions as replicas write them, each under one key, without going through a replica.
func fill(b *testing.B, s *Store, server *redistest.Server, n int) {
	client := goredis.NewClient(&goredis.Options{Addr: server.Address, Protocol: 2, DisableIdentity: true})
	defer client.Close()
	begin := time.Now()
	const together = 1000
	for i := 0; i < n; i += together {
		pipe := client.Pipeline()
		for j := i; j < min(n, i+together); j++ {
			pin := pinned("v1")
			pin.Start = begin.Add(-time.Duration(j) * time.Millisecond)
			pin.Subject, pin.Branch = fmt.Sprintf("9001/%07d", j), fmt.Sprintf("9001/%04d", j%3000)
			v := value{session: uint64(j) + 1, generation: 1, pin: pin, keys: []session.Key{key(fmt.Sprintf("session-%d", j))}}
			pipe.Set(context.Background(), s.codec.name(v.keys[0]), s.codec.encode(&v, 0), 10*time.Hour)
		}
		_, err := pipe.Exec(context.Background())
		require.NoError(b, err)
	}
}

// pings measures what another client of the server waits.
type pings struct {
	b      *testing.B
	client *goredis.Client
}

func newPings(b *testing.B, address string) *pings {
	client := goredis.NewClient(&goredis.Options{Addr: address, Protocol: 2, DisableIdentity: true, PoolSize: 1})
	b.Cleanup(func() { _ = client.Close() })
	return &pings{b, client}
}

// during sends a GET every millisecond while do runs and returns how long each took.
func (p *pings) during(do func()) (took []time.Duration) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				began := time.Now()
				_ = p.client.Get(context.Background(), "nothing").Err()
				took = append(took, time.Since(began))
			}
		}
	})
	do()
	close(stop)
	all.Wait()
	return took
}

func percentile(took []time.Duration, p float64) time.Duration {
	took = slices.Sorted(slices.Values(took))
	return took[min(len(took)-1, int(float64(len(took))*p/100))]
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpuOf is the seconds of CPU that the server has used.
func cpuOf(b *testing.B, server *redistest.Server) float64 {
	sum := 0.0
	for line := range strings.Lines(server.Ask("INFO cpu")) {
		for _, name := range []string{"used_cpu_sys:", "used_cpu_user:"} {
			if value, ok := strings.CutPrefix(line, name); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				require.NoError(b, err)
				sum += n
			}
		}
	}
	return sum
}
