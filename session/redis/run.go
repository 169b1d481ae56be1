package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

const (
	batch      = 256 // copies in one pipeline of the writer
	clockEvery = 10 * time.Second
	quantum    = 500 * time.Millisecond // a smaller change of the offset is noise of the network
	tooFar     = 2 * time.Second        // an offset that operators are warned of
	recent     = 10 * time.Second       // what a fail-over may have lost
	lastFlush  = 2 * time.Second        // for what is unwritten at the end
)

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
	s.writer(ctx)
	s.flushLast()
	stop()
	s.alive.Wait()
	return s.client.Close()
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
			s.exchange(ctx, []string{m}, nil)
		}
	}
}

// writeBatch writes first and what else waits.
func (s *Store) writeBatch(ctx context.Context, first *copied) {
	copies := []*copied{first}
	var messages []string
	for len(copies)+len(messages) < batch {
		select {
		case c := <-s.writes:
			copies = append(copies, c)
			continue
		case m := <-s.messages:
			messages = append(messages, m)
			continue
		default:
		}
		break
	}
	s.exchange(ctx, messages, copies)
}

// flushLast empties the queues at the end, in bounded time.
func (s *Store) flushLast() {
	ctx, cancel := context.WithTimeout(context.Background(), lastFlush)
	defer cancel()
	now := s.now()
	s.local.each(func(_ session.Key, c *copied) {
		if c.unwritten.Load() && c.live(now) {
			s.write(c)
		}
	})
	for ctx.Err() == nil {
		select {
		case c := <-s.writes:
			s.writeBatch(ctx, c)
			continue
		case m := <-s.messages:
			s.exchange(ctx, []string{m}, nil)
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
}

// exchange sends messages and copies in one pipeline and files the replies.
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
	forced := c.forced.Swap(false)
	was := c.state.Load()
	v := *was
	w := writing{c: c, v: &v, was: was}
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
		if v := s.decode(text); v != nil && (v.session == w.v.session || holds(v, w.v.pin.Subject, now)) {
			if i == 0 && v.session != w.v.session && s.local.get(k) == w.c {
				s.stats.adopted.Add(1)
			}
			s.confirm(k, w.c, v, now)
		} else if s.local.get(k) == w.c {
			s.force(w.c) // what is there binds nobody
		}
	}
	s.line.breaker.succeeded()
	w.c.read.Store(now.UnixNano())
	if !w.was.ended {
		next := *w.was
		next.pin.Renewed = w.v.pin.Renewed
		w.c.state.CompareAndSwap(w.was, &next) // else it has changed meanwhile and is written again
	}
}

// keep compares clocks, and while requests do without Redis asks whether it is back.
func (s *Store) keep(ctx context.Context) {
	clock := time.NewTicker(clockEvery)
	defer clock.Stop()
	probe := time.NewTicker(s.o.Probe)
	defer probe.Stop()
	s.compareClocks(ctx)
	s.learnVersion(ctx)
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
			if !s.line.breaker.open() {
				s.compareClocks(ctx)
			}
		case <-probe.C:
			since := s.line.breaker.since.Load()
			if since == 0 {
				continue
			}
			if !told {
				told = true
				last, _ := s.stats.lastError.Load().(string)
				s.o.Warn("Redis does not answer: sessions go on by the copies that this replica has, new ones by the rules; " +
					"last error: " + last)
			}
			if err := s.line.probe(ctx); err != nil {
				s.stats.lastError.Store(err.Error())
				continue
			}
			s.compareClocks(ctx)
			s.learnVersion(ctx)
			s.staleUntil.Store(s.now().UnixNano())
			s.line.breaker.close()
			s.reassert(ctx, time.Time{})
			told = false
			s.o.Warn("Redis answers again; it was away since " + time.Unix(0, since).UTC().Format(time.RFC3339))
		}
	}
}

// learnVersion finds out whether a new session can be claimed without a script.
func (s *Store) learnVersion(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	info, err := s.client.Info(ctx, "server").Result()
	if err != nil {
		return // the script does it
	}
	for line := range strings.Lines(info) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			major, _, _ := strings.Cut(version, ".")
			n, _ := strconv.Atoi(major)
			s.setGet.Store(n >= 7)
		}
	}
}

// compareClocks measures how far Redis's clock is ahead of ours. Times in Redis are by its clock.
func (s *Store) compareClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	ask := s.o.ServerTime
	if ask == nil {
		ask = func(ctx context.Context) (time.Time, error) { return s.client.Time(ctx).Result() }
	}
	before := s.now()
	theirs, err := ask(ctx)
	if err != nil {
		return
	}
	after := s.now()
	offset := theirs.Sub(before.Add(after.Sub(before) / 2))
	previous := time.Duration(s.measured.Swap(int64(offset)))
	if (offset - s.ahead()).Abs() > quantum {
		s.offset.Store(int64(offset))
	}
	if offset.Abs() > tooFar && previous.Abs() <= tooFar {
		s.o.Warn(fmt.Sprintf("Redis's clock is %s ahead of this machine's: sessions are corrected by it, but set the clocks",
			offset.Round(time.Millisecond)))
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

// listen takes what other replicas publish. After every loss of the subscription all copies are stale, and what the last
// seconds brought is asserted again: it may be another server that answers now.
func (s *Store) listen(ctx context.Context) {
	for first := true; ctx.Err() == nil; first = false {
		lost := s.now()
		if !first {
			s.stats.subscriptions.Add(1)
			s.staleUntil.Store(lost.UnixNano())
		}
		s.subscribe(ctx, func() {
			if !first {
				s.staleUntil.Store(s.now().UnixNano())
				s.reassert(ctx, lost.Add(-recent))
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(s.o.Probe):
		}
	}
}

// subscribe takes messages until the subscription fails.
func (s *Store) subscribe(ctx context.Context, subscribed func()) {
	sub := s.client.Subscribe(ctx, channel)
	defer sub.Close()
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer stop()
	pinged := false
	for ctx.Err() == nil {
		message, err := sub.ReceiveTimeout(ctx, 2*time.Second)
		if err != nil {
			var timeout interface{ Timeout() bool }
			if !errors.As(err, &timeout) || !timeout.Timeout() || pinged || sub.Ping(ctx) != nil {
				return
			}
			pinged = true
			continue
		}
		pinged = false
		switch m := message.(type) {
		case *goredis.Subscription:
			subscribed()
		case *goredis.Message:
			s.hear(m.Payload)
		}
	}
}

// hear applies another replica's change to the copies that it concerns.
func (s *Store) hear(message string) {
	parts := strings.SplitN(message, " ", 3)
	if len(parts) != 3 || parts[0] == s.self {
		return
	}
	v := s.decode(parts[2])
	if v == nil {
		return
	}
	s.stats.moved.Add(1)
	now := s.now()
	s.installing.Lock()
	defer s.installing.Unlock()
	v.ended = parts[1] == "end"
	for _, k := range v.keys {
		c := s.local.get(k)
		if c == nil {
			continue
		}
		held := c.state.Load()
		switch {
		case held.session == v.session && v.generation >= held.generation:
			c.state.Store(v)
			c.read.Store(now.UnixNano())
		case held.session != v.session && !v.ended:
			s.local.drop(k, c) // the key is another session's: ask when it comes
		}
	}
}
