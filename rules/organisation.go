package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"tellergate/internal/problem"
)

// A Branch is one node of an organisation.
type Branch struct {
	Code   string `json:"code"`             // without the legal entity
	Parent string `json:"parent,omitempty"` // code of the branch above; empty for a head office
	Name   string `json:"name,omitempty"`   // for people
}

// An Organisation is the tree of branches (分行 / 支行 / 网点) of one legal entity. It is immutable. As in a List, its
// memory holds no pointer per branch.
//
// Branches are numbered in pre-order, so that a branch and everything beneath it are one interval of numbers.
type Organisation struct {
	codes    codeTable
	numbered []numberedBranch
	text     string   // code, parent and name of every branch, one after the other, in ascending order of code
	ends     []uint32 // where each of these three ends in text
}

// A numberedBranch is what is known of a branch by its number.
type numberedBranch struct {
	hi    uint32 // as in interval
	place uint32 // in ascending order of code
}

// An interval is half open: lo is the number of a branch, hi the first number that is not beneath it.
type interval struct{ lo, hi uint32 }

// NewOrganisation builds the tree. The error is a problem.List: unknown parents, cycles (with the whole loop named),
// doubled codes with different parents, empty codes. Identical branches are merged.
func NewOrganisation(branches []Branch) (*Organisation, error) {
	d := newOrganisationDraft(len(branches))
	for i, b := range branches {
		d.add(b, origin{offset: -1, element: i})
	}
	o, _, err := d.finish(nil)
	return o, err
}

// Len returns the number of branches.
func (o *Organisation) Len() int { return len(o.numbered) }

// branch returns branch i in ascending order of code; its texts are views of the organisation's memory.
func (o *Organisation) branch(i int) Branch {
	start := uint32(0)
	if i > 0 {
		start = o.ends[3*i-1]
	}
	code, parent, name := o.ends[3*i], o.ends[3*i+1], o.ends[3*i+2]
	return Branch{Code: o.text[start:code], Parent: o.text[code:parent], Name: o.text[parent:name]}
}

// Branches returns the branches in ascending order of code, freshly allocated.
func (o *Organisation) Branches() []Branch {
	branches := make([]Branch, o.Len())
	for i := range branches {
		branches[i] = o.branch(i)
	}
	return branches
}

// Contains reports whether the organisation has a branch with this code.
func (o *Organisation) Contains(code string) bool {
	_, known := o.number(code)
	return known
}

// number returns the number of a branch.
func (o *Organisation) number(code string) (number uint32, known bool) {
	return o.codes.find(code, func(number uint32) bool { return o.branch(int(o.numbered[number].place)).Code == code })
}

// Under reports whether code is ancestor or lies beneath it. Unknown codes are under nothing. It allocates nothing, and
// its cost grows neither with the number of branches nor with the depth of the tree.
func (o *Organisation) Under(code, ancestor string) bool {
	lo, hi, ok := o.Interval(ancestor)
	if !ok {
		return false
	}
	at, ok := o.number(code)
	return ok && lo <= at && at < hi
}

// Interval returns the numbers of a branch (lo) and of everything beneath it (from lo up to, but not including, hi),
// so that a condition that was compiled with an ancestor's interval costs one look-up of the branch in question: it is
// under the ancestor exactly if its own lo lies in the ancestor's interval. ok is false for unknown codes. The numbers
// mean nothing in another Organisation. It allocates nothing.
func (o *Organisation) Interval(code string) (lo, hi uint32, ok bool) {
	if lo, ok = o.number(code); ok {
		hi = o.numbered[lo].hi
	}
	return lo, hi, ok
}

// An organisationDraft gathers branches before they are known to be a tree.
type organisationDraft struct {
	faults     faults
	branches   []Branch
	origins    []origin       // where each of branches stood
	first      map[string]int // position in branches by code
	duplicates int
}

// An origin is where a branch stood: its offset in the text or -1, and its index in the sequence or -1 for CSV.
type origin struct{ offset, element int }

// path returns the path of a field of the branch.
func (o origin) path(field string) string {
	if o.element < 0 {
		return ""
	}
	return jsonPath{array: "branches", index: o.element, key: field}.String()
}

func newOrganisationDraft(size int) *organisationDraft {
	return &organisationDraft{
		branches: make([]Branch, 0, size),
		origins:  make([]origin, 0, size),
		first:    make(map[string]int, size),
	}
}

// add cleans one branch and notes it or what is wrong with it.
func (d *organisationDraft) add(b Branch, at origin) {
	var ok [3]bool
	b.Code, ok[0] = d.clean(b.Code, "code", false, at)
	b.Parent, ok[1] = d.clean(b.Parent, "parent", true, at)
	b.Name, ok[2] = d.clean(b.Name, "name", true, at)
	if ok != [3]bool{true, true, true} {
		return
	}
	if b.Parent == b.Code {
		d.fault(at, "parent", fmt.Sprintf("branch %q is its own parent", b.Code),
			"name the branch above it, or leave the parent empty for a head office")
		return
	}
	if i, doubled := d.first[b.Code]; doubled {
		switch before := d.branches[i]; {
		case before == b:
			d.duplicates++
		case before.Parent != b.Parent:
			d.fault(at, "parent", fmt.Sprintf("branch %q stands under %s here and under %s before",
				b.Code, above(b.Parent), above(before.Parent)), "remove one of the two")
		default:
			d.fault(at, "name", fmt.Sprintf("branch %q is named %q here and %q before", b.Code, b.Name, before.Name),
				"remove one of the two")
		}
		return
	}
	d.first[b.Code] = len(d.branches)
	d.branches = append(d.branches, b)
	d.origins = append(d.origins, at)
}

// above prints a parent for a message.
func above(parent string) string {
	if parent == "" {
		return "nothing"
	}
	return fmt.Sprintf("%q", parent)
}

func (d *organisationDraft) clean(raw, field string, mayBeEmpty bool, at origin) (string, bool) {
	if mayBeEmpty && trimValue(raw) == "" {
		return "", true
	}
	value, fault := CleanValue(raw)
	if fault != nil {
		path := at.path(field)
		if path == "" {
			path = field
		}
		d.faults.add(at.offset, path, fault)
		return "", false
	}
	return value, true
}

func (d *organisationDraft) fault(at origin, field, message, remedy string) {
	d.faults.add(at.offset, at.path(field), &problem.Problem{Message: message, Remedy: remedy})
}

// finish checks that the branches are a tree and builds it. text is what the offsets refer to.
func (d *organisationDraft) finish(text []byte) (o *Organisation, duplicates int, err error) {
	parents := d.parents()
	d.findLoops(parents)
	if err := d.faults.err(text); err != nil {
		return nil, 0, err
	}
	return d.build(parents), d.duplicates, nil
}

// noParent stands for the parent of a head office.
const noParent = -1

// parents returns the position of each branch's parent and notes those that do not exist.
func (d *organisationDraft) parents() []int32 {
	parents := make([]int32, len(d.branches))
	for i, b := range d.branches {
		parents[i] = noParent
		if b.Parent == "" {
			continue
		}
		parent, known := d.first[b.Parent]
		if !known {
			d.fault(d.origins[i], "parent", fmt.Sprintf("branch %q stands under %q, which the organisation does not have",
				b.Code, b.Parent), "add that branch, or correct the parent")
			continue
		}
		parents[i] = int32(parent)
	}
	return parents
}

// findLoops notes each cycle once, at its first branch in the text.
func (d *organisationDraft) findLoops(parents []int32) {
	walk := make([]int32, len(parents)) // number of the walk that came by; 0: none yet
	for i := range parents {
		number := int32(i + 1)
		at := int32(i)
		for at != noParent && walk[at] == 0 {
			walk[at] = number
			at = parents[at]
		}
		if at != noParent && walk[at] == number {
			d.noteLoop(parents, at)
		}
	}
}

// maxLoopNames is how many branches of a cycle are named.
const maxLoopNames = 50

func (d *organisationDraft) noteLoop(parents []int32, at int32) {
	first, length := at, 1
	for next := parents[at]; next != at; next = parents[next] {
		first = min(first, next)
		length++
	}
	var loop strings.Builder
	next := first
	for range min(length, maxLoopNames) {
		fmt.Fprintf(&loop, "%q → ", d.branches[next].Code)
		next = parents[next]
	}
	if length > maxLoopNames {
		fmt.Fprintf(&loop, "… (%d branches) → ", length)
	}
	fmt.Fprintf(&loop, "%q", d.branches[first].Code)
	d.fault(d.origins[first], "parent", "branches stand under each other in a circle: "+loop.String(),
		"correct the parent of one of them")
}

// build numbers the branches, which are a tree or several, and lays them out.
func (d *organisationDraft) build(parents []int32) *Organisation {
	order := make([]int32, len(parents)) // positions in ascending order of code
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(d.branches[a].Code, d.branches[b].Code) })

	intervals := numbered(parents, order)
	ends := make([]uint32, 0, 3*len(order))
	var text strings.Builder
	o := &Organisation{codes: newCodeTable(len(order)), numbered: make([]numberedBranch, len(order))}
	for place, i := range order {
		b, in := d.branches[i], intervals[i]
		o.codes.add(b.Code, in.lo)
		o.numbered[in.lo] = numberedBranch{hi: in.hi, place: uint32(place)}
		for _, s := range [...]string{b.Code, b.Parent, b.Name} {
			text.WriteString(s)
			ends = append(ends, uint32(text.Len()))
		}
	}
	o.text, o.ends = strings.Clone(text.String()), ends
	return o
}

// numbered returns the pre-order interval of each branch. order says in which order siblings are numbered. It does not
// recurse: a tree may be as deep as it has branches.
func numbered(parents, order []int32) []interval {
	roots, firstChild, nextSibling := int32(noParent), fill(len(parents)), fill(len(parents))
	for _, i := range slices.Backward(order) {
		head := &roots
		if parents[i] != noParent {
			head = &firstChild[parents[i]]
		}
		nextSibling[i], *head = *head, i
	}
	intervals := make([]interval, len(parents))
	number := uint32(0)
	for at := roots; at != noParent; {
		intervals[at].lo = number
		number++
		if firstChild[at] != noParent {
			at = firstChild[at]
			continue
		}
		// Nothing beneath: this branch is complete, and so are those above it of which it was the last.
		for {
			intervals[at].hi = number
			if nextSibling[at] != noParent {
				at = nextSibling[at]
				break
			}
			if at = parents[at]; at == noParent {
				break
			}
		}
	}
	return intervals
}

// fill returns n positions of nothing.
func fill(n int) []int32 {
	positions := make([]int32, n)
	for i := range positions {
		positions[i] = noParent
	}
	return positions
}
