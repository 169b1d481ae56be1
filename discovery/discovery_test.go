package discovery_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/discovery"
)

func endpoint(addr string, state discovery.State, uid string) discovery.Endpoint {
	return discovery.Endpoint{Addr: netip.MustParseAddrPort(addr), State: state, UID: uid}
}

func all(set *discovery.EndpointSet) []discovery.Endpoint {
	var endpoints []discovery.Endpoint
	for i := range set.Len() {
		endpoints = append(endpoints, set.At(i))
	}
	return endpoints
}

func TestNewEndpointSet(t *testing.T) {
	t.Parallel()
	const active, draining = discovery.Active, discovery.Draining
	tests := []struct {
		name      string
		endpoints []discovery.Endpoint
		want      []discovery.Endpoint
	}{
		{"none", nil, nil},
		{"sorted by address, not by text",
			[]discovery.Endpoint{
				endpoint("10.2.0.10:80", active, ""), endpoint("[fd00::1]:80", active, ""),
				endpoint("10.2.0.9:81", active, ""), endpoint("10.2.0.9:80", draining, "")},
			[]discovery.Endpoint{
				endpoint("10.2.0.9:80", draining, ""), endpoint("10.2.0.9:81", active, ""),
				endpoint("10.2.0.10:80", active, ""), endpoint("[fd00::1]:80", active, "")}},
		{"the draining mention wins after the active one",
			[]discovery.Endpoint{endpoint("10.2.0.9:80", active, "a"), endpoint("10.2.0.9:80", draining, "d")},
			[]discovery.Endpoint{endpoint("10.2.0.9:80", draining, "d")}},
		{"the draining mention wins before the active one",
			[]discovery.Endpoint{endpoint("10.2.0.9:80", draining, "d"), endpoint("10.2.0.9:80", active, "a")},
			[]discovery.Endpoint{endpoint("10.2.0.9:80", draining, "d")}},
		{"the first of equal mentions wins",
			[]discovery.Endpoint{endpoint("10.2.0.9:80", active, "1"), endpoint("10.2.0.9:80", active, "2")},
			[]discovery.Endpoint{endpoint("10.2.0.9:80", active, "1")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, all(discovery.NewEndpointSet(test.endpoints)))
		})
	}
}

func TestEndpointSetOwnsItsEndpoints(t *testing.T) {
	t.Parallel()
	given := []discovery.Endpoint{endpoint("10.2.0.9:80", discovery.Active, ""), endpoint("10.2.0.8:80", discovery.Active, "")}
	set := discovery.NewEndpointSet(given)
	require.Equal(t, "10.2.0.9:80", given[0].Addr.String(), "the caller's slice is not sorted")
	given[0], given[1] = discovery.Endpoint{}, discovery.Endpoint{}
	require.Equal(t, "10.2.0.8:80", set.At(0).Addr.String())
	require.Equal(t, "10.2.0.9:80", set.At(1).Addr.String())
}

func TestStateWords(t *testing.T) {
	t.Parallel()
	require.Equal(t, "active", discovery.Active.String())
	require.Equal(t, "draining", discovery.Draining.String())
	require.Equal(t, "active", discovery.Endpoint{}.State.String(), "the zero state")
}

func TestPodSetIsNeverNil(t *testing.T) {
	t.Parallel()
	pods := discovery.NewPodSet(nil)
	require.Zero(t, pods.Load().Len())
	pods.Store(discovery.NewEndpointSet([]discovery.Endpoint{endpoint("10.2.0.9:80", discovery.Active, "")}))
	require.Equal(t, 1, pods.Load().Len())
	pods.Store(nil)
	require.Zero(t, pods.Load().Len())
}

// TestPodSetSwapsWhole reads while sets of different sizes are stored: every read sees one of them whole.
func TestPodSetSwapsWhole(t *testing.T) {
	t.Parallel()
	sets := make([]*discovery.EndpointSet, 5)
	for n := range sets {
		var endpoints []discovery.Endpoint
		for i := range n {
			endpoints = append(endpoints, endpoint(fmt.Sprintf("10.2.%d.%d:80", n, i), discovery.Active, ""))
		}
		sets[n] = discovery.NewEndpointSet(endpoints)
	}
	pods := discovery.NewPodSet(sets[0])
	var everybody sync.WaitGroup
	for range 2 {
		everybody.Go(func() {
			for i := range 2000 {
				pods.Store(sets[i%len(sets)])
			}
		})
		everybody.Go(func() {
			for range 2000 {
				set := pods.Load()
				for i := range set.Len() {
					if got := int(set.At(i).Addr.Addr().As4()[2]); got != set.Len() {
						t.Errorf("an endpoint of the set of %d in the set of %d", got, set.Len())
					}
				}
			}
		})
	}
	everybody.Wait()
}
