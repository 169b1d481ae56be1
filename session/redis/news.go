package redis

import (
	"context"
	"strconv"
	"strings"
	"time"

	"tellergate/session"
)

// What one replica begins, the others know before it is asked of them, so that a session outlives the replica that made
// it also where Redis does not answer at that moment. Sessions that began or were renewed are gathered and published
// together: "SELF\nVALUE\nVALUE…". What is learnt is kept as a stale copy: while Redis answers, it is asked. Who could not
// hear for a while asks the others to tell it again: "SELF SINCE", in Unix milliseconds by Redis's clock.
const (
	newsChannel  = "tellergate:news"
	newsGathers  = 50 * time.Millisecond
	newsTogether = 256
	newsWaiting  = 1 << 15
)

// announce has the other replicas told of a session. It never waits: what finds no room is told of when it is next written.
func (s *Store) announce(c *copied) {
	select {
	case s.news <- c:
		c.untold.Store(false)
	default:
		c.untold.Store(true)
		s.stats.unannounced.Add(1)
	}
}

// announcer publishes what announce hands it, until ctx ends.
func (s *Store) announcer(ctx context.Context) {
	copies := make([]*copied, 0, newsTogether)
	for {
		if copies = gather(ctx, s.news, copies, newsGathers); len(copies) == 0 {
			return
		}
		// What cannot be told now is told when Redis is back; meanwhile the queue fills.
		for !s.publishNews(context.WithoutCancel(ctx), copies) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(newsGathers):
			}
		}
	}
}

// publishNews reports whether there is nothing left to be told of copies.
func (s *Store) publishNews(ctx context.Context, copies []*copied) bool {
	if s.line.breaker.open() {
		return false
	}
	var message strings.Builder
	message.WriteString(s.self)
	now, some := s.now(), false
	for _, c := range copies {
		if !c.live(now) {
			continue
		}
		some = true
		v := *c.state.Load()
		v.pin.Renewed = c.current().Renewed
		message.WriteByte('\n')
		message.WriteString(s.codec.encode(&v, s.ahead()))
	}
	return !some || s.sendNews(ctx, message.String())
}

func (s *Store) sendNews(ctx context.Context, message string) bool {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	s.stats.commands.Add(1)
	return s.client.Publish(ctx, newsChannel, message).Err() == nil // what else fails with it says what is wrong
}

// askForNews has the other replicas tell again what they have begun since then: this one could not hear it.
func (s *Store) askForNews(ctx context.Context, since time.Time) {
	s.sendNews(ctx, s.self+" "+strconv.FormatInt(since.Add(s.ahead()).UnixMilli(), 10))
}

// hearNews learns what another replica announces, or tells it what it asks for.
func (s *Store) hearNews(message string) {
	from, values, _ := strings.Cut(message, "\n")
	from, asks, _ := strings.Cut(from, " ")
	if from == s.self {
		return
	}
	if since, err := strconv.ParseInt(asks, 10, 64); err == nil {
		s.tellAgain(time.UnixMilli(since).Add(-s.ahead()))
		return
	}
	for text := range strings.SplitSeq(values, "\n") {
		if v := s.decode(text); v != nil && !v.ended {
			s.installing.Lock()
			s.learn(v, s.now())
			s.installing.Unlock()
		}
	}
}

// tellAgain announces what has begun here since then.
func (s *Store) tellAgain(since time.Time) {
	now := s.now()
	s.local.each(func(k session.Key, c *copied) {
		if c.changed.Load() >= since.UnixNano() && c.live(now) && c.state.Load().keys[0] == k {
			s.announce(c)
		}
	})
}

// learn keeps what another replica says of a live session. It takes no room from a copy that is in use, and leaves what
// this replica knows better or has yet to write. The caller holds installing.
func (s *Store) learn(v *value, now time.Time) {
	c := s.copyOf(v)
	if c == nil {
		c = copyFrom(v)
	} else {
		held := c.state.Load()
		if held.ended {
			return
		}
		same := v.generation == held.generation && !c.unwritten.Load() && !c.pod.Load()
		if v.generation > held.generation || same && v.pin.Renewed.After(held.pin.Renewed) {
			next := *v
			next.pin.Start, next.pin.End = held.pin.Start, held.pin.End // clocks differ a little each time they are compared
			c.state.Store(&next)
		}
	}
	for _, k := range v.keys {
		switch held := s.local.get(k); {
		case held == c:
		case held == nil || !held.live(now) && !held.unwritten.Load() && !held.queued.Load():
			if s.local.learn(k, c, now) {
				s.stats.learnt.Add(1)
			}
		default:
			held.read.Store(0) // the key is said to lead to two sessions: Redis knows
		}
	}
}
