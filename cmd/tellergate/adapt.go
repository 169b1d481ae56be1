package main

import (
	"tellergate/admin/api"
	"tellergate/proxy"
)

// pods shows the admin API what the data plane sees of the pods.
type pods struct{ proxy *proxy.Proxy }

// Endpoints implements admin.Pods.
func (p pods) Endpoints(service, version string) []api.Endpoint {
	status := p.proxy.Endpoints(service, version)
	out := make([]api.Endpoint, len(status))
	for i, s := range status {
		out[i] = api.Endpoint{
			Address: s.Addr, UID: s.UID, Zone: s.Zone, State: s.State.String(), Usable: s.Usable, InFlight: s.InFlight,
		}
	}
	return out
}
