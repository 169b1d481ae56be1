package session

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The drain ledger is read by operators: every call walks all keys, one shard's lock at a time.

// A row is a session on its way to a page.
type row struct {
	place  place
	record *record
	pin    Pin
}

// A place is a session's place in the ledger's order, and so a cursor.
type place struct {
	start int64 // Pin.Start in Unix nanoseconds
	id    string
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.start, q.start), cmp.Compare(p.id, q.id))
}

func (p place) String() string { return strconv.FormatInt(p.start, 10) + "." + p.id }

func parsePlace(cursor string) (place, error) {
	start, id, ok := strings.Cut(cursor, ".")
	nanoseconds, err := strconv.ParseInt(start, 10, 64)
	if !ok || err != nil {
		return place{}, fmt.Errorf("%q is not the cursor of a page of sessions: pass the value of next unchanged,"+
			" or none to begin with the oldest session", cursor)
	}
	return place{start: nanoseconds, id: id}, nil
}

// Sessions returns at most limit live sessions that filter selects, limit ≥ 1, oldest Start first, then by ID. after is
// the cursor that the previous page returned as next, empty at first; next is empty on the last page. A session that
// lives through all pages is on exactly one of them.
func (m *Memory) Sessions(filter Filter, after string, limit int) (page []Session, next string, err error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("a page of %d sessions was asked for: ask for at least 1", limit)
	}
	var from place
	if after != "" {
		if from, err = parsePlace(after); err != nil {
			return nil, "", err
		}
	}
	rows := m.rows(filter, func(p place) bool { return after == "" || p.compare(from) > 0 }, limit+1)
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].place.String()
	}
	for _, r := range rows {
		keys := r.record.list()
		if len(keys) == 0 {
			continue // ended since the walk
		}
		page = append(page, Session{ID: r.place.id, Service: keys[0].Service, Pin: r.pin, Keys: keys})
	}
	return page, next, nil
}

// rows returns the first most of the selected sessions, in order.
func (m *Memory) rows(filter Filter, beyond func(place) bool, most int) []row {
	var rows []row
	first := func() {
		slices.SortFunc(rows, func(a, b row) int { return a.place.compare(b.place) })
		rows = rows[:min(most, len(rows))]
	}
	m.walk(func(key Key, r *record, pin Pin) {
		if !filter.Selects(key.Service, pin.Version, pin.Branch, pin.Start) {
			return
		}
		at := place{start: pin.Start.UnixNano(), id: r.name()}
		if !beyond(at) {
			return
		}
		if rows = append(rows, row{place: at, record: r, pin: pin}); len(rows) >= 4*most {
			first() // so that a page of a million sessions costs a page of memory
		}
	})
	first()
	return rows
}

// EndID ends the session with this ID, under all its keys, and reports whether there was one.
func (m *Memory) EndID(id string) (bool, error) {
	r := m.named(id)
	return r != nil && m.end(r, m.now()), nil
}

// Session returns the live session with this ID and whether there is one.
func (m *Memory) Session(id string) (found Session, ok bool, err error) {
	m.walk(func(key Key, r *record, pin Pin) {
		if !ok && r.name() == id {
			found, ok = Session{ID: id, Service: key.Service, Pin: pin, Keys: r.list()}, true
		}
	})
	return found, ok, nil
}

// MoveID puts the session on another version from its next request on and reports whether there was one. The pod it was
// on is forgotten.
func (m *Memory) MoveID(id, version string) (bool, error) {
	r := m.named(id)
	if r == nil {
		return false, nil
	}
	for {
		old := r.pin.Load()
		moved := *old
		moved.Version = strings.Clone(version)
		moved.Moved = moved.Moved || moved.Endpoint.IsValid()
		moved.Endpoint, moved.UID = Pin{}.Endpoint, ""
		if r.pin.CompareAndSwap(old, &moved) {
			return true, nil
		}
	}
}

// Counts returns the live sessions by service, version and branch, sorted. The error is nil, here and above: memory
// always knows.
func (m *Memory) Counts() ([]Count, error) {
	type name struct{ service, version, branch string }
	found := make(map[name]Count)
	m.walk(func(key Key, _ *record, pin Pin) {
		n := name{key.Service, pin.Version, pin.Branch}
		c, there := found[n]
		if !there || pin.Start.Before(c.Oldest) {
			c.Oldest = pin.Start
		}
		c.Sessions++
		found[n] = c
	})
	counts := make([]Count, 0, len(found))
	for n, c := range found {
		c.Service, c.Version, c.Branch = n.service, n.version, n.branch
		counts = append(counts, c)
	}
	SortCounts(counts)
	return counts, nil
}

// walk visits every live session once, by the key that leads it, with that key's shard locked.
func (m *Memory) walk(visit func(key Key, r *record, pin Pin)) {
	now := m.now()
	for i := range m.shards {
		m.walkShard(&m.shards[i], now, visit)
	}
}

func (m *Memory) walkShard(s *shard, now time.Time, visit func(key Key, r *record, pin Pin)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ring {
		if !e.record.leads(e.key) {
			continue
		}
		if pin := m.read(e.record); pin.Live(now) {
			visit(e.key, e.record, pin)
		}
	}
}

// named returns the live session with this ID, or nil.
func (m *Memory) named(id string) (found *record) {
	m.walk(func(_ Key, r *record, _ Pin) {
		if found == nil && r.name() == id {
			found = r
		}
	})
	return found
}

// name is the session's ID.
func (r *record) name() string { return fmt.Sprintf("%016x", r.id) }
