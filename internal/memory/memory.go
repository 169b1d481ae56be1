// Package memory has memory used again: by the process itself after a change of rules, by the operating system once
// nothing happens any more.
//
// After a change the rules and lists before it are garbage, tens of megabytes perhaps, and the Go runtime lets as much
// garbage gather as there is live data. The next change would be made in new pages meanwhile, each of which costs a page
// fault: half of the time that a list of a million values takes in some virtual machines, and whoever shares the host's
// page tables waits with it. So after a change that has allocated much there is a collection.
//
// The Go runtime does that by itself while there is work: two collections empty the pools of buffers, and free pages are
// returned in the background. Without work there are no collections for two minutes, none that empties the pools for
// four, and free pages up to the size of the heap are kept for good. A gateway that is idle at night, or that stands by,
// would hold all night what its busiest moment needed.
//
// It is responsible for that alone: it sets no limit, and while requests come it does nothing but what Changed asks for.
package memory

import (
	"context"
	"runtime"
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
	// much is what has been allocated where a change is followed by a collection, in bytes.
	much = 16 << 20
)

// A Keeper does it. There is one in a process, made by New; Run is called once.
type Keeper struct {
	changed chan struct{}
}

// New returns the Keeper.
func New() *Keeper { return &Keeper{changed: make(chan struct{}, 1)} }

// Changed says that something large may have become garbage. It does not wait.
func (k *Keeper) Changed() {
	select {
	case k.changed <- struct{}{}:
	default: // it is known already
	}
}

// Run looks every 15 s, and after each change, until ctx ends, and returns ctx's error.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	s := watch()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.look()
		case <-k.changed:
			s.collect()
		}
	}
}

// collect collects if much has been allocated since it last did, and reports whether it does. A collection that the runtime
// began by itself meanwhile may have found the old rules in use.
func (s *state) collect() bool {
	allocated, _ := read()
	if allocated-s.collected < much {
		return false
	}
	runtime.GC()
	s.collected = allocated
	return true
}

// A state is what the last look saw.
type state struct {
	allocated uint64 // bytes since the process began
	collected uint64 // bytes that had been allocated when a change last led to a collection
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
