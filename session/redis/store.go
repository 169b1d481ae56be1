// Package redis keeps pins in Redis, for replicas that share their sessions: single, Sentinel or Cluster.
//
// It is responsible for what Redis holds (see value.go), for the copies that answer without it, and for the contract
// while it is slow, gone, or comes back empty. It is the only importer of go-redis in package session's tree, measures
// with plain counters that cmd exports, and never puts a request through more than Options.Budget of waiting.
package redis

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

// Store is a pin store on Redis. A session is decided by its first key: there the first writer wins. It is safe for
// concurrent use once Run runs; before that, requests are answered without Redis.
type Store struct {
	o      Options
	client goredis.UniversalClient
	line   *line
	codec  *codec
	local  *local
	self   string // names this process in messages, so that it skips its own
	stats  counters

	installing sync.Mutex     // serialises changes of which session a key leads to
	writes     chan *copied   // to the writer
	messages   chan string    // to the writer, to be published
	news       chan *copied   // to the announcer
	aging      chan *copied   // to the refresher
	offset     atomic.Int64   // applied: Redis's clock minus ours; see keep
	measured   atomic.Int64   // last measured
	staleUntil atomic.Int64   // copies confirmed at or before this moment are stale, Unix nanoseconds
	pending    atomic.Int64   // what is in the queues, or with the writer
	counting   *counting      // of sessions, for operators
	flushed    atomic.Int64   // see presence.go; Unix nanoseconds by Redis's clock
	setGet     atomic.Bool    // the server takes SET with NX and GET together (Redis 7)
	alive      sync.WaitGroup // the goroutines of Run
}

// Run carries everything to and from Redis until ctx ends, writes what is unwritten, and closes the connections. It is
// called once.
func (s *Store) Run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for range workers {
		s.alive.Go(func() { s.line.work(working) })
	}
	s.alive.Go(func() { s.keep(ctx) })
	s.alive.Go(func() { s.listen(ctx) })
	s.alive.Go(func() { s.refresher(ctx) })
	s.alive.Go(func() { s.announcer(ctx) })
	s.alive.Go(func() { s.count(ctx) })
	s.alive.Go(func() { s.register(ctx) })
	s.alive.Go(func() { s.flush(ctx) })
	s.writer(ctx)
	s.flushLast()
	s.deregister()
	stop()
	s.alive.Wait()
	_ = s.client.Close() // of connections that are broken already: there is nothing left to lose
	return nil
}

func (s *Store) now() time.Time { return s.o.Now() }

func (s *Store) ahead() time.Duration { return time.Duration(s.offset.Load()) }

func (s *Store) fresh(c *copied, now time.Time) bool {
	read := c.read.Load()
	return read > s.staleUntil.Load() && now.UnixNano()-read < int64(s.o.Freshness)
}

// Lookup sets out[i] to the live pin under keys[i], or the zero Pin, and renews what it finds. A fresh copy answers
// without a lock that others share and without an allocation. A stale one is read again, within the budget. Where none
// of the keys has a copy the session may be new, so nothing is asked: Claim finds out in one round trip.
func (s *Store) Lookup(keys []session.Key, out []session.Pin, wait *session.Wait) {
	s.lookup(keys, out, true, wait)
}

// Peek is Lookup without renewal, for operators. It asks Redis for every key that has no fresh copy.
func (s *Store) Peek(keys []session.Key, out []session.Pin, wait *session.Wait) {
	s.lookup(keys, out, false, wait)
}

func (s *Store) lookup(keys []session.Key, out []session.Pin, renew bool, wait *session.Wait) {
	now := s.now()
	unknown, stale := 0, 0
	for i, k := range keys {
		c := s.local.find(k)
		switch {
		case c == nil:
			unknown++
		case !s.fresh(c, now):
			stale++
		}
		s.take(c, &out[i], now, renew)
	}
	if stale == 0 && (unknown == 0 || renew && unknown == len(keys)) {
		return
	}
	s.stats.stale.Add(uint64(stale))
	s.stats.asked.Add(uint64(unknown))
	if !s.read(keys, now, wait) {
		return
	}
	for i, k := range keys {
		s.take(s.local.get(k), &out[i], now, renew)
	}
}

// take sets out to what a copy says.
func (s *Store) take(c *copied, out *session.Pin, now time.Time, renew bool) {
	*out = session.Pin{}
	if c == nil || !c.live(now) {
		return
	}
	if renew {
		c.touch(now)
		if s.fresh(c, now) {
			if c.due(now) {
				s.write(c)
			}
			s.refresh(c, now)
		}
	}
	*out = c.current()
}

// read asks Redis for the keys without a fresh copy and reports whether it answered in time. What it says is filed in
// any case.
func (s *Store) read(keys []session.Key, now time.Time, wait *session.Wait) bool {
	if s.line.breaker.open() {
		s.stats.skipped.Add(1)
		return false
	}
	type question struct {
		key  session.Key
		was  *copied
		text *goredis.StringCmd
	}
	var questions []question
	var asked []*copied
	for _, k := range ownKeys(keys) {
		c := s.local.get(k)
		if c != nil && (s.fresh(c, now) || slices.Contains(asked, c)) {
			continue
		}
		if c != nil {
			asked = append(asked, c)
		}
		questions = append(questions, question{key: k, was: c})
	}
	ok, _ := s.line.do(wait, func(p goredis.Pipeliner) {
		for i := range questions {
			questions[i].text = p.Get(context.Background(), s.codec.name(questions[i].key))
		}
	}, func() error {
		for _, q := range questions {
			text, err := q.text.Result()
			if replied(err) != nil {
				return err
			}
			s.confirm(q.key, q.was, s.decode(text), now)
		}
		return nil
	})
	return ok
}

// decode reads a value; nil where there is none that can be read.
func (s *Store) decode(text string) *value {
	if text == "" {
		return nil
	}
	v, err := s.codec.decode(text, s.ahead())
	if err != nil {
		s.stats.damaged.Add(1)
		return nil
	}
	return v
}

// holds reports whether a value binds a request with this subject.
func holds(v *value, subject string, now time.Time) bool {
	return v != nil && !v.ended && now.Before(limit(&v.pin)) && (subject == "" || v.pin.Subject == subject)
}

// confirm files what Redis says of a key that led to was, which may be nil.
func (s *Store) confirm(k session.Key, was *copied, v *value, now time.Time) {
	s.installing.Lock()
	defer s.installing.Unlock()
	if was != nil && s.local.get(k) != was {
		return // the key leads elsewhere since
	}
	switch {
	case was == nil:
		if v != nil && !v.ended && now.Before(limit(&v.pin)) {
			s.file([]session.Key{k}, v, now)
		}
	case v == nil:
		pin := was.current()
		if was.state.Load().ended {
			s.local.drop(k, was)
		} else if pin.Live(now) {
			was.read.Store(now.UnixNano())
			s.write(was) // Redis has lost it
		} else {
			s.local.drop(k, was)
		}
	case v.session == was.state.Load().session:
		was.alone.Store(false)
		s.merge(was, v, now)
	case !v.ended && now.Before(limit(&v.pin)):
		s.gaveWay(was)
		s.file([]session.Key{k}, v, now)
	case was.live(now):
		was.read.Store(now.UnixNano())
	default:
		s.local.drop(k, was)
	}
}

// gaveWay counts a session that was decided here without Redis and turns out to be pinned elsewhere.
func (s *Store) gaveWay(c *copied) {
	if c.alone.CompareAndSwap(true, false) {
		s.stats.adopted.Add(1)
	}
}

// merge takes over what Redis says of the same session.
func (s *Store) merge(c *copied, v *value, now time.Time) {
	held := c.state.Load()
	switch {
	case v.ended && !held.ended: // an end is final, whoever has gone on meanwhile without having heard of it
		next := *held
		next.ended, next.generation = true, max(v.generation, held.generation)
		c.state.Store(&next)
	case held.ended && !v.ended:
		c.unwritten.Store(true)
	case held.ended:
	case v.generation > held.generation, v.generation == held.generation && !c.unwritten.Load() && !c.pod.Load() && !held.ended:
		next := *v
		next.pin.Start, next.pin.End = held.pin.Start, held.pin.End // clocks differ a little each time they are compared
		c.state.Store(&next)
	}
	c.read.Store(now.UnixNano())
	if c.unwritten.Load() || c.due(now) {
		s.write(c)
	}
}

// copyOf returns the copy of the session of v that this replica has, nil if there is none. The caller holds installing.
func (s *Store) copyOf(v *value) *copied {
	for _, k := range v.keys {
		if held := s.local.get(k); held != nil && held.state.Load().session == v.session {
			return held
		}
	}
	return nil
}

// copyFrom returns a copy that says v and that no key leads to yet.
func copyFrom(v *value) *copied {
	c := new(copied)
	c.state.Store(v)
	c.seen.Store(v.pin.Renewed.UnixNano())
	return c
}

// file makes keys, which are owned, lead to the session v. The caller holds installing.
func (s *Store) file(keys []session.Key, v *value, now time.Time) *copied {
	c := s.copyOf(v)
	if c == nil {
		c = copyFrom(v)
	} else if held := c.state.Load(); !held.ended &&
		(v.generation > held.generation || v.generation == held.generation && !c.unwritten.Load() && !c.pod.Load()) {
		c.state.Store(v)
	}
	c.read.Store(now.UnixNano())
	for _, k := range keys {
		s.local.put(k, c)
	}
	return c
}

// ended reports whether this replica knows that the session of v, which may be nil, has been ended.
func (s *Store) ended(v *value) bool {
	if v == nil {
		return false
	}
	for _, k := range v.keys {
		if c := s.local.get(k); c != nil {
			if held := c.state.Load(); held.session == v.session && held.ended {
				return true
			}
		}
	}
	return false
}

// life is how long Redis keeps a value; that a session was ended is kept longer than any copy of it lives.
func (s *Store) life(v *value, now time.Time) time.Duration {
	life := limit(&v.pin).Sub(now)
	if v.ended {
		life += v.pin.Idle
	}
	return max(life, time.Millisecond)
}
