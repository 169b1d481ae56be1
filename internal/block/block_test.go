package block

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// sizes are below, at and beyond what is made in the ordinary way.
var sizes = []int{0, 1, 7, large - 1, large, large + 1, 3*large + 5}

// dirty leaves used memory behind, so that what is not cleared would show.
func dirty() {
	for range 50 {
		for _, n := range sizes {
			for i, b := 0, Uncleared[byte](n); i < n; i++ {
				b[i] = 0xff
			}
		}
	}
}

func TestBlocksHaveTheirLengthAndCanBeWritten(t *testing.T) {
	for _, n := range sizes {
		bytes, words, halves := Uncleared[byte](n), Uncleared[uint64](n), Uncleared[uint32](n)
		require.Len(t, bytes, n)
		require.Len(t, words, n)
		require.Len(t, halves, n)
		for i := range n {
			bytes[i], words[i], halves[i] = byte(i), uint64(i)<<40, uint32(i)<<8
		}
		for i := range n {
			require.Equal(t, byte(i), bytes[i])
			require.Equal(t, uint64(i)<<40, words[i])
			require.Equal(t, uint32(i)<<8, halves[i])
		}
		if n > 0 {
			require.Zero(t, uintptr(unsafe.Pointer(&words[0]))%unsafe.Alignof(words[0]))
		}
	}
}

func TestWhatIsClearedIsClear(t *testing.T) {
	for _, pause := range []func(){nil, func() {}} {
		for _, n := range sizes {
			dirty()
			bytes, words := Cleared[byte](n, pause), Cleared[uint64](n, pause)
			require.Len(t, bytes, n)
			require.Len(t, words, n)
			for i := range n {
				require.Zero(t, bytes[i])
				require.Zero(t, words[i])
			}
		}
	}
}

func TestACopyIsTheSameBytesElsewhere(t *testing.T) {
	for _, pause := range []func(){nil, func() {}} {
		for _, n := range sizes {
			of := make([]byte, n)
			for i := range of {
				of[i] = byte(i * 7)
			}
			copied := Copied(of, pause)
			require.Equal(t, of, append([]byte{}, copied...))
			if n > 0 {
				copied[0]++
				require.NotEqual(t, of[0], copied[0])
			}
		}
	}
}

func TestPausesComeBetweenPieces(t *testing.T) {
	paused := 0
	pause := func() { paused++ }
	Cleared[uint64](pieceBytes, pause)
	require.Equal(t, 8, paused)
	paused = 0
	Copied(make([]byte, 3*pieceBytes+5), pause)
	require.Equal(t, 4, paused)
}

func TestScratchIsLentAgain(t *testing.T) {
	for _, n := range []int{0, 1, leastLent - 1, leastLent, leastLent + 1, 14_000_000, mostLent, mostLent + 1} {
		b := Scratch(n)
		require.Len(t, b, n)
		for i := 0; i < n; i += 512 {
			b[i] = 0xff
		}
		Release(b[:0])
		again := Scratch(n)
		require.Len(t, again, n)
		Release(again)
	}
	// A pool may forget, and does under the race detector, so it is asked until it has not.
	require.Eventually(t, func() bool {
		b := Scratch(14_000_000)
		Release(b[:5])
		c := Scratch(16_000_000)
		defer Release(c)
		return unsafe.SliceData(b) == unsafe.SliceData(c)
	}, 10*time.Second, time.Millisecond)
}

func TestTwoHaveNoScratchInCommon(t *testing.T) {
	Release(Scratch(leastLent))
	a, b := Scratch(leastLent), Scratch(leastLent)
	require.NotSame(t, unsafe.SliceData(a), unsafe.SliceData(b))
}

func TestOnlyWhatScratchMayHaveReturnedIsLent(t *testing.T) {
	odd := make([]byte, leastLent+4096)
	Release(odd)
	for range 10 {
		require.NotSame(t, unsafe.SliceData(odd), unsafe.SliceData(Scratch(leastLent+1)))
	}
}
