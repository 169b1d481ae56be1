package rules

import "github.com/cespare/xxhash/v2"

// A codeTable leads from the codes of branches to their numbers. Codes of up to shortCode bytes, as good as all, stand in
// it themselves, so that a look-up touches one line of the processor's cache. It is an open-addressing table at 2/3 load
// of buckets of a line each, which are filled from their beginning.
type codeTable []codeSlot

// A codeSlot holds one code; the zero value is free.
type codeSlot struct {
	first uint64 // of a long code, its hash
	last  uint32
	// number is the length of the code (upper four bits; longCode for a long one) and the branch's number plus one.
	number uint32
}

const (
	shortCode  = 12
	longCode   = 15
	codeBits   = 28 // of a number; a text that checkText takes holds fewer different codes
	codeBucket = lineWords / 2
)

// newCodeSlot returns the slot of a code with number 0. Codes of the same length whose slots are equal are equal, unless
// they are long.
func newCodeSlot(code string) codeSlot {
	n := len(code)
	switch {
	case n > shortCode:
		return codeSlot{xxhash.Sum64String(code), 0, longCode << codeBits}
	case n >= 8:
		return codeSlot{littleEndian(code[:8]), uint32(littleEndian(code[n-4:])), uint32(n) << codeBits}
	case n >= 4:
		return codeSlot{littleEndian(code[:4]), uint32(littleEndian(code[n-4:])), uint32(n) << codeBits}
	}
	return codeSlot{littleEndian(code), 0, uint32(n) << codeBits}
}

// littleEndian returns up to eight bytes as a number.
func littleEndian(s string) (x uint64) {
	switch len(s) {
	case 8:
		return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	case 4:
		return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24
	}
	for i := range len(s) {
		x |= uint64(s[i]) << (8 * i)
	}
	return x
}

func (s codeSlot) hash() uint64 {
	h := (s.first ^ uint64(s.last)*0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93
	return (h ^ h>>32) * 0xD6E8FEB86659FD93
}

func newCodeTable(n int) codeTable {
	return make(codeTable, (n+n/2+codeBucket)/codeBucket*codeBucket)
}

// add enters a code that is not there.
func (t codeTable) add(code string, number uint32) {
	slot := newCodeSlot(code)
	at := homeSlot(slot.hash(), len(t)/codeBucket) * codeBucket
	for t[at].number != 0 {
		if at++; at == len(t) {
			at = 0
		}
	}
	slot.number |= number + 1
	t[at] = slot
}

// find returns the number of a code; of a long one, that of the first branch for which same is true.
func (t codeTable) find(code string, same func(number uint32) bool) (number uint32, found bool) {
	if len(t) == 0 || code == "" {
		return 0, false
	}
	sought := newCodeSlot(code)
	for at := homeSlot(sought.hash(), len(t)/codeBucket) * codeBucket; ; {
		b := (*[codeBucket]codeSlot)(t[at:])
		for i := range b {
			if b[i].first == sought.first && b[i].last == sought.last && (b[i].number^sought.number)>>codeBits == 0 {
				number := b[i].number&(1<<codeBits-1) - 1
				if len(code) <= shortCode || same(number) {
					return number, true
				}
			}
		}
		if b[codeBucket-1].number == 0 {
			return 0, false
		}
		if at += codeBucket; at == len(t) {
			at = 0
		}
	}
}
