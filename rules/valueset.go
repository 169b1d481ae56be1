package rules

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"tellergate/internal/block"
)

// A valueSet is an immutable set of strings in two blocks of memory without pointers, so that the garbage collector
// need not walk it, however large it is: about 13 bytes beside each value. The zero value is the empty set.
type valueSet struct {
	n int
	// text holds the values in ascending order, each preceded by its length as an unsigned varint.
	text string
	// slots leads from the hash of a value to its offset in text plus one.
	slots slotTable
}

// find returns the slot of value, or -1. It allocates nothing.
func (s *valueSet) find(value string) int {
	if s.n == 0 {
		return -1
	}
	hash := xxhash.Sum64String(value)
	for at := s.slots.home(hash); ; at = s.slots.next(at) {
		matches, more := s.slots.bucket(at, hash)
		for ; matches != 0; matches &= matches - 1 {
			i := at + bits.TrailingZeros8(matches)
			if found, _ := s.at(int(s.slots.to(i)) - 1); found == value {
				return i
			}
		}
		if !more {
			return -1
		}
	}
}

// mayHold reports whether a value with this hash may be in the set; a set without it answers true once in a billion
// times. It does not look at the values.
func (s *valueSet) mayHold(hash uint64) bool {
	if s.n == 0 {
		return false
	}
	for at := s.slots.home(hash); ; at = s.slots.next(at) {
		matches, more := s.slots.bucket(at, hash)
		if matches != 0 || !more {
			return matches != 0
		}
	}
}

// at returns the value at an offset of text and the offset of the next one.
func (s *valueSet) at(offset int) (value string, next int) {
	length, shift := 0, 0
	for {
		b := s.text[offset]
		offset++
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			return s.text[offset : offset+length], offset + length
		}
		shift += 7
	}
}

// all yields the values in ascending order, as views of the set's memory.
func (s *valueSet) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		for offset := 0; offset < len(s.text); {
			value, next := s.at(offset)
			if !yield(value) {
				return
			}
			offset = next
		}
	}
}

// A setBuilder gathers the values of a valueSet in any order. It too keeps no pointer per value.
type setBuilder struct {
	text    []byte // as valueSet.text, in the order of arrival
	n       int    // values added
	last    []byte // the value added last; meaningless before the first
	ordered bool   // so far each value was greater than the one before
	pause   Pause
}

// newSetBuilder returns a builder with room for about size bytes of values and as many bytes as there are values.
func newSetBuilder(size int, pause Pause) *setBuilder {
	// A value of 128 bytes and more has a length of two.
	return &setBuilder{text: block.Uncleared[byte](size + size/128 + 1)[:0], ordered: true, pause: pause}
}

// add copies value into the set.
func (b *setBuilder) add(value string) {
	if uint64(len(b.text))+uint64(len(value)) > passedOn-16 {
		panic(fmt.Sprintf("BUG: a set of more than %d bytes; parsing has to refuse it", passedOn))
	}
	if b.n > 0 && string(b.last) >= value {
		b.ordered = false
	}
	b.n++
	b.pause.after(b.n)
	length := uint64(len(value))
	for ; length >= 0x80; length >>= 7 {
		b.text = append(b.text, byte(length)|0x80)
	}
	b.text = append(b.text, byte(length))
	b.text = append(b.text, value...)
	b.last = b.text[len(b.text)-len(value):]
}

// finish returns the set and how many duplicates were merged. The builder must not be used afterwards.
func (b *setBuilder) finish() (set valueSet, duplicates int) {
	if b.n == 0 {
		return valueSet{}, 0
	}
	if !b.ordered {
		duplicates = b.sort()
	}
	text := b.text // which the builder does not touch any more
	if cap(text)-len(text) > len(text)/4 {
		text = block.Copied(text, b.pause)
	}
	set = valueSet{n: b.n, text: view(text), slots: newSlotTable(b.n, b.pause)}
	var hashes [fetched]uint64
	var tos [fetched]uint32
	for offset, i := 0, 0; offset < len(text); {
		n := 0
		for ; n < fetched && offset < len(text); n++ {
			value, next := set.at(offset)
			hashes[n], tos[n] = xxhash.Sum64String(value), uint32(offset)+1
			offset = next
		}
		set.slots.fetch(hashes[:n])
		for j, hash := range hashes[:n] {
			set.slots.add(hash, tos[j])
			b.pause.after(i)
			i++
		}
	}
	return set, duplicates
}

// sort puts the values into ascending order without duplicates and returns how many it left out.
func (b *setBuilder) sort() (duplicates int) {
	arrived := valueSet{text: view(b.text)}
	starts := block.Uncleared[uint32](b.n)[:0]
	for offset := 0; offset < len(b.text); {
		starts = append(starts, uint32(offset))
		b.pause.after(len(starts))
		_, offset = arrived.at(offset)
	}
	compared := 0
	slices.SortFunc(starts, func(x, y uint32) int {
		b.pause.after(compared)
		compared++
		xValue, _ := arrived.at(int(x))
		yValue, _ := arrived.at(int(y))
		return strings.Compare(xValue, yValue)
	})
	sorted := block.Uncleared[byte](len(b.text))[:0]
	last := ""
	for i, start := range starts {
		b.pause.after(i)
		value, next := arrived.at(int(start))
		if i > 0 && value == last {
			duplicates++
			continue
		}
		last = value
		sorted = append(sorted, b.text[start:next]...)
	}
	b.text, b.n = sorted, b.n-duplicates
	return duplicates
}
