// Package store defines the history of what operators decided: numbered, immutable revisions, each chained by hash to
// its parent, and the content they refer to.
//
// It is responsible for the words and the contract; store/file keeps revisions on a disk. It does not know what a rule
// or a list is: a revision is a set of named parts, each a text addressed by its SHA-256. It imports nothing of
// tellergate.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

var (
	// ErrConflict: the change was made against another revision than the head.
	ErrConflict = errors.New("the head revision has moved on")
	// ErrNotFound: there is no such revision or content.
	ErrNotFound = errors.New("not found")
)

// A Digest is the SHA-256 of a part's content.
type Digest [sha256.Size]byte

// DigestOf returns the digest of content.
func DigestOf(content []byte) Digest { return sha256.Sum256(content) }

// DigestPausing is DigestOf that calls pause, which may be nil, between pieces of some 20 µs of work.
func DigestPausing(content []byte, pause func()) (d Digest) {
	if pause == nil {
		return DigestOf(content)
	}
	hash := sha256.New()
	for piece := range slices.Chunk(content, 8<<10) {
		_, _ = hash.Write(piece)
		pause()
	}
	hash.Sum(d[:0])
	return d
}

// String prints the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText prints the digest as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (d *Digest) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(d) {
		return fmt.Errorf("digest %q has %d characters instead of %d", text, len(text), hex.EncodedLen(len(d)))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// A Revision is one immutable state of everything operators decide. Seq 0 is the empty state before the first change;
// it has no hash and is never stored.
type Revision struct {
	Seq    uint64    `json:"seq"`
	Parent uint64    `json:"parent"`
	Author string    `json:"author"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"` // UTC, whole milliseconds
	// Parts names every part of this state and the digest of its content. It must not be modified.
	Parts map[string]Digest `json:"parts"`
	// Previous is the parent's Hash, and Hash covers Previous and every field above.
	Previous Digest `json:"previous"`
	Hash     Digest `json:"hash"`
}

// A Change is what one revision does to its parent. Parts that it does not name stay as they are.
type Change struct {
	// Parent is the Seq of the revision that the author saw.
	Parent uint64
	Author string
	Reason string
	Set    map[string][]byte // part name → new content; the store keeps nothing of it when Append has returned
	Delete []string          // part names; naming one that does not exist is no error
	// Pause is called between pieces of long work; nil: never.
	Pause func()
	// Digested is called with each part of Set and its digest, before the revision is the head; nil: never.
	Digested func(part string, digest Digest)
}

// Store keeps revisions. Implementations are safe for concurrent use.
type Store interface {
	// Head returns the latest revision, the zero Revision if there is none.
	Head(ctx context.Context) (Revision, error)
	// Revision returns revision seq, or ErrNotFound. Seq 0 is the empty state.
	Revision(ctx context.Context, seq uint64) (Revision, error)
	// Revisions returns at most limit revisions with Seq < before (0: from the head), newest first.
	Revisions(ctx context.Context, before uint64, limit int) ([]Revision, error)
	// Content returns the content that some revision's part names, or ErrNotFound. It must not be modified.
	Content(ctx context.Context, digest Digest) ([]byte, error)
	// Append makes change durable and then the head. It returns ErrConflict, and changes nothing, unless change.Parent
	// is the head. A change that leaves every part as it was appends nothing and returns the head.
	Append(ctx context.Context, change Change) (Revision, error)
	// Wait blocks until the head's Seq exceeds after and returns that head, or ctx's error.
	Wait(ctx context.Context, after uint64) (Revision, error)
}
