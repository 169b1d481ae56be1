package load

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogramIsCloseToTheValues(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var values []time.Duration
	for range 200_000 {
		v := time.Duration(math.Exp(random.Float64()*18) * 100)
		values = append(values, v)
		h.Add(v)
	}
	slices.Sort(values)
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := values[max(int(float64(len(values))*q+0.5)-1, 0)]
		require.InEpsilon(t, float64(want), float64(h.Quantile(q)), 1.0/128, "quantile %v", q)
		require.GreaterOrEqual(t, h.Quantile(q), want, "rounded up, never down: quantile %v", q)
	}
	require.Equal(t, values[len(values)-1], h.Quantile(1))
	require.EqualValues(t, len(values), h.Count())
}

func TestHistogramBucketsCoverEverything(t *testing.T) {
	t.Parallel()
	for _, v := range []uint64{0, 1, 127, 128, 129, 255, 256, 257, 511, 512, 1<<20 - 1, 1 << 20, 1<<40 + 12345, math.MaxInt64} {
		b := bucketOf(v)
		require.GreaterOrEqual(t, upper(b), v)
		if b > 0 {
			require.Less(t, upper(b-1), v, "value %d belongs to an earlier bucket", v)
		}
	}
	var h Histogram
	require.Zero(t, h.Quantile(0.99))
	h.Add(-time.Second)
	h.Add(math.MaxInt64)
	require.Zero(t, h.Quantile(0.5))
	require.EqualValues(t, math.MaxInt64, h.Quantile(1))
}

func TestScheduleKeepsItsRateAndIsIrregular(t *testing.T) {
	t.Parallel()
	s := newSchedule(10_000, 1)
	var sum, squares, last float64
	const n = 100_000
	for range n {
		gap := float64(s.next()) - last
		require.GreaterOrEqual(t, gap, 0.0)
		last, sum, squares = float64(s.next()), sum+gap, squares+gap*gap
		s.advance()
	}
	mean := sum / n
	require.InEpsilon(t, 100_000.0, mean, 0.02, "10,000 a second")
	require.InEpsilon(t, mean, math.Sqrt(squares/n-mean*mean), 0.03, "gaps of a Poisson process deviate by their mean")
	again := newSchedule(10_000, 1)
	other := newSchedule(10_000, 2)
	require.NotEqual(t, again.next(), other.next())
}

func TestReplyHasItsSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{300, 1000, 1023, 1024, 1150, 16 << 10, 1 << 20} {
		reply := Reply('2', 'b', size)
		require.Len(t, reply, size)
		total, body, ok, err := sizeOf(reply, false)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, size, total)
		require.Equal(t, "2b", string(reply[size-body:][:marks]))
	}
}

func TestMix(t *testing.T) {
	t.Parallel()
	m := NewMix(MixOptions{Count: 1000})
	twos := 0
	seen := map[string]bool{}
	for i := range m.Requests {
		require.Equal(t, i, m.next())
		require.Len(t, m.Requests[i], requestSize)
		require.False(t, seen[string(m.Requests[i])], "every request is of another session")
		seen[string(m.Requests[i])] = true
		if m.Versions[i] == '2' {
			twos++
		}
	}
	require.Zero(t, m.next(), "from the beginning again")
	require.InDelta(t, 500, twos, 10)
	require.True(t, m.Sticky)

	posting := NewMix(MixOptions{Count: 2, Body: 64 << 10, Close: true})
	total, body, ok, err := sizeOf(posting.Requests[1], true)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 64<<10, body)
	require.Len(t, posting.Requests[1], total)

	anonymous := NewMix(MixOptions{Count: 2, Anonymous: true})
	require.NotContains(t, string(anonymous.Requests[0]), "X-Session-Id")
	require.EqualValues(t, '1', anonymous.Versions[0])
	require.False(t, anonymous.Sticky)

	sessions := NewMix(MixOptions{Count: 1, NewSession: true})
	sessions.next()
	first := bytes.Clone(sessions.Requests[0])
	sessions.next()
	require.NotEqual(t, first, sessions.Requests[0], "each request has its own session")
	require.Len(t, sessions.Requests[0], requestSize)
}

func TestSizeOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text  string
		request     bool
		total, body int
		ok          bool
		err         string
	}{
		{"nothing", "", false, 0, 0, false, ""},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-Le", false, 0, 0, false, ""},
		{"a reply", "HTTP/1.1 200 OK\r\ncontent-length:  5 \r\n\r\nab", false, 45, 5, true, ""},
		{"a GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, 27, 0, true, ""},
		{"no length", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", false, 0, 0, false, "unknown length"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 0, 0, false, "unknown length"},
		{"nonsense", "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n", false, 0, 0, false, "unreadable length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			total, body, ok, err := sizeOf([]byte(c.text), c.request)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []any{c.total, c.body, c.ok}, []any{total, body, ok})
		})
	}
}
