package rules

import "io"

// A Branch is one node of an organisation.
type Branch struct {
	Code   string `json:"code"`             // without the legal entity
	Parent string `json:"parent,omitempty"` // code of the branch above; empty for a head office
	Name   string `json:"name,omitempty"`   // for people
}

// An Organisation is the tree of branches (分行 / 支行 / 网点) of one legal entity. It is immutable.
type Organisation struct {
	branches []Branch
}

// NewOrganisation builds the tree. The error is a problem.List: unknown parents, cycles (with the whole loop named),
// doubled codes with different parents, empty codes.
func NewOrganisation(branches []Branch) (*Organisation, error) { panic("BUG: not written") }

// ParseOrganisation reads the canonical JSON that WriteTo produces: {"branches":[{"code":…,"parent":…,"name":…},…]}.
func ParseOrganisation(text []byte) (*Organisation, error) { panic("BUG: not written") }

// ParseOrganisationCSV reads lines code,parent[,name]; a header line with these words is allowed. Identical lines are
// merged and counted.
func ParseOrganisationCSV(text []byte) (o *Organisation, duplicates int, err error) {
	panic("BUG: not written")
}

// Len returns the number of branches.
func (o *Organisation) Len() int { return len(o.branches) }

// Branches returns the branches in ascending order of code, freshly allocated.
func (o *Organisation) Branches() []Branch { panic("BUG: not written") }

// Contains reports whether the organisation has a branch with this code.
func (o *Organisation) Contains(code string) bool { panic("BUG: not written") }

// Under reports whether code is ancestor or lies beneath it. Unknown codes are under nothing.
func (o *Organisation) Under(code, ancestor string) bool { panic("BUG: not written") }

// WriteTo writes the organisation as canonical JSON on one line; WriteCSV as code,parent,name with a header line.
func (o *Organisation) WriteTo(w io.Writer) (int64, error) { panic("BUG: not written") }

// WriteCSV writes a header line and one line code,parent,name for each branch in ascending order of code.
func (o *Organisation) WriteCSV(w io.Writer) error { panic("BUG: not written") }
