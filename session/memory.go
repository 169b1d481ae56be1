package session

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// Memory keeps pins in this process: for one replica only. It is bounded by the number of keys; beyond it the least
// recently used of a few keys falls, and is counted. It is safe for concurrent use and starts no goroutine.
//
// Keys are spread over shards, each with its own lock and its own equal share of the bound, so a shard that gets a
// little more than its share evicts a little before the whole is full. Pins past their limits are removed when they are
// met, and a few at every write, so they give way long before live ones are evicted.
type Memory struct {
	shards  []shard // a power of two, at most 64
	now     func() time.Time
	epoch   time.Time    // the zero of record.renewed; keeps the monotonic clock, so that a stepped clock ends no session
	seed    maphash.Seed // random per process: nobody can choose values that crowd one shard, or guess a session's ID
	evicted atomic.Uint64
}

const (
	maxShards    = 64   // as many as a shardSet has bits
	keysPerShard = 1024 // below this a shard would be so small that an uneven spread matters
)

// NewMemory returns a store of at most entries keys, entries ≥ 1. now is the clock; nil is time.Now.
func NewMemory(entries int, now func() time.Time) *Memory {
	if entries < 1 {
		panic(fmt.Sprintf("BUG: a pin store of %d entries", entries))
	}
	if now == nil {
		now = time.Now
	}
	count := 1
	for count < maxShards && entries/(2*count) >= keysPerShard {
		count *= 2
	}
	m := &Memory{shards: make([]shard, count), now: now, epoch: now(), seed: maphash.MakeSeed()}
	for i := range m.shards {
		share := entries / count
		if i < entries%count {
			share++
		}
		m.shards[i].init(share)
	}
	return m
}

// Lookup sets out[i] to the live pin under keys[i], or the zero Pin, and renews what it finds. len(out) = len(keys).
// It allocates nothing and never waits, nor does any other call.
func (m *Memory) Lookup(keys []Key, out []Pin, _ *Wait) {
	now := m.now()
	for i, key := range keys {
		hash := m.hash(key)
		s := m.shard(hash)
		s.mu.Lock()
		m.renew(s, key, hash, now, &out[i])
		s.mu.Unlock()
	}
}

// Peek is Lookup without renewal, for operators.
func (m *Memory) Peek(keys []Key, out []Pin, _ *Wait) {
	now := m.now()
	for i, key := range keys {
		hash := m.hash(key)
		s := m.shard(hash)
		s.mu.Lock()
		out[i] = Pin{}
		if e := s.find(key, hash); e != nil {
			if pin := m.read(e.record); pin.Live(now) {
				out[i] = pin
			}
		}
		s.mu.Unlock()
	}
}

// Claim makes pin the session's unless another request was faster: where keys[0] already holds a live pin whose subject
// is pin's, that one wins, is renewed and returned; otherwise pin is written under every key, whatever the others held,
// and returned. The store sets Renewed and copies the strings.
func (m *Memory) Claim(keys []Key, pin Pin, _ *Wait) Pin {
	if len(keys) == 0 {
		return pin
	}
	now := m.now()
	set := m.lock(keys)
	defer m.unlock(set)
	var held Pin
	hash := m.hash(keys[0])
	m.renew(m.shard(hash), keys[0], hash, now, &held)
	if held.Version != "" && held.Subject == pin.Subject {
		return held
	}
	return m.write(keys, pin, now)
}

// Swap makes pin the session's, under every key, only if one of the keys still holds was: live, with its Version, Start,
// Subject and pod. It reports whether it did. Whoever writes what follows from a pin read earlier uses it, so that a session
// that an operator or another request has moved or ended meanwhile stays as they left it.
//
// The zero was is for a session that nobody can have pinned yet: pin is written under every key, whatever was there. The
// keys are one session from then on: a key that belonged to another leaves it. If one of them belongs to a live session
// with pin's Start and Subject, pin is that session rewritten, and the keys that are not named here follow. The store sets
// Renewed and copies the strings.
func (m *Memory) Swap(keys []Key, was, pin Pin, _ *Wait) bool {
	if len(keys) == 0 {
		return false
	}
	now := m.now()
	set := m.lock(keys)
	defer m.unlock(set)
	if was.Version == "" {
		m.write(keys, pin, now)
		return true
	}
	for _, key := range keys {
		e := m.find(key)
		if e == nil {
			continue
		}
		r, seen := e.record, e.record.pin.Load()
		if held := m.read(r); held.Live(now) && seen.Version == was.Version && seen.Start.Equal(was.Start) &&
			seen.Subject == was.Subject && seen.Endpoint == was.Endpoint && seen.UID == was.UID {
			stored := pin.own()
			stored.Renewed = now
			// MoveID takes no shard's lock: the pointer tells whether it came in between.
			if !r.pin.CompareAndSwap(seen, &stored) {
				return false
			}
			r.seen(now.Sub(m.epoch))
			m.file(keys, r, now)
			return true
		}
	}
	return false
}

// End ends the sessions under keys, under all their keys, and returns how many there were.
func (m *Memory) End(keys []Key) int {
	now := m.now()
	ended := 0
	for _, key := range keys {
		hash := m.hash(key)
		s := m.shard(hash)
		s.mu.Lock()
		var r *record
		if e := s.find(key, hash); e != nil {
			r = e.record
		}
		s.mu.Unlock()
		if r != nil && m.end(r, now) {
			ended++
		}
	}
	return ended
}

// Keys returns the number of keys kept, and how many fell because of the bound since the start.
func (m *Memory) Keys() (kept int, evicted uint64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		kept += len(s.ring)
		s.mu.Unlock()
	}
	return kept, m.evicted.Load()
}

// write makes keys one session with this pin. The caller holds their shards' locks.
func (m *Memory) write(keys []Key, pin Pin, now time.Time) Pin {
	stored := pin.own()
	stored.Renewed = now
	r := m.rewritten(keys, pin, now)
	if r == nil {
		r = &record{id: rand.Uint64()}
	}
	r.pin.Store(&stored)
	r.seen(now.Sub(m.epoch))
	m.file(keys, r, now)
	return stored
}

// file puts every key under r. The caller holds the locks of the keys' shards.
func (m *Memory) file(keys []Key, r *record, now time.Time) {
	for _, key := range keys {
		hash := m.hash(key)
		s := m.shard(hash)
		m.sweep(s, now)
		if s.put(key, hash, r) {
			m.evicted.Add(1)
		}
	}
}

// rewritten returns the live session that pin continues, or nil. The caller holds the locks of the keys' shards.
func (m *Memory) rewritten(keys []Key, pin Pin, now time.Time) *record {
	for _, key := range keys {
		e := m.find(key)
		if e == nil {
			continue
		}
		held := m.read(e.record)
		if held.Live(now) && held.Start.Equal(pin.Start) && held.Subject == pin.Subject {
			return e.record
		}
	}
	return nil
}

// renew sets out to the live pin under key and renews it, or to the zero Pin; a dead one is removed. The caller holds s.mu.
func (m *Memory) renew(s *shard, key Key, hash uint64, now time.Time, out *Pin) {
	e := s.find(key, hash)
	if e == nil {
		*out = Pin{}
		return
	}
	s.use(e)
	*out = *e.record.pin.Load()
	out.Renewed = m.epoch.Add(time.Duration(e.record.renewed.Load()))
	if !out.Live(now) {
		s.remove(e)
		*out = Pin{}
		return
	}
	e.record.seen(now.Sub(m.epoch))
	out.Renewed = now
}

// sweepKeys is how many keys a write looks at: more than it adds, so that the dead cannot gather.
const sweepKeys = 2

// sweep removes dead keys among the next few of a shard. The caller holds s.mu.
func (m *Memory) sweep(s *shard, now time.Time) {
	for range min(sweepKeys, len(s.ring)) {
		e := s.next()
		if pin := m.read(e.record); !pin.Live(now) {
			s.remove(e)
		}
	}
}

// end removes a session under all its keys, those included that join it meanwhile, and reports whether it was live. The
// caller holds no lock.
func (m *Memory) end(r *record, now time.Time) bool {
	pin := m.read(r)
	removed := false
	for keys := r.list(); len(keys) > 0; keys = r.list() {
		removed = m.remove(keys, r) || removed
	}
	return removed && pin.Live(now)
}

// remove removes those keys that still belong to r and reports whether there was one.
func (m *Memory) remove(keys []Key, r *record) (removed bool) {
	set := m.lock(keys)
	defer m.unlock(set)
	for _, key := range keys {
		hash := m.hash(key)
		s := m.shard(hash)
		if e := s.find(key, hash); e != nil && e.record == r {
			s.remove(e)
			removed = true
		}
	}
	return removed
}

// read returns the pin of a record as it is now.
func (m *Memory) read(r *record) Pin {
	pin := *r.pin.Load()
	pin.Renewed = m.epoch.Add(time.Duration(r.renewed.Load()))
	return pin
}

// hash tells keys apart, nearly always, and spreads them over shards.
func (m *Memory) hash(key Key) uint64 {
	return maphash.String(m.seed, key.Value) ^ bits.RotateLeft64(maphash.String(m.seed, key.Attribute), 21) ^
		bits.RotateLeft64(maphash.String(m.seed, key.Service), 42)
}

func (m *Memory) shard(hash uint64) *shard { return &m.shards[m.shardOf(hash)] }

func (m *Memory) shardOf(hash uint64) uint64 { return hash & uint64(len(m.shards)-1) }

// find returns the entry of a key, or nil. The caller holds its shard's lock.
func (m *Memory) find(key Key) *entry {
	hash := m.hash(key)
	return m.shard(hash).find(key, hash)
}

// A shardSet names shards by their bits.
type shardSet uint64

// lock takes the locks of all shards that hold keys, in ascending order so that two callers cannot wait for each other.
func (m *Memory) lock(keys []Key) shardSet {
	var set shardSet
	for _, key := range keys {
		set |= 1 << m.shardOf(m.hash(key))
	}
	for rest := uint64(set); rest != 0; rest &= rest - 1 {
		m.shards[bits.TrailingZeros64(rest)].mu.Lock()
	}
	return set
}

func (m *Memory) unlock(set shardSet) {
	for rest := uint64(set); rest != 0; rest &= rest - 1 {
		m.shards[bits.TrailingZeros64(rest)].mu.Unlock()
	}
}

// own returns a key that outlives the request it was read from: the one place where a store's keys are copied.
func (k Key) own() Key {
	return Key{
		Service:   strings.Clone(k.Service),
		Attribute: strings.Clone(k.Attribute),
		Value:     strings.Clone(k.Value),
	}
}

// own returns a pin that outlives the request, and keeps neither a rule document nor a pod list in memory.
func (p Pin) own() Pin {
	p.Version = strings.Clone(p.Version)
	p.UID = strings.Clone(p.UID)
	p.Subject = strings.Clone(p.Subject)
	p.Branch = strings.Clone(p.Branch)
	return p
}
