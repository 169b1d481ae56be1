package rules

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// maxScanned is how many rules of a service may hold nothing that can be looked up.
const maxScanned = 1000

// probedLists is how many lists of an attribute, the largest ones, are asked themselves where they hold more than
// probedFrom values. A look-up in each costs every request; entering the values of the others costs memory.
const (
	probedLists = 4
	probedFrom  = 4096
)

// A clue is one thing that can be looked up: a value of an attribute, a list or a branch of an organisation. A rule
// that is entered under some clues matches only requests to which at least one of them applies.
type clue struct {
	kind      clueKind
	attribute int
	name      string // the value, the list, or the branch as entity/code
}

type clueKind uint8

const (
	valueClue clueKind = iota
	listClue
	branchClue
)

// An indexer builds a ruleIndex.
//
// Of several conditions that must all hold, one is enough to look the rule up by. Best is the one that the fewest rules
// share, since a request that has it tries them all; among equals, the one that fewer values meet. Of several
// conditions of which any may hold, every one is entered.
type indexer struct {
	mentions map[clue]int // how many times rules mention it outside a not
	lists    map[clue]*attributeInList
	branches map[clue]*attributeUnder
	ranks    map[clue][]uint32
	scanned  []uint32
	program  program
}

// A cover is a choice of clues: whatever matches has one of them.
type cover struct {
	clues  []clue
	shared int // the most rules that mention one of them
	values int // how many values meet them
}

func (c *cover) better(than *cover) bool {
	return cmp.Or(cmp.Compare(c.shared, than.shared), cmp.Compare(c.values, than.values)) < 0
}

// newIndexer enters the rules, which have been compiled without a problem, in the order of their ranks.
func newIndexer(ordered []compiledRule) *indexer {
	x := &indexer{
		mentions: make(map[clue]int),
		lists:    make(map[clue]*attributeInList),
		branches: make(map[clue]*attributeUnder),
		ranks:    make(map[clue][]uint32),
		program:  program{starts: []uint32{0}},
	}
	n := &interner{places: make(map[string]uint32)}
	for i := range ordered {
		if ordered[i].when != nil {
			ordered[i].when = n.conditions[n.intern(ordered[i].when)]
			x.mention(ordered[i].when)
		}
		for _, part := range conjuncts(ordered[i].when) {
			n.uses[n.intern(part)]++
		}
	}
	for i := range ordered {
		x.enter(uint32(i), conjuncts(ordered[i].when), n)
	}
	x.program.conditions = n.conditions
	x.program.sort(n.uses)
	return x
}

// conjuncts returns the conditions that must all hold for c to.
func conjuncts(c condition) []condition {
	switch c := c.(type) {
	case nil:
		return nil
	case *allOf:
		return flattened(c)
	}
	return []condition{c}
}

// enter enters one rule, whose conditions must all hold.
func (x *indexer) enter(rank uint32, parts []condition, n *interner) {
	var best *cover
	clue, code := -1, make([]uint32, len(parts))
	for i, part := range parts {
		code[i] = n.intern(part)
		if candidate := x.cover(part); candidate != nil && (best == nil || candidate.better(best)) {
			best, clue = candidate, i
		}
	}
	n.order(code, clue)
	x.program.add(slices.Compact(code))
	if best == nil {
		x.scanned = append(x.scanned, rank)
		return
	}
	for _, clue := range best.clues {
		ranks := x.ranks[clue]
		if len(ranks) == 0 || ranks[len(ranks)-1] != rank {
			x.ranks[clue] = append(ranks, rank)
		}
	}
}

// mention counts the clues of a condition.
func (x *indexer) mention(c condition) {
	switch c := c.(type) {
	case *allOf:
		for _, part := range c.parts {
			x.mention(part)
		}
	case anyOf:
		for _, part := range c {
			x.mention(part)
		}
	default:
		for _, clue := range x.clues(c) {
			x.mentions[clue]++
		}
	}
}

// clues returns what a single test can be looked up by, nil if nothing.
func (x *indexer) clues(c condition) []clue {
	switch c := c.(type) {
	case *attributeIs:
		return []clue{{valueClue, c.index, c.value}}
	case *attributeIn:
		clues := make([]clue, len(c.values))
		for i, value := range c.values {
			clues[i] = clue{valueClue, c.index, value}
		}
		return clues
	case *attributeInList:
		list := clue{listClue, c.index, c.name}
		x.lists[list] = c
		return []clue{list}
	case *attributeUnder:
		branch := clue{branchClue, c.index, c.entity + "/" + c.code}
		if c.hi-c.lo == 1 { // nothing is beneath it: it is a value like any other
			branch.kind = valueClue
			return []clue{branch}
		}
		x.branches[branch] = c
		return []clue{branch}
	}
	return nil
}

// cover returns the best clues of a condition, nil if there are none.
func (x *indexer) cover(c condition) *cover {
	var best *cover
	switch c := c.(type) {
	case *allOf:
		for _, part := range c.parts {
			if candidate := x.cover(part); candidate != nil && (best == nil || candidate.better(best)) {
				best = candidate
			}
		}
		return best
	case anyOf:
		best = new(cover)
		for _, part := range c {
			candidate := x.cover(part)
			if candidate == nil {
				return nil
			}
			best.clues = append(best.clues, candidate.clues...)
			best.shared = max(best.shared, candidate.shared)
			best.values += candidate.values
		}
		return best
	}
	clues := x.clues(c)
	if clues == nil {
		return nil
	}
	best = &cover{clues: clues, values: len(clues)}
	for _, clue := range clues {
		best.shared = max(best.shared, x.mentions[clue])
	}
	switch c := c.(type) {
	case *attributeInList:
		best.values = c.list.Len()
	case *attributeUnder:
		best.values = int(c.hi - c.lo)
	}
	return best
}

// finish returns the index. schema tells the attributes.
func (x *indexer) finish(schema *Schema) ruleIndex {
	index := ruleIndex{program: x.program}
	index.scanned = index.add(x.scanned)
	byAttribute := make([][]clue, schema.Len())
	for clue := range x.ranks {
		byAttribute[clue.attribute] = append(byAttribute[clue.attribute], clue)
	}
	for i, clues := range byAttribute {
		if len(clues) == 0 {
			continue
		}
		slices.SortFunc(clues, func(a, b clue) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) })
		a := attributeIndex{attributeRef: attributeRef{index: i, name: schema.Attribute(i).Name}}
		x.attribute(&index, &a, clues)
		index.attributes = append(index.attributes, a)
	}
	index.words = slices.Clip(index.words)
	return index
}

// add appends the run of a list or a branch and returns where it begins.
func (x *ruleIndex) add(ranks []uint32) uint32 {
	at := uint32(len(x.words))
	x.words = append(x.words, uint32(len(ranks)))
	x.words = append(x.words, ranks...)
	return at
}

// An entry leads from a value's hash to a rank, to the run of a list, or to a place in named plus one.
type entry struct {
	hash uint64
	kind clueKind
	to   uint32
}

// attribute enters the clues of one attribute.
func (x *indexer) attribute(index *ruleIndex, a *attributeIndex, clues []clue) {
	var entries []entry
	var lists []clue
	organisations := make(map[string][]clue)
	for _, clue := range clues {
		switch clue.kind {
		case valueClue:
			hash := xxhash.Sum64String(clue.name)
			for _, rank := range x.ranks[clue] {
				entries = append(entries, entry{hash, valueClue, rank})
			}
		case listClue:
			lists = append(lists, clue)
		case branchClue:
			entity := x.branches[clue].entity
			organisations[entity] = append(organisations[entity], clue)
		}
	}
	slices.SortStableFunc(lists, func(a, b clue) int { return cmp.Compare(x.lists[b].list.Len(), x.lists[a].list.Len()) })
	for _, clue := range lists {
		list, run := x.lists[clue].list, index.add(x.ranks[clue])
		if list.Len() > probedFrom && len(a.probed) < probedLists {
			a.probed = append(a.probed, probedList{list, run})
			continue
		}
		entries = slices.Grow(entries, list.Len())
		for value := range list.All() {
			entries = append(entries, entry{xxhash.Sum64String(value), listClue, run})
		}
	}
	for _, named := range organisations {
		entries = x.organisation(index, a, named, entries)
	}
	a.slots = index.enter(entries)
}

// enter writes the run of each value and returns the table that leads there. Values that only lists name share a run
// with all that the same lists name.
func (x *ruleIndex) enter(entries []entry) (slots []uint64) {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.kind, b.kind), cmp.Compare(a.to, b.to))
	})
	values := 0
	for i := range entries {
		if i == 0 || entries[i].hash != entries[i-1].hash {
			values++
		}
	}
	if values == 0 {
		return nil
	}
	slots = make([]uint64, values+values/2+1)
	shared := make(map[string]uint32)
	var key []byte
	for len(entries) > 0 {
		var counts [3]uint32 // by kind
		n := 0               // after a branch comes another value of the same hash
		for key = key[:0]; n < len(entries) && entries[n].hash == entries[0].hash && counts[branchClue] == 0; n++ {
			key = binary.NativeEndian.AppendUint32(append(key, byte(entries[n].kind)), entries[n].to)
			counts[entries[n].kind]++
		}
		run, found := shared[string(key)]
		if !found {
			run = uint32(len(x.words))
			if counts[valueClue] == 0 {
				shared[string(key)] = run
			}
			ranksAndLists, branch := entries[:n], uint32(0)
			if counts[branchClue] > 0 {
				ranksAndLists, branch = entries[:n-1], entries[n-1].to
			}
			x.words = append(x.words, counts[valueClue], counts[listClue], branch)
			for _, e := range ranksAndLists {
				x.words = append(x.words, e.to)
			}
		}
		i := homeSlot(entries[0].hash, len(slots))
		for slots[i] != 0 {
			if i++; i == len(slots) {
				i = 0
			}
		}
		slots[i] = uint64(uint32(entries[0].hash))<<32 | uint64(run+1)
		entries = entries[n:]
	}
	return slots
}

// organisation enters every branch of one organisation that is, or is beneath, one of those that rules name.
func (x *indexer) organisation(index *ruleIndex, a *attributeIndex, named []clue, entries []entry) []entry {
	slices.SortFunc(named, func(a, b clue) int { return cmp.Compare(x.branches[a].lo, x.branches[b].lo) })
	first := x.branches[named[0]]
	organisation := first.organisation
	around := make([]uint32, organisation.Len()) // by number of a branch: what entry.to says of it
	var inside []*attributeUnder                 // the named branches around the present number, from the outermost in
	for number := range uint32(organisation.Len()) {
		for len(inside) > 0 && inside[len(inside)-1].hi <= number {
			inside = inside[:len(inside)-1]
		}
		above := uint32(0)
		if len(inside) > 0 {
			above = around[inside[len(inside)-1].lo]
		}
		if len(named) > 0 && x.branches[named[0]].lo == number {
			inside = append(inside, x.branches[named[0]])
			a.named = append(a.named, namedBranch{run: index.add(x.ranks[named[0]]), above: above})
			named, above = named[1:], uint32(len(a.named))
		}
		around[number] = above
	}
	var value []byte
	for code := range organisation.codes.all() {
		if number, _, _ := organisation.Interval(code); around[number] != 0 {
			value = append(append(append(value[:0], first.entity...), '/'), code...)
			entries = append(entries, entry{xxhash.Sum64(value), branchClue, around[number]})
		}
	}
	return entries
}
