package store

import (
	"fmt"
	"maps"
	"time"
	"unicode/utf8"
)

// Next returns the revision that change makes of head, at the time at; ok is false if it leaves every part as it was.
// It returns ErrConflict, wrapped, unless change.Parent is head, and refuses texts that are not UTF-8, because they
// would not come back as they were written. It is what every Append begins with.
func Next(head Revision, change Change, at time.Time) (next Revision, ok bool, err error) {
	if change.Parent != head.Seq {
		return Revision{}, false, fmt.Errorf("the change was made against revision %d and the head is %d: %w",
			change.Parent, head.Seq, ErrConflict)
	}
	if !utf8.ValidString(change.Author) || !utf8.ValidString(change.Reason) {
		return Revision{}, false, fmt.Errorf("the author %q and the reason %q must be UTF-8", change.Author, change.Reason)
	}
	parts := maps.Clone(head.Parts)
	if parts == nil {
		parts = make(map[string]Digest)
	}
	for _, name := range change.Delete {
		delete(parts, name)
	}
	for name, content := range change.Set {
		if name == "" || !utf8.ValidString(name) {
			return Revision{}, false, fmt.Errorf("the name of a part is %q: it must be UTF-8 and not empty", name)
		}
		parts[name] = DigestPausing(content, change.Pause)
		if change.Digested != nil {
			change.Digested(name, parts[name])
		}
	}
	if maps.Equal(parts, head.Parts) {
		return Revision{}, false, nil
	}
	next = Revision{
		Seq:      head.Seq + 1,
		Parent:   head.Seq,
		Author:   change.Author,
		Reason:   change.Reason,
		At:       at.UTC().Truncate(time.Millisecond),
		Parts:    parts,
		Previous: head.Hash,
	}
	next.Hash = next.ComputeHash()
	return next, true, nil
}

// CheckNext returns what is wrong with r as the revision after parent, nil if it is its true successor.
func CheckNext(parent, r Revision) error {
	switch {
	case r.Seq != parent.Seq+1:
		return fmt.Errorf("its number is %d and should be %d", r.Seq, parent.Seq+1)
	case r.Parent != parent.Seq:
		return fmt.Errorf("its parent is %d and should be %d", r.Parent, parent.Seq)
	case r.Previous != parent.Hash:
		return fmt.Errorf("it follows a revision with the hash %s, but the hash of revision %d is %s",
			r.Previous, parent.Seq, parent.Hash)
	case r.Hash != r.ComputeHash():
		return fmt.Errorf("its hash is %s, but its fields give %s", r.Hash, r.ComputeHash())
	}
	return nil
}
