package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

func teller(value string) session.Key {
	return session.Key{Service: "counter", Attribute: "teller", Value: value}
}

func pinnedFor(version, subject string) session.Pin {
	pin := pinned(version)
	pin.Subject = subject
	return pin
}

// peek is what a request would find that comes with this key, a claim's answer included.
func peek(s *Store, k session.Key) string {
	out := make([]session.Pin, 1)
	s.Peek([]session.Key{k}, out, nil)
	return out[0].Version
}

// What one replica knows of a session's keys binds another that has seen none of them, on servers new and old.
func TestKeysThatAnotherReplicaKnows(t *testing.T) {
	for _, version := range []string{"7", "6.2.14"} {
		t.Run(version, func(t *testing.T) {
			var server *redistest.Server
			o := Options{Mode: Single, Budget: testBudget, Timeout: testBudget}
			if version == "7" {
				server = redistest.Single(t)
				o.Addresses = []string{server.Address}
			} else {
				var address string
				address, server = redistest.Older(t, version)
				o.Addresses = []string{address}
			}
			a, b := run(t, o), run(t, o)
			require.Eventually(t, func() bool {
				return strings.Contains(server.Ask("PUBSUB NUMSUB "+channel), ":2\r\n") && a.setGet.Load() == (version == "7") &&
					b.setGet.Load() == (version == "7")
			}, testBudget, time.Millisecond)
			// comes requires that both replicas and Redis come to one version under a key.
			comes := func(k session.Key, version string) {
				t.Helper()
				require.Eventually(t, func() bool {
					return peek(a, k) == version && peek(b, k) == version &&
						strings.Contains(server.Ask("GET "+a.codec.name(k)), fmt.Sprintf(`"version":%q`, version))
				}, testBudget, time.Millisecond, "%+v", k)
			}

			t.Run("a provisional pin gives way", func(t *testing.T) {
				k := []session.Key{key("provisional"), teller("1")}
				a.Claim(k[:1], pinned("v1"), nil)
				require.Equal(t, "v2", b.Claim(k, pinnedFor("v2", "1"), nil).Version)
				comes(k[0], "v2")
				comes(k[1], "v2")
			})
			t.Run("the teller's session goes on under a new cookie", func(t *testing.T) {
				a.Claim([]session.Key{key("old"), teller("2")}, pinnedFor("v2", "2"), nil)
				a.Swap([]session.Key{key("new")}, session.Pin{}, pinned("v1"), nil)
				require.Equal(t, "v2", b.Claim([]session.Key{key("new"), teller("2")}, pinnedFor("v1", "2"), nil).Version)
				for _, k := range []session.Key{key("old"), key("new"), teller("2")} {
					comes(k, "v2")
				}
			})
			t.Run("a renewed id is known at once", func(t *testing.T) {
				pin := a.Claim([]session.Key{key("before")}, pinned("v2"), nil)
				require.True(t, a.Swap([]session.Key{key("after"), key("before")}, pin, pin, nil))
				require.Equal(t, "v2", b.Claim([]session.Key{key("after")}, pinned("v1"), nil).Version, "Redis knows it before the answer leaves")
			})
			t.Run("an ended session gives way under a later key", func(t *testing.T) {
				a.Claim([]session.Key{teller("3")}, pinnedFor("v1", "3"), nil)
				require.Equal(t, 1, a.End([]session.Key{teller("3")}))
				require.NoError(t, a.settled())
				require.Equal(t, "v2", b.Claim([]session.Key{key("again"), teller("3")}, pinnedFor("v2", "3"), nil).Version)
				comes(key("again"), "v2")
				comes(teller("3"), "v2")
			})
			t.Run("another teller at the same terminal", func(t *testing.T) {
				a.Claim([]session.Key{key("terminal"), teller("4")}, pinnedFor("v1", "4"), nil)
				require.Equal(t, "v2", b.Claim([]session.Key{key("terminal"), teller("5")}, pinnedFor("v2", "5"), nil).Version)
				comes(key("terminal"), "v2")
				comes(teller("4"), "v1")
				comes(teller("5"), "v2")
			})
		})
	}
}
