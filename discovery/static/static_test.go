package static_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/discovery"
	"tellergate/discovery/static"
)

func TestPodSet(t *testing.T) {
	t.Parallel()
	first, second := netip.MustParseAddrPort("10.2.0.7:8080"), netip.MustParseAddrPort("[fd00::7]:8080")
	set := static.PodSet([]netip.AddrPort{second, first, second}).Load()
	require.Equal(t, 2, set.Len())
	require.Equal(t, discovery.Endpoint{Addr: first, State: discovery.Active}, set.At(0))
	require.Equal(t, discovery.Endpoint{Addr: second, State: discovery.Active}, set.At(1))
	require.Zero(t, static.PodSet(nil).Load().Len())
}
