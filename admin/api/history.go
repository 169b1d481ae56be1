package api

import (
	"time"

	"tellergate/rules"
)

// Revisions answers GET RevisionsPath, newest first.
type Revisions struct {
	Head      uint64     `json:"head"`
	Revisions []Revision `json:"revisions"`
	// Next is the query before of the next page, 0 on the last one.
	Next uint64 `json:"next,omitempty" doc:"the query before of the next page; absent on the last one"`
}

// A Revision is one immutable state of everything operators decide.
type Revision struct {
	Seq    uint64    `json:"seq" doc:"counts from 1; 0 is the empty state before the first change"`
	Parent uint64    `json:"parent"`
	Author string    `json:"author"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at" doc:"UTC"`
	Hash   string    `json:"hash" doc:"SHA-256 over this revision and its parent's hash, lower-case hexadecimal"`
	// Changed names the parts that differ from the parent.
	Changed []string `json:"changed" doc:"parts that differ from the parent"`
	// Parts is the SHA-256 of every part's content, by part name: rules, lists/NAME, organisations/ENTITY,
	// overrides/SERVICE.
	Parts map[string]string `json:"parts" doc:"SHA-256 of every part's content, by part name"`
}

// A Diff is what leads from one revision to another.
type Diff struct {
	From  uint64     `json:"from"`
	To    uint64     `json:"to"`
	Parts []PartDiff `json:"parts" doc:"the parts that differ: rules first, then by name"`
}

// What a PartDiff did to its part.
const (
	PartAdded   = "added"
	PartRemoved = "removed"
	PartChanged = "changed"
)

// A PartDiff is how one part differs. At most one of Rules, List, Organisation and Override is set, by the kind of
// part.
type PartDiff struct {
	Part   string `json:"part" doc:"rules, lists/NAME, organisations/ENTITY or overrides/SERVICE"`
	Change string `json:"change" enum:"added,removed,changed"`
	// Rules is a unified diff of the documents in canonical form; empty if only comments or spelling differ.
	Rules        string            `json:"rules,omitempty" doc:"unified diff of the canonical rule documents"`
	List         *ListDiff         `json:"list,omitempty"`
	Organisation *OrganisationDiff `json:"organisation,omitempty"`
	Override     *OverrideDiff     `json:"override,omitempty"`
}

// ExampleLimit bounds every list of examples in a Diff.
const ExampleLimit = 20

// A ListDiff counts the values that came and went, with the first ExampleLimit of each in ascending order.
type ListDiff struct {
	Added           int      `json:"added"`
	Removed         int      `json:"removed"`
	AddedExamples   []string `json:"addedExamples,omitempty" doc:"the first 20"`
	RemovedExamples []string `json:"removedExamples,omitempty" doc:"the first 20"`
	// AttributeBefore is set where the list's attribute changed.
	AttributeBefore string `json:"attributeBefore,omitempty"`
}

// An OrganisationDiff counts the branches that came, went, hang under another branch, or only changed their name, with
// the first ExampleLimit codes of each in ascending order.
type OrganisationDiff struct {
	Added           int      `json:"added"`
	Removed         int      `json:"removed"`
	Moved           int      `json:"moved" doc:"hang under another branch"`
	Renamed         int      `json:"renamed" doc:"changed only their name"`
	AddedExamples   []string `json:"addedExamples,omitempty" doc:"the first 20 codes"`
	RemovedExamples []string `json:"removedExamples,omitempty" doc:"the first 20 codes"`
	MovedExamples   []string `json:"movedExamples,omitempty" doc:"the first 20 codes"`
}

// An OverrideDiff is an override before and after; nil is none.
type OverrideDiff struct {
	Before *rules.Override `json:"before,omitempty"`
	After  *rules.Override `json:"after,omitempty"`
}

// A RestoreRequest asks that parts be again as they were in a revision. Parts that did not exist then are deleted.
type RestoreRequest struct {
	// Parts names what to restore; empty restores the rules alone.
	Parts []string `json:"parts,omitempty" doc:"part names; absent: rules alone"`
}

// A RestoreResult answers a restore: a new revision, whose Changes are the difference to the head before.
type RestoreResult struct {
	WriteResult
	Restored uint64 `json:"restored" doc:"the revision whose parts were taken"`
}
