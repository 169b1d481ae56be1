package redis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

const (
	batch     = 256             // copies in one pipeline
	lastFlush = 2 * time.Second // for what is unwritten at the end
)

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

// message is what the other replicas are told of a change: "set" or "end".
func (s *Store) message(kind string, v *value) string {
	whole := *v
	whole.ended = false
	return strings.Join([]string{s.self, kind, s.codec.encode(&whole, s.ahead())}, " ")
}

// publish has the writer tell the other replicas, after what write was given before: whoever hears that a key is another
// session's asks Redis for it at once, and keeps the answer. It never waits.
func (s *Store) publish(message string) {
	s.pending.Add(1)
	select {
	case s.messages <- message:
	default:
		s.pending.Add(-1)
		s.stats.unwrittenLost.Add(1)
	}
}

// writer writes what Redis lacks, in pipelines, until ctx ends.
func (s *Store) writer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.writes:
			s.writeBatch(ctx, c)
		case m := <-s.messages:
			s.tell(ctx, m)
		}
	}
}

// writeBatch writes first and what else waits.
func (s *Store) writeBatch(ctx context.Context, first *copied) {
	copies := []*copied{first}
	for len(copies) < batch {
		select {
		case c := <-s.writes:
			copies = append(copies, c)
			continue
		default:
		}
		break
	}
	s.exchange(ctx, nil, copies)
}

// tell publishes first and what else waits, when all that waited to be written has been.
func (s *Store) tell(ctx context.Context, first string) {
	messages := []string{first}
	for waiting := len(s.messages); waiting > 0 && len(messages) < batch; waiting-- {
		messages = append(messages, <-s.messages)
	}
	for waiting := len(s.writes); waiting > 0; {
		copies := make([]*copied, min(waiting, batch))
		for i := range copies {
			copies[i] = <-s.writes
		}
		s.exchange(ctx, nil, copies)
		waiting -= len(copies)
	}
	s.exchange(ctx, messages, nil)
}

// flushLast empties the queues at the end, in bounded time.
func (s *Store) flushLast() {
	ctx, cancel := context.WithTimeout(context.Background(), lastFlush)
	defer cancel()
	now := s.now()
	s.local.each(func(_ session.Key, c *copied) {
		if (c.unwritten.Load() || c.pod.Load() || c.alone.Load()) && c.live(now) {
			s.write(c)
		}
	})
	for ctx.Err() == nil {
		select {
		case c := <-s.writes:
			s.writeBatch(ctx, c)
			continue
		case m := <-s.messages:
			s.tell(ctx, m)
			continue
		default:
		}
		return
	}
}

// A writing is one copy on its way to Redis.
type writing struct {
	c       *copied
	v       *value // as written
	was     *value // as it was when it was read
	replies []*goredis.Cmd
	news    bool // the other replicas are to be told when it is written
}

// exchange sends copies or messages in one pipeline and files the replies.
func (s *Store) exchange(ctx context.Context, messages []string, copies []*copied) {
	defer s.pending.Add(-int64(len(messages) + len(copies)))
	if s.line.breaker.open() {
		for _, c := range copies { // reconcile finds them
			c.unwritten.Store(true)
			c.queued.Store(false)
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	now := s.now()
	writings := make([]writing, len(copies))
	for i, c := range copies {
		writings[i] = s.prepare(ctx, pipe, c, now)
	}
	for _, m := range messages {
		pipe.Publish(ctx, channel, m)
	}
	s.stats.commands.Add(uint64(pipe.Len()))
	_, _ = pipe.Exec(ctx) // every reply is looked at
	for i := range writings {
		s.written(&writings[i], now)
	}
}

func (s *Store) prepare(ctx context.Context, pipe goredis.Pipeliner, c *copied, now time.Time) writing {
	c.queued.Store(false)
	c.unwritten.Store(false)
	c.pod.Store(false)
	forced := c.forced.Swap(false)
	was := c.state.Load()
	v := *was
	w := writing{c: c, v: &v, was: was, news: !v.ended && (forced || c.alone.Load() || c.untold.Load() || c.due(now))}
	script, text := assertScript, ""
	if v.ended {
		script, text = endScript, encodeEnd(v.session, v.generation)
	} else {
		v.pin.Renewed = c.current().Renewed
		text = s.codec.encode(&v, s.ahead())
	}
	life := s.life(&v, now).Milliseconds()
	for _, k := range v.keys {
		if forced && !v.ended {
			w.replies = append(w.replies, pipe.Do(ctx, "SET", s.codec.name(k), text, "PX", life))
		} else {
			w.replies = append(w.replies, pipe.Eval(ctx, script, []string{s.codec.name(k)}, text, life))
		}
	}
	if forced {
		w.v.keys = nil // nothing to be compared
	}
	return w
}

// written files what Redis said of a copy.
func (s *Store) written(w *writing, now time.Time) {
	leads := true // the first key is this session's
	for i, r := range w.replies {
		text, err := r.Text()
		if replied(err) != nil && !errors.Is(err, goredis.Nil) && !w.was.ended {
			s.stats.failures.Add(1)
			s.stats.lastError.Store(err.Error())
			s.line.breaker.failed(time.Now())
			w.c.unwritten.Store(true)
			if w.v.keys == nil {
				w.c.forced.Store(true)
			}
			return
		}
		if w.was.ended && r.Err() != nil {
			s.line.breaker.failed(time.Now())
			w.c.unwritten.Store(true)
			return
		}
		if w.was.ended || w.v.keys == nil || text == "" {
			continue
		}
		k := w.v.keys[i]
		v := s.decode(text)
		if i == 0 {
			leads = v != nil && v.session == w.v.session
		}
		if v != nil && i > 0 && leads && v.session != w.v.session && slices.Contains(v.keys, w.v.keys[0]) {
			s.force(w.c) // it has lost the first key to this session, and with it the others
			s.publish(s.message("set", w.v))
		} else if v != nil && (v.session == w.v.session || holds(v, w.v.pin.Subject, now)) {
			s.confirm(k, w.c, v, now)
		} else if s.local.get(k) == w.c {
			s.force(w.c) // what is there binds nobody
		}
	}
	s.line.breaker.succeeded()
	w.c.read.Store(now.UnixNano())
	w.c.alone.Store(false)
	if w.news && s.local.get(w.was.keys[0]) == w.c { // else it has just given way
		s.announce(w.c)
	}
	if !w.was.ended {
		next := *w.was
		next.pin.Renewed = w.v.pin.Renewed
		if !w.c.state.CompareAndSwap(w.was, &next) && w.c.state.Load().ended {
			s.write(w.c) // this has been written over its end; of other changes that made them have it written
		}
	}
}

// reassert has every live copy written that was claimed or put after since, and what is unwritten besides. It waits for
// the writer.
func (s *Store) reassert(ctx context.Context, since time.Time) {
	now := s.now()
	s.local.each(func(_ session.Key, c *copied) {
		lost := c.unwritten.Load() || c.live(now) && (since.IsZero() || c.changed.Load() >= since.UnixNano())
		if !lost || ctx.Err() != nil || !c.queued.CompareAndSwap(false, true) {
			return
		}
		s.pending.Add(1)
		select {
		case s.writes <- c:
			s.stats.reconciled.Add(1)
		case <-ctx.Done():
			s.pending.Add(-1)
		}
	})
}
