// Package pace holds long work to a share of the processor, so that what serves requests on the same processor is not kept
// waiting by it.
//
// The Go scheduler takes a processor away from a goroutine after 10 ms at the earliest, and does not look for arrivals on
// the network before; with one or two processors every request of that time would wait. Long work (reading and compiling
// a list of a million values) therefore calls Yield between pieces of some 20 µs and sleeps as often as it has to.
package pace

import (
	"runtime"
	"sync"
	"time"
)

const (
	// stretch is how long work goes on without a break while others want the processor.
	stretch = 100 * time.Microsecond
	// credit bounds how much of a sleep that lasted longer than asked for is made up for: on a machine with nothing else to
	// do, timers are a millisecond late.
	credit = 2 * time.Millisecond
	// waiting is what work without a break does not take.
	waiting = 5 * time.Millisecond
)

// A Pacer paces the goroutines that work for one purpose: they rest together. Work on several processors at the same moment
// counts once. Its zero value never sleeps. It is safe for concurrent use.
type Pacer struct {
	// rest is how long one sleeps for each nanosecond of work; 0: never.
	rest float64

	mu      sync.Mutex
	resumed time.Time     // when the present stretch began or, in the future, the next one begins; guarded by mu
	saved   time.Duration // slept beyond what was owed; guarded by mu
}

// New returns a Pacer with a fifth of the processors that the process may use, and at most four fifths of one: one
// processor gives 20 %, two 40 %.
func New() *Pacer { return newPacer(Share(runtime.GOMAXPROCS(0))) }

// Share returns the share of one processor that a Pacer takes where there are so many.
func Share(processors int) float64 { return min(0.2*float64(processors), 0.8) }

func newPacer(share float64) *Pacer { return &Pacer{rest: (1 - share) / share} }

// Yield sleeps if it is time to. It costs a reading of the clock where it is not.
func (p *Pacer) Yield() {
	if p.rest == 0 {
		return
	}
	until := p.due(time.Now())
	if until.IsZero() {
		return
	}
	time.Sleep(time.Until(until))
	p.wake(time.Now())
}

// due returns until when to sleep, zero if not at all.
func (p *Pacer) due(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	worked := now.Sub(p.resumed)
	if worked >= 0 && worked < stretch {
		return time.Time{}
	}
	if worked < 0 { // the others rest
		return p.resumed
	}
	// What has not yielded for so long was not working but waiting, for the network perhaps, or has just begun.
	if worked > waiting {
		p.resumed = now
		return time.Time{}
	}
	owed := time.Duration(float64(worked) * p.rest)
	if p.saved >= owed {
		p.saved, p.resumed = p.saved-owed, now
		return time.Time{}
	}
	p.resumed, p.saved = now.Add(owed-p.saved), 0
	return p.resumed
}

// wake begins a stretch and notes how late it is.
func (p *Pacer) wake(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if late := now.Sub(p.resumed); late > 0 {
		p.saved, p.resumed = min(p.saved+late, credit), now
	}
}
