package memory

import (
	"context"
	"sync"
	"testing"
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

func TestGiveBackEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := GiveBack(ctx); err != context.Canceled {
		t.Fatal(err)
	}
}
