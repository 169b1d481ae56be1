package kubernetes

//lint:file-ignore SA1019 what legacy.go serves is tested here.

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestLegacyEndpoints(t *testing.T) {
	t.Parallel()
	address := func(ip, uid string) corev1.EndpointAddress {
		return corev1.EndpointAddress{IP: ip, TargetRef: &corev1.ObjectReference{Kind: "Pod", UID: types.UID(uid)}}
	}
	all, truncated, faults := fromEndpoints(&corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "counter"},
		Subsets: []corev1.EndpointSubset{
			{Addresses: []corev1.EndpointAddress{address("10.0.0.1", "a"), address("fd00::1", "v6"), address("x", "bad")},
				NotReadyAddresses: []corev1.EndpointAddress{address("10.0.0.2", "b")},
				Ports:             []corev1.EndpointPort{{Name: "dns", Port: 53, Protocol: "UDP"}, {Name: "http", Port: 8080, Protocol: "TCP"}}},
			{Addresses: []corev1.EndpointAddress{address("10.0.0.3", "c")}, Ports: []corev1.EndpointPort{{Name: "http", Port: 8081}}},
		},
	})
	require.False(t, truncated)
	require.Equal(t, []string{`Endpoints counter: "x" is not an IP address`}, faults)
	set, portless := endpointsOf(all, choosePort("http"), nil)
	require.False(t, portless)
	require.Equal(t, []string{"10.0.0.1:8080 a  active", "10.0.0.3:8081 c  active", "[fd00::1]:8080 v6  active"}, show(set))

	_, truncated, _ = fromEndpoints(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{overCapacity: "truncated"}}})
	require.True(t, truncated)
}
