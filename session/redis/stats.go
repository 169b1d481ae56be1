package redis

import (
	"sync/atomic"
	"time"
)

type counters struct {
	stale, asked         atomic.Uint64
	commands             atomic.Uint64
	failures, late       atomic.Uint64
	skipped              atomic.Uint64
	damaged              atomic.Uint64
	adopted, reconciled  atomic.Uint64
	unwrittenLost        atomic.Uint64
	moved, subscriptions atomic.Uint64
	refreshed            atomic.Uint64
	learnt, unannounced  atomic.Uint64
	lastError            atomic.Value // string
}

// Stats is what the store has done since its start, and how it stands.
type Stats struct {
	Found     uint64 // lookups of a key that a copy answered, Stale among them
	Stale     uint64 // lookups that found a stale copy and asked Redis
	Refreshed uint64 // copies read again in the background before they were stale
	Asked     uint64 // claims and reads of keys that had no copy
	Skipped   uint64 // asks that the open breaker answered
	// Commands sent to Redis for pins, scans and probes apart.
	Commands   uint64
	Failures   uint64 // asks that Redis answered with an error or not at all
	Late       uint64 // requests that went on after the budget without an answer
	Damaged    uint64 // values that could not be read and were taken for absent
	Adopted    uint64 // sessions decided here that turned out to be pinned elsewhere
	Reasserted uint64 // copies written again after Redis came back
	Lost       uint64 // writes that waited for Redis and were given up
	Moves      uint64 // invalidations from other replicas
	Lapses     uint64 // times the subscription was lost
	Learnt     uint64 // keys that other replicas have told of before they were asked for
	// Unannounced sessions are those that the others were not told of; they learn from Redis.
	Unannounced uint64
	Pending     int // changes that wait to be written to Redis; those of a replica that dies are lost
	Copies      int
	Evicted     uint64
	Degraded    time.Time     // since when requests do without Redis; zero: they do not
	Offset      time.Duration // how far Redis's clock is ahead of this machine's
	LastError   string
}

// Stats returns the present figures.
func (s *Store) Stats() Stats {
	c := &s.stats
	copies, found := s.local.size()
	out := Stats{
		Found: found, Stale: c.stale.Load(), Refreshed: c.refreshed.Load(), Asked: c.asked.Load(), Skipped: c.skipped.Load(),
		Commands: c.commands.Load(), Failures: c.failures.Load(), Late: c.late.Load(), Damaged: c.damaged.Load(),
		Adopted: c.adopted.Load(), Reasserted: c.reconciled.Load(), Lost: c.unwrittenLost.Load(),
		Moves: c.moved.Load(), Lapses: c.subscriptions.Load(),
		Learnt: c.learnt.Load(), Unannounced: c.unannounced.Load(), Pending: int(s.pending.Load()),
		Copies: copies, Evicted: s.local.evicted.Load(), Offset: time.Duration(s.measured.Load()),
	}
	if since := s.line.breaker.since.Load(); since != 0 {
		out.Degraded = time.Unix(0, since)
	}
	out.LastError, _ = c.lastError.Load().(string)
	return out
}
