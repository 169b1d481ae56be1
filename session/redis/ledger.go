package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

// The drain ledger is computed from the pins themselves, so that no index can lie: SCAN over every primary and
// pipelined reads, only while somebody asks. An error says that nothing is known, never that there is none.

const (
	scanKeys = 500
	pause    = 2 * time.Millisecond // after each such step, so that a scan takes a small part of what Redis can do
)

// A row is a session on its way to a page.
type row struct {
	start int64
	id    string // of the key that leads it
	value *value
}

func (r row) compare(q row) int {
	return cmp.Or(cmp.Compare(r.start, q.start), cmp.Compare(r.id, q.id))
}

// Sessions returns at most limit live sessions that filter selects, limit ≥ 1, oldest Start first, then by ID. after is
// the cursor that the previous page returned as next, empty at first; next is empty on the last page. Every page scans
// Redis.
func (s *Store) Sessions(filter session.Filter, after string, limit int) (page []session.Session, next string, err error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("a page of %d sessions was asked for: ask for at least 1", limit)
	}
	var from row
	if after != "" {
		start, id, ok := strings.Cut(after, ".")
		if from.start, err = strconv.ParseInt(start, 10, 64); !ok || err != nil {
			return nil, "", fmt.Errorf("%q is not the cursor of a page of sessions: pass the value of next unchanged,"+
				" or none to begin with the oldest session", after)
		}
		from.id = id
	}
	leads := make(map[uint64]row)
	// keys holds the ids of keys that belong to the sessions in leads: others may have left them since.
	keys := make(map[uint64][]string)
	err = s.scan(func(id string, v *value) {
		if filter.Service != "" && filter.Service != v.keys[0].Service ||
			filter.Version != "" && filter.Version != v.pin.Version ||
			filter.Branch != "" && filter.Branch != v.pin.Branch {
			return
		}
		keys[v.session] = append(keys[v.session], id)
		if held, ok := leads[v.session]; !ok || v.generation > held.value.generation {
			leads[v.session] = row{value: v}
		}
	})
	if err != nil {
		return nil, "", err
	}
	var rows []row
	sessions := make(map[uint64][]session.Key, len(leads))
	for name, r := range leads {
		for _, k := range r.value.keys {
			if id := s.codec.id(k); slices.Contains(keys[name], id) {
				sessions[name] = append(sessions[name], k)
				if r.id == "" {
					r.id = id
				}
			}
		}
		r.start = r.value.pin.Start.UnixNano()
		if r.id != "" && (after == "" || r.compare(from) > 0) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, row.compare)
	if len(rows) > limit {
		rows = rows[:limit]
		next = strconv.FormatInt(rows[limit-1].start, 10) + "." + rows[limit-1].id
	}
	for _, r := range rows {
		page = append(page, session.Session{
			ID: r.id, Service: r.value.keys[0].Service, Pin: r.value.pin, Keys: sessions[r.value.session],
		})
	}
	return page, next, nil
}

// Counts returns the live sessions per service and version, sorted by both. It scans Redis.
func (s *Store) Counts() ([]session.Count, error) {
	type name struct{ service, version string }
	seen := make(map[uint64]struct{})
	counted := make(map[name]int)
	err := s.scan(func(_ string, v *value) {
		if _, again := seen[v.session]; again {
			return
		}
		seen[v.session] = struct{}{}
		counted[name{v.keys[0].Service, v.pin.Version}]++
	})
	if err != nil {
		return nil, err
	}
	counts := make([]session.Count, 0, len(counted))
	for n, c := range counted {
		counts = append(counts, session.Count{Service: n.service, Version: n.version, Sessions: c})
	}
	slices.SortFunc(counts, func(a, b session.Count) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version))
	})
	return counts, nil
}

// scan visits every live value once or more, with the id of its key, one at a time.
func (s *Store) scan(visit func(id string, v *value)) error {
	ctx := context.Background()
	if err := s.settled(); err != nil {
		return err
	}
	var mu sync.Mutex
	now := s.now()
	walk := func(ctx context.Context, client *goredis.Client) error {
		for cursor := uint64(0); ; {
			step, cancel := context.WithTimeout(ctx, s.o.Timeout)
			names, next, err := client.Scan(step, cursor, keyPrefix+"*", scanKeys).Result()
			var texts []*goredis.StringCmd
			if err == nil && len(names) > 0 {
				pipe := client.Pipeline()
				for _, n := range names {
					texts = append(texts, pipe.Get(step, n))
				}
				if _, err = pipe.Exec(step); errors.Is(err, goredis.Nil) {
					err = nil
				}
			}
			cancel()
			if err != nil {
				return err
			}
			mu.Lock()
			for i, t := range texts {
				text, err := t.Result()
				if err != nil {
					continue // it has expired, or its slot moved away and is found there
				}
				if v := s.decode(text); holds(v, "", now) {
					visit(strings.TrimPrefix(names[i], keyPrefix), v)
				}
			}
			mu.Unlock()
			if cursor = next; cursor == 0 {
				return nil
			}
			time.Sleep(pause)
		}
	}
	var err error
	switch client := s.client.(type) {
	case *goredis.ClusterClient:
		err = client.ForEachMaster(ctx, walk)
	case *goredis.Client:
		err = walk(ctx, client)
	}
	if err != nil {
		return unknown(err)
	}
	return nil
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

// find returns the live session that the key with this id leads to.
func (s *Store) find(id string) (*value, error) {
	if err := s.settled(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	text, err := s.client.Get(ctx, keyPrefix+id).Result()
	if replied(err) != nil {
		return nil, unknown(err)
	}
	if v := s.decode(text); holds(v, "", s.now()) {
		return v, nil
	}
	return nil, nil
}

// Session returns the live session with this ID and whether there is one. Its keys are those that it was written with.
func (s *Store) Session(id string) (row session.Session, there bool, err error) {
	v, err := s.find(id)
	if v == nil {
		return session.Session{}, false, err
	}
	return session.Session{ID: id, Service: v.keys[0].Service, Pin: v.pin, Keys: v.keys}, true, nil
}

// EndID ends the session with this ID, under all its keys, on every replica, and reports whether there was one.
func (s *Store) EndID(id string) (bool, error) {
	v, err := s.find(id)
	if v == nil {
		return false, err
	}
	s.installing.Lock()
	s.end(s.file(v.keys[:1], v, s.now()))
	s.installing.Unlock()
	return true, s.settled()
}

// MoveID puts the session on another version from its next request on, on every replica, and reports whether there was
// one. The pod it was on is forgotten.
func (s *Store) MoveID(id, version string) (bool, error) {
	v, err := s.find(id)
	if v == nil {
		return false, err
	}
	s.installing.Lock()
	c := s.file(v.keys[:1], v, s.now())
	next := *c.state.Load()
	next.generation++
	next.pin.Moved = next.pin.Moved || next.pin.Endpoint.IsValid()
	next.pin.Version, next.pin.UID, next.pin.Endpoint = version, "", session.Pin{}.Endpoint
	c.state.Store(&next)
	c.unwritten.Store(true)
	s.installing.Unlock()
	s.publish(s.message("set", &next))
	s.write(c)
	return true, s.settled()
}
