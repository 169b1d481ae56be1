package redis

import (
	"context"
	"strings"
	"time"
)

// What one replica begins, the others know before it is asked of them, so that a session outlives the replica that made
// it also where Redis does not answer at that moment. Sessions that began or were renewed are gathered and published
// together: "SELF\nVALUE\nVALUE…". What is learnt is kept as a stale copy: while Redis answers, it is asked.
const (
	newsChannel  = "tellergate:news"
	newsGathers  = 50 * time.Millisecond
	newsTogether = 256
	newsWaiting  = 1 << 15
)

// announce has the other replicas told of a session. It never waits: of what finds no room they learn from Redis, when it
// is asked of them.
func (s *Store) announce(c *copied) {
	select {
	case s.news <- c:
	default:
		s.stats.unannounced.Add(1)
	}
}

// announcer publishes what announce hands it, until ctx ends.
func (s *Store) announcer(ctx context.Context) {
	copies := make([]*copied, 0, newsTogether)
	for {
		copies = copies[:0]
		select {
		case <-ctx.Done():
			s.publishNews(context.WithoutCancel(ctx), s.waitingNews(copies))
			return
		case c := <-s.news:
			copies = append(copies, c)
		}
		enough := time.NewTimer(newsGathers)
	more:
		for len(copies) < newsTogether {
			select {
			case c := <-s.news:
				copies = append(copies, c)
			case <-enough.C:
				break more
			case <-ctx.Done():
				break more
			}
		}
		enough.Stop()
		s.publishNews(context.WithoutCancel(ctx), copies)
	}
}

// waitingNews appends what waits to be published, as much as goes into one message.
func (s *Store) waitingNews(copies []*copied) []*copied {
	for len(copies) < newsTogether {
		select {
		case c := <-s.news:
			copies = append(copies, c)
			continue
		default:
		}
		break
	}
	return copies
}

func (s *Store) publishNews(ctx context.Context, copies []*copied) {
	if len(copies) == 0 {
		return
	}
	if s.line.breaker.open() {
		s.stats.unannounced.Add(uint64(len(copies)))
		return
	}
	var message strings.Builder
	message.WriteString(s.self)
	now := s.now()
	for _, c := range copies {
		if !c.live(now) {
			continue
		}
		v := *c.state.Load()
		v.pin.Renewed = c.current().Renewed
		message.WriteByte('\n')
		message.WriteString(s.codec.encode(&v, s.ahead()))
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	s.stats.commands.Add(1)
	if err := s.client.Publish(ctx, newsChannel, message.String()).Err(); err != nil {
		s.stats.unannounced.Add(uint64(len(copies))) // what else fails says what is wrong
	}
}

// hearNews learns what another replica announces.
func (s *Store) hearNews(message string) {
	from, values, _ := strings.Cut(message, "\n")
	if from == s.self {
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

// learn keeps what another replica says of a live session. It takes no room from a copy that is in use, and leaves what
// this replica knows better or has yet to write. The caller holds installing.
func (s *Store) learn(v *value, now time.Time) {
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
