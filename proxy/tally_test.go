package proxy

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tellergate/rules"
)

// TestTally: what many request objects count at once is all there, each duration in the bucket whose bound it does not
// exceed, and a version that comes back goes on counting.
func TestTally(t *testing.T) {
	all := &tallies{of: make(map[versionName]*tally)}
	registry := prometheus.NewRegistry()
	registry.MustRegister(all)
	var counting sync.WaitGroup
	for turn := range uint32(16) {
		counting.Go(func() {
			for range 1000 {
				all.version("counter", "v1").observe(turn, 200, rules.ByRule, time.Millisecond)
				all.version("counter", "v1").observe(turn, 503, rules.ByDefault, time.Millisecond+1)
				all.version("counter", "v1").observe(turn, 0, rules.ByDefault, 2*time.Minute)
			}
		})
	}
	counting.Wait()
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 2)
	durations, requests := families[0], families[1]
	require.Equal(t, "tellergate_request_duration_seconds", durations.GetName())
	h := durations.Metric[0].GetHistogram()
	within := map[float64]uint64{}
	for _, b := range h.Bucket {
		within[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	require.Len(t, within, 15)
	require.EqualValues(t, 16000, within[.001], "a bound belongs to its bucket")
	require.EqualValues(t, 32000, within[.0025])
	require.EqualValues(t, 32000, within[60])
	require.EqualValues(t, 48000, h.GetSampleCount())
	require.InDelta(t, 16000*(120+.002), h.GetSampleSum(), .001)

	require.Equal(t, "tellergate_requests_total", requests.GetName())
	counted := map[string]float64{}
	for _, m := range requests.Metric {
		if v := m.GetCounter().GetValue(); v > 0 {
			counted[m.Label[0].GetValue()+" "+m.Label[1].GetValue()] = v
		}
	}
	require.Equal(t, map[string]float64{"2xx rule": 16000, "5xx default": 16000, "1xx default": 16000}, counted)
}
