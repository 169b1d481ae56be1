package kubernetes

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"tellergate/discovery"
)

func ptr[T any](v T) *T { return &v }

// pod is an endpoint of a slice in its usual state: ready, serving, backed by a pod.
func pod(address, uid string, change ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: "pod-" + uid, UID: types.UID(uid)},
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

func conditions(ready, serving, terminating *bool) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Conditions = discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}
	}
}

func zone(z string) func(*discoveryv1.Endpoint) { return func(e *discoveryv1.Endpoint) { e.Zone = &z } }

// ipv4Slice is a slice with the port http at 8080.
func ipv4Slice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints: endpoints,
	}
}

func withPorts(s *discoveryv1.EndpointSlice, ports ...discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	s.Ports = ports
	return s
}

func withType(s *discoveryv1.EndpointSlice, kind discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	s.AddressType = kind
	return s
}

// show prints a set one endpoint a line: address, uid, zone, state.
func show(set *discovery.EndpointSet) []string {
	lines := []string{}
	for i := range set.Len() {
		e := set.At(i)
		lines = append(lines, fmt.Sprintf("%s %s %s %s", e.Addr, e.UID, e.Zone, e.State))
	}
	return lines
}

func TestConditions(t *testing.T) {
	t.Parallel()
	yes, no := ptr(true), ptr(false)
	const active, draining, none = "active", "draining", "none"
	want := map[string]string{}
	row := func(ready, serving, terminating *bool, state string) {
		want[text(ready)+text(serving)+text(terminating)] = state
	}
	// Every combination. Terminating and serving is draining whatever ready says.
	for _, ready := range []*bool{nil, yes, no} {
		row(ready, nil, yes, draining)
		row(ready, yes, yes, draining)
		row(ready, no, yes, none)
	}
	// Not terminating: ready alone counts.
	for _, terminating := range []*bool{nil, no} {
		for _, serving := range []*bool{nil, yes, no} {
			row(nil, serving, terminating, active)
			row(yes, serving, terminating, active)
			row(no, serving, terminating, none)
		}
	}
	require.Len(t, want, 27)
	for _, ready := range []*bool{nil, yes, no} {
		for _, serving := range []*bool{nil, yes, no} {
			for _, terminating := range []*bool{nil, yes, no} {
				name := text(ready) + text(serving) + text(terminating)
				s, faults := fromEndpointSlice(ipv4Slice("s", pod("10.0.0.1", "a", conditions(ready, serving, terminating))))
				require.Empty(t, faults)
				set, _ := endpointsOf([]*slice{s}, choosePort("http"), nil)
				got := none
				if set.Len() > 0 {
					got = set.At(0).State.String()
				}
				require.Equal(t, want[name], got, "ready, serving, terminating = %s", name)
			}
		}
	}
}

func text(b *bool) string {
	if b == nil {
		return "-"
	}
	return map[bool]string{true: "y", false: "n"}[*b]
}

func TestEndpointsOfSlices(t *testing.T) {
	t.Parallel()
	terminating := conditions(ptr(false), ptr(true), ptr(true))
	gone := conditions(ptr(false), ptr(false), ptr(true))
	notReady := conditions(ptr(false), ptr(false), ptr(false))
	metrics := discoveryv1.EndpointPort{Name: ptr("metrics"), Port: ptr(int32(9090))}
	type slices = []*discoveryv1.EndpointSlice
	tests := []struct {
		name     string
		port     string
		slices   slices
		want     []string
		faults   []string
		portless bool
	}{
		{name: "no slice", port: "http", want: []string{}},
		{name: "an empty slice", port: "http", slices: slices{ipv4Slice("a")}, want: []string{}},
		{name: "zones are kept", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.2", "b", zone("z2")), pod("10.0.0.1", "a", zone("z1")))},
			want:   []string{"10.0.0.1:8080 a z1 active", "10.0.0.2:8080 b z2 active"}},
		{name: "many slices make one set", port: "http",
			slices: slices{ipv4Slice("b", pod("10.0.0.3", "c")), ipv4Slice("a", pod("10.0.0.1", "a")), ipv4Slice("c", pod("10.0.0.2", "b"))},
			want:   []string{"10.0.0.1:8080 a  active", "10.0.0.2:8080 b  active", "10.0.0.3:8080 c  active"}},
		{name: "an address twice: the draining mention wins", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "a")), ipv4Slice("b", pod("10.0.0.1", "a", terminating))},
			want:   []string{"10.0.0.1:8080 a  draining"}},
		{name: "the same in the other order", port: "http",
			slices: slices{ipv4Slice("b", pod("10.0.0.1", "a", terminating)), ipv4Slice("a", pod("10.0.0.1", "a"))},
			want:   []string{"10.0.0.1:8080 a  draining"}},
		{name: "an address twice: terminating and no longer serving wins, too", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "a")), ipv4Slice("b", pod("10.0.0.1", "a", gone))}, want: []string{}},
		{name: "a new pod has the address of one that is gone", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "new")), ipv4Slice("b", pod("10.0.0.1", "old", gone))},
			want:   []string{"10.0.0.1:8080 new  active"}},
		{name: "an address twice: a mention that is not ready says nothing", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "a")), ipv4Slice("b", pod("10.0.0.1", "a", notReady))},
			want:   []string{"10.0.0.1:8080 a  active"}},
		{name: "one pod on two addresses is two endpoints", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "a")), withType(ipv4Slice("b", pod("fd00::1", "a")), "IPv6")},
			want:   []string{"10.0.0.1:8080 a  active", "[fd00::1]:8080 a  active"}},
		{name: "only the first address of an endpoint", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "a", func(e *discoveryv1.Endpoint) { e.Addresses = append(e.Addresses, "10.0.0.2") }))},
			want:   []string{"10.0.0.1:8080 a  active"}},
		{name: "an endpoint without addresses", port: "http",
			slices: slices{ipv4Slice("a", pod("", "a", func(e *discoveryv1.Endpoint) { e.Addresses = nil }))}, want: []string{}},
		{name: "an endpoint that is no pod", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "a", func(e *discoveryv1.Endpoint) { e.TargetRef = nil }),
				pod("10.0.0.2", "n", func(e *discoveryv1.Endpoint) { e.TargetRef.Kind = "Node" }))},
			want: []string{"10.0.0.1:8080   active", "10.0.0.2:8080   active"}},
		{name: "a port by its number", port: "9090", slices: slices{withPorts(ipv4Slice("a", pod("10.0.0.1", "a")), metrics)},
			want: []string{"10.0.0.1:9090 a  active"}},
		{name: "another port than the slice has", port: "http", slices: slices{withPorts(ipv4Slice("a", pod("10.0.0.1", "a")), metrics)},
			want: []string{}, portless: true},
		{name: "a name that means another number in each slice", port: "http",
			slices: slices{ipv4Slice("a", pod("10.0.0.1", "a")),
				withPorts(ipv4Slice("b", pod("10.0.0.2", "b")), discoveryv1.EndpointPort{Name: ptr("http"), Port: ptr(int32(8081))})},
			want: []string{"10.0.0.1:8080 a  active", "10.0.0.2:8081 b  active"}},
		{name: "ports that are not TCP, have no number or none that can be", port: "http",
			slices: slices{withPorts(ipv4Slice("a", pod("10.0.0.1", "a")),
				discoveryv1.EndpointPort{Name: ptr("http"), Port: ptr(int32(53)), Protocol: ptr(corev1.ProtocolUDP)},
				discoveryv1.EndpointPort{Name: ptr("http")},
				discoveryv1.EndpointPort{Name: ptr("http"), Port: ptr(int32(65536))},
				discoveryv1.EndpointPort{Name: ptr("http"), Port: ptr(int32(8082))})},
			want: []string{"10.0.0.1:8082 a  active"}},
		{name: "an unnamed port is reached by number", port: "8080",
			slices: slices{withPorts(ipv4Slice("a", pod("10.0.0.1", "a")), discoveryv1.EndpointPort{Port: ptr(int32(8080))})},
			want:   []string{"10.0.0.1:8080 a  active"}},
		{name: "an empty slice without the port is no fault", port: "http", slices: slices{withPorts(ipv4Slice("a"))}, want: []string{}},
		{name: "host names are refused", port: "http",
			slices: slices{withType(ipv4Slice("f", pod("pods.example", "a")), discoveryv1.AddressTypeFQDN), ipv4Slice("a", pod("10.0.0.1", "a"))},
			want:   []string{"10.0.0.1:8080 a  active"},
			faults: []string{"EndpointSlice f: its addresses are of type FQDN, and requests never wait for a name server; make it IPv4 or IPv6"}},
		{name: "addresses that cannot be", port: "http",
			slices: slices{ipv4Slice("a", pod("pods.example", "a"), pod("0.0.0.0", "b"), pod("224.0.0.1", "c"), pod("fd00::1", "d"), pod("10.0.0.1", "e"))},
			want:   []string{"10.0.0.1:8080 e  active"},
			faults: []string{
				`EndpointSlice a: "pods.example" is not an IP address`, "EndpointSlice a: 0.0.0.0 cannot be the address of a pod",
				"EndpointSlice a: 224.0.0.1 cannot be the address of a pod", "EndpointSlice a: fd00::1 is not an address of type IPv4"}},
		{name: "an IPv6 address with a zone", port: "http",
			slices: slices{withType(ipv4Slice("a", pod("fe80::1%eth0", "a")), "IPv6")}, want: []string{},
			faults: []string{"EndpointSlice a: fe80::1%eth0 cannot be the address of a pod"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var all []*slice
			var faults []string
			for _, from := range test.slices {
				s, f := fromEndpointSlice(from)
				all, faults = append(all, s), append(faults, f...)
			}
			set, portless := endpointsOf(all, choosePort(test.port), nil)
			require.Equal(t, test.want, show(set))
			require.Equal(t, test.faults, faults)
			require.Equal(t, test.portless, portless)
		})
	}
}

func TestPodsAreAdmittedByUID(t *testing.T) {
	t.Parallel()
	s, _ := fromEndpointSlice(ipv4Slice("a", pod("10.0.0.1", "a"), pod("10.0.0.2", "b"),
		pod("10.0.0.3", "", func(e *discoveryv1.Endpoint) { e.TargetRef = nil })))
	set, _ := endpointsOf([]*slice{s}, choosePort("http"), func(uid string) bool { return uid == "b" })
	require.Equal(t, []string{"10.0.0.2:8080 b  active"}, show(set), "what is not known to be a labelled pod is left out")
}

// FuzzEndpointSlice feeds slices with fields of every kind: whatever comes, nothing panics, every endpoint can be
// dialled, and the order of the slices makes no difference.
func FuzzEndpointSlice(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x10\x20\x30"), "10.0.0.1", "IPv4", "http", int32(8080))
	f.Add([]byte("\x11\x12\x1a\x05"), "fd00::1", "IPv6", "", int32(-1))
	f.Add([]byte("\xff"), "pods.example", "FQDN", "80", int32(1<<20))
	f.Fuzz(func(t *testing.T, shape []byte, address, kind, name string, number int32) {
		var from []*discoveryv1.EndpointSlice
		for i := 0; i < len(shape) && i < 64; i++ {
			b := shape[i]
			condition := func(shift uint) *bool { return []*bool{nil, ptr(true), ptr(false), nil}[b>>shift&3] }
			at := address
			if b&1 == 0 {
				at = fmt.Sprintf("10.0.0.%d", b&7+1)
			}
			e := pod(at, fmt.Sprint(b&3), conditions(condition(2), condition(4), condition(6)))
			s := withPorts(withType(ipv4Slice(fmt.Sprint(i), e), discoveryv1.AddressType(kind)),
				discoveryv1.EndpointPort{Name: &name, Port: &number})
			from = append(from, s)
		}
		join := func(reversed bool) *discovery.EndpointSet {
			var all []*slice
			for i := range from {
				if reversed {
					i = len(from) - 1 - i
				}
				s, _ := fromEndpointSlice(from[i])
				all = append(all, s)
			}
			set, _ := endpointsOf(all, choosePort(name), nil)
			return set
		}
		set, reversed := join(false), join(true)
		require.Equal(t, set.Len(), reversed.Len())
		for i := range set.Len() {
			e := set.At(i)
			require.True(t, e.Addr.IsValid() && e.Addr.Port() > 0 && !e.Addr.Addr().IsUnspecified(), "%v", e)
			require.Equal(t, e.Addr, reversed.At(i).Addr)
			require.Equal(t, e.State, reversed.At(i).State)
			require.NotEqual(t, netip.AddrPort{}, e.Addr)
		}
	})
}
