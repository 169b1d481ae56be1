package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatchingByHostAndPrefix(t *testing.T) {
	t.Parallel()
	service := func(name, match string) string {
		return fmt.Sprintf("  - {name: %s, match: %s, default: v1, versions: [{name: v1, pods: {static: [%q]}}]}\n",
			name, match, address(pod(t, name, nil)))
	}
	g := start(t, settings(), "services:\n"+
		service("counter", "{hosts: [counter.bank.example]}")+
		service("eod", "{hosts: [counter.bank.example], pathPrefix: /teller/eod}")+
		service("any", `{hosts: ["*.bank.example"]}`))
	for _, test := range []struct{ host, path, want string }{
		{"counter.bank.example", "/", "counter"},
		{"COUNTER.bank.example:8080", "/x", "counter"},
		{"counter.bank.example", "/teller/eod", "eod"},
		{"counter.bank.example", "/teller/eod/1", "eod"},
		{"counter.bank.example", "/teller/eods", "counter"},
		{"counter.bank.example", "/x/../teller/eods", "counter"},
		{"counter.bank.example", "/teller//eods", "counter"},
		{"counter.bank.example", "/teller/eod//%31", "eod"},
		{"other.bank.example", "/", "any"},
	} {
		answer := g.raw("GET " + test.path + " HTTP/1.1\r\nHost: " + test.host + "\r\nConnection: close\r\n\r\n")
		require.True(t, strings.HasSuffix(answer, "\r\n\r\n"+test.want), "%s %s: %s", test.host, test.path, answer)
	}
	status, code := g.code(ask{host: "elsewhere.example"})
	require.Equal(t, 404, status)
	require.Equal(t, "no_service", code)
	for _, ambiguous := range []string{"/x/../teller//eod", "/teller%2feod", "//teller/eod", "/teller/eod/../balance"} {
		answer := g.raw("GET " + ambiguous + " HTTP/1.1\r\nHost: counter.bank.example\r\nConnection: close\r\n\r\n")
		require.Contains(t, answer, `"code":"ambiguous_path"`, ambiguous)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), "")
	answer, _ := g.do(ask{path: "/-/lb"})
	require.Equal(t, 503, answer.StatusCode, "no table yet")
	status, code := g.code(ask{})
	require.Equal(t, 503, status)
	require.Equal(t, "not_ready", code)
	g.publish(oneVersion(dead(t)), nil)
	answer, _ = g.do(ask{path: "/-/lb"})
	require.Equal(t, 200, answer.StatusCode)
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	s := settings()
	second := s.Frontends[0]
	second.Name, second.Address = "second", netip.MustParseAddrPort(taken.Addr().String())
	s.Frontends = append(s.Frontends, second)
	g := gatewayUnbound(t, s)
	err = g.Listen()
	require.ErrorContains(t, err, fmt.Sprintf(
		`frontend "second" cannot listen on %s: the address is in use by another program; stop that program, or give `+
			`frontends[second].address another port`, taken.Addr()))
	_, err = net.Dial("tcp", g.Addresses()["counter"].String())
	require.Error(t, err, "on an error nothing stays bound")
}

func TestErrorsOfPods(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pod    func() string
		status int
		code   string
	}{
		"nobody listens": {func() string { return dead(t) }, 503, "no_endpoint"},
		"closes":         {func() string { return record(t, "").listener.Addr().String() }, 502, "upstream_reset"},
		"no HTTP":        {func() string { return record(t, "SSH-2.0-x\r\n\r\n").listener.Addr().String() }, 502, "upstream_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, settings(), oneVersion(test.pod()))
			status, code := g.code(ask{})
			require.Equal(t, test.code, code)
			require.Equal(t, test.status, status)
		})
	}
	t.Run("no endpoint", func(t *testing.T) {
		t.Parallel()
		g := start(t, settings(), oneVersion(dead(t)))
		for _, set := range g.podSets {
			set.Store(nil)
		}
		status, code := g.code(ask{})
		require.Equal(t, "no_endpoint", code)
		require.Equal(t, 503, status)
	})
}
