// Package static makes pod sets from addresses that the rule document names. Such a set never changes: another document
// makes another set.
//
// It is responsible for nothing else. The addresses are taken as they are, always active, and never resolved, dialled or
// judged; whether a pod can be reached is found out by proxy/upstream.
package static

import (
	"net/netip"

	"tellergate/discovery"
)

// PodSet returns the pods at addrs, all active. Addresses may repeat; none makes the empty set.
func PodSet(addrs []netip.AddrPort) *discovery.PodSet {
	endpoints := make([]discovery.Endpoint, len(addrs))
	for i, addr := range addrs {
		endpoints[i] = discovery.Endpoint{Addr: addr, State: discovery.Active}
	}
	return discovery.NewPodSet(discovery.NewEndpointSet(endpoints))
}
