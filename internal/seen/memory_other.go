//go:build !linux

package seen

import "sync/atomic"

func allocate(sets int) ([]set, []atomic.Uint64) {
	return make([]set, sets), make([]atomic.Uint64, sets*ways*words)
}
