// Package content reads a revision's parts as what they mean: a rule document, lists, organisations, overrides.
//
// It is responsible for the names and the encodings that parts have in the store and for reading each content once,
// however many revisions refer to it. It does not check the parts against each other: Compile of package rules does,
// called here with everything in place. It starts nothing and writes nothing.
package content

import (
	"maps"

	"tellergate/rules"
)

// State is the meaning of one revision. Its members are immutable and may be shared between States; the maps are the
// holder's own, so a draft is a Clone with some entries replaced.
type State struct {
	Document      *rules.Document // never nil
	Text          []byte          // the document as it was written, nil if there is none
	Lists         map[string]*rules.List
	Organisations map[string]*rules.Organisation
	Overrides     map[string]rules.Override
}

// newState returns the empty state.
func newState() *State {
	return &State{
		Document:      &rules.Document{},
		Lists:         make(map[string]*rules.List),
		Organisations: make(map[string]*rules.Organisation),
		Overrides:     make(map[string]rules.Override),
	}
}

// Clone returns a State with maps of its own.
func (s *State) Clone() *State {
	clone := newState()
	clone.Document, clone.Text = s.Document, s.Text
	maps.Copy(clone.Lists, s.Lists)
	maps.Copy(clone.Organisations, s.Organisations)
	maps.Copy(clone.Overrides, s.Overrides)
	return clone
}

// Compile compiles the state.
func (s *State) Compile(schema *rules.Schema) (*rules.RuleSet, error) {
	return rules.Compile(s.Document, s.Inputs(schema))
}

// Inputs returns what the document of the state is compiled against.
func (s *State) Inputs(schema *rules.Schema) rules.Inputs {
	return rules.Inputs{Schema: schema, Lists: s.Lists, Organisations: s.Organisations, Overrides: s.Overrides}
}
