package redis

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"tellergate/session"
)

// A copied is what this replica knows of one session. Those of its keys that were seen here lead to it.
type copied struct {
	state atomic.Pointer[value] // replaced whole, never modified; pin.Renewed is the last renewal Redis was told of
	seen  atomic.Int64          // when a request of it came here last, Unix nanoseconds
	read  atomic.Int64          // when Redis confirmed it last, Unix nanoseconds; 0: stale
	// unwritten says that Redis lacks something of it: a change, or the whole of it.
	unwritten atomic.Bool
	pod       atomic.Bool  // Redis does not know which pod answered last: the next renewal writes it
	alone     atomic.Bool  // decided here without Redis, which does not have it yet
	aging     atomic.Bool  // the refresher has been told
	untold    atomic.Bool  // the other replicas do not know of it, unless they have asked Redis
	forced    atomic.Bool  // the next write asks for nothing: its keys are this session's
	queued    atomic.Bool  // the writer has been told
	changed   atomic.Int64 // when it was claimed or put here, Unix nanoseconds
}

// current returns the pin as it is now, its Renewed the latest of what Redis knows and what was seen here.
func (c *copied) current() session.Pin {
	pin := c.state.Load().pin
	if seen := c.seen.Load(); seen > pin.Renewed.UnixNano() {
		pin.Renewed = time.Unix(0, seen)
	}
	return pin
}

// live reports whether the session may still be alive. It allows for renewals by other replicas that Redis has not been
// told of yet.
func (c *copied) live(now time.Time) bool {
	v := c.state.Load()
	if v.ended {
		return false
	}
	pin := c.current()
	return pin.Version != "" && now.Before(limit(&pin))
}

// touch moves seen forward, never back.
func (c *copied) touch(now time.Time) {
	at := now.UnixNano()
	for {
		last := c.seen.Load()
		if at <= last || c.seen.CompareAndSwap(last, at) {
			return
		}
	}
}

// due reports whether half of idle has passed since the last renewal that Redis was told of.
func (c *copied) due(now time.Time) bool {
	v := c.state.Load()
	return !v.ended && now.Sub(v.pin.Renewed) >= v.pin.Idle/2
}

// local holds copies by key: shards with a lock each, bounded by keys. Safe for concurrent use.
type local struct {
	shards  []localShard // a power of two
	seed    maphash.Seed
	evicted atomic.Uint64
}

type localShard struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[session.Key, *copied] // guarded by mu
	finds uint64                               // guarded by mu
	share int                                  // how many keys there is room for
	_     [64]byte                             // the next shard's lock lies on another cache line
}

const (
	localShards  = 64
	keysPerShard = 1024
)

func newLocal(entries int) *local {
	count := 1
	for count < localShards && entries/(2*count) >= keysPerShard {
		count *= 2
	}
	l := &local{shards: make([]localShard, count), seed: maphash.MakeSeed()}
	for i := range l.shards {
		share := entries / count
		if i < entries%count {
			share++
		}
		lru, err := simplelru.NewLRU[session.Key, *copied](share, nil)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		l.shards[i].lru, l.shards[i].share = lru, share
	}
	return l
}

func (l *local) shard(k session.Key) *localShard {
	return &l.shards[maphash.String(l.seed, k.Value)&uint64(len(l.shards)-1)]
}

// get returns the copy under key, or nil.
func (l *local) get(k session.Key) *copied {
	s := l.shard(k)
	s.mu.Lock()
	c, _ := s.lru.Get(k)
	s.mu.Unlock()
	return c
}

// find is get for a request's lookup, which is counted. It allocates nothing.
func (l *local) find(k session.Key) *copied {
	s := l.shard(k)
	s.mu.Lock()
	c, ok := s.lru.Get(k)
	if ok {
		s.finds++
	}
	s.mu.Unlock()
	return c
}

// put files c under key, which must not be borrowed.
func (l *local) put(k session.Key, c *copied) {
	s := l.shard(k)
	s.mu.Lock()
	if s.lru.Add(k, c) {
		l.evicted.Add(1)
	}
	s.mu.Unlock()
}

// learn files c under key, which must not be borrowed, if there is room for it or in place of a copy that is over. It
// reports whether it did.
func (l *local) learn(k session.Key, c *copied, now time.Time) bool {
	s := l.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru.Len() >= s.share && !s.lru.Contains(k) {
		if _, oldest, _ := s.lru.GetOldest(); oldest.live(now) || oldest.unwritten.Load() {
			return false
		}
	}
	s.lru.Add(k, c)
	return true
}

// drop removes key if it leads to c.
func (l *local) drop(k session.Key, c *copied) {
	s := l.shard(k)
	s.mu.Lock()
	if held, ok := s.lru.Peek(k); ok && held == c {
		s.lru.Remove(k)
	}
	s.mu.Unlock()
}

// size returns how many keys are kept and how many lookups found one.
func (l *local) size() (n int, found uint64) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += s.lru.Len()
		found += s.finds
		s.mu.Unlock()
	}
	return n, found
}

// each visits every copy with one of its keys, a shard's keys at a time; the lock is not held while visit runs. A copy
// with several keys is visited several times.
func (l *local) each(visit func(k session.Key, c *copied)) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		keys, copies := s.lru.Keys(), s.lru.Values()
		s.mu.Unlock()
		for j := range keys {
			visit(keys[j], copies[j])
		}
	}
}

func ownKeys(keys []session.Key) []session.Key {
	out := make([]session.Key, len(keys))
	for i, k := range keys {
		out[i] = session.Key{
			Service: strings.Clone(k.Service), Attribute: strings.Clone(k.Attribute), Value: strings.Clone(k.Value),
		}
	}
	return out
}

// ownPin copies the strings, and tells times by the clock that says now: that of the request may have been set since.
func ownPin(p session.Pin, now time.Time) session.Pin {
	for _, at := range []*time.Time{&p.Start, &p.End} {
		if !at.IsZero() {
			*at = now.Add(at.Sub(now))
		}
	}
	p.Version, p.UID = strings.Clone(p.Version), strings.Clone(p.UID)
	p.Subject, p.Branch = strings.Clone(p.Subject), strings.Clone(p.Branch)
	return p
}

// joined returns keys with those of more that are missing at the end.
func joined(keys, more []session.Key) []session.Key {
	out := slices.Clone(keys)
	for _, k := range more {
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}
