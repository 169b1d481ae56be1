package rules

import (
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A ruleIndex finds the rules of one service that may match a request by the values that the request has. Each rule is
// entered under the values, lists and branches of which it needs one (see indexer); what the index leaves out cannot
// match, and what it names is still tried. It is immutable and, but for a few headers, holds no pointers.
//
// A rule is known by its rank: its position from the highest priority down. A run is a piece of words:
//
//	the run of a list or a branch   n, n ranks in ascending order
//	the run of a value              n, m, b, n ranks in ascending order, where the runs of m lists begin; b is the
//	                                nearest branch around the value that rules name, as its place in named plus one
type ruleIndex struct {
	words      []uint32
	scanned    uint32 // run of the rules that no value leads to; tried on every request
	attributes []attributeIndex
	program    program
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
	named  []namedBranch // of all organisations; none unless the attribute is branch
}

type probedList struct {
	list *List
	run  uint32
}

// A namedBranch is one that rules name, so that they mean all branches beneath it.
type namedBranch struct {
	run   uint32
	above uint32 // the nearest one around it that rules name, as its place plus one; 0: none
}

// maxCursors is how many runs are merged at once. More are merged in turns.
const maxCursors = 24

// A merge goes through runs from the highest priority down until a rule matches. It lives on the stack.
type merge struct {
	index   *ruleIndex
	words   []uint32
	q       *Query
	best    uint32 // rank of the rule found, or how many rules there are
	memory  memory
	gather  *[]uint32 // if not nil, ranks are put here and nothing is tried
	n       int
	cursors [maxCursors]cursor
}

// A cursor is what is left of a run; it is never empty. rank is the one at at.
type cursor struct{ rank, at, end uint32 }

// first returns the matching rule of the highest priority, or nil. Its cost depends on how many rules the values of
// the request lead to, not on how many there are.
func (t *ruleTable) first(q *Query) *compiledRule {
	m := merge{index: &t.index, words: t.index.words, q: q, best: uint32(len(t.ordered))}
	m.addRequest()
	m.drain()
	if m.best == uint32(len(t.ordered)) {
		return nil
	}
	return &t.ordered[m.best]
}

// candidates returns the ranks of the rules that first would try if none of them matched, in ascending order.
func (t *ruleTable) candidates(q *Query) []uint32 {
	var ranks []uint32
	m := merge{index: &t.index, words: t.index.words, q: q, best: uint32(len(t.ordered)), gather: &ranks}
	m.addRequest()
	slices.Sort(ranks)
	return slices.Compact(ranks)
}

// addRequest adds the runs that the values of the request lead to.
func (m *merge) addRequest() {
	m.addRun(m.index.scanned)
	for i := range m.index.attributes {
		a := &m.index.attributes[i]
		if value := a.of(m.q); value != "" {
			m.addValue(a, value)
		}
	}
}

// addValue adds the runs that a value of the attribute leads to.
func (m *merge) addValue(a *attributeIndex, value string) {
	hash := xxhash.Sum64String(value)
	if len(a.slots) > 0 {
		for i := homeSlot(hash, len(a.slots)); a.slots[i] != 0; {
			if uint32(a.slots[i]>>32) == uint32(hash) {
				m.addValueRun(a, uint32(a.slots[i])-1)
			}
			if i++; i == len(a.slots) {
				i = 0
			}
		}
	}
	for i := range a.probed {
		if a.probed[i].list.set.mayHold(hash) {
			m.addRun(a.probed[i].run)
		}
	}
}

func (m *merge) addValueRun(a *attributeIndex, at uint32) {
	ranks, lists, branch := m.words[at], m.words[at+1], m.words[at+2]
	at += 3
	m.add(at, at+ranks)
	for _, run := range m.words[at+ranks : at+ranks+lists] {
		m.addRun(run)
	}
	for branch != 0 {
		m.addRun(a.named[branch-1].run)
		branch = a.named[branch-1].above
	}
}

func (m *merge) addRun(at uint32) { m.add(at+1, at+1+m.words[at]) }

func (m *merge) add(at, end uint32) {
	if m.gather != nil {
		*m.gather = append(*m.gather, m.words[at:end]...)
		return
	}
	if at == end || m.words[at] >= m.best {
		return
	}
	if m.n == maxCursors {
		m.drain()
	}
	m.cursors[m.n] = cursor{m.words[at], at, end}
	m.n++
}

// drain tries the rules of all cursors in order of rank until one matches or none is left above the best so far.
func (m *merge) drain() {
	const none = ^uint32(0)
	last := none
	for m.n > 0 {
		cursors := m.cursors[:m.n]
		first, next := 0, none // the cursor with the lowest rank, and the lowest rank of the others
		for i := 1; i < len(cursors); i++ {
			if rank, lowest := cursors[i].rank, cursors[first].rank; rank < lowest {
				first, next = i, lowest
			} else if rank < next {
				next = rank
			}
		}
		c := &cursors[first]
		for c.rank <= next {
			if c.rank >= m.best {
				m.n = 0
				return
			}
			if c.rank != last && m.index.program.holds(c.rank, m.q, &m.memory) {
				m.best, m.n = c.rank, 0
				return
			}
			last = c.rank
			if c.at++; c.at == c.end {
				m.n--
				*c = cursors[m.n]
				break
			}
			c.rank = m.words[c.at]
		}
	}
}
