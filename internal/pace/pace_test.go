package pace

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShareOfATwentieth(t *testing.T) {
	t.Parallel()
	for processors, share := range map[int]float64{1: 0.05, 2: 0.1, 4: 0.2, 8: 0.4, 64: 0.8} {
		require.InDelta(t, share, Share(processors), 1e-9)
	}
}

// busy returns a Pacer of a process to which requests come all the time.
func busy(share float64) *Pacer {
	requests := atomic.Uint64{}
	return newPacer(share, func() uint64 { return requests.Add(1) })
}

// work does so much work on a clock that stands still otherwise, a piece at a time, and returns how long it took.
func work(p *Pacer, total time.Duration) time.Duration {
	const piece = 20 * time.Microsecond
	start := time.Now()
	for done := time.Duration(0); done < total; done += piece {
		time.Sleep(piece)
		p.Yield()
	}
	return time.Since(start)
}

func TestWorkIsHeldToItsShare(t *testing.T) {
	for _, share := range []float64{0.1, 0.2, 0.8} {
		synctest.Test(t, func(t *testing.T) {
			require.InEpsilon(t, float64(time.Second)/share, float64(work(busy(share), time.Second)), 0.02)
		})
	}
}

func TestTogetherTheyGetOneShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, start := busy(0.2), time.Now()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { work(p, time.Second) })
		}
		both.Wait()
		// On this clock the two also work at the same moment, which counts once.
		require.Greater(t, time.Since(start), 9*time.Second/2)
	})
}

func TestNobodySleepsForWhatWasNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := busy(0.2)
		p.Yield()
		time.Sleep(time.Hour)
		start := time.Now()
		p.Yield()
		require.Zero(t, time.Since(start))
	})
}

// Where no requests come, nearly all of the processor is had; as soon as they do, the share.
func TestNobodyIsSparedWhereNobodyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := atomic.Uint64{}
		p := newPacer(0.1, requests.Load)
		require.InEpsilon(t, float64(time.Second), float64(work(p, time.Second)), 0.02)
		requests.Add(1)
		work(p, look)
		require.InEpsilon(t, float64(time.Second/2), float64(work(p, time.Second/20)), 0.02)
		time.Sleep(2 * lull)
		require.InEpsilon(t, float64(time.Second), float64(work(p, time.Second)), 0.02)
	})
}

// What a timer wakes goes before all that are ready to run; what was paced must not.
func TestWhoIsReadyGoesFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const tries = 20
	first := 0
	for range tries {
		p := busy(0.5)
		var asleep, ready atomic.Bool
		var both sync.WaitGroup
		both.Go(func() {
			p.Yield()
			spin(2 * stretch)
			asleep.Store(true)
			p.Yield()
			if ready.Load() {
				first++
			}
		})
		for !asleep.Load() {
			runtime.Gosched()
		}
		spin(time.Millisecond) // the timer has rung
		both.Go(func() { ready.Store(true) })
		both.Wait()
	}
	// Once in 61 times the scheduler takes those first who wait for all others.
	require.Greater(t, first, tries/2)
}

func spin(how time.Duration) {
	for since := time.Now(); time.Since(since) < how; {
	}
}
