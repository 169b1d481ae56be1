package config

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	full.Sessions.Redis.Addresses = nil
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
			Limits: Limits{HeaderBytes: 4096, HeaderCount: 200, HeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, BodyRate: 64, TunnelIdle: 10 * time.Minute, Connections: 100_000},
		},
		{
			Name: "six", Address: netip.MustParseAddrPort("[2001:db8::1]:8080"), Health: Health{Path: "/-/lb"},
			Limits: Limits{HeaderBytes: 32768, HeaderCount: 200, HeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, BodyRate: 64, TunnelIdle: 10 * time.Minute, Connections: 100_000},
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
	assert.Equal(t, Shutdown{Delay: 0, Grace: time.Minute, TunnelNotice: 10 * time.Second}, s.Shutdown)
	assert.Equal(t, AccessLog{Path: "off", Mask: []string{"teller"}, Buffer: 65536}, s.AccessLog)
}

func TestLoadReadsJSON(t *testing.T) {
	s, err := Load("testdata/good/json.json")
	require.NoError(t, err)
	assert.Equal(t, Identity{
		{Name: "teller", Claim: true, Sources: []Source{{Kind: SourceHeader, Name: "X-Teller-Id"}}},
		{Name: "branch", Claim: true, Sources: []Source{{Kind: SourceQuery, Name: "branch"}}},
	}, s.Identity)
	assert.Equal(t, "/-/lb", s.Frontends[0].Health.Path)
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

func TestLoadOfWhatMightNotEnd(t *testing.T) {
	_, err := Load("testdata")
	require.EqualError(t, err, "reading the settings: testdata is not a regular file")

	large := filepath.Join(t.TempDir(), "large.yaml")
	require.NoError(t, os.WriteFile(large, bytes.Repeat([]byte("# ten MB\n"), 10<<20/9), 0o600))
	_, err = Load(large)
	require.EqualError(t, err, "reading the settings: "+large+" has 10485756 bytes, and at most 8388608 are read")
}

func TestDefaultIsACopy(t *testing.T) {
	Default()[0] = 'x'
	assert.Equal(t, byte('#'), Default()[0])
}

func TestNeedsRestart(t *testing.T) {
	load := func() *Settings {
		s, err := Load("testdata/good/full.yaml")
		require.NoError(t, err)
		return s
	}
	next := load()
	next.Frontends[0].Trust = Trust{}
	next.Frontends[0].Limits.HeaderCount = 7
	next.Frontends[0].Limits.BodyBytes = 7
	next.Testers = Testers{Header: "X-Version"}
	next.Identity[1].Sources = next.Identity[1].Sources[:1]
	next.AccessLog.Mask = nil
	assert.Empty(t, NeedsRestart(load(), next), "these are applied while it runs")

	for _, c := range []struct {
		want   string
		change func(s *Settings)
	}{
		{
			`frontends: it runs with ["counter" "six"] and the settings say ["counter"]`,
			func(s *Settings) { s.Frontends = s.Frontends[:1] },
		},
		{
			`frontends: it runs with ["counter" "six"] and the settings say ["six" "counter"]`,
			func(s *Settings) { slices.Reverse(s.Frontends) },
		},
		{
			`discovery.kubernetes: it runs with false and the settings say true`,
			func(s *Settings) { s.Discovery.Kubernetes = &Kubernetes{} },
		},
		{
			`frontends[counter].address: it runs with 10.1.2.3:8080 and the settings say 10.1.2.4:80`,
			func(s *Settings) { s.Frontends[0].Address = netip.MustParseAddrPort("10.1.2.4:80") },
		},
		{
			`frontends[six].health.path: it runs with "/-/lb" and the settings say "/x"`,
			func(s *Settings) { s.Frontends[1].Health.Path = "/x" },
		},
		{
			`frontends[six].limits.connections: it runs with 100000 and the settings say 7`,
			func(s *Settings) { s.Frontends[1].Limits.Connections = 7 },
		},
		{
			`identity: it runs with ["legalEntity" "branch" "teller" "session"] and the settings say []`,
			func(s *Settings) { s.Identity = nil },
		},
		{
			`identity.branch.within: it runs with "legalEntity" and the settings say ""`,
			func(s *Settings) { s.Identity[1].Within = "" },
		},
		{
			`identity.legalEntity.default: it runs with "9001" and the settings say "9002"`,
			func(s *Settings) { s.Identity[0].Default = "9002" },
		},
		{
			`identity.session.claim: it runs with false and the settings say true`,
			func(s *Settings) { s.Identity[3].Claim = true },
		},
		{
			`sessions.memory.entries: it runs with 1000000 and the settings say 7`,
			func(s *Settings) { s.Sessions.Memory.Entries = 7 },
		},
		{
			`rules.path: it runs with "/var/lib/tellergate" and the settings say "elsewhere"`,
			func(s *Settings) { s.Rules.Path = "elsewhere" },
		},
		{
			`admin.address: it runs with [::1]:9180 and the settings say 127.0.0.1:1`,
			func(s *Settings) { s.Admin.Address = netip.MustParseAddrPort("127.0.0.1:1") },
		},
		{
			`accessLog.path: it runs with "off" and the settings say "stdout"`,
			func(s *Settings) { s.AccessLog.Path = "stdout" },
		},
		{
			`accessLog.buffer: it runs with 65536 and the settings say 7`,
			func(s *Settings) { s.AccessLog.Buffer = 7 },
		},
		{
			`upstream.idleTimeout: it runs with 15s and the settings say 1m0s`,
			func(s *Settings) { s.Upstream.IdleTimeout = time.Minute },
		},
		{
			`shutdown.grace: it runs with 1m0s and the settings say 7ns`,
			func(s *Settings) { s.Shutdown.Grace = 7 },
		},
		{
			`log.level: it runs with "debug" and the settings say "info"`,
			func(s *Settings) { s.Log.Level = "info" },
		},
	} {
		next := load()
		c.change(next)
		assert.EqualError(t, NeedsRestart(load(), next), c.want+"; restart tellergate to apply it, or put it back")
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
		require.Empty(t, NeedsRestart(s, s))
		for _, a := range s.Identity {
			require.NotEqual(t, a.Name, a.Within)
			require.True(t, a.Within == "" || s.Identity.declares(a.Within))
			for _, p := range a.Sources {
				require.NotEmpty(t, p.Name)
			}
		}
	})
}
