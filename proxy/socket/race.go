//go:build race

package socket

import "sync/atomic"

// order tells the race detector that what was sent through a socket happened before what was received from one, as the
// system calls of package syscall do.
var order atomic.Int64

func acquire() { order.Load() }
func release() { order.Add(1) }
