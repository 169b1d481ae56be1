package content

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"tellergate/rules"
	"tellergate/store"
)

// ErrUnreadable: a part is damaged, or a newer version of the program wrote it. Reading it again will not help.
var ErrUnreadable = errors.New("unreadable")

// Contents is the part of store.Store that a Reader needs.
type Contents interface {
	Content(ctx context.Context, digest store.Digest) ([]byte, error)
}

// A Reader reads revisions and remembers what the latest two shared, so that an unchanged list is not read again.
// It is safe for concurrent use.
type Reader struct {
	from  Contents
	pause rules.Pause

	mu      sync.Mutex
	recent  [2]reading  // the revisions read last, the latest first; guarded by mu
	offered [4]offering // what is about to be stored, the latest first; guarded by mu
}

// An offering is what a content means.
type offering struct {
	key  key
	held *rules.List
}

// A reading is what one revision's parts held.
type reading struct {
	revision store.Digest
	parts    map[key]any
}

// A key names a content and the kind that it was read as.
type key struct {
	kind   Kind
	digest store.Digest
}

// document is a rule document together with its text.
type document struct {
	parsed *rules.Document
	text   []byte
}

// NewReader returns a Reader of from. pause, which may be nil, is called between pieces of long work.
func NewReader(from Contents, pause rules.Pause) *Reader { return &Reader{from: from, pause: pause} }

// Read returns the meaning of a revision; Seq 0 is the empty state. Whatever was stored has been checked before, so an
// error here is damage (ErrUnreadable) or a store that cannot be reached; it names the part.
func (r *Reader) Read(ctx context.Context, revision store.Revision) (*State, error) {
	state, now := newState(), reading{revision: revision.Hash, parts: make(map[key]any, len(revision.Parts))}
	for _, part := range slices.Sorted(maps.Keys(revision.Parts)) {
		kind, name, ok := ParsePart(part)
		if !ok {
			return nil, fmt.Errorf("part %q of revision %d is %w: this version does not know its kind; run the version that wrote it",
				part, revision.Seq, ErrUnreadable)
		}
		k := key{kind, revision.Parts[part]}
		held, known := r.remembered(k)
		if !known {
			var err error
			if held, err = r.read(ctx, k); err != nil {
				return nil, fmt.Errorf("part %q of revision %d: %w", part, revision.Seq, err)
			}
		}
		now.parts[k] = held
		switch held := held.(type) {
		case document:
			state.Document, state.Text = held.parsed, held.text
		case *rules.List:
			state.Lists[name] = held
		case *rules.Organisation:
			state.Organisations[name] = held
		case rules.Override:
			state.Overrides[name] = held
		}
	}
	r.remember(now)
	return state, nil
}

// OfferList tells what a content means that is about to be stored, so that the replica that stores it does not read it
// again. The digest must be that of what EncodeList makes of the list.
func (r *Reader) OfferList(digest store.Digest, list *rules.List) {
	k := key{List, digest}
	if _, known := r.remembered(k); known { // as where a list is replaced by itself, which makes no revision
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.offered[1:], r.offered[:])
	r.offered[0] = offering{k, list}
}

// remembered returns what a recent revision held as k.
func (r *Reader) remembered(k key) (held any, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reading := range r.recent {
		if held, ok = reading.parts[k]; ok {
			return held, true
		}
	}
	for _, o := range r.offered {
		if o.held != nil && o.key == k {
			return o.held, true
		}
	}
	return nil, false
}

// remember puts the reading first and forgets what only older ones held.
func (r *Reader) remember(now reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch now.revision {
	case r.recent[0].revision:
		r.recent[0] = now
	default:
		r.recent = [2]reading{now, r.recent[0]}
		r.offered = [4]offering{} // what was to come has come, or never will
	}
}

// read fetches a content and reads it as its kind.
func (r *Reader) read(ctx context.Context, k key) (any, error) {
	text, err := r.from.Content(ctx, k.digest)
	if err != nil {
		return nil, err
	}
	if found := store.DigestPausing(text, r.pause); found != k.digest {
		return nil, fmt.Errorf("%w: its content has digest %s instead of %s", ErrUnreadable, found, k.digest)
	}
	held, err := r.parse(k.kind, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return held, nil
}

func (r *Reader) parse(kind Kind, text []byte) (any, error) {
	switch kind {
	case Rules:
		parsed, err := rules.Parse(text)
		return document{parsed, text}, err
	case List:
		return r.pause.ParseList(text)
	case Organisation:
		return rules.ParseOrganisation(text)
	case Override:
		return decodeOverride(text)
	}
	panic("BUG: no parser for a part of kind " + string(kind))
}
