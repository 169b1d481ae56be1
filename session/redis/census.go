package redis

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tellergate/session"
)

// The drain ledger is computed from the pins themselves, so that no index can lie: SCAN over every primary and
// pipelined reads, only while somebody asks or a version drains. An error says that nothing is known, never that there
// is none.

const (
	scanKeys = 256
	// rest is how many times as long as a step took a scan rests after it: of the time of a Redis it takes at most a
	// sixteenth, and less by the way there and back.
	rest = 15
	// attempts is how often a step is tried that Redis did not answer in time.
	attempts = 4

	keepRows  = 2 * time.Minute  // how long a ledger is kept after its last page
	watching  = 10 * time.Second // how long a Watch keeps the counting going
	lingering = 30 * time.Second // how long a census goes on for somebody who has stopped waiting
	between   = time.Second      // two censuses that somebody watches
	inPeace   = 30 * time.Second // two censuses while a version drains and nobody watches
	leaseFor  = 2 * time.Minute
	leaseName = "tellergate:census"
)

// A row is one session in a ledger: 64 bytes, and no pointer.
type row struct {
	start                    int64    // by the clock of Redis, Unix nanoseconds
	lead                     [16]byte // of its first key, whatever that leads to by now
	at                       [16]byte // of a key that leads to it: lead, if that does
	session                  uint64
	generation               uint32
	service, version, branch uint32 // in ledger.names
}

// id names the session: its first key, and enough of its number to tell it from others that had the same first key.
func (r *row) id() string { return ledgerID(r.lead, r.session) }

const idBytes = 16 + 5

// idEncoding has no sign that a command line or a URL takes for something else.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

func ledgerID(lead [16]byte, number uint64) string {
	var raw [16 + 8]byte
	copy(raw[:], lead[:])
	binary.BigEndian.PutUint64(raw[16:], number)
	return idEncoding.EncodeToString(raw[:idBytes])
}

// parseID returns the parts of what ledgerID wrote; number lacks its last three bytes.
func parseID(id string) (lead [16]byte, number uint64, ok bool) {
	raw, err := idEncoding.DecodeString(id)
	if err != nil || len(raw) != idBytes {
		return lead, 0, false
	}
	copy(lead[:], raw)
	return lead, binary.BigEndian.Uint64(append(raw[16:idBytes:idBytes], 0, 0, 0)) >> 24, true
}

// names reports whether the ID with this number is the session's.
func namesSession(number, session uint64) bool { return session>>24 == number }

func (r *row) compare(start int64, id string) int {
	return cmp.Or(cmp.Compare(r.start, start), cmp.Compare(r.id(), id))
}

// raw is the key's name in bytes.
func (c *codec) raw(k session.Key) (id [16]byte) {
	copy(id[:], sum(c.names, k.Service, k.Attribute, k.Value))
	return id
}

func nameOf(raw [16]byte) string { return keyPrefix + base64.RawURLEncoding.EncodeToString(raw[:]) }

// A ledger is a census with its rows. It is immutable once it is complete.
type ledger struct {
	session.Census
	began time.Time // by this process, for whether it is new enough
	rows  []row     // by start, then ID
	names []string

	used atomic.Int64 // when a page of it was asked for last, Unix nanoseconds
}

// A counting is the owner of all censuses of a store. Its goroutine is Store.count.
type counting struct {
	wake chan struct{} // capacity 1
	seen atomic.Int64  // keys, of the census under way
	of   atomic.Int64

	mu      sync.Mutex       // guards everything below
	changes time.Time        // an operator moved or ended something here, or Redis was away: older censuses do not answer
	wanted  time.Time        // some census that began then or later is wanted,
	until   time.Time        // until then
	watched time.Time        // and one after the other until then
	running bool             // one is under way
	kept    *ledger          // the last complete one, with its rows while it is paged
	last    []session.Census // the last two in a row
	failed  time.Time        // when the one began that failed, if none has succeeded since
	err     error            // why
	changed chan struct{}    // closed and replaced when a census has ended
}

func newCounting() *counting {
	return &counting{wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

func (c *counting) awake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// census returns a ledger that began at most Options.Reuse ago or later; with any, the last one that still has its rows.
// It waits for at most patience.
func (s *Store) census(anyKept bool, most time.Duration) (*ledger, error) {
	if err := s.settled(); err != nil {
		return nil, err
	}
	c := s.counting
	now := time.Now()
	from := now.Add(-s.o.Reuse)
	patience := time.NewTimer(most)
	defer patience.Stop()
	for {
		c.mu.Lock()
		if from.Before(c.changes) {
			from = c.changes
		}
		switch {
		case c.kept != nil && c.kept.rows != nil && (anyKept || !c.kept.began.Before(from)):
			kept := c.kept
			c.mu.Unlock()
			kept.used.Store(time.Now().UnixNano())
			return kept, nil
		case c.err != nil && !c.failed.Before(now):
			err := c.err
			c.mu.Unlock()
			return nil, err
		}
		if c.wanted.Before(from) {
			c.wanted = from
		}
		if until := now.Add(most + lingering); c.until.Before(until) {
			c.until = until // not shorter than this waits, nor than another does
		}
		changed := c.changed
		c.mu.Unlock()
		c.awake()
		select {
		case <-changed:
		case <-patience.C:
			return nil, c.progress()
		}
	}
}

// outdate says that an operator has just changed what a census counts.
func (c *counting) outdate() {
	c.mu.Lock()
	c.changes = time.Now()
	c.mu.Unlock()
}

func (c *counting) progress() *session.Counting {
	return &session.Counting{Seen: int(c.seen.Load()), Of: int(c.of.Load())}
}

// Census returns a count of all sessions that began at most Options.Reuse ago or later. It may answer session.Counting.
func (s *Store) Census(patience time.Duration) (session.Census, error) {
	l, err := s.census(false, patience)
	if err != nil {
		return session.Census{}, err
	}
	return l.Census, nil
}

// Counts returns the live sessions by service, version and branch, sorted. It takes a census.
func (s *Store) Counts() ([]session.Count, error) {
	c, err := s.Census(s.o.Patience)
	return c.Counts, err
}

// Watch keeps one census after the other going for a while, and returns what is known.
func (s *Store) Watch() session.Watch {
	c := s.counting
	c.mu.Lock()
	c.watched = time.Now().Add(watching)
	w := session.Watch{Now: s.now().Add(s.ahead()), Last: slices.Clone(c.last), Unknown: c.err}
	if c.running {
		w.Running = c.progress()
	}
	c.mu.Unlock()
	c.awake()
	if s.line.breaker.open() {
		w.Unknown = unknown(errors.New("requests do without it since a while"))
	}
	if w.Unknown == nil {
		w.Registry, w.Unknown = s.Registry()
	}
	return w
}

// Known returns the last census if it is not older than age, for metrics: it asks nothing.
func (s *Store) Known(age time.Duration) (session.Census, bool) {
	c := s.counting
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || len(c.last) == 0 || s.line.breaker.open() {
		return session.Census{}, false
	}
	last := c.last[len(c.last)-1]
	return last, s.now().Add(s.ahead()).Sub(last.Ended) <= age
}

// errUnwanted ends a census that nobody waits for any more.
var errUnwanted = errors.New("nobody waits for it")

// count takes the censuses that are asked for until ctx ends.
func (s *Store) count(ctx context.Context) {
	c := s.counting
	tick := time.NewTicker(between)
	defer tick.Stop()
	ended := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-tick.C:
		}
		c.tidy()
		if !s.wanted(ctx, time.Since(ended)) {
			continue
		}
		began := time.Now()
		c.mu.Lock()
		c.running = true
		c.mu.Unlock()
		l, err := s.takeCensus(ctx, began)
		ended = time.Now()
		c.end(l, began, err)
		if ctx.Err() != nil {
			return
		}
	}
}

// wanted reports whether a census is to be taken; since is the time that has passed after the last.
func (s *Store) wanted(ctx context.Context, since time.Duration) bool {
	c := s.counting
	c.mu.Lock()
	now := time.Now()
	asked := c.until.After(now) && (c.kept == nil || c.kept.rows == nil || c.kept.began.Before(c.wanted)) &&
		(c.err == nil || c.failed.Before(c.wanted) || since >= between)
	watched := c.watched.After(now) && since >= between
	c.mu.Unlock()
	return asked || watched || since >= inPeace && s.drains() && s.lease(ctx)
}

// tidy lets go of rows that nobody pages.
func (c *counting) tidy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept != nil && c.kept.rows != nil && time.Since(time.Unix(0, c.kept.used.Load())) > keepRows {
		c.kept = nil
	}
}

// still reports whether somebody waits for the census under way.
func (c *counting) still(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until.After(now) || c.watched.After(now)
}

func (c *counting) end(l *ledger, began time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
	switch {
	case errors.Is(err, errUnwanted):
	case err != nil:
		c.err, c.failed, c.last = err, began, nil
		c.changes = time.Now() // what was counted before is not what is known now
	default:
		c.kept, c.err = l, nil
		c.last = append(slices.Clone(c.last[max(0, len(c.last)-session.Clean+1):]), l.Census)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// drains reports whether some version does not take new sessions here.
func (s *Store) drains() bool {
	return slices.ContainsFunc(s.o.Self().Versions, func(v session.Running) bool { return !v.Active })
}

// lease makes this replica the one that counts while nobody asks, and reports whether it is.
func (s *Store) lease(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	if s.client.SetNX(ctx, leaseName, s.self, leaseFor).Val() {
		return true
	}
	return s.client.Get(ctx, leaseName).Val() == s.self && s.client.Expire(ctx, leaseName, leaseFor).Val()
}

// takeCensus is one census.
func (s *Store) takeCensus(ctx context.Context, began time.Time) (*ledger, error) {
	c := s.counting
	c.seen.Store(0)
	c.of.Store(0)
	l := &ledger{began: began}
	l.used.Store(began.UnixNano())
	l.Began = s.now().Add(s.ahead())
	var err error
	if l.Before, err = s.Registry(); err != nil {
		return nil, err
	}
	b := newBook(s)
	inPeace := !c.still(began)
	renewed := began
	goOn := func() error {
		now := time.Now()
		switch {
		case inPeace && now.Sub(renewed) > leaseFor/4:
			if renewed = now; !s.lease(ctx) {
				return errUnwanted
			}
		case !inPeace && !c.still(now):
			return errUnwanted
		}
		return nil
	}
	if err := s.scan(ctx, goOn, b.enter); err != nil {
		return nil, err
	}
	if l.After, err = s.Registry(); err != nil {
		return nil, err
	}
	l.Ended = s.now().Add(s.ahead())
	l.rows, l.names = b.finish()
	l.Counts = l.count()
	return l, nil
}

// count adds the rows up.
func (l *ledger) count() []session.Count {
	type name struct{ service, version, branch uint32 }
	sums := make(map[name]session.Count)
	for i := range l.rows {
		r := &l.rows[i]
		n := name{r.service, r.version, r.branch}
		c := sums[n]
		if c.Sessions == 0 { // rows come oldest first
			c = session.Count{Service: l.names[r.service], Version: l.names[r.version], Branch: l.names[r.branch],
				Oldest: time.Unix(0, r.start).UTC()}
		}
		c.Sessions++
		sums[n] = c
	}
	counts := make([]session.Count, 0, len(sums))
	for _, c := range sums {
		counts = append(counts, c)
	}
	session.SortCounts(counts)
	return counts
}

func unknown(err error) error {
	return fmt.Errorf("%w: Redis does not answer: %w", session.ErrUnknown, err)
}

// settled waits until what this replica had to write when it was called is written.
func (s *Store) settled() error {
	for deadline := time.Now().Add(s.o.Timeout); ; time.Sleep(time.Millisecond) {
		if s.line.breaker.open() {
			return unknown(errors.New("requests do without it since a while"))
		}
		if s.pending.Load() == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return unknown(errors.New("what this replica had to write did not get through"))
		}
	}
}

// A place is a session's place in the ledger's order, and so a cursor.
func parsePlace(cursor string) (start int64, id string, err error) {
	text, id, ok := strings.Cut(cursor, ".")
	if start, err = strconv.ParseInt(text, 10, 64); !ok || err != nil {
		return 0, "", fmt.Errorf("%q is not the cursor of a page of sessions: pass the value of next unchanged,"+
			" or none to begin with the oldest session", cursor)
	}
	return start, id, nil
}
