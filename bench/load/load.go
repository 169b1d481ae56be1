// Package load is the other side of a measurement: pods that answer, and a generator that asks, both in one epoll loop
// on one thread, because they share a core and must cost less than the proxy between them.
//
// It is responsible for the schedule of requests, for latencies free of coordinated omission, and for checking that
// answers are the right ones. It does not start proxies or know what they are.
//
// Everything is requests and replies built beforehand, raw non-blocking sockets, edge-triggered epoll, and system calls
// that the Go scheduler does not see, except the one that waits.
package load

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

// A Histogram counts durations in buckets that are at most 1/128 wide, relative to their values. The zero value is
// empty and ready. It is not safe for concurrent use.
type Histogram struct {
	counts [(64 - subBits + 1) << subBits]uint32
	total  uint64
	max    time.Duration
}

const subBits = 7

// bucketOf returns the index of a value's bucket: values below 128 have their own, above each power of two has 128.
func bucketOf(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// upper is the largest value of a bucket.
func upper(bucket int) uint64 {
	shift := max(bucket>>subBits-1, 0)
	return (uint64(bucket-shift<<subBits)+1)<<shift - 1
}

// Add counts one duration; a negative one counts as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Count returns how many durations have been added.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile returns the duration that the share q of all durations does not exceed, rounded up to its bucket's end but
// never above the largest duration seen. It is zero where nothing has been added.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := max(uint64(float64(h.total)*q+0.5), 1)
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); seen >= rank {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return h.max
}

// A schedule says when requests are due, whatever has become of those before: a Poisson process, as of many terminals
// that know nothing of each other. The same seed gives the same times.
type schedule struct {
	random *rand.Rand
	mean   float64 // nanoseconds between two
	due    float64 // nanoseconds from the beginning
}

func newSchedule(rate float64, seed uint64) *schedule {
	s := &schedule{random: rand.New(rand.NewPCG(seed, 7)), mean: float64(time.Second) / rate}
	s.advance()
	return s
}

// next is when the next request is due, from the beginning.
func (s *schedule) next() time.Duration { return time.Duration(s.due) }

func (s *schedule) advance() { s.due += s.random.ExpFloat64() * s.mean }
