package redis

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// A book gathers values into rows, a session's once. It is used by one goroutine at a time.
type book struct {
	s      *Store
	now    time.Time
	offset time.Duration
	rows   []row
	of     map[uint64]uint32 // row by session
	names  []string
	places map[string]uint32 // in names
}

func newBook(s *Store) *book {
	return &book{s: s, now: s.now(), offset: s.ahead(), rows: []row{}, of: make(map[uint64]uint32), places: make(map[string]uint32)}
}

func (b *book) place(name string) uint32 {
	at, ok := b.places[name]
	if !ok {
		name = strings.Clone(name)
		at = uint32(len(b.names))
		b.names = append(b.names, name)
		b.places[name] = at
	}
	return at
}

// enter takes down what a key holds.
func (b *book) enter(name, text string) {
	v, err := b.s.codec.decode(text, b.offset)
	if err != nil {
		b.s.stats.damaged.Add(1)
		return
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(name, keyPrefix))
	if err != nil || len(raw) != 16 || !holds(v, "", b.now) {
		return
	}
	r := row{
		start: v.pin.Start.Add(b.offset).UnixNano(), lead: b.s.codec.raw(v.keys[0]), at: [16]byte(raw), session: v.session,
		generation: v.generation, service: b.place(v.keys[0].Service), version: b.place(v.pin.Version), branch: b.place(v.pin.Branch),
	}
	i, again := b.of[v.session]
	if !again {
		b.of[v.session] = uint32(len(b.rows))
		b.rows = append(b.rows, r)
		return
	}
	held := &b.rows[i]
	if held.at == held.lead {
		r.at = held.at
	}
	if r.generation >= held.generation {
		*held = r
	} else if r.at == held.lead {
		held.at = r.at
	}
}

func (b *book) finish() ([]row, []string) {
	b.of, b.places = nil, nil
	slices.SortFunc(b.rows, func(p, q row) int {
		return cmp.Or(cmp.Compare(p.start, q.start), strings.Compare(p.id(), q.id()))
	})
	return b.rows, b.names
}
