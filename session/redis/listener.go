package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const recent = 10 * time.Second // what a fail-over may have lost

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
				s.tellAgain(lost.Add(-recent)) // to those who have asked for it before this replica could hear them
			}
			s.askForNews(ctx, lost.Add(-recent))
		})
		select {
		case <-ctx.Done():
		case <-time.After(s.o.Probe):
		}
	}
}

// subscribe takes messages until the subscription fails.
func (s *Store) subscribe(ctx context.Context, subscribed func()) {
	sub := s.client.Subscribe(ctx, channel, newsChannel)
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
			if m.Channel == newsChannel { // the second of the two
				subscribed()
			}
		case *goredis.Message:
			if m.Channel == newsChannel {
				s.hearNews(m.Payload)
			} else {
				s.hear(m.Payload)
			}
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
	var again *copied
	for _, k := range v.keys {
		c := s.local.get(k)
		if c == nil {
			continue
		}
		held := c.state.Load()
		switch {
		case held.session == v.session && held.ended:
			if !v.ended {
				again = c // who goes on has not heard of it
			}
		case held.session == v.session && v.ended:
			c.state.Store(v)
			c.read.Store(now.UnixNano())
			if now.UnixNano()-c.changed.Load() < int64(recent) {
				s.write(c) // what was written here at the same moment may have come after it
			}
		case held.session == v.session && v.generation == held.generation && v.pin.Version != held.pin.Version:
			c.read.Store(0) // both replicas decided it anew at once: Redis holds who was last
		case held.session == v.session && v.generation >= held.generation:
			c.state.Store(v)
			c.read.Store(now.UnixNano())
		case !v.ended:
			s.local.drop(k, c) // the key is another session's: ask when it comes
		}
	}
	switch {
	case again != nil:
		s.write(again)
		s.publish(s.message("end", again.state.Load()))
	case !v.ended:
		s.learn(v, now)
	}
}
