package rules

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	d := new(Document)
	for _, s := range []Service{
		{Name: "any"},
		{Name: "any-teller", Match: Match{PathPrefix: "/teller"}},
		{Name: "any-eod", Match: Match{PathPrefix: "/teller/eod"}},
		{Name: "mobile-frontend", Match: Match{Frontends: []string{"mobile"}, PathPrefix: "/mobile"}},
		{Name: "counter-frontend", Match: Match{Frontends: []string{"counter"}, PathPrefix: "/mobile"}},
		{Name: "exact", Match: Match{Hosts: []string{"Counter.Bank.Example"}, PathPrefix: "/c"}},
		{Name: "below", Match: Match{Hosts: []string{"*.bank.example"}}},
		{Name: "further-below", Match: Match{Hosts: []string{"*.branch.bank.example"}}},
	} {
		s.Default, s.Versions = "v1", []Version{{Name: "v1", Pods: pods()}}
		d.Services = append(d.Services, s)
	}
	set := compiled(t, d, testInputs(t))
	tests := []struct{ name, frontend, host, path, want string }{
		{"everything else", "counter", "other.example", "/", "any"},
		{"no host", "counter", "", "/x", "any"},
		{"longer prefix", "counter", "", "/teller", "any-teller"},
		{"below the prefix", "counter", "", "/teller/x", "any-teller"},
		{"longest prefix", "counter", "", "/teller/eod/x", "any-eod"},
		{"whole elements only", "counter", "", "/tellers", "any"},
		{"one frontend", "mobile", "", "/mobile/x", "mobile-frontend"},
		{"the other frontend", "counter", "", "/mobile/x", "counter-frontend"},
		{"any frontend", "", "", "/mobile/x", "mobile-frontend"},
		{"a third frontend", "atm", "", "/mobile/x", "any"},
		{"exact host", "counter", "counter.bank.example", "/c/d", "exact"},
		{"exact host, other path: wildcard", "counter", "counter.bank.example", "/teller", "below"},
		{"wildcard", "counter", "a.bank.example", "/teller", "below"},
		{"wildcard over several labels", "counter", "a.b.bank.example", "/", "below"},
		{"longest wildcard", "counter", "a.branch.bank.example", "/", "further-below"},
		{"a wildcard does not match its own domain", "counter", "bank.example", "/", "any"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found := set.Match(&Query{Frontend: test.frontend, Host: test.host, Path: test.path})
			require.NotNil(t, found)
			require.Equal(t, test.want, found.Name())
		})
	}
	nothing := compiled(t, nil, testInputs(t))
	require.Nil(t, nothing.Match(&Query{Host: "a.b.c", Path: "/"}))
	require.Zero(t, nothing.Len())
}
