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
// how many candidates follow (lower half) and the first of the links that lead on (upper half, as its place plus one; 0:
// nowhere), and the candidates in ascending order of rank. A candidate is a rank (upper half) and the rule's guards
// (lower half).
type ruleIndex struct {
	words      []uint64
	links      []link
	scanned    uint32 // run of the rules that no value leads to; tried on every request
	attributes []attributeIndex
	program    program
}

// An attributeIndex leads from one attribute's values to runs. The values themselves are not kept, only their hashes: what
// is found by a collision is tried and does not match.
//
// Values that rules name by themselves are in lines, each of which holds all there is to know about one value: no table
// need be asked about it. The others are in tables.
type attributeIndex struct {
	attributeRef
	lines  lineTable
	tables []valueTable
}

// A line holds, beside the hash, the value itself if it is short, so that nothing else need be asked to know that it is
// the one, then a head, then candidates. The head is as that of a run, with the length of a short value above the number
// of candidates; it is not 0.
const (
	lineValue      = 1 // two words
	lineHead       = 3
	lineCandidates = 4

	candidateBits = 8 // of a head of a line
)

// A valueTable leads from values that are in lists or beneath branches that rules name to runs: the lower half of a slot
// is where the run begins, plus one. Lists that are too large to enter their values anywhere have a table of their own:
// that of the list itself, whose slots say other things than runs.
type valueTable struct {
	slots slotTable
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
	sure   bool      // what candidates are looked up by is known to hold
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
	s := search{index: &t.index, q: q, gather: &ranks}
	s.request()
	slices.Sort(ranks)
	return slices.Compact(ranks)
}

// A lookup is that of one value of the request. What several need of memory is fetched before any is looked at, so that
// the processor waits for it once and not for one after the other.
type lookup struct {
	attribute *attributeIndex
	hash      uint64
	line      int    // where the only line begins that may be the value's
	word      uint64 // what stands there
	found     bool
}

// A probe is the look-up of a value that has no line in one table.
type probe struct {
	table *valueTable
	hash  uint64
	at    int    // where its bucket begins
	word  uint64 // what stands there
}

// Of more than lookupsTogether values, and probesTogether tables, some wait for others.
const (
	lookupsTogether = 4
	probesTogether  = 6
)

// request tries what the values of the request lead to, and then what nothing leads to.
func (s *search) request() {
	var lookups [lookupsTogether]lookup
	n := 0
	for i := range s.index.attributes {
		a := &s.index.attributes[i]
		value := a.of(s.q)
		if value == "" {
			continue
		}
		if n == len(lookups) {
			s.values(lookups[:])
			n = 0
		}
		l := &lookups[n]
		n++
		l.attribute, l.hash = a, xxhash.Sum64String(value)
		if a.lines.words != nil {
			l.line = a.lines.home(l.hash)
			l.word = a.lines.words[l.line]
		}
	}
	s.values(lookups[:n])
	s.run(s.index.scanned)
}

// values tries what some values lead to.
func (s *search) values(lookups []lookup) {
	var probes [probesTogether]probe
	n := 0
	for i := range lookups {
		l := &lookups[i]
		lines := l.attribute.lines.words
		if l.found = lines != nil && l.word == l.hash && lines[l.line+lineHead] != 0; l.found {
			continue
		}
		tables := l.attribute.tables
		if n+len(tables) > len(probes) {
			s.tables(probes[:n])
			n = 0
		}
		for j := range tables {
			p := &probes[n]
			n++
			p.table, p.hash = &tables[j], l.hash
			p.at = p.table.slots.home(l.hash)
			p.word = p.table.slots[p.at]
		}
	}
	for i := range lookups {
		if lookups[i].found {
			s.visitLine(&lookups[i])
		}
	}
	s.tables(probes[:n])
}

func (s *search) tables(probes []probe) {
	for i := range probes {
		s.visitTable(probes[i].table, probes[i].hash, probes[i].at)
	}
}

// visitLine tries what a line says and leads to.
func (s *search) visitLine(l *lookup) {
	line := (*[lineWords]uint64)(l.attribute.lines.words[l.line:])
	head := line[lineHead]
	if length := uint8(head >> candidateBits); length != 0 {
		first, last, short := shortValue(l.attribute.of(s.q))
		s.sure = line[lineValue] == first && line[lineValue+1] == last && length == short
	}
	s.try(line[lineCandidates : lineCandidates+head&(1<<candidateBits-1)])
	s.follow(uint32(head >> 32))
	s.sure = false
}

// visitTable tries what a hash leads to whose bucket begins at at.
func (s *search) visitTable(table *valueTable, hash uint64, at int) {
	for {
		matches, more := table.slots.bucket(at, hash)
		for ; matches != 0; matches &= matches - 1 {
			run := table.run
			if run == 0 {
				run = table.slots.to(at + bits.TrailingZeros8(matches))
			}
			s.follow(s.run(run - 1))
		}
		if !more {
			return
		}
		at = table.slots.next(at)
	}
}

// follow tries the runs that links lead to.
func (s *search) follow(next uint32) {
	for next != 0 {
		l := s.index.links[next-1]
		s.run(l.run)
		next = l.next
	}
}

// run tries the candidates of one run and returns where it leads on.
func (s *search) run(at uint32) (next uint32) {
	words := s.index.words[at:]
	s.try(words[1 : 1+uint32(words[0])])
	return uint32(words[0] >> 32)
}

// try tries candidates.
func (s *search) try(candidates []uint64) {
	if s.gather != nil {
		for _, c := range candidates {
			*s.gather = append(*s.gather, uint32(c>>32))
		}
		return
	}
	for _, c := range candidates {
		rank, guards := uint32(c>>32), uint32(c)
		if rank >= s.best {
			return
		}
		if guards&s.failed == 0 && s.holds(rank, guards) {
			s.best = rank
			return
		}
	}
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
	return s.index.program.holds(rank, s.q, s.sure)
}

// shortValue returns what tells values of up to 16 bytes from each other: two words and the length. Of a longer value, the
// length is 0.
func shortValue(value string) (first, last uint64, length uint8) {
	n := len(value)
	switch {
	case n > 16:
		return 0, 0, 0
	case n >= 8:
		return littleEndian(value[:8]), littleEndian(value[n-8:]), uint8(n)
	}
	return littleEndian(value), 0, uint8(n)
}
