// Package pace holds long work to a share of the processor, so that what serves requests on the same processor is not kept
// waiting by it.
//
// The Go scheduler takes a processor away from a goroutine after 10 ms at the earliest, and does not look for arrivals on
// the network before; with one or two processors every request of that time would wait. Long work (reading and compiling
// a list of a million values) therefore calls Yield between pieces of some 20 µs, and sleeps as often as it has to. It sleeps
// a little at least after each stretch, since only then the scheduler looks at the network, and goes on only after everybody
// who is ready by then. While no requests come there is nobody to spare, and stretches are long.
package pace

import (
	"runtime"
	"sync"
	"time"
)

const (
	// stretch is how long work goes on without a break while others want the processor. Timers are up to a millisecond late
	// on a machine with nothing else to do, and longest is how long work may go on after such a sleep.
	stretch = 50 * time.Microsecond
	longest = 100 * time.Microsecond
	// shortest is the least that is slept: enough for the scheduler to look for arrivals on the network meanwhile.
	shortest = 10 * time.Microsecond
	// credit bounds how much is made up for.
	credit = 2 * time.Millisecond
	// waiting is what work without a break does not take.
	waiting = 5 * time.Millisecond
	// lull is how long no request has come where there is nobody to spare, and undisturbed how long a stretch is then: the first
	// request that comes may find itself behind one. look is how often it is looked.
	lull        = time.Second
	undisturbed = 2 * time.Millisecond
	look        = 10 * time.Millisecond
)

// A Pacer paces the goroutines that work for one purpose: they rest together. Work on several processors at the same moment
// counts once. It is created by New and safe for concurrent use.
type Pacer struct {
	rest   float64 // how long one sleeps for each nanosecond of work, while requests come
	served func() uint64

	mu      sync.Mutex
	resumed time.Time     // when the present stretch began or, in the future, the next one begins; guarded by mu
	stretch time.Duration // how long it may be; guarded by mu
	saved   time.Duration // slept and waited beyond what was owed; guarded by mu
	looked  time.Time     // when served was last asked; guarded by mu
	count   uint64        // and what it said; guarded by mu
	busy    time.Time     // when that was last something new; guarded by mu
}

// New returns a Pacer with a twentieth of the processors that the process may use, and at most four fifths of one, while
// requests come: one processor gives 5 %, two 10 %. served says how many requests there have been; it is asked a hundred
// times a second while there is work, by whoever works.
func New(served func() uint64) *Pacer { return newPacer(Share(runtime.GOMAXPROCS(0)), served) }

// Share returns the share of one processor that a Pacer takes where there are so many, while requests come.
func Share(processors int) float64 { return min(0.05*float64(processors), 0.8) }

func newPacer(share float64, served func() uint64) *Pacer {
	return &Pacer{rest: (1 - share) / share, served: served}
}

// Yield sleeps if it is time to. It costs a reading of the clock where it is not.
func (p *Pacer) Yield() {
	until := p.due(time.Now())
	if until.IsZero() {
		return
	}
	begun := time.Now()
	time.Sleep(until.Sub(begun))
	slept := time.Since(begun)
	// A goroutine whose timer rings goes before all that are ready to run; this one is to go after them.
	runtime.Gosched()
	p.wake(time.Now(), slept)
}

// alone reports whether there is nobody to spare. The caller holds mu.
func (p *Pacer) alone(now time.Time) bool {
	if now.Sub(p.looked) >= look {
		p.looked = now
		if n := p.served(); n != p.count {
			p.count, p.busy = n, now
		}
	}
	return now.Sub(p.busy) > lull
}

// due returns until when to sleep, zero if not at all.
func (p *Pacer) due(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	worked := now.Sub(p.resumed)
	if worked >= 0 && worked < max(p.stretch, stretch) {
		return time.Time{}
	}
	if worked < 0 { // the others rest
		return p.resumed
	}
	// What has not yielded for so long was not working but waiting, for the network perhaps, or has just begun.
	if worked > waiting {
		p.resumed, p.stretch = now, stretch
		return time.Time{}
	}
	if p.alone(now) {
		if worked >= undisturbed {
			p.resumed, p.stretch, p.saved = now.Add(shortest), stretch, 0
			return p.resumed
		}
		return time.Time{}
	}
	owed := time.Duration(float64(worked) * p.rest)
	used := min(p.saved, max(owed-shortest, 0))
	p.saved -= used
	p.resumed = now.Add(max(owed-used, shortest))
	return p.resumed
}

// wake begins a stretch after so much sleep, and notes how late it is.
func (p *Pacer) wake(now time.Time, slept time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := now.Sub(p.resumed)
	if late <= 0 {
		return
	}
	p.resumed = now
	p.stretch = min(max(time.Duration(float64(slept)/p.rest), stretch), longest)
	p.saved = min(p.saved+late, credit)
}
