package session

import (
	"sync"
	"time"
)

// Alone is the register and the censuses of a single replica that keeps its sessions in process. It is safe for
// concurrent use and starts no goroutine.
type Alone struct {
	pins *Memory
	self func() Replica

	mu   sync.Mutex
	last []Census // guarded by mu

	moves moves
}

// NewAlone returns the register of the replica whose sessions pins holds. self says how it stands; what concerns the
// store is filled in here.
func NewAlone(pins *Memory, self func() Replica) *Alone { return &Alone{pins: pins, self: self} }

// apart is the least time between two censuses: each walks all pins.
const apart = time.Second

// Watch counts the sessions, at most once a second, and returns what is known.
func (a *Alone) Watch() Watch {
	now := a.pins.now()
	registry := a.registry()
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.last); n == 0 || now.Sub(a.last[n-1].Ended) >= apart {
		counts, _ := a.pins.Counts() // memory always knows
		census := Census{Began: now, Ended: a.pins.now(), Counts: counts, Before: registry, After: a.registry()}
		a.last = append(a.last[max(0, n-Clean+1):n:n], census)
	}
	return Watch{Now: now, Last: a.last, Registry: registry}
}

// Census returns the sessions as they are; memory is counted at once.
func (a *Alone) Census(time.Duration) (Census, error) {
	registry := a.registry()
	counts, err := a.pins.Counts()
	now := a.pins.now()
	return Census{Began: now, Ended: now, Counts: counts, Before: registry, After: registry}, err
}

// registry returns the one there is.
func (a *Alone) registry() Registry {
	r := a.self()
	r.Seen = a.pins.now()
	r.Flushed = r.Seen
	r.ID = r.Name
	return Registry{Since: r.Started.Add(-Late), Now: r.Seen, Self: r.ID, Replicas: []Replica{r}}
}

// Registry returns this replica; memory always knows.
func (a *Alone) Registry() (Registry, error) { return a.registry(), nil }

// Forget reports that there is no other replica to be forgotten.
func (a *Alone) Forget(string) (bool, error) { return false, nil }
