package rules

import (
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A ruleIndex finds the rules of one service that may match a request by the values that the request has. Each rule is
// entered under the values, lists and branches of which it needs one (see indexer); what the index leaves out cannot
// match, and what it names is still tried. It is immutable and, but for a few headers, holds no pointers.
//
// A rule is known by its rank: its position from the highest priority down. A run is a piece of words: one that holds
// how many candidates follow (lower half) and where the links begin that lead on (upper half, plus one; 0: nowhere), and
// the candidates in ascending order of rank. A candidate is a rank (upper half) and the rule's guards (lower half).
type ruleIndex struct {
	words      []uint64
	links      []link
	scanned    uint32 // run of the rules that no value leads to; tried on every request
	attributes []attributeIndex
	program    program
}

// An attributeIndex leads from one attribute's value to runs.
type attributeIndex struct {
	attributeRef
	tables []valueTable
}

// A valueTable is an open-addressing table at 2/3 load. A slot is 0 if it is free; otherwise its upper half is the lower
// half of a value's hash and its lower half where the value's run begins, plus one. The values themselves are not kept:
// what is found by a collision of hashes is tried and does not match.
//
// Lists that are too large to enter their values here have a table of their own: the one that the list itself has, whose
// slots say other things than runs.
type valueTable struct {
	slots []uint64
	run   uint32 // of a list: where its run begins, plus one; 0: the slots say it
}

// A link leads to one run and on to others. Values that the same lists and branches lead on from share links.
type link struct{ run, next uint32 } // next as in the head of a run

// A search goes through runs until it knows the matching rule of the highest priority. It lives on the stack.
type search struct {
	index  *ruleIndex
	q      *Query
	best   uint32    // rank of the rule found, or how many rules there are
	passed uint32    // guards that are known to hold
	failed uint32    // guards that are known not to
	gather *[]uint32 // if not nil, ranks are put here and nothing is tried
}

// first returns the matching rule of the highest priority, or nil. Its cost depends on how many rules the values of
// the request lead to, not on how many there are.
func (t *ruleTable) first(q *Query) *compiledRule {
	s := search{index: &t.index, q: q, best: uint32(len(t.ordered))}
	s.request()
	if s.best == uint32(len(t.ordered)) {
		return nil
	}
	return &t.ordered[s.best]
}

// candidates returns the ranks of the rules that first would try if none of them matched, in ascending order.
func (t *ruleTable) candidates(q *Query) []uint32 {
	var ranks []uint32
	s := search{index: &t.index, q: q, best: uint32(len(t.ordered)), gather: &ranks}
	s.request()
	slices.Sort(ranks)
	return slices.Compact(ranks)
}

// A probe is the look-up of one value in one table. The homes of several are fetched before any is looked at, so that
// the processor waits for memory once and not for one after the other.
type probe struct {
	table *valueTable
	at    int // place of slot
	slot  uint64
	tag   uint32 // what the upper half of the value's slot is
}

// probesTogether is how many look-ups are under way at once.
const probesTogether = 6

// request tries what the values of the request lead to, and then what nothing leads to.
func (s *search) request() {
	var probes [probesTogether]probe
	n := 0
	for i := range s.index.attributes {
		a := &s.index.attributes[i]
		value := a.of(s.q)
		if value == "" {
			continue
		}
		hash := xxhash.Sum64String(value)
		for j := range a.tables {
			if n == probesTogether {
				s.visit(probes[:])
				n = 0
			}
			p := &probes[n]
			p.table = &a.tables[j]
			p.at = homeSlot(hash, len(p.table.slots))
			p.slot = p.table.slots[p.at]
			p.tag = uint32(hash)
			n++
		}
	}
	s.visit(probes[:n])
	s.run(s.index.scanned)
}

// visit tries what the look-ups lead to.
func (s *search) visit(probes []probe) {
	for i := range probes {
		p := &probes[i]
		for slot, at := p.slot, p.at; slot != 0; slot = p.table.slots[at] {
			if uint32(slot>>32) == p.tag {
				run := p.table.run
				if run == 0 {
					run = uint32(slot)
				}
				s.follow(run - 1)
			}
			if at++; at == len(p.table.slots) {
				at = 0
			}
		}
	}
}

// follow tries a run and those that it leads on to.
func (s *search) follow(run uint32) {
	for next := s.run(run); next != 0; {
		l := s.index.links[next-1]
		s.run(l.run)
		next = l.next
	}
}

// run tries the candidates of one run and returns where it leads on.
func (s *search) run(at uint32) (next uint32) {
	words := s.index.words[at:]
	head := words[0]
	candidates := words[1 : 1+uint32(head)]
	if s.gather != nil {
		for _, c := range candidates {
			*s.gather = append(*s.gather, uint32(c>>32))
		}
		return uint32(head >> 32)
	}
	for _, c := range candidates {
		rank, guards := uint32(c>>32), uint32(c)
		if rank >= s.best {
			break
		}
		if guards&s.failed == 0 && s.holds(rank, guards) {
			s.best = rank
			break
		}
	}
	return uint32(head >> 32)
}

// holds reports whether a rule matches of whose guards none is known to fail.
func (s *search) holds(rank, guards uint32) bool {
	for unknown := guards &^ s.passed; unknown != 0; unknown &= unknown - 1 {
		if !s.index.program.guards[bits.TrailingZeros32(unknown)].holds(s.q) {
			s.failed |= unknown & -unknown
			return false
		}
		s.passed |= unknown & -unknown
	}
	return s.index.program.holds(rank, s.q)
}
