package proxy

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/config"
)

// Where a service names the header of its serial number, a request that has one is sent again after a connection that was
// in use before ended without an answer, whatever its method. The pod counts what it executed.
func TestSerialNumber(t *testing.T) {
	t.Parallel()
	const small = "amount=100"
	tests := []struct {
		name     string
		method   string
		header   []string
		body     string
		document string
		distrust bool
		repeated bool // it was lost the first time, and executed twice
	}{
		{"once", "POST", []string{"X-Serial-No: 0001"}, small, "serialHeader: x-serial-no", false, true},
		{"without body", "DELETE", []string{"X-Serial-No: 0001"}, "", "serialHeader: X-Serial-No", false, true},
		{"absent", "POST", nil, small, "serialHeader: X-Serial-No", false, false},
		{"empty", "POST", []string{"X-Serial-No: "}, small, "serialHeader: X-Serial-No", false, false},
		{"twice", "POST", []string{"X-Serial-No: 0001", "X-Serial-No: 0001"}, small, "serialHeader: X-Serial-No", false, false},
		{"too long to be kept", "POST", []string{"X-Serial-No: 0001"}, strings.Repeat("x", 1<<20), "serialHeader: X-Serial-No", false, false},
		{"the service does not name it", "POST", []string{"X-Serial-No: 0001"}, small, "", false, false},
		{"from a client that is not believed", "POST", []string{"X-Serial-No: 0001"}, small, "serialHeader: X-Serial-No", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			used, executed := make(map[string]bool), 0
			p := pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				reused := used[r.RemoteAddr]
				used[r.RemoteAddr] = true
				if r.URL.Path == "/book" {
					executed++
				}
				mu.Unlock()
				if reused {
					panic(http.ErrAbortHandler) // ends the connection
				}
			})
			s := settings()
			if tt.distrust {
				s.Frontends[0].Trust = config.Trust{Identity: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
			}
			g := start(t, s, strings.Replace(oneVersion(address(p)), "    default: v1\n", "    default: v1\n    "+tt.document+"\n", 1))
			require.Equal(t, "v1", g.get())
			answer, body := g.do(ask{method: tt.method, path: "/book", header: header(tt.header...), body: strings.NewReader(tt.body)})
			want := 1
			if tt.repeated {
				want = 2
				require.Equal(t, 200, answer.StatusCode, body)
			} else if answer.StatusCode != 200 { // else it has got a new connection
				require.Contains(t, body, `"upstream_reset"`)
			}
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, want, executed)
			require.Equal(t, float64(want-1), g.metric("tellergate_upstream_repeated_total"))
		})
	}
}
