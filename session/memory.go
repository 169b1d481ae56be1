package session

import "time"

// Memory keeps pins in this process: for one replica only. It is bounded by the number of keys; beyond it the least
// recently used key falls, and is counted. It is safe for concurrent use and starts no goroutine.
type Memory struct{}

// NewMemory returns a store of at most entries keys. now is the clock; nil is time.Now.
func NewMemory(entries int, now func() time.Time) *Memory { panic("BUG: not written") }

// Lookup sets out[i] to the live pin under keys[i], or the zero Pin, and renews what it finds. len(out) = len(keys).
// It allocates nothing.
func (m *Memory) Lookup(keys []Key, out []Pin) { panic("BUG: not written") }

// Peek is Lookup without renewal, for operators.
func (m *Memory) Peek(keys []Key, out []Pin) { panic("BUG: not written") }

// Claim makes pin the session's unless another request was faster: where keys[0] already holds a live pin whose subject
// is pin's, that one wins and is returned; otherwise pin is written under every key and returned.
func (m *Memory) Claim(keys []Key, pin Pin) Pin { panic("BUG: not written") }

// Put writes pin under every key, whatever was there. The keys are one session from then on.
func (m *Memory) Put(keys []Key, pin Pin) { panic("BUG: not written") }

// End removes the pins under keys and returns how many there were.
func (m *Memory) End(keys []Key) int { panic("BUG: not written") }

// Sessions returns at most limit live sessions that filter selects, oldest Start first, then by ID. after is the cursor
// that the previous page returned as next, empty at first; next is empty on the last page.
func (m *Memory) Sessions(filter Filter, after string, limit int) (page []Session, next string, err error) {
	panic("BUG: not written")
}

// EndID ends the session with this ID, under all its keys, and reports whether there was one.
func (m *Memory) EndID(id string) bool { panic("BUG: not written") }

// MoveID puts the session on another version from its next request on and reports whether there was one.
func (m *Memory) MoveID(id, version string) bool { panic("BUG: not written") }

// Counts returns the live sessions per service and version, sorted by both.
func (m *Memory) Counts() []Count { panic("BUG: not written") }

// Keys returns the number of keys kept, and how many fell because of the bound since the start.
func (m *Memory) Keys() (kept int, evicted uint64) { panic("BUG: not written") }
