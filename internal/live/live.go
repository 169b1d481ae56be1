// Package live keeps what the replica runs equal to what the store says: it follows the store's head, compiles it and
// has it published, and tells others which revision runs since when.
//
// It owns the one loop through which every rule change passes, the writer's own included. It never publishes a
// revision that does not compile: the last good one stays, and Status says so. It does not serve requests or the API.
package live

import (
	"context"
	"time"

	"tellergate/internal/content"
	"tellergate/rules"
	"tellergate/store"
)

// A Generation is what one revision became on this replica. It is immutable.
type Generation struct {
	Revision store.Revision
	State    *content.State
	Rules    *rules.RuleSet
}

// Publish makes a generation the one that requests see. It returns once every request that starts afterwards sees it.
type Publish func(*Generation) error

// Status tells operators what runs.
type Status struct {
	Applied   uint64    `json:"applied"`            // revision that runs; 0: the empty state
	Since     time.Time `json:"since"`              // when it was published
	Head      uint64    `json:"head"`               // latest revision seen in the store
	Failing   string    `json:"failing,omitempty"`  // why Head does not run, empty if it does
	FailingAt time.Time `json:"failingAt,omitzero"` // since when
}

// A Loop is created by New and runs in Run.
type Loop struct{}

// New returns a loop over store; schema is what documents are compiled against.
func New(from store.Store, reader *content.Reader, schema *rules.Schema, publish Publish) *Loop {
	panic("BUG: not written")
}

// Run applies the head and then every later one until ctx ends. It returns ctx's error.
func (l *Loop) Run(ctx context.Context) error { panic("BUG: not written") }

// Current returns the generation that runs; never nil after the first was applied, nil before.
func (l *Loop) Current() *Generation { panic("BUG: not written") }

// Status returns what runs and what should.
func (l *Loop) Status() Status { panic("BUG: not written") }

// WaitApplied blocks until a revision ≥ seq runs here and returns nil, or until seq or a later one has failed to apply
// (that error) or ctx ends.
func (l *Loop) WaitApplied(ctx context.Context, seq uint64) error { panic("BUG: not written") }
