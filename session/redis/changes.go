package redis

import (
	"context"
	"math/rand/v2"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

// Swap makes pin the session's, under every key, only if one of the keys still leads to was here: live, with its
// Version, Start, Subject and pod. It reports whether it did. The zero was is for a session that nobody can have pinned
// yet: pin is written under every key, whatever was there. If one of them leads to a live session with pin's Start and
// Subject, pin is that session rewritten, and the keys that are not named here follow.
//
// A new session, version or key waits for Redis within the budget, because the session's next request may come to another
// replica; a pod that changed is written with the next renewal. The store sets Renewed and copies the strings.
func (s *Store) Swap(keys []session.Key, was, pin session.Pin, wait *session.Wait) bool {
	if len(keys) == 0 {
		return false
	}
	now := s.now()
	s.installing.Lock()
	if was.Version == "" {
		keys, pin = ownKeys(keys), ownPin(pin, now)
		s.rewrite(s.continued(keys, pin, now), keys, pin, now, wait)
		return true
	}
	for _, k := range keys {
		c := s.local.get(k)
		if c == nil || !c.live(now) {
			continue
		}
		held := &c.state.Load().pin
		if held.Version == was.Version && held.Start.Equal(was.Start) && held.Subject == was.Subject &&
			held.Endpoint == was.Endpoint && held.UID == was.UID {
			s.rewrite(c, ownKeys(keys), ownPin(pin, now), now, wait)
			return true
		}
	}
	s.installing.Unlock()
	return false
}

// rewrite puts pin under keys, as a new session where held is nil, and unlocks installing, which the caller has locked.
func (s *Store) rewrite(held *copied, keys []session.Key, pin session.Pin, now time.Time, wait *session.Wait) {
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
		waits = v.pin.Version != pin.Version || len(next.keys) > len(v.keys)
		writes = waits || replaces
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
	if writes {
		c.unwritten.Store(true)
	} else {
		c.pod.Store(true)
	}
	v := c.state.Load()
	s.installing.Unlock()
	if !writes {
		return
	}
	message := ""
	if replaces {
		message = s.message("set", v)
	}
	if waits && s.putNow(c, v, message, wait) {
		if message != "" && s.o.Mode == Cluster {
			s.publish(message) // again: the keys lie on other servers, and some may have been written after it was heard
		}
		if message == "" {
			s.announce(c)
		}
		return
	}
	s.force(c)
	if message != "" {
		s.publish(message) // who has heard it already is not harmed
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

// putNow writes v under its keys and tells the other replicas, within the budget: they have been told when a request that
// follows this one can come to them. The message may be empty.
func (s *Store) putNow(c *copied, v *value, message string, wait *session.Wait) bool {
	var replies []*goredis.StatusCmd
	ok, _ := s.line.do(wait, func(p goredis.Pipeliner) {
		text, life := s.codec.encode(v, s.ahead()), s.life(v, s.now())
		for _, k := range v.keys {
			replies = append(replies, p.Set(context.Background(), s.codec.name(k), text, life))
		}
		if message != "" {
			p.Publish(context.Background(), channel, message)
		}
	}, func() error {
		for _, r := range replies {
			if r.Err() != nil {
				return r.Err()
			}
		}
		switch now := c.state.Load(); {
		case now == v:
			c.unwritten.Store(false)
			c.pod.Store(false)
		case now.ended: // this has been written over its end
			s.write(c)
		}
		return nil
	})
	return ok
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
	s.write(c)
	s.publish(s.message("end", &next))
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
