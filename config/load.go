package config

import (
	"cmp"
	_ "embed"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"tellergate/internal/problem"
	"tellergate/internal/strictyaml"
)

// What no setting may go beyond: more is a slip of the pen, and some of it is allocated in advance.
const (
	maxConnections = 10_000_000
	maxDuration    = 24 * time.Hour
)

var (
	frontendName = regexp.MustCompile(`^[\pL\pN][\pL\pN\pM._-]{0,62}$`)
	healthPath   = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+/?$`)
)

//go:embed default.yaml
var defaultText []byte

// Default returns the text of the commented embedded default settings, freshly allocated.
func Default() []byte { return append([]byte(nil), defaultText...) }

// maxSettingsBytes bounds the settings file.
const maxSettingsBytes = 8 << 20

// Load reads, checks and completes the settings file at path. An empty path gives the embedded defaults. The error is a
// problem.List with every fault, or says why the file could not be read.
func Load(path string) (*Settings, error) {
	if path == "" {
		return parse(defaultText, ".")
	}
	text, err := readFile(path, maxSettingsBytes)
	if err != nil {
		return nil, fmt.Errorf("reading the settings: %w", err)
	}
	return parse(text, filepath.Dir(path))
}

// parse turns a text into Settings; subnet files are looked for in dir.
func parse(text []byte, dir string) (*Settings, error) {
	var written settingsText
	written.SetDefaults()
	source, problems := strictyaml.Decode(text, &written)
	if len(problems) > 0 {
		return nil, problems
	}
	c := checker{source: source, dir: dir}
	settings := &Settings{
		Frontends: c.frontends(written.Frontends),
		Identity:  c.identity(&written.Identity),
		Testers:   Testers{From: prefixes(written.Testers.From), Header: written.Testers.Header},
		Sessions:  written.Sessions,
		Rules:     written.Rules,
		Discovery: written.Discovery,
		Admin:     Admin{Address: netip.AddrPort(written.Admin.Address)},
		AccessLog: written.AccessLog,
		Upstream:  written.Upstream,
		Shutdown:  written.Shutdown,
		Log:       written.Log,
	}
	c.settings(settings)
	slices.SortStableFunc(c.problems, func(a, b problem.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if err := c.problems.Err(); err != nil {
		return nil, err
	}
	return settings, nil
}

// A checker collects what is wrong beyond the syntax.
type checker struct {
	source   *strictyaml.Source
	dir      string
	problems problem.List
}

func (c *checker) fault(path, message, remedy string) {
	p := problem.Problem{Path: path, Message: message, Remedy: remedy}
	c.source.Place(&p)
	c.problems = append(c.problems, p)
}

func (c *checker) frontends(written []frontendText) []Frontend {
	if len(written) == 0 {
		c.fault("frontends", "there is no frontend",
			"name at least one with its address: tellergate settings prints an example")
	}
	names := make([]string, len(written))
	for i := range written {
		names[i] = written[i].Name
	}
	labels := problem.Elements(names)
	byName := map[string]bool{}
	out := make([]Frontend, len(written))
	for i, w := range written {
		path := "frontends[" + labels[i] + "]"
		out[i] = Frontend{
			Name:   w.Name,
			Trust:  Trust{Identity: prefixes(w.Trust.Identity), Forwarded: prefixes(w.Trust.Forwarded)},
			Health: w.Health,
			Limits: w.Limits,

			DefaultHost: w.DefaultHost, Methods: w.Methods,
		}
		switch {
		case w.Name == "":
			c.fault(path, "the frontend has no name", "give it one: rules and logs refer to it")
		case byName[w.Name]:
			c.fault(path+".name", fmt.Sprintf("a frontend named %s is there already", w.Name), "give each a name of its own")
		case !frontendName.MatchString(w.Name):
			c.fault(path+".name", fmt.Sprintf("%q is not a name for a frontend", w.Name),
				"begin with a letter or digit and use letters, digits, -, _ and ., 63 at most")
		}
		byName[w.Name] = true
		if w.Address == nil {
			c.fault(path, "the frontend has no address", "write address: ip:port")
		} else {
			out[i].Address = netip.AddrPort(*w.Address)
			c.taken(path+".address", out[i].Address, out[:i])
		}
		if !healthPath.MatchString(w.Health.Path) {
			c.fault(path+".health.path", fmt.Sprintf("%q is not a path", w.Health.Path),
				"write a path such as /-/lb, of letters, digits and -._~/ only")
		}
		if strings.ContainsFunc(w.DefaultHost, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/@?#", r) }) {
			c.fault(path+".defaultHost", fmt.Sprintf("%q is not a host", w.DefaultHost), "write a name or address, with or without :port")
		}
		for _, method := range w.Methods {
			switch {
			case !isToken(method):
				c.fault(path+".methods", fmt.Sprintf("%q is not a method", method), "write names such as GET")
			case method == "CONNECT" || method == "TRACE":
				c.fault(path+".methods", method+" is never accepted", "leave it out: tellergate does not tunnel or echo requests")
			}
		}
		if w.TLS != nil {
			out[i].TLS = c.tls(path+".tls", w.TLS)
		}
		c.limits(path+".limits", w.Limits)
	}
	return out
}

func (c *checker) limits(path string, l Limits) {
	c.number(path+".headerBytes", int64(l.HeaderBytes), 1024, 1<<20)
	c.number(path+".headerCount", int64(l.HeaderCount), 1, 10_000)
	c.duration(path+".headerTimeout", l.HeaderTimeout, time.Millisecond)
	c.duration(path+".idleTimeout", l.IdleTimeout, time.Millisecond)
	c.number(path+".bodyBytes", l.BodyBytes, 0, math.MaxInt64)
	c.number(path+".bodyRate", int64(l.BodyRate), 0, 1<<30)
	c.duration(path+".wholeTimeout", l.WholeTimeout, 0)
	c.duration(path+".tunnelIdle", l.TunnelIdle, 0)
	c.number(path+".connections", int64(l.Connections), 1, maxConnections)
	c.number(path+".perSource", int64(l.PerSource), 0, maxConnections)
}

// taken reports that one of the frontends listens where address would. An unspecified address is every address, of
// both families. Port 0 is a free one.
func (c *checker) taken(path string, address netip.AddrPort, frontends []Frontend) {
	for _, f := range frontends {
		if !f.Address.IsValid() || f.Address.Port() != address.Port() || address.Port() == 0 {
			continue
		}
		if f.Address.Addr() == address.Addr() {
			c.fault(path, fmt.Sprintf("%s is the address of frontend %s already", address, f.Name),
				"give each an address of its own")
			return
		}
		if f.Address.Addr().IsUnspecified() || address.Addr().IsUnspecified() {
			c.fault(path, fmt.Sprintf("%s and %s of frontend %s overlap: one of them is every address of this machine",
				address, f.Address, f.Name), "give each a port of its own, or name the one address")
			return
		}
	}
}

// number reports what is not between least and most.
func (c *checker) number(path string, value, least, most int64) {
	switch {
	case value < least:
		c.fault(path, fmt.Sprintf("%d is too small", value), fmt.Sprintf("write %d or more", least))
	case value > most:
		c.fault(path, fmt.Sprintf("%d is too large", value), fmt.Sprintf("write %d or less", most))
	}
}

// duration reports what is not between least and maxDuration.
func (c *checker) duration(path string, value, least time.Duration) {
	switch {
	case value < least:
		c.fault(path, fmt.Sprintf("%s is too short", value), fmt.Sprintf("write %s or more", least))
	case value > maxDuration:
		c.fault(path, fmt.Sprintf("%s is too long", value), "write 24h or less")
	}
}

// settings checks what lies outside frontends and identity, and what joins several parts.
func (c *checker) settings(s *Settings) {
	c.header("testers.header", s.Testers.Header)
	if reader := s.Identity.reads(SourceHeader, s.Testers.Header); reader != "" {
		c.fault("testers.header", fmt.Sprintf("header %s is read as attribute %s already", s.Testers.Header, reader),
			"give testers a header of their own")
	}
	switch s.Sessions.Store {
	case "memory":
	case "redis":
		c.redis(&s.Sessions.Redis)
	default:
		c.fault("sessions.store", fmt.Sprintf("there is no session store %q", s.Sessions.Store), "write memory or redis")
	}
	c.number("sessions.memory.entries", int64(s.Sessions.Memory.Entries), 1, 100_000_000)
	if s.Rules.Store != "file" {
		c.fault("rules.store", fmt.Sprintf("there is no rule store %q", s.Rules.Store), "write file, the only one so far")
	}
	if s.Rules.Path == "" {
		c.fault("rules.path", "the path is empty", "name a directory")
	}
	if k := s.Discovery.Kubernetes; k != nil {
		c.kubernetes("discovery.kubernetes", k)
	}
	at := s.Admin.Address
	if !at.Addr().IsLoopback() {
		c.fault("admin.address", fmt.Sprintf("%s is not a loopback address", at),
			"use 127.0.0.1 or [::1]: the admin API has no authentication yet, so only this machine may reach it")
	} else {
		c.taken("admin.address", at, s.Frontends)
	}
	if s.AccessLog.Path == "" {
		c.fault("accessLog.path", "the path is empty", "write stdout, stderr, off or a file")
	}
	c.number("accessLog.buffer", int64(s.AccessLog.Buffer), 1, 10_000_000)
	for i, name := range s.AccessLog.Mask {
		if !s.Identity.declares(name) {
			c.fault(fmt.Sprintf("accessLog.mask[%d]", i), fmt.Sprintf("there is no attribute %q", name),
				"name an attribute of identity")
		}
	}
	c.duration("upstream.connectTimeout", s.Upstream.ConnectTimeout, time.Millisecond)
	c.duration("upstream.responseTimeout", s.Upstream.ResponseTimeout, time.Millisecond)
	c.duration("upstream.idleTimeout", s.Upstream.IdleTimeout, time.Millisecond)
	c.number("upstream.perEndpoint", int64(s.Upstream.PerEndpoint), 1, maxConnections)
	c.duration("shutdown.delay", s.Shutdown.Delay, 0)
	c.duration("shutdown.grace", s.Shutdown.Grace, 0)
	c.duration("shutdown.tunnelNotice", s.Shutdown.TunnelNotice, 0)
	switch s.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		c.fault("log.level", fmt.Sprintf("there is no level %q", s.Log.Level), "write debug, info, warn or error")
	}
}

func (c *checker) kubernetes(path string, k *Kubernetes) {
	if k.Source != SourceEndpointSlices && k.Source != SourceEndpoints {
		c.fault(path+".source", fmt.Sprintf("there is no source %q", k.Source),
			"write endpointslices, or endpoints for clusters older than Kubernetes 1.21")
	}
	for i, name := range k.Namespaces {
		if !isToken(name) || name != strings.ToLower(name) {
			c.fault(fmt.Sprintf("%s.namespaces[%d]", path, i), fmt.Sprintf("%q is not the name of a namespace", name),
				"write lower-case letters, digits and -")
		}
	}
	c.duration(path+".holdEmpty", k.HoldEmpty, 0)
	if k.Cache == "" {
		c.fault(path+".cache", "the path is empty", "name a file, or write off")
	}
}
