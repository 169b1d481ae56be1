package session

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// A Move is what an operator did to many sessions at once: who, why, which and how many. It grows while it is under way.
type Move struct {
	ID     string `json:"id"`
	Author string `json:"author"`
	Reason string `json:"reason"`

	Service string `json:"service"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"` // empty: the sessions were ended
	Branch  string `json:"branch,omitempty"`
	Under   string `json:"under,omitempty"` // a branch, and all beneath it

	Began    time.Time `json:"began"`
	Last     time.Time `json:"last"` // when it went on last
	Sessions int       `json:"sessions"`
	Finished bool      `json:"finished"` // none was left
}

// SortMoves puts the latest first.
func SortMoves(moves []Move) {
	slices.SortFunc(moves, func(a, b Move) int { return cmp.Or(b.Began.Compare(a.Began), cmp.Compare(a.ID, b.ID)) })
}

const movesKept = 200

// moves are those of a single replica.
type moves struct {
	mu   sync.Mutex
	kept []Move // guarded by mu; the latest first
}

// NoteMove keeps what a move in bulk has done so far. The latest 200 are kept, until the process ends.
func (a *Alone) NoteMove(m Move) error {
	a.moves.mu.Lock()
	defer a.moves.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(a.moves.kept), func(old Move) bool { return old.ID == m.ID })
	kept = append(kept, m)
	SortMoves(kept)
	a.moves.kept = kept[:min(len(kept), movesKept)]
	return nil
}

// Moves returns what moves in bulk have done, the latest first.
func (a *Alone) Moves() ([]Move, error) {
	a.moves.mu.Lock()
	defer a.moves.mu.Unlock()
	return slices.Clone(a.moves.kept), nil
}
