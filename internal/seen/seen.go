// Package seen remembers whom a replica has served lately: the identities that an impact is computed over when nobody
// has a file of them.
//
// It is a sketch of bounded size: 131,072 identities at most in 16 MiB, which the process occupies only as far as
// identities come. It keeps claims (branch, teller, legal entity), never handles such as a session's cookie, in the memory
// of this process alone, and forgets who has not been seen for a day. It decides nothing and writes nothing down; how
// values are shown to operators is left to whoever shows them.
package seen

import (
	"context"
	"hash/maphash"
	"iter"
	"sync/atomic"
	"time"
)

// Capacity is how many identities a Sketch holds at most.
const Capacity = sets * ways

// MaxBytes is how long an identity may be: the service's name and the values kept, each with one byte for its length. Of
// longer ones only the number is known.
const MaxBytes = words * 8

// Forgotten is after which time an identity that is not seen again is forgotten.
const Forgotten = 24 * time.Hour

const (
	setBits = 14
	sets    = 1 << setBits
	ways    = 8
	words   = 14 // of one identity
)

// renewed is how old the time of an identity becomes, in seconds, before it is written again. In between a request only
// reads. It is also how long an identity that has a place keeps it when others want it.
const renewed = 60

// tooLong stands in the first word of an identity that does not fit.
const tooLong = ^uint64(0)

// A Sketch is safe for concurrent use. Note never waits and allocates nothing; it writes to memory that other requests
// read only where the identity is new or was last seen more than a minute ago.
//
// Each identity has a set of places, chosen by its fingerprint. One that finds all of its set taken takes the place of the
// one that was seen longest ago, unless that was within the last minute: then it is not kept. At 65,536 identities in a
// minute that befalls one in 200.
type Sketch struct {
	keep   []int // indexes of the attributes kept
	of     int   // how many attributes there are
	seed   maphash.Seed
	sets   []set
	shift  int             // of a fingerprint, to the number of its set
	values []atomic.Uint64 // words of each place: lengths and bytes
	held   atomic.Int64    // places taken
	long   atomic.Int64    // of them by identities that do not fit
}

// A set is two lines of the processor's cache.
type set struct {
	fingerprint [ways]atomic.Uint64 // 0: free
	// state is when the identity was last seen (seconds of the Unix clock, upper half), and how often the place has been
	// written: twice for each identity, so that it is odd while somebody writes.
	state [ways]atomic.Uint64
}

// New returns a sketch of identities of a number of attributes that keeps those at the given indexes.
func New(attributes int, keep []int) *Sketch {
	return sized(attributes, keep, setBits)
}

// sized is New with 1<<bits sets.
func sized(attributes int, keep []int, bits int) *Sketch {
	s := &Sketch{keep: append([]int(nil), keep...), of: attributes, seed: maphash.MakeSeed(), shift: 64 - bits}
	s.sets, s.values = allocate(1 << bits)
	return s
}

// Run forgets who has not been seen for a day, until ctx ends, and returns ctx's error.
func (s *Sketch) Run(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			s.forget(now.Add(-Forgotten))
		}
	}
}

// Note remembers that the service was asked by an identity. attributes are by index, empty where missing; what is kept of
// them is copied. An identity of which nothing is kept is nobody.
func (s *Sketch) Note(service string, attributes []string, at time.Time) {
	fingerprint, somebody := s.fingerprint(service, attributes)
	if !somebody {
		return
	}
	place, now := fingerprint>>s.shift, uint32(at.Unix())
	among := &s.sets[place]
	oldest, age := 0, int32(-1)
	for i := range ways {
		found := among.fingerprint[i].Load()
		state := among.state[i].Load()
		since := int32(now - uint32(state>>32))
		if since < 0 {
			since = -since // the clock was set back
		}
		if found == fingerprint {
			if since >= renewed && state&1 == 0 {
				among.state[i].CompareAndSwap(state, uint64(now)<<32|uint64(uint32(state)))
			}
			return
		}
		if found == 0 {
			since = 1<<31 - 1
		}
		if since > age {
			oldest, age = i, since
		}
	}
	if age >= renewed {
		s.write(among, int(place)*ways, oldest, fingerprint, now, service, attributes)
	}
}

// write puts an identity into a place of a set, unless somebody else does at this moment.
func (s *Sketch) write(among *set, first, i int, fingerprint uint64, now uint32, service string, attributes []string) {
	state := among.state[i].Load()
	if state&1 != 0 || !among.state[i].CompareAndSwap(state, state+1) {
		return
	}
	at := s.place(first + i)
	if among.fingerprint[i].Load() == 0 {
		s.held.Add(1)
	} else if at[0].Load() == tooLong {
		s.long.Add(-1)
	}
	among.fingerprint[i].Store(fingerprint)
	var text [words * 8]byte
	if s.encode(&text, service, attributes) {
		for w := range at {
			at[w].Store(word(&text, w))
		}
	} else {
		at[0].Store(tooLong)
		s.long.Add(1)
	}
	among.state[i].Store(uint64(now)<<32 | uint64(uint32(state)+2))
}

func (s *Sketch) place(n int) []atomic.Uint64 { return s.values[n*words : (n+1)*words : (n+1)*words] }

// fingerprint tells identities apart: two of one set share theirs once in 2⁵⁰ times.
func (s *Sketch) fingerprint(service string, attributes []string) (fingerprint uint64, somebody bool) {
	fingerprint = maphash.String(s.seed, service)
	for _, i := range s.keep {
		// Multiplying by an odd number keeps apart what different attributes say.
		fingerprint *= 0x9E3779B97F4A7C15
		if value := attributes[i]; value != "" {
			fingerprint ^= maphash.String(s.seed, value)
			somebody = true
		}
	}
	return max(fingerprint, 1), somebody
}

// encode writes the service's name and the kept values, each after its length. It reports whether they fit.
func (s *Sketch) encode(text *[words * 8]byte, service string, attributes []string) bool {
	at := 0
	put := func(value string) bool {
		if at+1+len(value) > len(text) {
			return false
		}
		text[at] = byte(len(value))
		at += 1 + copy(text[at+1:], value)
		return true
	}
	fits := put(service)
	for _, i := range s.keep {
		fits = fits && put(attributes[i])
	}
	return fits && word(text, 0) != tooLong
}

func word(text *[words * 8]byte, w int) uint64 {
	n := uint64(0)
	for i, c := range text[w*8 : w*8+8] {
		n |= uint64(c) << (8 * i)
	}
	return n
}

// All yields every identity held: the service, and the attributes by index, which are valid until the next. Identities
// that come meanwhile may be among them or not.
func (s *Sketch) All() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		attributes := make([]string, s.of)
		var text [words * 8]byte
		for n := range s.sets {
			for i := range ways {
				if !s.read(&s.sets[n], n*ways, i, &text) {
					continue
				}
				// One string for all values: a million of them must not be a million allocations.
				all, at := string(text[:]), 0
				next := func() string {
					end := at + 1 + int(all[at])
					value := all[at+1 : end]
					at = end
					return value
				}
				service := next()
				for _, k := range s.keep {
					attributes[k] = next()
				}
				if !yield(service, attributes) {
					return
				}
			}
		}
	}
}

// read copies what a place holds. It reports false if that is nothing, does not fit or is being written.
func (s *Sketch) read(among *set, first, i int, text *[words * 8]byte) bool {
	before := among.state[i].Load()
	if before&1 != 0 || among.fingerprint[i].Load() == 0 {
		return false
	}
	at := s.place(first + i)
	if at[0].Load() == tooLong {
		return false
	}
	for w := range at {
		n := at[w].Load()
		for b := range 8 {
			text[w*8+b] = byte(n >> (8 * b))
		}
	}
	return uint32(among.state[i].Load()) == uint32(before)
}

// Capacity returns how many identities can be held.
func (s *Sketch) Capacity() int { return len(s.sets) * ways }

// Len returns how many identities are held, and how many of them are known by number only, because they are longer than
// MaxBytes.
func (s *Sketch) Len() (held, long int) { return int(s.held.Load()), int(s.long.Load()) }

// forget erases who was last seen before a time.
func (s *Sketch) forget(before time.Time) {
	limit := uint64(before.Unix()) << 32
	for n := range s.sets {
		among := &s.sets[n]
		for i := range ways {
			state := among.state[i].Load()
			if state >= limit || state&1 != 0 || among.fingerprint[i].Load() == 0 ||
				!among.state[i].CompareAndSwap(state, state+1) {
				continue
			}
			at := s.place(n*ways + i)
			if at[0].Load() == tooLong {
				s.long.Add(-1)
			}
			for w := range at {
				at[w].Store(0)
			}
			among.fingerprint[i].Store(0)
			s.held.Add(-1)
			among.state[i].Store(uint64(uint32(state) + 2))
		}
	}
}
