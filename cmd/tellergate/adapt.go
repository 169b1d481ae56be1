package main

import (
	"fmt"

	"tellergate/admin/api"
	"tellergate/discovery"
	"tellergate/discovery/static"
	"tellergate/proxy"
	"tellergate/rules"
)

// podSet finds the pods of a version: the only place that knows every kind of source.
func podSet(v *rules.CompiledVersion) (*discovery.PodSet, error) {
	if addresses := v.Static(); addresses != nil {
		return static.PodSet(addresses), nil
	}
	return nil, fmt.Errorf("version %s names no pods that this replica can find", v.Name())
}

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
