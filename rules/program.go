package rules

import (
	"encoding/binary"
	"slices"
)

// A program is what the request path reads of the rules' conditions: for each rule, by rank, the conditions that must
// all hold, in the order in which trying them is cheapest. Equal conditions of a service are one, so that what many
// rules say is in the processor's cache when the next rule says it.
type program struct {
	conditions []condition // those that the most rules have come first
	code       []uint32    // places in conditions
	starts     []uint32    // where each rule's begin in code; one more at the end
}

// A memory keeps, for one request, what has been found out about the conditions that the most rules have.
type memory struct{ known, true uint64 }

func (p *program) holds(rank uint32, q *Query, m *memory) bool {
	for _, c := range p.code[p.starts[rank]:p.starts[rank+1]] {
		if c >= 64 {
			if !p.conditions[c].holds(q) {
				return false
			}
			continue
		}
		bit := uint64(1) << c
		if m.known&bit == 0 {
			m.known |= bit
			if p.conditions[c].holds(q) {
				m.true |= bit
			}
		}
		if m.true&bit == 0 {
			return false
		}
	}
	return true
}

// sort puts the conditions that the most rules have first; uses tells how many have each.
func (p *program) sort(uses []int) {
	order := make([]uint32, len(uses))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return uses[b] - uses[a] })
	conditions, places := make([]condition, len(order)), make([]uint32, len(order))
	for place, was := range order {
		conditions[place], places[was] = p.conditions[was], uint32(place)
	}
	for i, was := range p.code {
		p.code[i] = places[was]
	}
	p.conditions = conditions
}

// add appends the code of the next rule.
func (p *program) add(code []uint32) {
	p.code = append(p.code, code...)
	p.starts = append(p.starts, uint32(len(p.code)))
}

// An interner finds equal conditions.
type interner struct {
	places     map[string]uint32 // by key
	conditions []condition
	uses       []int // by how many rules as one of the conditions that must all hold
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
		n.conditions, n.uses = append(n.conditions, c), append(n.uses, 0)
	}
	return place
}

// order sorts the conditions of one rule. Last comes the one that the rule is looked up by, which is known to hold but
// for collisions; before it what few rules say, which has to be fetched from memory.
func (n *interner) order(code []uint32, clue int) {
	last := ^uint32(0)
	if clue >= 0 {
		last = code[clue]
	}
	const few, fetching = 4, 10
	weight := func(place uint32) int {
		w := effort(n.conditions[place])
		if n.uses[place] < few {
			w += fetching
		}
		if place == last {
			w += 1 << 20
		}
		return w
	}
	slices.SortStableFunc(code, func(a, b uint32) int { return weight(a) - weight(b) })
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
