package kubernetes

//lint:file-ignore SA1019 banks run clusters that are older than EndpointSlices; this is the file that serves them.

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"tellergate/discovery"
)

type legacyEndpoints = corev1.Endpoints

// overCapacity is set on a legacy Endpoints object that does not name every pod.
const overCapacity = "endpoints.kubernetes.io/over-capacity"

// fromEndpoints translates a legacy Endpoints object: addresses are active, notReadyAddresses ignored, and there is no
// draining. truncated tells that the object does not name every pod of its service.
func fromEndpoints(from *legacyEndpoints) (all []*slice, truncated bool, faults []string) {
	for i := range from.Subsets {
		subset, s := &from.Subsets[i], new(slice)
		for _, p := range subset.Ports {
			if tcp(&p.Protocol) && p.Port > 0 && p.Port <= 65535 {
				s.ports = append(s.ports, port{p.Name, uint16(p.Port)})
			}
		}
		for j := range subset.Addresses {
			a := &subset.Addresses[j]
			addr, err := podAddr(a.IP)
			if err != nil {
				faults = append(faults, fmt.Sprintf("Endpoints %s: %v", from.Name, err))
				continue
			}
			s.entries = append(s.entries, entry{addr: addr, uid: podUID(a.TargetRef), state: discovery.Active})
		}
		all = append(all, s)
	}
	return all, from.Annotations[overCapacity] != "", faults
}
