package session

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A record is one session: the pin that its keys share. It is reached through the shards' entries and falls with the
// last of them.
type record struct {
	pin     atomic.Pointer[Pin] // replaced whole, never modified; its Renewed is not used
	id      uint64              // random: names the session from its beginning to its end
	renewed atomic.Int64        // nanoseconds since Memory.epoch; apart from pin, so that a renewal rewrites nothing

	mu   sync.Mutex // taken while a shard's lock is held, never the other way round
	keys []Key      // guarded by mu; exactly those whose entry points here, in the order they were given
}

// seen moves renewed forward, never back: two requests may read the clock in one order and come here in the other.
func (r *record) seen(at time.Duration) {
	for {
		last := r.renewed.Load()
		if int64(at) <= last || r.renewed.CompareAndSwap(last, int64(at)) {
			return
		}
	}
}

func (r *record) join(key Key) {
	r.mu.Lock()
	r.keys = append(r.keys, key)
	r.mu.Unlock()
}

func (r *record) leave(key Key) {
	r.mu.Lock()
	if i := slices.Index(r.keys, key); i >= 0 {
		r.keys = slices.Delete(r.keys, i, i+1)
	}
	r.mu.Unlock()
}

// list returns a copy of the keys.
func (r *record) list() []Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys)
}

// leads reports whether key is the first of the session, the one that names it towards operators.
func (r *record) leads(key Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.keys) > 0 && r.keys[0] == key
}

// A shard holds the keys of one share of the hash space.
type shard struct {
	mu   sync.Mutex // guards everything below
	lru  *simplelru.LRU[Key, *entry]
	ring []*entry // every entry of lru once, in no order, for the sweep and the ledger to walk
	hand int      // where in ring the sweep goes on

	_ [64]byte // the next shard's lock lies on another cache line
}

// An entry ties a key to its session.
type entry struct {
	key    Key
	record *record
	slot   int // its place in the ring
}

func (s *shard) init(size int) {
	lru, err := simplelru.NewLRU(size, func(_ Key, e *entry) { s.removed(e) })
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s.lru = lru
}

// put files key under r and reports whether another key fell for it. The caller holds mu.
func (s *shard) put(key Key, r *record) (evicted bool) {
	if e, ok := s.lru.Get(key); ok {
		if e.record != r {
			e.record.leave(e.key)
			e.record = r
			r.join(e.key)
		}
		return false
	}
	e := &entry{key: key.own(), record: r, slot: len(s.ring)}
	s.ring = append(s.ring, e)
	r.join(e.key)
	return s.lru.Add(e.key, e)
}

// removed is called by lru for every entry that leaves it, evicted or not.
func (s *shard) removed(e *entry) {
	last := len(s.ring) - 1
	s.ring[e.slot] = s.ring[last]
	s.ring[e.slot].slot = e.slot
	s.ring[last] = nil
	s.ring = s.ring[:last]
	e.record.leave(e.key)
}

// next advances the hand and returns the entry under it. The ring is not empty; the caller holds mu.
func (s *shard) next() *entry {
	s.hand++
	if s.hand >= len(s.ring) {
		s.hand = 0
	}
	return s.ring[s.hand]
}
