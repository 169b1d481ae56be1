package seen

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

// identities are of legalEntity, branch, teller, session; the session is not kept.
func newTest() *Sketch { return sized(4, []int{0, 1, 2}, testBits) }

// testBits and capacity are of the sketches of most tests, so that they fill in a moment.
const (
	testBits = 8
	capacity = ways << testBits
)

func teller(i int) []string {
	return []string{"9001", fmt.Sprintf("9001/%06d", i%500), fmt.Sprintf("9001/%08d", i), fmt.Sprintf("secret-%d", i)}
}

// held returns what is held, in words.
func held(s *Sketch) map[string]int {
	found := map[string]int{}
	for service, attributes := range s.All() {
		found[service+" "+strings.Join(attributes, " ")]++
	}
	return found
}

func TestEachIdentityIsHeldOnce(t *testing.T) {
	t.Parallel()
	s := newTest()
	require.Empty(t, held(s))
	for range 3 {
		s.Note("counter", teller(1), noon)
		s.Note("counter", []string{"9001", "", "9001/00000001", ""}, noon)
		s.Note("mobile", teller(1), noon)
	}
	s.Note("counter", []string{"", "", "", "secret"}, noon)
	require.Equal(t, map[string]int{
		"counter 9001 9001/000001 9001/00000001 ": 1,
		"counter 9001  9001/00000001 ":            1,
		"mobile 9001 9001/000001 9001/00000001 ":  1,
	}, held(s), "handles are not kept, and who says nothing but them is nobody")
	n, long := s.Len()
	require.Equal(t, []int{3, 0}, []int{n, long})
}

func TestLongIdentitiesAreKnownByNumber(t *testing.T) {
	t.Parallel()
	s := newTest()
	fits := []string{"9001", "", strings.Repeat("7", MaxBytes-len("9001")-len("counter")-4), ""}
	s.Note("counter", fits, noon)
	long := []string{"9001", "", fits[2] + "7", ""}
	for range 3 {
		s.Note("counter", long, noon)
	}
	require.Equal(t, map[string]int{"counter 9001  " + fits[2] + " ": 1}, held(s))
	n, tooMany := s.Len()
	require.Equal(t, []int{2, 1}, []int{n, tooMany})
	s.forget(noon.Add(time.Second))
	n, tooMany = s.Len()
	require.Equal(t, []int{0, 0}, []int{n, tooMany})
	require.Empty(t, held(s))
}

func TestAnIdentityIsForgottenADayAfterItWasLastSeen(t *testing.T) {
	t.Parallel()
	s := newTest()
	s.Note("counter", teller(1), noon)
	s.Note("counter", teller(2), noon)
	s.Note("counter", teller(2), noon.Add(renewed*time.Second))
	s.forget(noon.Add(renewed * time.Second))
	require.Equal(t, map[string]int{"counter 9001 9001/000002 9001/00000002 ": 1}, held(s))
	for i := range s.sets {
		for w := range s.sets[i].fingerprint {
			if s.sets[i].fingerprint[w].Load() == 0 {
				require.Zero(t, s.place(i*ways + w)[0].Load(), "what is forgotten is erased")
			}
		}
	}
	s.Note("counter", teller(1), noon)
	require.Len(t, held(s), 2)
}

// TestWhoIsManyDoesNotFit fills the sketch beyond what it holds, and a minute later with others.
func TestWhoIsManyDoesNotFit(t *testing.T) {
	t.Parallel()
	s := newTest()
	half := capacity / 2
	for i := range half {
		s.Note("counter", teller(i), noon)
	}
	n, _ := s.Len()
	require.Greater(t, n, half-half/20)
	require.Len(t, held(s), n)
	for i := range 4 * capacity {
		s.Note("counter", teller(i), noon)
	}
	full, _ := s.Len()
	require.Greater(t, full, capacity*99/100)
	require.Len(t, held(s), full)
	before := held(s)
	s.Note("counter", teller(5*capacity), noon)
	require.Equal(t, before, held(s), "who has been seen in this minute keeps the place")
	for i := range 4 * capacity {
		s.Note("counter", teller(i+8*capacity), noon.Add(renewed*time.Second))
	}
	after := held(s)
	for who := range maps.Keys(before) {
		if after[who] > 0 {
			delete(before, who)
		}
	}
	require.Greater(t, len(before), capacity*99/100, "a minute later others come")
}

// TestManyAtOnce has requests note the same and other identities while somebody reads and forgets: what is read must be
// whole identities of those noted.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newTest()
	const people = 3 * capacity / 2
	ctx, cancel := context.WithCancel(t.Context())
	var noting, looking sync.WaitGroup
	for g := range 4 {
		noting.Go(func() {
			for i := range 5 * people {
				s.Note("counter", teller((i*7919+g)%people), noon.Add(time.Duration(i/50)*time.Second))
			}
		})
	}
	looking.Go(func() {
		for at := noon; ctx.Err() == nil; at = at.Add(time.Second) {
			for service, attributes := range s.All() {
				var n int
				_, err := fmt.Sscanf(attributes[2], "9001/%08d", &n)
				if err != nil || service != "counter" || attributes[1] != teller(n)[1] || attributes[0] != "9001" || attributes[3] != "" {
					t.Errorf("%s %q was never noted", service, attributes)
					return
				}
			}
			s.forget(at)
		}
	})
	noting.Wait()
	cancel()
	looking.Wait()
	n, _ := s.Len()
	require.Len(t, held(s), n)
}

// TestItsSize holds the constants to what is documented.
func TestItsSize(t *testing.T) {
	t.Parallel()
	s := New(4, []int{0, 1, 2})
	require.Equal(t, 131_072, Capacity)
	require.Equal(t, 16<<20, len(s.sets)*int(unsafe.Sizeof(set{}))+len(s.values)*8)
	people := Capacity / 2
	for i := range people {
		s.Note("counter", teller(i), noon)
	}
	n, _ := s.Len()
	require.Greater(t, n, people-people/100)
}

func TestRunEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, newTest().Run(ctx), context.Canceled)
}

func TestNotingAllocatesNothing(t *testing.T) {
	s := newTest()
	people := make([][]string, 1000)
	for i := range people {
		people[i] = teller(i)
	}
	i := 0
	require.Zero(t, testing.AllocsPerRun(5000, func() {
		s.Note("counter", people[i%len(people)], noon.Add(time.Duration(i)*time.Second))
		i++
	}))
}

// BenchmarkNote is what a request of somebody known pays, alone and with all cores at it.
func BenchmarkNote(b *testing.B) {
	s := New(4, []int{0, 1, 2})
	people := make([][]string, 10_000)
	for i := range people {
		people[i] = teller(i)
		s.Note("counter", people[i], noon)
	}
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Note("counter", people[i*7919%len(people)], noon)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				s.Note("counter", people[i*7919%len(people)], noon)
			}
		})
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Note("counter", people[i%len(people)], noon.Add(time.Duration(i/len(people))*time.Hour))
		}
	})
}

// BenchmarkAll is what reading a full sketch takes.
func BenchmarkAll(b *testing.B) {
	s := New(4, []int{0, 1, 2})
	for i := range Capacity {
		s.Note("counter", teller(i), noon)
	}
	b.ReportAllocs()
	for b.Loop() {
		for range s.All() {
		}
	}
}
