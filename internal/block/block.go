// Package block makes blocks of megabytes in a way that lets others go first.
//
// make clears what it returns at once, and nothing can interrupt that; where pages of it had been given back to the
// operating system, each costs a fault besides, which may be ten microseconds in a virtual machine. With one processor every
// request waits meanwhile, for 16 MB a millisecond or tens of them. So whoever writes all of a block by itself takes it
// uncleared, whoever needs zeros has them written in pieces, and what is needed for a moment only is handed on to the next.
package block

import (
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// pieceBytes is how much is written between two pauses: two pages.
const pieceBytes = 8 << 10

// large is how large a block is at least that is not made in the ordinary way: such begin at a page.
const large = 64 << 10

// Uncleared returns a block whose elements are whatever was there before: the caller writes each before it reads it, and
// shows nobody those that it has not written.
func Uncleared[T uint8 | uint32 | uint64](n int) []T {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	if size < large {
		return make([]T, n)
	}
	// What a Builder grows by is not cleared, and where it begins suits every element.
	var b strings.Builder
	b.Grow(size)
	_ = b.WriteByte(0) // the memory of an empty string has no address
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.StringData(b.String()))), n)
}

// Cleared returns a block of zeros. pause, which may be nil, is called between pieces of some 20 µs of work.
func Cleared[T uint8 | uint32 | uint64](n int, pause func()) []T {
	if pause == nil {
		return make([]T, n)
	}
	var zero T
	b := Uncleared[T](n)
	for piece := range slices.Chunk(b, pieceBytes/int(unsafe.Sizeof(zero))) {
		clear(piece)
		pause()
	}
	return b
}

// Copied returns a copy of a block. pause, which may be nil, is called between pieces of some 20 µs of work.
func Copied(of []byte, pause func()) []byte {
	if pause == nil {
		return slices.Clone(of)
	}
	b := Uncleared[byte](len(of))[:0]
	for piece := range slices.Chunk(of, pieceBytes) {
		b = append(b, piece...)
		pause()
	}
	return b
}

// A block that Scratch lends has a power of two of bytes between these.
const (
	leastLent = 1 << 20
	mostLent  = 1 << 26
)

// released are the blocks that nobody has at the moment, by the number of bits of their size. As long as nobody asks for
// them, the collector takes them.
var released [32]sync.Pool

// Scratch returns a block that may be given back to Release. Its elements are whatever was there before, and it may have
// a larger capacity than n, of which nothing has been touched that was not needed before.
func Scratch(n int) []byte {
	if n < leastLent || n > mostLent {
		return Uncleared[byte](n)
	}
	class := bits.Len(uint(n - 1))
	if first, ok := released[class].Get().(*byte); ok {
		return unsafe.Slice(first, 1<<class)[:n]
	}
	return Uncleared[byte](1 << class)[:n]
}

// Release takes back a block that Scratch returned, whole or shortened at its end. Nobody may have a view of it any more.
// Another block, as what appending has made of one, is left to the collector.
func Release(b []byte) {
	size := cap(b)
	if size < leastLent || size > mostLent || size&(size-1) != 0 {
		return
	}
	released[bits.Len(uint(size-1))].Put(unsafe.SliceData(b))
}
