package rules

import (
	"strings"

	"github.com/cespare/xxhash/v2"
)

// A ruleIndex finds the rules of one service that may match a request by the values that the request has. Each rule is
// entered under the values, lists and branches of which it needs one (see indexer); what the index leaves out cannot
// match, and what it names is still tried. It is immutable and, but for a few headers, holds no pointers.
//
// A rule is known by its rank: its position from the highest priority down. A run is a piece of words:
//
//	the run of a list or a branch   n, n ranks in ascending order
//	the run of a value              n, m, n ranks in ascending order, where the runs of m lists begin
type ruleIndex struct {
	words      []uint32
	scanned    uint32 // run of the rules that no value leads to; tried on every request
	attributes []attributeIndex
}

// An attributeIndex leads from one attribute's value to runs.
type attributeIndex struct {
	attributeRef
	// slots is an open-addressing table at 2/3 load. A slot is 0 if it is free; otherwise its upper half is the lower
	// half of a value's hash and its lower half where the value's run begins, plus one. The values themselves are not
	// kept: what is found by a collision of hashes is tried and does not match.
	slots []uint64
	// probed are the lists that are asked themselves, because they are too large to enter their values here.
	probed []probedList
	under  map[string]*underIndex // by legal entity; nil unless the attribute is branch
}

type probedList struct {
	list *List
	run  uint32
}

// An underIndex leads from a branch's number to the branches above it, itself included, that rules name.
type underIndex struct {
	organisation *Organisation
	innermost    []uint32 // by number of a branch: the nearest one that rules name, as its place in named plus one
	named        []namedBranch
}

type namedBranch struct {
	run   uint32
	above uint32 // the next one above that rules name, as its place plus one; 0: none
}

// maxCursors is how many runs are merged at once. More are merged in turns.
const maxCursors = 24

// A merge goes through runs from the highest priority down until a rule matches. It lives on the stack.
type merge struct {
	rules   []compiledRule
	words   []uint32
	q       *Query
	best    uint32 // rank of the rule found, or how many rules there are
	n       int
	cursors [maxCursors]cursor
}

// A cursor is what is left of a run; it is never empty.
type cursor struct{ at, end uint32 }

// first returns the matching rule of the highest priority, or nil. Its cost depends on how many rules the values of
// the request lead to, not on how many there are.
func (t *ruleTable) first(q *Query) *compiledRule {
	m := merge{rules: t.ordered, words: t.index.words, q: q, best: uint32(len(t.ordered))}
	if len(m.words) == 0 {
		return nil
	}
	m.addRun(t.index.scanned)
	for i := range t.index.attributes {
		a := &t.index.attributes[i]
		if value := a.of(q); value != "" {
			m.addValue(a, value)
		}
	}
	m.drain()
	if m.best == uint32(len(t.ordered)) {
		return nil
	}
	return &t.ordered[m.best]
}

// addValue adds the runs that a value of the attribute leads to.
func (m *merge) addValue(a *attributeIndex, value string) {
	if len(a.slots) > 0 {
		hash := xxhash.Sum64String(value)
		for i := homeSlot(hash, len(a.slots)); a.slots[i] != 0; {
			if uint32(a.slots[i]>>32) == uint32(hash) {
				m.addValueRun(uint32(a.slots[i]) - 1)
			}
			if i++; i == len(a.slots) {
				i = 0
			}
		}
	}
	for i := range a.probed {
		if a.probed[i].list.Contains(value) {
			m.addRun(a.probed[i].run)
		}
	}
	if a.under != nil {
		m.addBranch(a, value)
	}
}

func (m *merge) addBranch(a *attributeIndex, value string) {
	entity, code, _ := strings.Cut(value, "/")
	u := a.under[entity]
	if u == nil {
		return
	}
	number, _, known := u.organisation.Interval(code)
	if !known {
		return
	}
	for place := u.innermost[number]; place != 0; place = u.named[place-1].above {
		m.addRun(u.named[place-1].run)
	}
}

func (m *merge) addValueRun(at uint32) {
	ranks, lists := m.words[at], m.words[at+1]
	m.add(cursor{at + 2, at + 2 + ranks})
	for _, run := range m.words[at+2+ranks : at+2+ranks+lists] {
		m.addRun(run)
	}
}

func (m *merge) addRun(at uint32) { m.add(cursor{at + 1, at + 1 + m.words[at]}) }

func (m *merge) add(c cursor) {
	if c.at == c.end || m.words[c.at] >= m.best {
		return
	}
	if m.n == maxCursors {
		m.drain()
	}
	m.cursors[m.n] = c
	m.n++
}

// drain tries the rules of all cursors in order of rank until one matches or none is left above the best so far.
func (m *merge) drain() {
	const none = ^uint32(0)
	last := none
	for m.n > 0 {
		first, next := 0, none // the cursor with the lowest rank, and the lowest rank of the others
		for i := 1; i < m.n; i++ {
			switch rank := m.words[m.cursors[i].at]; {
			case rank < m.words[m.cursors[first].at]:
				first, next = i, m.words[m.cursors[first].at]
			case rank < next:
				next = rank
			}
		}
		c := &m.cursors[first]
		for rank := m.words[c.at]; ; rank = m.words[c.at] {
			if rank >= m.best {
				m.n = 0
				return
			}
			if rank != last && m.rules[rank].matches(m.q) {
				m.best, m.n = rank, 0
				return
			}
			last = rank
			if c.at++; c.at == c.end {
				m.n--
				*c = m.cursors[m.n]
				break
			}
			if m.words[c.at] > next {
				break
			}
		}
	}
}
