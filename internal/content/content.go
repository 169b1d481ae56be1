// Package content reads a revision's parts as what they mean: a rule document, lists, organisations, overrides.
//
// It is responsible for the names that parts have in the store and for reading each content once, however many
// revisions refer to it. It does not check the parts against each other: Compile of package rules does, called here
// with everything in place. It starts nothing and writes nothing.
package content

import (
	"context"

	"tellergate/rules"
	"tellergate/store"
)

// Part names in a store.Revision. The rule document is one part; lists, organisations and overrides are one each.
const (
	RulesPart          = "rules"
	listPrefix         = "lists/"
	organisationPrefix = "organisations/"
	overridePrefix     = "overrides/"
)

// ListPart returns the part that holds the named list.
func ListPart(name string) string { return listPrefix + name }

// OrganisationPart returns the part that holds the organisation of a legal entity.
func OrganisationPart(legalEntity string) string { return organisationPrefix + legalEntity }

// OverridePart returns the part that holds the override of a service.
func OverridePart(service string) string { return overridePrefix + service }

// State is the meaning of one revision. Its members are immutable and may be shared between States; the maps are the
// holder's own, so a draft is a Clone with some entries replaced.
type State struct {
	Document      *rules.Document // never nil
	Text          []byte          // the document as it was written, nil if there is none
	Lists         map[string]*rules.List
	Organisations map[string]*rules.Organisation
	Overrides     map[string]rules.Override
}

// Clone returns a State with maps of its own.
func (s *State) Clone() *State { panic("BUG: not written") }

// Compile compiles the state.
func (s *State) Compile(schema *rules.Schema) (*rules.RuleSet, error) {
	return rules.Compile(s.Document, rules.Inputs{
		Schema: schema, Lists: s.Lists, Organisations: s.Organisations, Overrides: s.Overrides,
	})
}

// Contents is the part of store.Store that a Reader needs.
type Contents interface {
	Content(ctx context.Context, digest store.Digest) ([]byte, error)
}

// A Reader reads revisions and remembers what the latest ones shared, so that an unchanged list is not read again.
// It is safe for concurrent use.
type Reader struct{ from Contents }

// NewReader returns a Reader of from.
func NewReader(from Contents) *Reader { return &Reader{from: from} }

// Read returns the meaning of a revision. Whatever was stored has been checked before, so an error here is damage or
// a store that cannot be reached; it names the part.
func (r *Reader) Read(ctx context.Context, revision store.Revision) (*State, error) {
	panic("BUG: not written")
}
