package redis

import (
	"context"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

const (
	gathering = 50 * time.Millisecond // that the refresher waits for more
	refreshes = 512                   // copies read with one command
)

// refresh has a fresh copy that is in use read again in the background, in the last quarter of its freshness. So where
// Redis answers no request waits for a stale copy, and Redis is asked once for many.
func (s *Store) refresh(c *copied, now time.Time) {
	if now.UnixNano()-c.read.Load() < int64(s.o.Freshness)/4*3 || !c.aging.CompareAndSwap(false, true) {
		return
	}
	select {
	case s.aging <- c:
	default:
		c.aging.Store(false) // at its next request
	}
}

// refresher reads what refresh hands it, until ctx ends.
func (s *Store) refresher(ctx context.Context) {
	copies := make([]*copied, 0, refreshes)
	for {
		if copies = gather(ctx, s.aging, copies, gathering); len(copies) == 0 {
			return
		}
		done := s.reread(ctx, copies)
		for _, c := range copies {
			c.aging.Store(false)
		}
		s.stats.refreshed.Add(uint64(done))
	}
}

// gather waits for a copy from queue and takes those that follow it within the time given, as many as into has room for.
// They take the place of what is in into. There is none if ctx ends before the first.
func gather(ctx context.Context, queue <-chan *copied, into []*copied, within time.Duration) []*copied {
	into = into[:0]
	select {
	case <-ctx.Done():
		return into
	case c := <-queue:
		into = append(into, c)
	}
	enough := time.NewTimer(within)
	defer enough.Stop()
	for len(into) < cap(into) {
		select {
		case c := <-queue:
			into = append(into, c)
		case <-enough.C:
			return into
		case <-ctx.Done():
			return into
		}
	}
	return into
}

// reread reads each copy under the key that leads its session, files what Redis says, and returns how many were read.
// What cannot be read becomes stale, and its next request asks.
func (s *Store) reread(ctx context.Context, copies []*copied) int {
	if s.line.breaker.open() {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	now := s.now()
	keys, names := make([]session.Key, len(copies)), make([]string, len(copies))
	for i, c := range copies {
		keys[i] = c.state.Load().keys[0]
		names[i] = s.codec.name(keys[i])
	}
	texts, err := s.texts(ctx, names)
	if err != nil {
		s.stats.failures.Add(1)
		s.stats.lastError.Store(err.Error())
		s.line.breaker.failed(time.Now())
		return 0
	}
	s.line.breaker.succeeded()
	for i, c := range copies {
		s.confirm(keys[i], c, s.decode(texts[i]), now)
	}
	return len(copies)
}

// texts returns what Redis holds under names, "" for nothing: with one command, or where the names lie in many slots of
// a cluster with one pipeline.
func (s *Store) texts(ctx context.Context, names []string) ([]string, error) {
	texts := make([]string, len(names))
	if _, ok := s.client.(*goredis.ClusterClient); !ok {
		s.stats.commands.Add(1)
		values, err := s.client.MGet(ctx, names...).Result()
		for i, v := range values {
			texts[i], _ = v.(string)
		}
		return texts, err
	}
	replies := make([]*goredis.StringCmd, len(names))
	pipe := s.client.Pipeline()
	for i, n := range names {
		replies[i] = pipe.Get(ctx, n)
	}
	s.stats.commands.Add(uint64(len(names)))
	_, _ = pipe.Exec(ctx) // every reply is looked at
	for i, r := range replies {
		if replied(r.Err()) != nil {
			return nil, r.Err()
		}
		texts[i] = r.Val()
	}
	return texts, nil
}
