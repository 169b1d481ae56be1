package memory

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"
)

var pool = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// burst makes buffers of 32 MiB and leaves them in a pool.
func burst() {
	var taken []any
	for range 512 {
		taken = append(taken, pool.Get())
	}
	for _, b := range taken {
		pool.Put(b)
	}
}

func TestWhatABurstLeavesIsGivenBack(t *testing.T) {
	s := watch()
	if !s.look() {
		t.Fatal("the first quiet moment gives back what the start has left")
	}
	_, before := read()
	burst()
	_, during := read()
	if during < before+30<<20 {
		t.Fatalf("the burst of 32 MiB took %d bytes: the test shows nothing", during-before)
	}
	if s.look() {
		t.Fatal("memory was given back in the midst of work")
	}
	if !s.look() {
		t.Fatal("nothing was given back once nothing happened")
	}
	if _, after := read(); after > before+2<<20 {
		t.Fatalf("%d bytes before a burst, %d during, %d after it was given back", before, during, after)
	}
	if s.look() {
		t.Fatal("there was nothing to give back again")
	}
}

var kept []byte

func TestAChangeIsFollowedByACollectionWhereMuchWasAllocated(t *testing.T) {
	s := watch()
	s.collect()
	if s.collect() {
		t.Fatal("nothing was allocated, and yet there was a collection")
	}
	kept = make([]byte, much)
	if !s.collect() {
		t.Fatalf("no collection, though %d bytes were allocated", much)
	}
	if s.collect() {
		t.Fatal("a second collection, though nothing was allocated since the first")
	}
	runtime.KeepAlive(kept)
}

func TestTheKeeperCollectsAfterAChangeAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	k, ended := New(), make(chan error)
	go func() { ended <- k.Run(ctx) }()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept = make([]byte, much+much/2)
	began := time.Now()
	k.Changed()
	k.Changed() // does not wait, whoever listens
	for now = before; now.NumForcedGC == before.NumForcedGC; runtime.ReadMemStats(&now) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("no collection in 20 s")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Fatal(err)
	}
}
