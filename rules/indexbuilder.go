package rules

import (
	"cmp"
	"iter"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// An indexBuilder lays out what an indexer has entered.
type indexBuilder struct {
	*indexer
	index  ruleIndex
	chains map[link]uint32   // where each link stands, plus one
	bare   map[uint32]uint32 // runs without candidates, by where they lead on
}

// run appends the run of some rules and returns where it begins.
func (b *indexBuilder) run(ranks []uint32, next uint32) uint32 {
	at := uint32(len(b.index.words))
	b.index.words = append(b.index.words, uint64(next)<<32|uint64(len(ranks)))
	for _, rank := range ranks {
		b.index.words = append(b.index.words, b.candidate(rank))
	}
	return at
}

func (b *indexBuilder) candidate(rank uint32) uint64 {
	return uint64(rank)<<32 | uint64(b.guards[rank])
}

// link returns where a link stands, plus one.
func (b *indexBuilder) link(run, next uint32) uint32 {
	l := link{run, next}
	place, found := b.chains[l]
	if !found {
		b.index.links = append(b.index.links, l)
		place = uint32(len(b.index.links))
		b.chains[l] = place
	}
	return place
}

// An entry leads from a value's hash to a rank, or to the run of a list or of the nearest branch around it.
type entry struct {
	hash uint64
	kind clueKind
	to   uint32
}

// attribute enters the clues of one attribute.
func (b *indexBuilder) attribute(a *attributeIndex, clues []clue) {
	var entries []entry
	var lists []clue
	named := make(map[uint64]string)
	organisations := make(map[string][]clue)
	for _, clue := range clues {
		switch clue.kind {
		case valueClue:
			hash := xxhash.Sum64String(clue.name)
			for _, rank := range b.ranks[clue] {
				entries = append(entries, entry{hash, valueClue, rank})
			}
			if _, taken := named[hash]; taken {
				named[hash] = "" // two values of one hash: neither is known by it
			} else {
				named[hash] = clue.name
			}
		case listClue:
			lists = append(lists, clue)
		case branchClue:
			entity := b.branches[clue].entity
			organisations[entity] = append(organisations[entity], clue)
		}
	}
	slices.SortStableFunc(lists, func(x, y clue) int { return cmp.Compare(b.lists[y].list.Len(), b.lists[x].list.Len()) })
	for _, clue := range lists {
		list, run := b.lists[clue].list, b.run(b.ranks[clue], 0)
		large := list.Len() > probedFrom && len(a.tables) < probedLists
		if large {
			a.tables = append(a.tables, valueTable{slots: list.set.slots, run: run + 1})
			for hash := range named { // what has a line is not looked up in the list
				if list.set.mayHold(hash) {
					entries = append(entries, entry{hash, listClue, run})
				}
			}
		}
		for hash, name := range named {
			if name != "" && list.set.mayHold(hash) && !list.Contains(name) {
				named[hash] = "" // another value of the list has this hash
			}
		}
		if large {
			continue
		}
		entries = slices.Grow(entries, list.Len())
		for value := range list.All() {
			entries = append(entries, entry{xxhash.Sum64String(value), listClue, run})
		}
	}
	for _, entity := range sortedKeys(organisations) {
		entries = b.organisation(organisations[entity], named, entries)
	}
	b.enter(a, named, entries)
}

// A group is the entries of one hash.
type group struct {
	hash  uint64
	ranks []entry // of the rules that name the value by itself
	runs  []entry // of the lists and branches
}

// groups yields the groups of entries that are sorted.
func groups(entries []entry) iter.Seq[group] {
	return func(yield func(group) bool) {
		for len(entries) > 0 {
			ranks, n := 0, 0
			for n < len(entries) && entries[n].hash == entries[0].hash {
				if entries[n].kind == valueClue {
					ranks++
				}
				n++
			}
			if !yield(group{entries[0].hash, entries[:ranks], entries[ranks:n]}) {
				return
			}
			entries = entries[n:]
		}
	}
}

// enter enters values into the lines of an attribute or into a table. values are those that rules name, by hash; one that
// is empty is not known by its hash alone.
func (b *indexBuilder) enter(a *attributeIndex, values map[uint64]string, entries []entry) {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.kind, b.kind), cmp.Compare(a.to, b.to))
	})
	var named []uint64
	others := 0
	for g := range groups(entries) {
		if len(g.ranks) > 0 {
			named = append(named, g.hash)
		} else {
			others++
		}
	}
	a.lines = newLineTable(named)
	slots := newSlotTable(others, nil)
	for g := range groups(entries) {
		if len(g.ranks) > 0 {
			at := a.lines.home(g.hash)
			b.fill(a.lines.words[at:at+lineWords], values[g.hash], g)
		} else {
			slots.add(g.hash, b.shared(g.runs)+1)
		}
	}
	if others > 0 {
		a.tables = append(a.tables, valueTable{slots: slots})
	}
}

// fill writes the line of a value after its hash. Candidates that do not fit are where it leads on to.
func (b *indexBuilder) fill(line []uint64, value string, g group) {
	next := b.leads(g.runs)
	inLine := min(len(g.ranks), lineWords-lineCandidates)
	if inLine < len(g.ranks) {
		more := make([]uint32, 0, len(g.ranks)-inLine)
		for _, e := range g.ranks[inLine:] {
			more = append(more, e.to)
		}
		next = b.link(b.run(more, 0), next)
	}
	var length uint8
	line[lineValue], line[lineValue+1], length = shortValue(value)
	line[lineHead] = uint64(next)<<32 | uint64(length)<<candidateBits | uint64(inLine)
	for i, e := range g.ranks[:inLine] {
		line[lineCandidates+i] = b.candidate(e.to)
	}
}

// leads returns links to the runs of all lists and branches that a value is in.
func (b *indexBuilder) leads(runs []entry) (next uint32) {
	for _, e := range slices.Backward(runs) {
		if next == 0 {
			next = b.link(e.to, b.beyond(e.to))
		} else {
			next = b.chain(e.to, next)
		}
	}
	return next
}

// shared returns the one run that all values have that are in the same lists and branches.
func (b *indexBuilder) shared(runs []entry) uint32 {
	if len(runs) == 1 {
		return runs[0].to
	}
	next := b.leads(runs)
	run, found := b.bare[next]
	if !found {
		run = b.run(nil, next)
		b.bare[next] = run
	}
	return run
}

// beyond returns where the run of a list or a branch leads on.
func (b *indexBuilder) beyond(run uint32) uint32 { return uint32(b.index.words[run] >> 32) }

// chain returns links that lead to run, to all that it leads on to, and then to next. It leads on to something only
// where the hashes of two values beneath different branches are equal.
func (b *indexBuilder) chain(run, next uint32) uint32 {
	runs := []uint32{run}
	for at := b.beyond(run); at != 0; at = b.index.links[at-1].next {
		runs = append(runs, b.index.links[at-1].run)
	}
	for _, run := range slices.Backward(runs) {
		next = b.link(run, next)
	}
	return next
}

// organisation enters every branch of one organisation that is, or is beneath, one of those that rules name. The run of
// a named branch leads on to those of the named ones around it.
// values are those that rules name, as in enter.
func (b *indexBuilder) organisation(named []clue, values map[uint64]string, entries []entry) []entry {
	slices.SortFunc(named, func(x, y clue) int { return cmp.Compare(b.branches[x].lo, b.branches[y].lo) })
	first := b.branches[named[0]]
	organisation := first.organisation
	around := make([]uint32, organisation.Len()) // by number of a branch: the run of the nearest named one, plus one
	type place struct{ hi, run, link uint32 }
	var inside []place // the named branches around the present number, from the outermost in
	for number := range uint32(organisation.Len()) {
		for len(inside) > 0 && inside[len(inside)-1].hi <= number {
			inside = inside[:len(inside)-1]
		}
		var nearest place
		if len(inside) > 0 {
			nearest = inside[len(inside)-1]
		}
		if len(named) > 0 && b.branches[named[0]].lo == number {
			run := b.run(b.ranks[named[0]], nearest.link)
			nearest = place{hi: b.branches[named[0]].hi, run: run + 1, link: b.link(run, nearest.link)}
			inside, named = append(inside, nearest), named[1:]
		}
		around[number] = nearest.run
	}
	var value []byte
	for number := range around {
		if around[number] != 0 {
			code := organisation.branch(int(organisation.numbered[number].place)).Code
			value = append(append(append(value[:0], first.entity...), '/'), code...)
			hash := xxhash.Sum64(value)
			entries = append(entries, entry{hash, branchClue, around[number] - 1})
			if name, found := values[hash]; found && name != string(value) {
				values[hash] = ""
			}
		}
	}
	return entries
}
