package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"tellergate/discovery"
)

// A slice is what is kept of an EndpointSlice, or of one subset of a legacy Endpoints object. It is immutable.
type slice struct {
	ports   []port
	entries []entry
}

type port struct {
	name   string
	number uint16
}

// An entry is one pod in a slice. Whatever is neither ready nor serving is not kept, but for pods that are terminating:
// they contradict a mention of the same pod elsewhere that is out of date.
type entry struct {
	addr  netip.Addr
	uid   string // of the pod; empty if the entry does not name one
	zone  string
	state discovery.State
	gone  bool // terminating and no longer serving
}

// fromEndpointSlice translates an EndpointSlice. faults tell what of it is not understood and therefore left out.
func fromEndpointSlice(from *discoveryv1.EndpointSlice) (s *slice, faults []string) {
	fault := func(format string, values ...any) {
		faults = append(faults, fmt.Sprintf("EndpointSlice %s: ", from.Name)+fmt.Sprintf(format, values...))
	}
	s = new(slice)
	if from.AddressType != discoveryv1.AddressTypeIPv4 && from.AddressType != discoveryv1.AddressTypeIPv6 {
		fault("its addresses are of type %s, and requests never wait for a name server; make it IPv4 or IPv6", from.AddressType)
		return s, faults
	}
	for _, p := range from.Ports {
		if tcp(p.Protocol) && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			s.ports = append(s.ports, port{deref(p.Name, ""), uint16(*p.Port)})
		}
	}
	s.entries = make([]entry, 0, len(from.Endpoints))
	for i := range from.Endpoints {
		e := &from.Endpoints[i]
		state, gone, ok := stateOf(e.Conditions)
		if !ok || len(e.Addresses) == 0 {
			continue
		}
		addr, err := podAddr(e.Addresses[0]) // the others name the same pod, and consumers are told to take the first
		if err != nil {
			fault("%v", err)
			continue
		}
		if addr.Is4() != (from.AddressType == discoveryv1.AddressTypeIPv4) {
			fault("%s is not an address of type %s", addr, from.AddressType)
			continue
		}
		s.entries = append(s.entries, entry{addr, podUID(e.TargetRef), deref(e.Zone, ""), state, gone})
	}
	return s, faults
}

// stateOf applies the rules of EndpointSlice conditions: nil ready and serving are true, nil terminating is false;
// terminating and serving is draining whatever ready says; ready and not terminating is active; the rest is not usable.
func stateOf(c discoveryv1.EndpointConditions) (state discovery.State, gone, ok bool) {
	ready, serving, terminating := deref(c.Ready, true), deref(c.Serving, true), deref(c.Terminating, false)
	switch {
	case terminating && serving:
		return discovery.Draining, false, true
	case terminating:
		return discovery.Draining, true, true
	case ready:
		return discovery.Active, false, true
	}
	return 0, false, false
}

// podAddr reads an address that a pod can have.
func podAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", text)
	case addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast():
		return netip.Addr{}, fmt.Errorf("%s cannot be the address of a pod", addr)
	}
	return addr.Unmap(), nil
}

func podUID(target *corev1.ObjectReference) string {
	if target == nil || target.Kind != "Pod" {
		return ""
	}
	return string(target.UID)
}

// tcp reports whether a port speaks TCP, which is what a port without a protocol does.
func tcp(protocol *corev1.Protocol) bool {
	return protocol == nil || *protocol == "" || *protocol == corev1.ProtocolTCP
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// A portChoice says which port of a slice a version takes: one by name, or by the number that the pods listen on.
type portChoice struct {
	name   string
	number uint16 // 0: by name
}

func choosePort(written string) portChoice {
	if n, err := strconv.ParseUint(written, 10, 16); err == nil && n > 0 {
		return portChoice{number: uint16(n)}
	}
	return portChoice{name: written}
}

// of returns the port number in s, 0 if s has no such port.
func (c portChoice) of(s *slice) uint16 {
	for _, p := range s.ports {
		if c.number == 0 && p.name == c.name || c.number != 0 && p.number == c.number {
			return p.number
		}
	}
	return 0
}

// endpointsOf joins the slices of one service into its endpoints on the chosen port, of the pods that admit lets
// through; a nil admit lets every pod through. portless tells that some slice has pods and no such port.
func endpointsOf(all []*slice, choice portChoice, admit func(uid string) bool) (set *discovery.EndpointSet, portless bool) {
	type mention struct {
		addr netip.AddrPort
		uid  string
	}
	var (
		found []discovery.Endpoint
		gone  map[mention]bool
	)
	most := 0
	for _, s := range all {
		most += len(s.entries)
	}
	found = make([]discovery.Endpoint, 0, most)
	for _, s := range all {
		number := choice.of(s)
		if number == 0 {
			portless = portless || len(s.entries) > 0
			continue
		}
		for _, e := range s.entries {
			if admit != nil && !admit(e.uid) {
				continue
			}
			at := netip.AddrPortFrom(e.addr, number)
			if e.gone {
				if gone == nil {
					gone = make(map[mention]bool)
				}
				gone[mention{at, e.uid}] = true
				continue
			}
			found = append(found, discovery.Endpoint{Addr: at, UID: e.uid, Zone: e.zone, State: e.state})
		}
	}
	if gone != nil {
		found = slices.DeleteFunc(found, func(e discovery.Endpoint) bool { return gone[mention{e.Addr, e.UID}] })
	}
	return discovery.NewEndpointSet(found), portless
}
