package session

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
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
	mu    sync.Mutex // guards everything below
	size  int        // keys it may hold
	first map[uint64]*entry
	ring  []*entry // every entry once, in no order, for the sweep, the ledger and evictions to walk
	hand  int      // where in ring those that look at a few go on
	uses  uint64   // lookups and writes so far

	_ [64]byte // the next shard's lock lies on another cache line
}

// An entry ties a key to its session. It is found by its key's hash: first[hash], then next.
type entry struct {
	key    Key
	hash   uint64
	record *record
	next   *entry
	used   uint64 // shard.uses when it was used last
	slot   int    // its place in the ring
}

func (s *shard) init(size int) {
	s.size, s.first = size, make(map[uint64]*entry)
}

// find returns the entry of a key, or nil. The caller holds mu.
func (s *shard) find(key Key, hash uint64) *entry {
	e := s.first[hash]
	for e != nil && !(e.key.Value == key.Value && e.key.Attribute == key.Attribute && e.key.Service == key.Service) {
		e = e.next
	}
	return e
}

// use notes that an entry is used now. The caller holds mu.
func (s *shard) use(e *entry) {
	s.uses++
	e.used = s.uses
}

// put files key under r and reports whether another key fell for it. The caller holds mu.
func (s *shard) put(key Key, hash uint64, r *record) (evicted bool) {
	if e := s.find(key, hash); e != nil {
		s.use(e)
		if e.record != r {
			e.record.leave(e.key)
			e.record = r
			r.join(e.key)
		}
		return false
	}
	if evicted = len(s.ring) >= s.size; evicted {
		s.remove(s.oldest())
	}
	e := &entry{key: key.own(), hash: hash, record: r, next: s.first[hash], slot: len(s.ring)}
	s.first[hash] = e
	s.ring = append(s.ring, e)
	s.use(e)
	r.join(e.key)
	return evicted
}

// oldestOf is how many entries an eviction looks at. Of so many drawn at random, the least recently used is among the
// oldest sixteenth of all nearly two times in three; keeping all of them in order would cost every lookup three
// cache lines more.
const oldestOf = 16

// oldest returns the least recently used of the next few entries. The ring is not empty; the caller holds mu.
func (s *shard) oldest() *entry {
	oldest := s.next()
	for range min(oldestOf, len(s.ring)) - 1 {
		if e := s.next(); e.used < oldest.used {
			oldest = e
		}
	}
	return oldest
}

// remove takes an entry out. The caller holds mu.
func (s *shard) remove(e *entry) {
	if at := s.first[e.hash]; at == e && e.next == nil {
		delete(s.first, e.hash)
	} else if at == e {
		s.first[e.hash] = e.next
	} else {
		for at.next != e {
			at = at.next
		}
		at.next = e.next
	}
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
