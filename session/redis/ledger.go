package redis

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

// Sessions returns at most limit live sessions that filter selects, limit ≥ 1, oldest Start first, then by ID. after is
// the cursor that the previous page returned as next, empty at first; next is empty on the last page. The first page
// takes a census, and may answer session.Counting; later ones go on in it while it is kept. What has ended or moved
// since is not on a page, what has begun since need not be.
func (s *Store) Sessions(filter session.Filter, after string, limit int) (page []session.Session, next string, err error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("a page of %d sessions was asked for: ask for at least 1", limit)
	}
	var start int64
	var id string
	if after != "" {
		if start, id, err = parsePlace(after); err != nil {
			return nil, "", err
		}
	}
	l, err := s.census(after != "", s.o.Patience)
	if err != nil {
		return nil, "", err
	}
	at := 0
	if after != "" {
		at = sort.Search(len(l.rows), func(i int) bool { return l.rows[i].compare(start, id) > 0 })
	}
	var lastRow *row
	for at < len(l.rows) {
		var some []*row
		for ; at < len(l.rows) && len(some) <= limit-len(page); at++ {
			r := &l.rows[at]
			// The version is compared once the session has been read again.
			if filter.Selects(l.names[r.service], filter.Version, l.names[r.branch], time.Unix(0, r.start)) &&
				(filter.Version == "" || l.names[r.version] == filter.Version) {
				some = append(some, r)
			}
		}
		read, err := s.readAgain(some)
		if err != nil {
			return nil, "", err
		}
		for i := range read {
			v := read[i].value
			if len(read[i].keys) == 0 || !filter.Selects(v.keys[0].Service, v.pin.Version, v.pin.Branch, v.pin.Start) {
				continue
			}
			if len(page) == limit {
				return page, strconv.FormatInt(lastRow.start, 10) + "." + lastRow.id(), nil
			}
			lastRow = some[i]
			page = append(page, session.Session{ID: some[i].id(), Service: v.keys[0].Service, Pin: v.pin, Keys: read[i].keys})
		}
	}
	return page, "", nil
}

// A reading is a session as it is now.
type reading struct {
	value *value
	keys  []session.Key // those of value's that lead to it; none: it is not there any more
}

// readAgain reads sessions again.
func (s *Store) readAgain(rows []*row) ([]reading, error) {
	read := make([]reading, len(rows))
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = nameOf(r.at)
	}
	now := s.now()
	found, err := s.fetch(names)
	if err != nil {
		return nil, err
	}
	names = names[:0]
	for i, v := range found {
		if v != nil && v.session == rows[i].session && holds(v, "", now) {
			read[i].value = v
			for _, k := range v.keys {
				names = append(names, s.codec.name(k))
			}
		}
	}
	if found, err = s.fetch(names); err != nil {
		return nil, err
	}
	for i := range read {
		v := read[i].value
		if v == nil {
			continue
		}
		for j, k := range v.keys {
			if found[j] != nil && found[j].session == v.session {
				read[i].keys = append(read[i].keys, k)
			}
		}
		found = found[len(v.keys):]
	}
	return read, nil
}

// fetch returns what keys hold, nil where that is nothing that can be read.
func (s *Store) fetch(names []string) ([]*value, error) {
	values := make([]*value, len(names))
	for from := 0; from < len(names); from += scanKeys {
		some := names[from:min(from+scanKeys, len(names))]
		ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
		pipe := s.client.Pipeline()
		replies := make([]*goredis.StringCmd, len(some))
		for i, n := range some {
			replies[i] = pipe.Get(ctx, n)
		}
		_, _ = pipe.Exec(ctx) // every reply is looked at
		cancel()
		for i, r := range replies {
			text, err := r.Result()
			if replied(err) != nil {
				return nil, unknown(err)
			}
			values[from+i] = s.decode(text)
		}
	}
	return values, nil
}

// find returns the live session with this ID and a key that leads to it.
func (s *Store) find(id string) (*value, session.Key, error) {
	none := session.Key{}
	lead, number, ok := parseID(id)
	if !ok {
		return nil, none, nil
	}
	if err := s.settled(); err != nil {
		return nil, none, err
	}
	found, err := s.fetch([]string{nameOf(lead)})
	if err != nil {
		return nil, none, err
	}
	v := found[0]
	switch {
	case v == nil:
		return nil, none, nil // all keys of a session expire together
	case namesSession(number, v.session):
		if !holds(v, "", s.now()) || s.codec.raw(v.keys[0]) != lead {
			return nil, none, nil
		}
		return v, v.keys[0], nil
	}
	// Its first key leads to another session now.
	l, err := s.census(false, s.o.Patience)
	if err != nil {
		return nil, none, err
	}
	for i := range l.rows {
		r := &l.rows[i]
		if r.lead != lead || !namesSession(number, r.session) {
			continue
		}
		read, err := s.readAgain([]*row{r})
		if err != nil || len(read[0].keys) == 0 {
			return nil, none, err
		}
		return read[0].value, read[0].keys[0], nil
	}
	return nil, none, nil
}

// Session returns the live session with this ID and whether there is one. Its keys are those that it was written with.
func (s *Store) Session(id string) (found session.Session, there bool, err error) {
	v, _, err := s.find(id)
	if v == nil {
		return session.Session{}, false, err
	}
	return session.Session{ID: id, Service: v.keys[0].Service, Pin: v.pin, Keys: v.keys}, true, nil
}

// EndID ends the session with this ID, under all its keys, on every replica, and reports whether there was one.
func (s *Store) EndID(id string) (bool, error) {
	v, key, err := s.find(id)
	if v == nil {
		return false, err
	}
	s.installing.Lock()
	s.end(s.file([]session.Key{key}, v, s.now()))
	s.installing.Unlock()
	return true, s.through()
}

// MoveID puts the session on another version from its next request on, on every replica, and reports whether there was
// one. The pod it was on is forgotten.
func (s *Store) MoveID(id, version string) (bool, error) {
	v, key, err := s.find(id)
	if v == nil {
		return false, err
	}
	s.installing.Lock()
	c := s.file([]session.Key{key}, v, s.now())
	next := *c.state.Load()
	next.generation++
	next.pin.Moved = true // the pod that it had is told to Redis with its next renewal only, so nobody knows it here
	next.pin.Version, next.pin.UID, next.pin.Endpoint = version, "", session.Pin{}.Endpoint
	c.state.Store(&next)
	c.unwritten.Store(true)
	s.installing.Unlock()
	s.write(c)
	s.publish(s.message("set", &next))
	return true, s.through()
}

// through is settled for what an operator has just done here: where it did not get to Redis, it is not unknown but held
// on this replica, and written when Redis is back.
func (s *Store) through() error {
	s.counting.outdate()
	if err := s.settled(); err != nil {
		return fmt.Errorf("it is done on this replica, and the others are told when Redis answers: %w", err)
	}
	return nil
}
