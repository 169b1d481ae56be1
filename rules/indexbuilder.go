package rules

import (
	"cmp"
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

// lineWords is how many words a line of the processor's cache holds.
const lineWords = 8

// run appends the run of some rules and returns where it begins. One that fits in a line of the cache lies in one.
func (b *indexBuilder) run(ranks []uint32, next uint32) uint32 {
	words := b.index.words
	if size := 1 + len(ranks); size <= lineWords {
		for len(words)%lineWords+size > lineWords {
			words = append(words, 0)
		}
	}
	at := uint32(len(words))
	words = append(words, uint64(next)<<32|uint64(len(ranks)))
	for _, rank := range ranks {
		words = append(words, uint64(rank)<<32|uint64(b.guards[rank]))
	}
	b.index.words = words
	return at
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
func (b *indexBuilder) attribute(clues []clue) (tables []valueTable) {
	var entries []entry
	var lists []clue
	organisations := make(map[string][]clue)
	for _, clue := range clues {
		switch clue.kind {
		case valueClue:
			hash := xxhash.Sum64String(clue.name)
			for _, rank := range b.ranks[clue] {
				entries = append(entries, entry{hash, valueClue, rank})
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
		if list.Len() > probedFrom && len(tables) < probedLists {
			tables = append(tables, valueTable{slots: list.set.slots, run: run + 1})
			continue
		}
		entries = slices.Grow(entries, list.Len())
		for value := range list.All() {
			entries = append(entries, entry{xxhash.Sum64String(value), listClue, run})
		}
	}
	for _, entity := range sortedKeys(organisations) {
		entries = b.organisation(organisations[entity], entries)
	}
	if len(entries) > 0 {
		tables = append(tables, valueTable{slots: b.enter(entries)})
	}
	return tables
}

// enter writes the run of each value and returns the table that leads there. Values that only lists and branches name
// share a run with all that the same ones name.
func (b *indexBuilder) enter(entries []entry) (slots []uint64) {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.kind, b.kind), cmp.Compare(a.to, b.to))
	})
	values := 0
	for i := range entries {
		if i == 0 || entries[i].hash != entries[i-1].hash {
			values++
		}
	}
	slots = make([]uint64, values+values/2+1)
	var ranks []uint32
	for len(entries) > 0 {
		n := 0
		for n < len(entries) && entries[n].hash == entries[0].hash {
			n++
		}
		ranks = ranks[:0]
		var runs []entry
		for i, e := range entries[:n] {
			if e.kind != valueClue {
				runs = entries[i:n]
				break
			}
			ranks = append(ranks, e.to)
		}
		i := homeSlot(entries[0].hash, len(slots))
		for slots[i] != 0 {
			if i++; i == len(slots) {
				i = 0
			}
		}
		slots[i] = uint64(uint32(entries[0].hash))<<32 | uint64(b.value(ranks, runs)+1)
		entries = entries[n:]
	}
	return slots
}

// value returns the run of a value that rules name by itself and that is in lists and branches with runs of their own.
func (b *indexBuilder) value(ranks []uint32, runs []entry) uint32 {
	if len(ranks) == 0 && len(runs) == 1 {
		return runs[0].to
	}
	next := uint32(0)
	for _, e := range slices.Backward(runs) {
		if next == 0 {
			next = b.link(e.to, b.beyond(e.to))
		} else {
			next = b.chain(e.to, next)
		}
	}
	if len(ranks) > 0 {
		return b.run(ranks, next)
	}
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
func (b *indexBuilder) organisation(named []clue, entries []entry) []entry {
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
	for code := range organisation.codes.all() {
		if number, _, _ := organisation.Interval(code); around[number] != 0 {
			value = append(append(append(value[:0], first.entity...), '/'), code...)
			entries = append(entries, entry{xxhash.Sum64(value), branchClue, around[number] - 1})
		}
	}
	return entries
}
