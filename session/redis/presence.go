package redis

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"tellergate/session"
)

// Replicas that share a Redis register in one hash, a field each: one key, so that it is listed without a scan in a
// cluster too. The field with the empty name says since when the hash exists.
const (
	registryName = "tellergate:replicas"
	registryLife = 24 * time.Hour // of a hash that nobody writes any more
	since        = ""
	wholeEvery   = 30 // beats
)

// register says every Heartbeat that this replica lives, and how it stands, until ctx ends.
func (s *Store) register(ctx context.Context) {
	beat := time.NewTicker(session.Heartbeat)
	defer beat.Stop()
	for beats := 0; ; beats++ {
		s.beat(ctx, beats%wholeEvery == 0) // a Redis that is away is told of the next time; operators hear of it elsewhere
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
	}
}

// beat writes this replica's field, and where it was not there, or whole asks for it, what belongs to the hash.
func (s *Store) beat(ctx context.Context, whole bool) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	self := s.o.Self()
	self.ID, self.Freshness = s.self, s.o.Freshness
	s.byRedis(&self)
	self.Seen = s.now().Add(s.ahead()).UTC()
	self.Flushed = time.Time{}
	if at := s.flushed.Load(); at != 0 {
		self.Flushed = time.Unix(0, at).UTC()
	}
	text, err := json.Marshal(self)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	added, err := s.client.HSet(ctx, registryName, s.self, text).Result()
	if err != nil {
		if parent.Err() == nil {
			s.stats.failures.Add(1)
			s.stats.lastError.Store(err.Error())
			s.line.breaker.failed(time.Now()) // so that it shows that Redis is away also where no request asks
		}
		return
	}
	s.line.breaker.succeeded()
	if added == 0 && !whole {
		return
	}
	pipe := s.client.Pipeline()
	pipe.HSetNX(ctx, registryName, since, self.Seen.Format(time.RFC3339Nano))
	pipe.Expire(ctx, registryName, registryLife)
	_, _ = pipe.Exec(ctx) // without them the hash is taken for new, and lives for ever
}

// byRedis turns the times of this machine into those of Redis's clock.
func (s *Store) byRedis(r *session.Replica) {
	ahead := s.ahead()
	for _, at := range []*time.Time{&r.Started, &r.Since, &r.FailingAt} {
		if !at.IsZero() {
			*at = at.Add(ahead).UTC()
		}
	}
	for i := range r.Versions {
		if v := &r.Versions[i]; !v.Active {
			v.Resting = v.Resting.Add(ahead).UTC()
		}
	}
}

// deregister takes this replica out of the register, if nothing that it knew is missing in Redis. Otherwise it becomes
// late, and its sessions stay unknown until it is gone.
func (s *Store) deregister() {
	if s.pending.Load() > 0 || s.line.breaker.open() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	s.client.HDel(ctx, registryName, s.self)
}

// Registry returns the replicas that share this Redis. Those that are gone are taken out of it.
func (s *Store) Registry() (session.Registry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	fields, err := s.client.HGetAll(ctx, registryName).Result()
	if err != nil {
		return session.Registry{}, unknown(err)
	}
	now := s.now().Add(s.ahead())
	registry := session.Registry{Since: now, Now: now, Self: s.self}
	if at, err := time.Parse(time.RFC3339Nano, fields[since]); err == nil {
		registry.Since = at
	}
	delete(fields, since)
	var gone []string
	for id, text := range fields {
		var r session.Replica
		if json.Unmarshal([]byte(text), &r) != nil || now.Sub(r.Seen) > session.Gone {
			gone = append(gone, id)
			continue
		}
		r.ID = id
		registry.Replicas = append(registry.Replicas, r)
	}
	if len(gone) > 0 {
		s.client.HDel(ctx, registryName, gone...)
	}
	registry.Sort()
	return registry, nil
}

// Forget takes a replica out of the register and reports whether it was in it. One that lives comes back.
func (s *Store) Forget(id string) (bool, error) {
	if id == since {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	n, err := s.client.HDel(ctx, registryName, id).Result()
	if err != nil {
		return false, unknown(err)
	}
	return n > 0, nil
}

// A version is named by its service too.
type version struct{ service, version string }

// flush moves the watermark: the moment up to which all that this replica knew is in Redis. It moves while nothing waits
// to be written and nothing has failed. After a failure, an outage or a lost subscription, and when a version ceases to
// be active, the live copies of such versions and all that is unwritten are written first, for Redis may have lost them.
func (s *Store) flush(ctx context.Context) {
	tick := time.NewTicker(session.Heartbeat / 4)
	defer tick.Stop()
	var written map[version]bool // since then nothing failed; nil: something has
	var trouble uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.line.breaker.open() {
			written = nil
			continue
		}
		resting := s.resting()
		if now := s.trouble(); written == nil || now != trouble || !covers(written, resting) {
			trouble = now
			if !s.rewriteResting(ctx, resting) {
				written = nil
				continue
			}
			written = resting
		}
		at := s.now().Add(s.ahead())
		if s.settled() == nil && s.trouble() == trouble && !s.line.breaker.open() {
			s.flushed.Store(at.UnixNano())
		}
	}
}

// trouble grows when something may be missing in Redis that this replica knows.
func (s *Store) trouble() uint64 {
	return s.stats.failures.Load() + s.stats.unwrittenLost.Load() + s.stats.subscriptions.Load()
}

func covers(written, resting map[version]bool) bool {
	for v := range maps.Keys(resting) {
		if !written[v] {
			return false
		}
	}
	return true
}

// resting returns the versions that are not active here.
func (s *Store) resting() map[version]bool {
	found := make(map[version]bool)
	for _, v := range s.o.Self().Versions {
		if !v.Active {
			found[version{v.Service, v.Version}] = true
		}
	}
	return found
}

// rewritten is how many copies are handed to the writer before it gets a rest.
const rewritten = 256

// rewriteResting has every live copy of these versions written, and whatever is unwritten. It reports whether all has
// been handed over.
func (s *Store) rewriteResting(ctx context.Context, resting map[version]bool) bool {
	now := s.now()
	given := 0
	s.local.each(func(k session.Key, c *copied) {
		if ctx.Err() != nil || !c.live(now) {
			return
		}
		v := c.state.Load()
		if !c.unwritten.Load() && !resting[version{k.Service, v.pin.Version}] || !c.queued.CompareAndSwap(false, true) {
			return
		}
		s.pending.Add(1)
		select {
		case s.writes <- c:
		case <-ctx.Done():
			s.pending.Add(-1)
		}
		if given++; given%rewritten == 0 {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return ctx.Err() == nil
}

// Moves in bulk are kept in one hash, too.
const (
	movesName = "tellergate:moves"
	movesKept = 200
)

// NoteMove keeps what a move in bulk has done so far.
func (s *Store) NoteMove(m session.Move) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	if err := s.client.HSet(ctx, movesName, m.ID, text).Err(); err != nil {
		return unknown(err)
	}
	return nil
}

// Moves returns what moves in bulk have done, the latest first. Only the latest 200 are kept.
func (s *Store) Moves() ([]session.Move, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	fields, err := s.client.HGetAll(ctx, movesName).Result()
	if err != nil {
		return nil, unknown(err)
	}
	var moves []session.Move
	for id, text := range fields {
		var m session.Move
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			s.stats.damaged.Add(1)
			continue
		}
		m.ID = id
		moves = append(moves, m)
	}
	session.SortMoves(moves)
	if len(moves) > movesKept {
		var old []string
		for _, m := range moves[movesKept:] {
			old = append(old, m.ID)
		}
		s.client.HDel(ctx, movesName, old...)
		moves = moves[:movesKept]
	}
	return moves, nil
}
