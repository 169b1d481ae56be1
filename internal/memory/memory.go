// Package memory gives memory that a burst has left behind back to the operating system once nothing happens any more.
//
// The Go runtime does that by itself while there is work: two collections empty the pools of buffers, and free pages are
// returned in the background. Without work there are no collections for two minutes, none that empties the pools for
// four, and free pages up to the size of the heap are kept for good. A gateway that is idle at night, or that stands by,
// would hold all night what its busiest moment needed.
//
// It is responsible for that alone: it sets no limit and changes nothing while requests come.
package memory

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	every = 15 * time.Second
	// idle is what a process that does nothing allocates between two looks, in bytes: scrapes, health checks. At more than
	// that the runtime collects by itself soon enough.
	idle = 4 << 20
	// worth is what is given back at the least, in bytes; less is left alone.
	worth = 1 << 20
)

// GiveBack looks every 15 s until ctx ends and returns ctx's error. It belongs to the process: run it once.
func GiveBack(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	s := watch()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.look()
		}
	}
}

// A state is what the last look saw.
type state struct {
	allocated uint64 // bytes since the process began
	least     uint64 // bytes held after memory was last given back; 0: never
}

func watch() *state {
	allocated, _ := read()
	return &state{allocated: allocated}
}

// look gives memory back if nothing has happened since the last look and there is something to give. It reports whether
// it did.
func (s *state) look() bool {
	allocated, held := read()
	quiet := allocated-s.allocated < idle
	s.allocated = allocated
	if held < s.least {
		s.least = held
	}
	if !quiet || held < s.least+worth {
		return false
	}
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what pools hold falls at the second collection
	s.allocated, s.least = read()
	return true
}

// read returns the bytes that have ever been allocated, and those that the process holds now.
func read() (allocated, held uint64) {
	samples := [...]metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples[:])
	return samples[0].Value.Uint64(), samples[1].Value.Uint64() - samples[2].Value.Uint64()
}
