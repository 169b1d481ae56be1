package rules

import (
	"encoding/binary"
	"slices"
)

// maxGuards is how many conditions a request remembers.
const maxGuards = 32

// A program is what the request path reads of the rules' conditions. Equal conditions of a service are one.
//
// Those that the most rules have are guards: a request tries each at most once, and a rule that needs one that fails is
// passed over without a look at anything but its guards, which stand beside its rank. The others are tried for each rule
// whose guards hold, in the order in which that is cheapest.
type program struct {
	guards     []condition // the cheapest first
	conditions []condition
	code       []uint32 // places in conditions
	starts     []uint32 // where each rule's begin in code, by rank; one more at the end
	lookedUp   []uint32 // the condition that each rule is looked up by, which is not in code, plus one; 0: none
}

// holds tries what a rule demands besides its guards; sure tells that it need not try what the rule is looked up by.
func (p *program) holds(rank uint32, q *Query, sure bool) bool {
	for _, c := range p.code[p.starts[rank]:p.starts[rank+1]] {
		if !p.conditions[c].holds(q) {
			return false
		}
	}
	if sure {
		return true
	}
	c := p.lookedUp[rank]
	return c == 0 || p.conditions[c-1].holds(q)
}

// newProgram takes the conditions of each rule, by rank, as places in conditions. clues says which of them the rule is
// looked up by, so that it is known to hold but for collisions; -1 stands for none. It returns each rule's guards too.
func newProgram(conditions []condition, codes [][]uint32, clues []int) (p program, guards []uint32) {
	uses := make([]int, len(conditions)) // by how many rules, but those that are looked up by it
	for rank, code := range codes {
		for i, place := range code {
			if i != clues[rank] {
				uses[place]++
			}
		}
	}
	bit := make([]uint32, len(conditions)) // of those that are guards
	for i, place := range mostUsed(conditions, uses) {
		p.guards = append(p.guards, conditions[place])
		bit[place] = 1 << i
	}
	p.conditions = conditions
	p.starts = make([]uint32, 1, len(codes)+1)
	p.lookedUp = make([]uint32, len(codes))
	guards = make([]uint32, len(codes))
	for rank, code := range codes {
		from := len(p.code)
		for i, place := range code {
			if i != clues[rank] && bit[place] != 0 {
				guards[rank] |= bit[place]
			} else if i != clues[rank] {
				p.code = append(p.code, place)
			}
		}
		rest := p.code[from:]
		slices.SortStableFunc(rest, func(a, b uint32) int { return effort(conditions[a]) - effort(conditions[b]) })
		p.code = p.code[:from+len(slices.Compact(rest))]
		if clues[rank] >= 0 {
			p.lookedUp[rank] = code[clues[rank]] + 1
		}
		p.starts = append(p.starts, uint32(len(p.code)))
	}
	p.code = slices.Clip(p.code)
	return p, guards
}

// mostUsed returns the conditions that are to be guards, the cheapest first.
func mostUsed(conditions []condition, uses []int) (places []uint32) {
	for place, n := range uses {
		if n > 0 {
			places = append(places, uint32(place))
		}
	}
	slices.SortStableFunc(places, func(a, b uint32) int { return uses[b] - uses[a] })
	places = places[:min(len(places), maxGuards)]
	slices.SortStableFunc(places, func(a, b uint32) int { return effort(conditions[a]) - effort(conditions[b]) })
	return places
}

// An interner finds equal conditions.
type interner struct {
	places     map[string]uint32 // by key
	conditions []condition
	key        []byte
}

// intern returns the place of a condition that is equal to c, whose parts it replaces by equal ones too.
func (n *interner) intern(c condition) uint32 {
	switch c := c.(type) {
	case *allOf:
		return n.place(c, n.partsKey('&', c.parts))
	case anyOf:
		return n.place(c, n.partsKey('|', c))
	case notOf:
		inner := n.intern(c.inner)
		return n.place(notOf{n.conditions[inner]}, string(binary.NativeEndian.AppendUint32([]byte{'!'}, inner)))
	}
	n.key = appendKey(n.key[:0], c)
	if place, found := n.places[string(n.key)]; found {
		return place
	}
	return n.place(c, string(n.key))
}

func (n *interner) partsKey(kind byte, parts []condition) string {
	key := []byte{kind}
	for i := range parts {
		place := n.intern(parts[i])
		parts[i] = n.conditions[place]
		key = binary.NativeEndian.AppendUint32(key, place)
	}
	return string(key)
}

func (n *interner) place(c condition, key string) uint32 {
	place, found := n.places[key]
	if !found {
		if all, ok := c.(*allOf); ok {
			c = newAllOf(all.parts) // whose quick parts are the interned ones
		}
		place = uint32(len(n.conditions))
		n.places[key] = place
		n.conditions = append(n.conditions, c)
	}
	return place
}

// appendKey appends what tells a single test from every other.
func appendKey(key []byte, c condition) []byte {
	text := func(kind string, texts ...string) {
		key = append(key, kind...)
		for _, s := range texts {
			key = binary.AppendUvarint(key, uint64(len(s)))
			key = append(key, s...)
		}
	}
	flag := func(b bool) string {
		if b {
			return "+"
		}
		return "-"
	}
	switch c := c.(type) {
	case *attributeIs:
		text("is", c.name, c.value)
	case *attributeIn:
		text("in", c.name)
		text("", c.values...)
	case *attributeInList:
		text("inList", c.name)
		text("", c.attributeRef.name)
	case *attributeUnder:
		text("under", c.name, c.entity, c.code)
	case *attributePrefix:
		text("prefix", c.name, c.prefix)
	case *attributeMatches:
		text("matches", c.name, c.pattern.written)
	case *attributePresent:
		text("present", c.name, flag(c.want))
	case *bucketBelow:
		key = binary.AppendUvarint(append(key, "bucket"...), uint64(c.below))
		text("", c.draw.salt)
		for i := range c.draw.by {
			text("", c.draw.by[i].name)
		}
	case *methodIn:
		text("method", c.methods...)
	case *pathIs:
		text("pathIs", c.path)
	case *pathUnder:
		text("pathUnder", c.prefix)
	case *pathMatches:
		text("pathMatches", c.pattern.written)
	case *sourceIn:
		key = append(key, "source"...)
		for _, p := range c.prefixes {
			text("", p.String())
		}
	case *headerIn:
		text("headerIn", string(c.headerRef))
		text("", c.values...)
	case *headerMatches:
		text("headerMatches", string(c.headerRef), c.pattern.written)
	case *headerPresent:
		text("headerPresent", string(c.headerRef), flag(c.want))
	}
	return key
}
