package config

import (
	"fmt"
	"net/netip"
	"time"

	"tellergate/internal/strictyaml"
)

// The types of this file are the settings as a person writes them; Settings is what they come to.

type settingsText struct {
	Frontends []frontendText `yaml:"frontends"`
	Identity  identityText   `yaml:"identity"`
	Testers   testersText    `yaml:"testers"`
	Sessions  Sessions       `yaml:"sessions"`
	Rules     Rules          `yaml:"rules"`
	Discovery Discovery      `yaml:"discovery"`
	Admin     adminText      `yaml:"admin"`
	AccessLog AccessLog      `yaml:"accessLog"`
	Upstream  Upstream       `yaml:"upstream"`
	Shutdown  Shutdown       `yaml:"shutdown"`
	Log       Log            `yaml:"log"`
}

type frontendText struct {
	Name    string    `yaml:"name"`
	Address *address  `yaml:"address"`
	Trust   trustText `yaml:"trust"`
	TLS     *tlsText  `yaml:"tls"`
	Health  Health    `yaml:"health"`
	Limits  Limits    `yaml:"limits"`

	DefaultHost string   `yaml:"defaultHost"`
	Methods     []string `yaml:"methods"`
}

type trustText struct {
	Identity  []network `yaml:"identity"`
	Forwarded []network `yaml:"forwarded"`
}

type testersText struct {
	From   []network `yaml:"from"`
	Header string    `yaml:"header"`
}

type adminText struct {
	Address address `yaml:"address"`
}

type identityText struct {
	Order      []string                 `yaml:",keys"`
	Attributes map[string]attributeText `yaml:",others"`
}

type attributeText struct {
	Order   []string `yaml:",keys"`
	Header  string   `yaml:"header"`
	Cookie  string   `yaml:"cookie"`
	Query   string   `yaml:"query"`
	Subnets string   `yaml:"subnets"`
	Within  string   `yaml:"within"`
	Default *string  `yaml:"default"`
	Claim   *bool    `yaml:"claim"`
}

func (a attributeText) isClaim() bool { return a.Claim == nil || *a.Claim }

// source returns what the text says under the key of a source kind.
func (a attributeText) source(kind SourceKind) string {
	switch kind {
	case SourceHeader:
		return a.Header
	case SourceCookie:
		return a.Cookie
	case SourceQuery:
		return a.Query
	case SourceSubnets:
		return a.Subnets
	}
	return ""
}

// address is an ip:port.
type address netip.AddrPort

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *address) UnmarshalText(text []byte) error {
	parsed, err := netip.ParseAddrPort(string(text))
	switch {
	case err != nil:
		return &strictyaml.Fault{
			Message: fmt.Sprintf("%q is not an address with a port", text),
			Remedy:  "write ip:port, such as 10.1.2.3:8080 or [2001:db8::1]:8080; host names are not looked up",
		}
	case parsed.Addr().Is4In6():
		return &strictyaml.Fault{
			Message: fmt.Sprintf("%q is IPv4 written as IPv6", text),
			Remedy:  fmt.Sprintf("write %s", netip.AddrPortFrom(parsed.Addr().Unmap(), parsed.Port())),
		}
	}
	*a = address(parsed)
	return nil
}

// network is a CIDR, or a single address.
type network netip.Prefix

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *network) UnmarshalText(text []byte) error {
	parsed, err := parsePrefix(string(text))
	if err != nil {
		return err
	}
	*n = network(parsed)
	return nil
}

// parsePrefix reads a CIDR or a single address; the error is a *strictyaml.Fault.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, single := netip.ParseAddr(text); single == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return netip.Prefix{}, &strictyaml.Fault{
			Message: fmt.Sprintf("%q is not a network", text),
			Remedy:  "write address/bits, such as 10.20.0.0/14, or a single address",
		}
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, &strictyaml.Fault{
			Message: fmt.Sprintf("%q is IPv4 written as IPv6", text),
			Remedy:  "write it as IPv4, such as 10.20.0.0/14",
		}
	}
	if p.Masked() != p {
		return netip.Prefix{}, &strictyaml.Fault{
			Message: fmt.Sprintf("%q has bits set beyond its length", text),
			Remedy:  fmt.Sprintf("write %s, or %s/%d for the one address", p.Masked(), p.Addr(), p.Addr().BitLen()),
		}
	}
	return p, nil
}

func prefixes(networks []network) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range networks {
		out = append(out, netip.Prefix(n))
	}
	return out
}

// SetDefaults gives the values of a file that says nothing. A test holds them against default.yaml.
func (s *settingsText) SetDefaults() {
	*s = settingsText{
		Testers: testersText{Header: "X-Tellergate-Version"},
		Sessions: Sessions{Store: "memory", Memory: SessionsMemory{Entries: 1_000_000}, Redis: SessionsRedis{
			Mode: "single", Connections: 16, DialTimeout: 500 * time.Millisecond, Timeout: time.Second,
			Freshness: time.Minute, Budget: 20 * time.Millisecond, Entries: 1_000_000, Failures: 5, Probe: 500 * time.Millisecond,
		}},
		Rules:     Rules{Store: "file", Path: "./data"},
		Admin:     adminText{Address: address(netip.MustParseAddrPort("127.0.0.1:9180"))},
		AccessLog: AccessLog{Path: "stdout", Buffer: 65536},
		Upstream: Upstream{
			ConnectTimeout: 2 * time.Second, ResponseTimeout: 60 * time.Second, IdleTimeout: 15 * time.Second, PerEndpoint: 1024,
		},
		Shutdown: Shutdown{Delay: 5 * time.Second, Grace: 60 * time.Second, TunnelNotice: 10 * time.Second},
		Log:      Log{Level: "info"},
	}
}

// SetDefaults gives the values of a frontend that says nothing.
func (f *frontendText) SetDefaults() {
	*f = frontendText{
		Health: Health{Path: "/-/lb"},
		Limits: Limits{
			HeaderBytes: 32 << 10, HeaderCount: 200, HeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second,
			BodyRate: 64, TunnelIdle: 10 * time.Minute, Connections: 100_000,
		},
	}
}

// SetDefaults gives the values of a discovery.kubernetes that says nothing.
func (k *Kubernetes) SetDefaults() {
	*k = Kubernetes{Source: SourceEndpointSlices, HoldEmpty: 30 * time.Second, Cache: "./data/pods.cache"}
}
