package pace

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShareOfAFifth(t *testing.T) {
	t.Parallel()
	for processors, share := range map[int]float64{1: 0.2, 2: 0.4, 4: 0.8, 8: 0.8, 64: 0.8} {
		require.InDelta(t, share, Share(processors), 1e-9)
	}
}

// work does so much work on a clock that stands still otherwise, a piece at a time, and returns how long it took.
func work(p *Pacer, total time.Duration) time.Duration {
	const piece = 20 * time.Microsecond
	begun := time.Now()
	for done := time.Duration(0); done < total; done += piece {
		time.Sleep(piece)
		p.Yield()
	}
	return time.Since(begun)
}

func TestWorkIsHeldToItsShare(t *testing.T) {
	for _, share := range []float64{0.2, 0.4, 0.8} {
		synctest.Test(t, func(t *testing.T) {
			require.InEpsilon(t, float64(time.Second)/share, float64(work(newPacer(share), time.Second)), 0.02)
		})
	}
}

func TestTogetherTheyGetOneShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, begun := newPacer(0.2), time.Now()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { work(p, time.Second) })
		}
		both.Wait()
		// On this clock the two also work at the same moment, which counts once.
		require.Greater(t, time.Since(begun), 9*time.Second/2)
	})
}

func TestNobodySleepsForWhatWasNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(0.2)
		p.Yield()
		time.Sleep(time.Hour)
		begun := time.Now()
		p.Yield()
		require.Zero(t, time.Since(begun))
	})
}

func TestTheZeroValueNeverSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pacer
		require.Equal(t, 20*time.Millisecond, work(&p, 20*time.Millisecond))
	})
}
