package rules

import (
	"cmp"
	"slices"
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
	guards   []uint32 // by rank
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
	}
	n := &interner{places: make(map[string]uint32)}
	codes, clues := make([][]uint32, len(ordered)), make([]int, len(ordered))
	for rank := range ordered {
		if ordered[rank].when == nil {
			continue
		}
		ordered[rank].when = n.conditions[n.intern(ordered[rank].when)]
		x.mention(ordered[rank].when)
		for _, part := range conjuncts(ordered[rank].when) {
			codes[rank] = append(codes[rank], n.intern(part))
		}
	}
	for rank, code := range codes {
		clues[rank] = x.enter(uint32(rank), code, n.conditions)
	}
	x.program, x.guards = newProgram(n.conditions, codes, clues)
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

// enter enters one rule, whose conditions must all hold, and returns which of them it is looked up by; -1 if that one
// may fail although its clue is there.
func (x *indexer) enter(rank uint32, code []uint32, conditions []condition) int {
	var best *cover
	by := -1
	for i, place := range code {
		if candidate := x.cover(conditions[place]); candidate != nil && (best == nil || candidate.better(best)) {
			best, by = candidate, i
		}
	}
	if best == nil {
		x.scanned = append(x.scanned, rank)
		return -1
	}
	for _, clue := range best.clues {
		ranks := x.ranks[clue]
		if len(ranks) == 0 || ranks[len(ranks)-1] != rank {
			x.ranks[clue] = append(ranks, rank)
		}
	}
	if x.clues(conditions[code[by]]) == nil {
		return -1
	}
	return by
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
	b := &indexBuilder{indexer: x, chains: make(map[link]uint32), bare: make(map[uint32]uint32)}
	b.index.program = x.program
	b.index.scanned = b.run(x.scanned, 0)
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
		b.attribute(&a, clues)
		b.index.attributes = append(b.index.attributes, a)
	}
	b.index.words, b.index.links = slices.Clip(b.index.words), slices.Clip(b.index.links)
	return b.index
}
