package seen

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// allocate takes the memory of a sketch of so many sets from the system and not from the Go heap: pages that no identity has come to cost
// nothing, and the collector does not let garbage grow to the size of it. It is the process's until it ends.
func allocate(sets int) ([]set, []atomic.Uint64) {
	heads, values := sets*int(unsafe.Sizeof(set{})), sets*ways*words*8
	memory, err := syscall.Mmap(-1, 0, heads+values, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil { // a limit on address space
		return make([]set, sets), make([]atomic.Uint64, sets*ways*words)
	}
	return unsafe.Slice((*set)(unsafe.Pointer(&memory[0])), sets),
		unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(&memory[heads])), sets*ways*words)
}
