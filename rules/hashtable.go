package rules

import (
	"cmp"
	"math/bits"
	"runtime"
	"slices"

	"tellergate/internal/block"
)

// Both tables of this file are asked by hash alone and are made so that a look-up rarely takes another way through the
// code than the one before it: a processor that guesses the way wrong cannot fetch the memory of the next look-up in
// advance.

// A slotTable is an open-addressing table of buckets that are a line of the processor's cache each, at 2/3 load. A slot
// is 0 if it is free; otherwise its upper half is the lower half of a hash and its lower half what the hash leads to.
// What finds its own bucket full is in the next one that is not; the last slot of each bucket that something was passed
// on from is marked.
type slotTable []uint64

// passedOn marks a slot.
const passedOn = 1 << 31

// lineWords is how many words a line of the processor's cache holds.
const lineWords = 8

func newSlotTable(n int, pause Pause) slotTable {
	if n == 0 {
		return nil
	}
	return block.Cleared[uint64]((n+n/2+lineWords)/lineWords*lineWords, pause)
}

// add enters what a hash leads to, which must be neither 0 nor as large as passedOn.
func (t slotTable) add(hash uint64, to uint32) {
	at := t.home(hash)
	for {
		bucket := t[at : at+lineWords]
		for i := range bucket {
			if bucket[i] == 0 {
				bucket[i] = uint64(uint32(hash))<<32 | uint64(to)
				return
			}
		}
		bucket[lineWords-1] |= passedOn
		at = t.next(at)
	}
}

// fetched is how many hashes are looked after at once: a processor waits for some ten lines at the same time.
const fetched = 16

// fetch has the processor wait for the memory of several hashes at once, before each is entered.
func (t slotTable) fetch(hashes []uint64) {
	sum := uint64(0)
	for _, hash := range hashes {
		sum += t[t.home(hash)]
	}
	runtime.KeepAlive(sum) // or the compiler leaves the loads out
}

// to returns what the slot at a place leads to.
func (t slotTable) to(place int) uint32 { return uint32(t[place]) &^ passedOn }

// home returns where the bucket begins that is a hash's own. The table must not be empty.
func (t slotTable) home(hash uint64) int { return homeSlot(hash, len(t)/lineWords) * lineWords }

// next returns where the bucket after the one at at begins.
func (t slotTable) next(at int) int {
	if at += lineWords; at == len(t) {
		return 0
	}
	return at
}

// bucket returns a bit for each slot of the bucket at at that may be the hash's, and whether to go on to the next one.
func (t slotTable) bucket(at int, hash uint64) (matches uint8, more bool) {
	b := (*[lineWords]uint64)(t[at:])
	tag := hash << 32
	// (x>>32 - 1) >> 63 is 1 if the upper half of x is 0, otherwise 0.
	all := ((b[0]^tag)>>32-1)>>63 | ((b[1]^tag)>>32-1)>>63<<1 | ((b[2]^tag)>>32-1)>>63<<2 | ((b[3]^tag)>>32-1)>>63<<3 |
		((b[4]^tag)>>32-1)>>63<<4 | ((b[5]^tag)>>32-1)>>63<<5 | ((b[6]^tag)>>32-1)>>63<<6 | ((b[7]^tag)>>32-1)>>63<<7
	if tag == 0 { // as in a free slot
		for i, slot := range b {
			if slot == 0 {
				all &^= 1 << i
			}
		}
	}
	return uint8(all), b[lineWords-1]&passedOn != 0
}

// homeSlot maps the hash evenly onto n places by its upper bits.
func homeSlot(hash uint64, n int) int {
	home, _ := bits.Mul64(hash, uint64(n))
	return int(home)
}

// A lineTable holds a line for each of its hashes, at 4/5 load and without collisions: hashes that share a bucket are
// displaced together until each has a line of its own. A line begins with its hash; a word of it that is not 0 tells it
// from a free one.
type lineTable struct {
	words     []uint64
	displaced []uint16 // by bucket
}

// lineBucket is how many hashes are displaced together on average.
const lineBucket = 4

// newLineTable returns a table whose lines hold nothing but hashes, which must be different and in ascending order.
func newLineTable(hashes []uint64) lineTable {
	if len(hashes) == 0 {
		return lineTable{}
	}
	for lines := len(hashes) + len(hashes)/4 + 1; ; lines += lines/8 + 1 {
		t := lineTable{
			words:     make([]uint64, lines*lineWords),
			displaced: make([]uint16, len(hashes)/lineBucket+1),
		}
		if t.place(hashes) {
			return t
		}
	}
}

// place finds a line for each of the hashes.
func (t *lineTable) place(hashes []uint64) bool {
	type bucket struct{ from, to int } // of hashes
	buckets := make([]bucket, len(t.displaced))
	for i, hash := range hashes { // ascending, and so are their buckets
		b := &buckets[homeSlot(hash, len(buckets))]
		if b.to == 0 {
			b.from = i
		}
		b.to = i + 1
	}
	slices.SortStableFunc(buckets, func(a, b bucket) int { return cmp.Compare(b.to-b.from, a.to-a.from) })
	taken := make([]bool, len(t.words)/lineWords)
	for _, b := range buckets {
		if b.to == 0 {
			break
		}
		if !t.displace(hashes[b.from:b.to], taken) {
			return false
		}
	}
	return true
}

// displace finds lines for the hashes of one bucket.
func (t *lineTable) displace(together []uint64, taken []bool) bool {
	displaced := &t.displaced[homeSlot(together[0], len(t.displaced))]
	for {
		placed := 0
		for placed < len(together) && !taken[t.home(together[placed])/lineWords] {
			taken[t.home(together[placed])/lineWords] = true
			placed++
		}
		if placed == len(together) {
			for _, hash := range together {
				t.words[t.home(hash)] = hash
			}
			return true
		}
		for _, hash := range together[:placed] {
			taken[t.home(hash)/lineWords] = false
		}
		if *displaced++; *displaced == 0 {
			return false
		}
	}
}

// home returns where the only line begins that may be a hash's. The table must not be empty.
func (t *lineTable) home(hash uint64) int {
	displaced := uint64(t.displaced[homeSlot(hash, len(t.displaced))])
	return homeSlot((hash^displaced*0x9E3779B97F4A7C15)*0xD6E8FEB86659FD93, len(t.words)/lineWords) * lineWords
}
