package config

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
)

var update = flag.Bool("update", false, "write the .want files anew")

func TestDefaultsAreWhatDefaultYamlSays(t *testing.T) {
	full, err := Load("")
	require.NoError(t, err)
	least, err := Load("testdata/good/least.yaml")
	require.NoError(t, err)
	// What default.yaml writes out is what a file that leaves it out gets, but for frontends, identity and testers.
	assert.Equal(t, full.Frontends[0].Limits, least.Frontends[0].Limits)
	assert.Equal(t, full.Frontends[0].Health, least.Frontends[0].Health)
	assert.Equal(t, full.Testers.Header, least.Testers.Header)
	assert.Empty(t, least.Identity)
	assert.Empty(t, least.Testers.From)
	assert.Empty(t, least.Frontends[0].Trust)
	full.Frontends, least.Frontends = nil, nil
	full.Identity, least.Identity = nil, nil
	full.Testers, least.Testers = Testers{}, Testers{}
	full.AccessLog.Mask, least.AccessLog.Mask = nil, nil
	assert.Equal(t, full, least)
}

func TestDefaultTrustsLoopbackOnlyOnLoopback(t *testing.T) {
	s, err := Load("")
	require.NoError(t, err)
	for _, f := range s.Frontends {
		assert.True(t, f.Address.Addr().IsLoopback())
		for _, p := range f.Trust.Identity {
			assert.True(t, p.Addr().IsLoopback())
		}
	}
}

func TestLoad(t *testing.T) {
	s, err := Load("testdata/good/full.yaml")
	require.NoError(t, err)
	prefix := netip.MustParsePrefix
	assert.Equal(t, []Frontend{
		{
			Name: "counter", Address: netip.MustParseAddrPort("10.1.2.3:8080"),
			Trust:  Trust{Identity: []netip.Prefix{prefix("10.20.0.0/14"), prefix("10.9.9.9/32")}, Forwarded: []netip.Prefix{prefix("10.9.0.0/16")}},
			Health: Health{Path: "/healthy"},
			Limits: Limits{HeaderBytes: 4096, HeaderCount: 200, HeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, Connections: 100_000},
		},
		{
			Name: "six", Address: netip.MustParseAddrPort("[2001:db8::1]:8080"), Health: Health{Path: "/-/lb"},
			Limits: Limits{HeaderBytes: 32768, HeaderCount: 200, HeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, Connections: 100_000},
		},
	}, s.Frontends)
	assert.Equal(t, Identity{
		{Name: "legalEntity", Claim: true, Default: "9001", Sources: []Source{{Kind: SourceHeader, Name: "X-Legal-Entity"}}},
		{Name: "branch", Claim: true, Within: "legalEntity", Sources: []Source{
			{Kind: SourceSubnets, Name: "branches.csv", Subnets: []Subnet{
				{prefix("10.20.1.0/24"), "3201"}, {prefix("10.20.0.0/16"), "3200"}, {prefix("10.20.1.7/32"), "3202"}, {prefix("2001:db8::/32"), "3300"},
			}},
			{Kind: SourceHeader, Name: "X-Branch-Id"}, {Kind: SourceQuery, Name: "branch"}, {Kind: SourceCookie, Name: "BRANCH"},
		}},
		{Name: "teller", Claim: true, Within: "legalEntity", Sources: []Source{{Kind: SourceHeader, Name: "X-Teller-Id"}}},
		{Name: "session", Sources: []Source{{Kind: SourceCookie, Name: "JSESSIONID"}, {Kind: SourceHeader, Name: "X-Session-Id"}}},
	}, s.Identity)
	assert.Equal(t, Shutdown{Delay: 0, Grace: time.Minute}, s.Shutdown)
	assert.Equal(t, AccessLog{Path: "off", Mask: []string{"teller"}, Buffer: 65536}, s.AccessLog)
}

func TestLoadTellsEveryFault(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(file)
			var list problem.List
			require.ErrorAs(t, err, &list)
			for _, p := range list {
				assert.NotEmpty(t, p.Remedy, "%s", p)
			}
			want := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				require.NoError(t, os.WriteFile(want, []byte(list.Error()+"\n"), 0o644))
			}
			text, err := os.ReadFile(want)
			require.NoError(t, err)
			assert.Equal(t, string(text), list.Error()+"\n")
		})
	}
}

func TestLoadOfNoFile(t *testing.T) {
	_, err := Load("testdata/nothing.yaml")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "testdata/nothing.yaml")
}

func TestNeedsRestart(t *testing.T) {
	load := func() *Settings {
		s, err := Load("testdata/good/full.yaml")
		require.NoError(t, err)
		return s
	}
	next := load()
	next.Frontends[0].Trust = Trust{}
	next.Testers.From = nil
	next.Identity[1].Sources = next.Identity[1].Sources[:1]
	next.AccessLog.Mask = nil
	assert.Empty(t, NeedsRestart(load(), next), "these are applied while it runs")

	for name, change := range map[string]func(s *Settings){
		"frontends":                  func(s *Settings) { s.Frontends = s.Frontends[:1] },
		"frontends[counter].address": func(s *Settings) { s.Frontends[0].Address = netip.MustParseAddrPort("10.1.2.4:80") },
		"frontends[six].health":      func(s *Settings) { s.Frontends[1].Health.Path = "/x" },
		"frontends[six].limits":      func(s *Settings) { s.Frontends[1].Limits.Connections = 7 },
		"identity":                   func(s *Settings) { s.Identity[3].Claim = true },
		"sessions":                   func(s *Settings) { s.Sessions.Memory.Entries = 7 },
		"rules":                      func(s *Settings) { s.Rules.Path = "elsewhere" },
		"admin":                      func(s *Settings) { s.Admin.Address = netip.MustParseAddrPort("127.0.0.1:1") },
		"accessLog.path":             func(s *Settings) { s.AccessLog.Path = "stdout" },
		"accessLog.buffer":           func(s *Settings) { s.AccessLog.Buffer = 7 },
		"upstream":                   func(s *Settings) { s.Upstream.PerEndpoint = 7 },
		"shutdown":                   func(s *Settings) { s.Shutdown.Grace = 7 },
		"log":                        func(s *Settings) { s.Log.Level = "info" },
	} {
		next := load()
		change(next)
		list := NeedsRestart(load(), next)
		require.Len(t, list, 1, name)
		assert.Equal(t, name, list[0].Path)
	}
}

// FuzzLoad: no text makes the loader panic, and what is accepted has what the rest of the program relies on.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.yaml", "default.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(text)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text, dir)
		if err != nil {
			return
		}
		require.NotEmpty(t, s.Frontends)
		require.True(t, s.Admin.Address.Addr().IsLoopback())
		for _, a := range s.Identity {
			require.NotEqual(t, a.Name, a.Within)
		}
	})
}
