package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

// Claim makes pin the session's unless another request was faster, here or on another replica: where Redis holds a live
// pin that binds the request under keys[0], or under a key that no copy was known of, that one wins and is returned. In
// any case the session is under every key afterwards. Without an answer from Redis within the budget the pin holds here
// and is reconciled later. The store sets Renewed and copies the strings.
func (s *Store) Claim(keys []session.Key, pin session.Pin, wait *session.Wait) session.Pin {
	if len(keys) == 0 {
		return pin
	}
	now := s.now()
	keys, pin = ownKeys(keys), ownPin(pin, now)
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
	if wait == nil {
		wait = new(session.Wait) // for both rounds
	}
	return c.run(wait)
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
	won     *copied // set by answered; while it is nil, what Redis said asks for another round
	again   bool    // Redis holds something under the first key that does not bind: it must give way
	// displaced says that a later key held something that gives way, and is still to be written.
	displaced bool

	// Guarded by s.installing: the request has gone on without an answer; it has to write what it did; it is counted among
	// what is pending.
	left, owed, counted bool
}

func (c *claim) run(wait *session.Wait) session.Pin {
	ok, pending := true, false
	for ok && c.won == nil {
		ok, pending = c.s.line.do(wait, c.ask, c.answered)
	}
	if ok {
		c.won.touch(c.now)
		return c.won.current()
	}
	// Without Redis: first writer wins among the requests of this replica.
	s := c.s
	s.installing.Lock()
	defer s.installing.Unlock()
	c.left = true
	if held := s.local.get(c.keys[0]); held != nil && held.live(c.now) {
		if v := held.state.Load(); c.subject == "" || v.pin.Subject == c.subject {
			return held.current()
		}
	}
	mine := s.file(c.mine.keys, c.mine, c.now)
	mine.read.Store(0)
	mine.changed.Store(c.now.UnixNano())
	mine.alone.Store(true)
	if !pending || c.owed {
		mine.unwritten.Store(true)
		s.write(mine)
	} else { // what has been asked writes it, too
		c.counted = true
		s.pending.Add(1)
	}
	return mine.current()
}

// arrived is for an answer that a request did not wait for. The caller holds installing.
func (c *claim) arrived() {
	if c.counted {
		c.counted = false
		c.s.pending.Add(-1)
	}
}

// unsettled is for an answer that leaves the session unwritten: the request goes on, or has, and then it is written here.
func (c *claim) unsettled() {
	c.s.installing.Lock()
	defer c.s.installing.Unlock()
	defer c.arrived()
	if !c.left {
		c.owed = true
	} else if late := c.s.local.get(c.keys[0]); late != nil && late.state.Load().session == c.mine.session {
		late.unwritten.Store(true)
		c.s.write(late)
	}
}

// contended is what the next round asks for.
func (c *claim) contended() []session.Key {
	if c.again {
		return c.keys[:1]
	}
	return c.keys
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
	keys := c.contended()
	c.replies = make([]*goredis.Cmd, len(keys))
	for i, k := range keys {
		if held := s.local.get(k); i > 0 && held != nil && held.live(c.now) {
			c.displaced = true // the caller has seen it: it gives way
			continue
		}
		if s.setGet.Load() && c.except == "-" && !c.again {
			c.replies[i] = p.Do(context.Background(), "SET", s.codec.name(k), text, "NX", "GET", "PX", life.Milliseconds())
			continue
		}
		at := c.now.Add(s.ahead()).UnixMilli()
		c.replies[i] = p.Eval(context.Background(), claimScript, []string{s.codec.name(k)},
			text, life.Milliseconds(), tag, at, c.except)
	}
	if c.again {
		p.Publish(context.Background(), channel, s.message("set", c.mine)) // to those that have copies of what gives way
	}
}

// answered looks at the replies and files who won. It may run when the request has gone on without it.
func (c *claim) answered() error {
	s := c.s
	found := make([]*value, len(c.replies))
	there := false
	for i, r := range c.replies {
		if r == nil {
			continue
		}
		text, err := r.Text()
		if olderThanSetGet(err) {
			s.setGet.Store(false)
			c.unsettled()
			return nil
		}
		if replied(err) != nil {
			c.unsettled()
			return err
		}
		if text == displaced {
			c.displaced = !c.again // who has copies is told already
			continue
		}
		if found[i] = s.decode(text); s.ended(found[i]) {
			if i == 0 {
				c.except = fmt.Sprintf("%016x", found[i].session)
			}
			found[i] = nil
		}
		there = there || i == 0 && text != ""
		c.displaced = c.displaced || i > 0 && text != ""
	}
	winner := c.winner(found, there)
	if there && winner == nil && !c.again {
		c.again = true
		c.unsettled()
		return nil
	}
	s.installing.Lock()
	defer s.installing.Unlock()
	defer c.arrived()
	if late := s.local.get(c.keys[0]); winner == nil && late != nil && late.alone.Load() &&
		holds(late.state.Load(), c.subject, c.now) && late.state.Load().session != c.mine.session {
		winner = late.state.Load() // another request of this replica went on without Redis
	}
	if winner == nil {
		c.won = s.file(c.mine.keys, c.mine, c.now)
		c.won.changed.Store(c.now.UnixNano())
		c.won.alone.Store(false)
		if c.displaced {
			s.force(c.won)
			s.publish(s.message("set", c.mine))
		} else {
			s.announce(c.won)
		}
		return nil
	}
	if late := s.local.get(c.keys[0]); late != nil && late.alone.Load() && late.state.Load().session == c.mine.session &&
		winner.session != c.mine.session {
		s.gaveWay(late) // this request went on without Redis, and its session is pinned elsewhere
		late.unwritten.Store(false)
	}
	scattered := false
	for i := range found {
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
		s.publish(s.message("set", c.won.state.Load()))
	}
	return nil
}

// olderThanSetGet reports whether a server refuses SET with NX and GET together: one before Redis 7, whatever it says that
// it is.
func olderThanSetGet(err error) bool {
	var refused goredis.Error
	return errors.As(err, &refused) && strings.Contains(refused.Error(), "syntax error")
}

// winner is the value that binds this request, or nil. A session under a later key that has the first key too, which held
// nothing, has lost it to us a moment ago and does not count; there says that it held something.
func (c *claim) winner(found []*value, there bool) *value {
	if holds(found[0], c.subject, c.now) {
		return found[0]
	}
	for _, v := range found[1:] {
		if holds(v, c.subject, c.now) && (there || !slices.Contains(v.keys, c.keys[0])) {
			return v
		}
	}
	return nil
}
