// Package redis keeps pins in Redis, for replicas that share their sessions: single, Sentinel or Cluster.
//
// It is responsible for what Redis holds (see value.go), for the copies that answer without it, and for the contract
// while it is slow, gone, or comes back empty. It is the only importer of go-redis in package session's tree, measures
// with plain counters that cmd exports, and never puts a request through more than Options.Budget of waiting.
package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	offset     atomic.Int64   // applied: Redis's clock minus ours; see keeper
	measured   atomic.Int64   // last measured
	staleUntil atomic.Int64   // copies confirmed at or before this moment are stale, Unix nanoseconds
	pending    atomic.Int64   // what is in the queues, or with the writer
	setGet     atomic.Bool    // the server takes SET with NX and GET together (Redis 7)
	alive      sync.WaitGroup // the goroutines of Run
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
func (s *Store) Lookup(keys []session.Key, out []session.Pin) {
	s.lookup(keys, out, true)
}

// Peek is Lookup without renewal, for operators. It asks Redis for every key that has no fresh copy.
func (s *Store) Peek(keys []session.Key, out []session.Pin) {
	s.lookup(keys, out, false)
}

func (s *Store) lookup(keys []session.Key, out []session.Pin, renew bool) {
	now := s.now()
	unknown, stale := 0, 0
	for i, k := range keys {
		c := s.local.get(k)
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
	if !s.read(keys, now, renew) {
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
		if c.due(now) && s.fresh(c, now) {
			s.write(c)
		}
	}
	*out = c.current()
}

// read asks Redis for the keys without a fresh copy and reports whether it answered in time. What it says is filed in
// any case.
func (s *Store) read(keys []session.Key, now time.Time, renew bool) bool {
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
	return s.line.do(func(p goredis.Pipeliner) {
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
		s.merge(was, v, now)
	case !v.ended && now.Before(limit(&v.pin)):
		if was.unwritten.Load() && was.live(now) {
			s.stats.adopted.Add(1)
		}
		s.file([]session.Key{k}, v, now)
	case was.live(now):
		was.read.Store(now.UnixNano())
	default:
		s.local.drop(k, was)
	}
}

// merge takes over what Redis says of the same session.
func (s *Store) merge(c *copied, v *value, now time.Time) {
	held := c.state.Load()
	switch {
	case v.ended && v.generation >= held.generation:
		next := *held
		next.ended, next.generation = true, v.generation
		c.state.Store(&next)
	case v.generation > held.generation, v.generation == held.generation && !c.unwritten.Load() && !held.ended:
		next := *v
		next.pin.Start, next.pin.End = held.pin.Start, held.pin.End // clocks differ a little each time they are compared
		c.state.Store(&next)
	}
	c.read.Store(now.UnixNano())
	if c.unwritten.Load() || c.due(now) {
		s.write(c)
	}
}

// file makes keys, which are owned, lead to the session v. The caller holds installing.
func (s *Store) file(keys []session.Key, v *value, now time.Time) *copied {
	var c *copied
	for _, k := range v.keys {
		if held := s.local.get(k); held != nil && held.state.Load().session == v.session {
			c = held
			break
		}
	}
	if c == nil {
		c = new(copied)
		c.state.Store(v)
		c.seen.Store(v.pin.Renewed.UnixNano())
	} else if held := c.state.Load(); v.generation >= held.generation {
		c.state.Store(v)
	}
	c.read.Store(now.UnixNano())
	for _, k := range keys {
		s.local.put(k, c)
	}
	return c
}

// Claim makes pin the session's unless another request was faster, here or on another replica: where Redis holds a live
// pin that binds the request under keys[0], or under a key that no copy was known of, that one wins and is returned. In
// any case the session is under every key afterwards. Without an answer from Redis within the budget the pin holds here
// and is reconciled later. The store sets Renewed and copies the strings.
func (s *Store) Claim(keys []session.Key, pin session.Pin) session.Pin {
	if len(keys) == 0 {
		return pin
	}
	now := s.now()
	keys, pin = ownKeys(keys), ownPin(pin)
	pin.Renewed = now
	c := claim{s: s, keys: keys, now: now, subject: pin.Subject, except: "-",
		mine: &value{session: rand.Uint64(), generation: 1, pin: pin, keys: keys}}
	if was := s.local.get(keys[0]); was != nil {
		v := was.state.Load()
		if was.live(now) && (pin.Subject == "" || v.pin.Subject == pin.Subject) {
			was.touch(now)
			return was.current()
		}
		if v.ended {
			c.except = fmt.Sprintf("%016x", v.session)
		}
	}
	s.stats.asked.Add(1)
	return c.run()
}

// A claim is one call of Claim.
type claim struct {
	s       *Store
	keys    []session.Key
	mine    *value
	subject string
	except  string // a session that was ended here: it does not count, even where Redis does not know yet
	now     time.Time

	replies []*goredis.Cmd
	won     *copied // set by settle
	again   bool    // Redis holds something under the first key that does not bind: it must give way
}

func (c *claim) run() session.Pin {
	ok := c.s.line.do(c.ask, c.answered)
	if ok && c.again {
		c.keys = c.keys[:1:1]
		ok = c.s.line.do(c.ask, c.answered)
	}
	if ok && c.won != nil {
		c.won.touch(c.now)
		return c.won.current()
	}
	// Without Redis: first writer wins among the requests of this replica.
	s := c.s
	s.installing.Lock()
	defer s.installing.Unlock()
	if held := s.local.get(c.keys[0]); held != nil && held.live(c.now) {
		if v := held.state.Load(); c.subject == "" || v.pin.Subject == c.subject {
			return held.current()
		}
	}
	mine := s.file(c.mine.keys, c.mine, c.now)
	mine.read.Store(0)
	mine.changed.Store(c.now.UnixNano())
	mine.unwritten.Store(true)
	s.write(mine)
	return mine.current()
}

// ask writes one command for each key that must be claimed or read.
func (c *claim) ask(p goredis.Pipeliner) {
	s := c.s
	text := s.codec.encode(c.mine, s.ahead())
	life := s.life(c.mine, c.now)
	tag := ""
	if c.subject != "" {
		tag = s.codec.tag(c.subject)
	}
	c.replies = make([]*goredis.Cmd, len(c.keys))
	for i, k := range c.keys {
		if held := s.local.get(k); i > 0 && held != nil && held.live(c.now) {
			continue // the caller has seen it: it gives way
		}
		if s.setGet.Load() && c.except == "-" && !c.again {
			c.replies[i] = p.Do(context.Background(), "SET", s.codec.name(k), text, "NX", "GET", "PX", life.Milliseconds())
			continue
		}
		at := c.now.Add(s.ahead()).UnixMilli()
		c.replies[i] = p.Eval(context.Background(), claimScript, []string{s.codec.name(k)},
			text, life.Milliseconds(), tag, at, c.except)
	}
}

// answered looks at the replies and files who won. It may run when the request has gone on without it.
func (c *claim) answered() error {
	s := c.s
	found := make([]*value, len(c.keys))
	for i, r := range c.replies {
		if r == nil {
			continue
		}
		text, err := r.Text()
		if replied(err) != nil {
			return err
		}
		found[i] = s.decode(text)
		if i == 0 && text != "" && !holds(found[0], c.subject, c.now) && !c.again {
			c.again = true
			return nil
		}
	}
	s.installing.Lock()
	defer s.installing.Unlock()
	winner := c.winner(found)
	if late := s.local.get(c.keys[0]); late != nil && late.unwritten.Load() && late.live(c.now) &&
		late.state.Load().session != c.mine.session && winner == nil {
		winner = late.state.Load() // another request of this replica went on without Redis
	}
	if winner == nil {
		c.won = s.file(c.mine.keys, c.mine, c.now)
		c.won.changed.Store(c.now.UnixNano())
		for i, v := range found {
			if i > 0 && (v != nil || c.replies[i] == nil) {
				s.force(c.won)
			}
		}
		return nil
	}
	if late := s.local.get(c.keys[0]); late != nil && late.unwritten.Load() && late.state.Load().session == c.mine.session {
		s.stats.adopted.Add(1) // this request went on without Redis, and its session is pinned elsewhere
		late.unwritten.Store(false)
	}
	scattered := false
	for i := range c.keys {
		scattered = scattered || found[i] == nil || found[i].session != winner.session
	}
	next := *winner
	if all := joined(winner.keys, c.mine.keys); len(all) > len(winner.keys) {
		next.keys = all
		next.generation++
	}
	c.won = s.file(c.mine.keys, &next, c.now)
	if scattered {
		s.force(c.won)
	}
	return nil
}

// winner is the value that binds this request, or nil. A session under a later key that has the first key too has lost
// it to us a moment ago and does not count.
func (c *claim) winner(found []*value) *value {
	if holds(found[0], c.subject, c.now) {
		return found[0]
	}
	for _, v := range found[1:] {
		if holds(v, c.subject, c.now) && !slices.Contains(v.keys, c.keys[0]) {
			return v
		}
	}
	return nil
}

// Put writes pin under every key, whatever was there. If one of them leads to a live session with pin's Start and
// Subject, pin is that session rewritten, and the keys that are not named here follow. A new session, or a new version,
// waits for Redis within the budget; a pod that changed is written with the next renewal. The store sets Renewed and
// copies the strings.
func (s *Store) Put(keys []session.Key, pin session.Pin) {
	if len(keys) == 0 {
		return
	}
	now := s.now()
	keys, pin = ownKeys(keys), ownPin(pin)
	s.installing.Lock()
	s.rewrite(s.continued(keys, pin, now), keys, pin, now)
}

// Swap makes pin the session's, under every key, only if one of the keys still leads to was here: live, with its
// Version, Start, Subject and pod. It reports whether it did.
func (s *Store) Swap(keys []session.Key, was, pin session.Pin) bool {
	now := s.now()
	s.installing.Lock()
	for _, k := range keys {
		c := s.local.get(k)
		if c == nil || !c.live(now) {
			continue
		}
		held := &c.state.Load().pin
		if held.Version == was.Version && held.Start.Equal(was.Start) && held.Subject == was.Subject &&
			held.Endpoint == was.Endpoint && held.UID == was.UID {
			s.rewrite(c, ownKeys(keys), ownPin(pin), now)
			return true
		}
	}
	s.installing.Unlock()
	return false
}

// rewrite puts pin under keys, as a new session where held is nil, and unlocks installing, which the caller has locked.
func (s *Store) rewrite(held *copied, keys []session.Key, pin session.Pin, now time.Time) {
	pin.Renewed = now
	replaces := false
	for _, k := range keys {
		c := s.local.get(k)
		replaces = replaces || c != nil && c != held
	}
	c, waits, writes := held, true, true
	if held == nil {
		c = s.file(keys, &value{session: rand.Uint64(), generation: 1, pin: pin, keys: keys}, now)
	} else {
		v := held.state.Load()
		next := value{session: v.session, generation: v.generation, pin: pin, keys: joined(v.keys, keys)}
		waits = v.pin.Version != pin.Version
		writes = waits || replaces || len(next.keys) > len(v.keys)
		if writes {
			next.generation++
		} else {
			next.pin.Renewed = v.pin.Renewed // what Redis was told
		}
		replaces = replaces || waits
		held.state.Store(&next)
		for _, k := range keys {
			s.local.put(k, held)
		}
	}
	c.touch(now)
	c.changed.Store(now.UnixNano())
	c.unwritten.Store(true)
	v := c.state.Load()
	s.installing.Unlock()
	if !writes {
		return
	}
	if replaces {
		s.publish("set", v)
	}
	if !waits || !s.putNow(c, v) {
		s.force(c)
	}
}

// continued returns the live session that pin continues, or nil.
func (s *Store) continued(keys []session.Key, pin session.Pin, now time.Time) *copied {
	for _, k := range keys {
		if c := s.local.get(k); c != nil && c.live(now) {
			if v := c.state.Load(); v.pin.Start.Equal(pin.Start) && v.pin.Subject == pin.Subject {
				return c
			}
		}
	}
	return nil
}

// putNow writes v under its keys, within the budget.
func (s *Store) putNow(c *copied, v *value) bool {
	var replies []*goredis.StatusCmd
	return s.line.do(func(p goredis.Pipeliner) {
		text, life := s.codec.encode(v, s.ahead()), s.life(v, s.now())
		for _, k := range v.keys {
			replies = append(replies, p.Set(context.Background(), s.codec.name(k), text, life))
		}
	}, func() error {
		for _, r := range replies {
			if r.Err() != nil {
				return r.Err()
			}
		}
		if c.state.Load() == v {
			c.unwritten.Store(false)
		}
		return nil
	})
}

// End ends the sessions under keys, under all their keys, and returns how many of them were known here. It does not
// wait for Redis.
func (s *Store) End(keys []session.Key) int {
	now := s.now()
	ended := 0
	s.installing.Lock()
	defer s.installing.Unlock()
	for _, k := range keys {
		c := s.local.get(k)
		if c == nil {
			s.endUnknown(ownKeys([]session.Key{k})[0])
			continue
		}
		if c.live(now) {
			ended++
		}
		s.end(c)
	}
	return ended
}

// end ends a session that is known. The caller holds installing.
func (s *Store) end(c *copied) {
	v := c.state.Load()
	if v.ended {
		return
	}
	next := *v
	next.ended = true
	next.generation++
	c.state.Store(&next)
	c.unwritten.Store(true)
	s.publish("end", &next)
	s.write(c)
}

// endUnknown ends the session under a key that has no copy, without waiting for it.
func (s *Store) endUnknown(k session.Key) {
	var reply *goredis.StringCmd
	s.line.post(func(p goredis.Pipeliner) {
		reply = p.Get(context.Background(), s.codec.name(k))
	}, func() error {
		text, err := reply.Result()
		if replied(err) != nil {
			return err
		}
		if v := s.decode(text); v != nil && !v.ended {
			s.installing.Lock()
			defer s.installing.Unlock()
			if s.local.get(k) == nil {
				s.end(s.file([]session.Key{k}, v, s.now()))
			}
		}
		return nil
	})
}

// life is how long Redis keeps a value; that a session was ended is kept longer than any copy of it lives.
func (s *Store) life(v *value, now time.Time) time.Duration {
	life := limit(&v.pin).Sub(now)
	if v.ended {
		life += v.pin.Idle
	}
	return max(life, time.Millisecond)
}

// write tells the writer that Redis lacks something of c. It never waits: what the queue has no room for is written when
// the copy is next confirmed.
func (s *Store) write(c *copied) {
	if !c.queued.CompareAndSwap(false, true) {
		return
	}
	s.pending.Add(1)
	select {
	case s.writes <- c:
	default:
		s.pending.Add(-1)
		c.queued.Store(false)
		c.unwritten.Store(true)
		s.stats.unwrittenLost.Add(1)
	}
}

// force has c written whatever its keys hold.
func (s *Store) force(c *copied) {
	c.forced.Store(true)
	c.unwritten.Store(true)
	s.write(c)
}

// publish tells the other replicas of a change.
func (s *Store) publish(kind string, v *value) {
	whole := *v
	whole.ended = false
	message := strings.Join([]string{s.self, kind, s.codec.encode(&whole, s.ahead())}, " ")
	s.pending.Add(1)
	select {
	case s.messages <- message:
	default:
		s.pending.Add(-1)
		s.stats.unwrittenLost.Add(1)
	}
}
