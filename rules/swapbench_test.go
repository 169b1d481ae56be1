package rules

import (
	"bytes"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkSwapUnderLoad tells what replacing a list of a million values does to decisions that go on meanwhile: one
// goroutine decides at a steady rate and notes how late each answer is, first alone and then while another reads,
// compiles and swaps the list again and again on what is left of the machine.
func BenchmarkSwapUnderLoad(b *testing.B) {
	in := bankInputs(b, 1_000_000)
	d := counter(bankRules(1000)...)
	var text bytes.Buffer
	_, err := in.Lists["everybody"].WriteTo(&text)
	require.NoError(b, err)
	var current atomic.Pointer[RuleSet]
	current.Store(compiled(b, d, in))
	queries := bankQueries()
	// drive decides for a while, ten in each slot of 100 µs, and returns the 99th percentile of how long a slot took.
	drive := func(how time.Duration) time.Duration {
		var took []time.Duration
		for begun := time.Now(); time.Since(begun) < how; {
			slot := time.Now()
			for i := range 10 {
				current.Load().Service(0).Decide(&queries[(len(took)*10+i)&1023], Standing{Keyed: true}, nil)
			}
			took = append(took, time.Since(slot))
			for time.Since(slot) < 100*time.Microsecond {
				runtime.Gosched()
			}
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	for b.Loop() {
		before := drive(2 * time.Second)
		var swaps atomic.Int64
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
				}
				list, err := ParseList(text.Bytes())
				if err != nil {
					panic(err)
				}
				fresh := in
				fresh.Lists = map[string]*List{"everybody": list, "pilot-tellers": list}
				set, err := Compile(d, fresh)
				if err != nil {
					panic(err)
				}
				current.Store(set)
				swaps.Add(1)
			}
		}()
		during := drive(4 * time.Second)
		close(stop)
		<-stopped
		b.ReportMetric(float64(before.Nanoseconds()), "p99-before-ns")
		b.ReportMetric(float64(during.Nanoseconds()), "p99-during-ns")
		b.ReportMetric(float64(during)/float64(before), "p99-ratio")
		b.ReportMetric(float64(swaps.Load()), "swaps")
	}
}
