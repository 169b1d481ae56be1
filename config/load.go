package config

import (
	"cmp"
	_ "embed"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tellergate/internal/problem"
	"tellergate/internal/strictyaml"
)

//go:embed default.yaml
var defaultText []byte

// Default returns the text of the commented embedded default settings, freshly allocated.
func Default() []byte { return append([]byte(nil), defaultText...) }

// Load reads, checks and completes the settings file at path. An empty path gives the embedded defaults. The error is a
// problem.List with every fault, or says why the file could not be read.
func Load(path string) (*Settings, error) {
	if path == "" {
		return parse(defaultText, ".")
	}
	text, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("reading the settings: %w", err)
	}
	return parse(text, filepath.Dir(path))
}

// readBounded reads a file, but no more of it than is needed to see that it is too large.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, strictyaml.MaxBytes+1))
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
		c.fault("frontends", "there is no frontend", "name at least one with its address: tellergate settings prints an example")
	}
	names := make([]string, len(written))
	for i := range written {
		names[i] = written[i].Name
	}
	labels := problem.Elements(names)
	byName, byAddress := map[string]bool{}, map[netip.AddrPort]string{}
	out := make([]Frontend, len(written))
	for i, w := range written {
		path := "frontends[" + labels[i] + "]"
		out[i] = Frontend{
			Name:   w.Name,
			Trust:  Trust{Identity: prefixes(w.Trust.Identity), Forwarded: prefixes(w.Trust.Forwarded)},
			Health: w.Health,
			Limits: w.Limits,
		}
		switch {
		case w.Name == "":
			c.fault(path, "the frontend has no name", "give it one: rules and logs refer to it")
		case byName[w.Name]:
			c.fault(path+".name", fmt.Sprintf("a frontend named %s is there already", w.Name), "give each a name of its own")
		}
		byName[w.Name] = true
		if w.Address == nil {
			c.fault(path, "the frontend has no address", "write address: ip:port")
		} else {
			at := netip.AddrPort(*w.Address)
			out[i].Address = at
			if other, taken := byAddress[at]; taken && at.Port() != 0 {
				c.fault(path+".address", fmt.Sprintf("%s is the address of frontend %s already", at, other), "give each an address of its own")
			}
			byAddress[at] = w.Name
		}
		if !strings.HasPrefix(w.Health.Path, "/") {
			c.fault(path+".health.path", fmt.Sprintf("%q does not begin with a slash", w.Health.Path), "write a path such as /-/lb")
		}
		c.limits(path+".limits", w.Limits)
	}
	return out
}

func (c *checker) limits(path string, l Limits) {
	c.positive(path+".headerBytes", l.HeaderBytes, 1024)
	c.positive(path+".headerCount", l.HeaderCount, 1)
	c.duration(path+".headerTimeout", l.HeaderTimeout, time.Millisecond)
	c.duration(path+".idleTimeout", l.IdleTimeout, time.Millisecond)
	c.positive(path+".bodyBytes", int(l.BodyBytes), 0)
	c.positive(path+".connections", l.Connections, 1)
	c.positive(path+".perSource", l.PerSource, 0)
}

// positive reports a number below least.
func (c *checker) positive(path string, value, least int) {
	if value < least {
		c.fault(path, fmt.Sprintf("%d is too small", value), fmt.Sprintf("write %d or more", least))
	}
}

// duration reports a duration below least.
func (c *checker) duration(path string, value, least time.Duration) {
	if value < least {
		c.fault(path, fmt.Sprintf("%s is too short", value), fmt.Sprintf("write %s or more", least))
	}
}

// settings checks what lies outside frontends and identity, and what joins several parts.
func (c *checker) settings(s *Settings) {
	if !isToken(s.Testers.Header) {
		c.fault("testers.header", fmt.Sprintf("%q is not a header name", s.Testers.Header), "use letters, digits and -")
	}
	if s.Sessions.Store != "memory" {
		c.fault("sessions.store", fmt.Sprintf("there is no session store %q", s.Sessions.Store), "write memory, the only one so far")
	}
	c.positive("sessions.memory.entries", s.Sessions.Memory.Entries, 1)
	if s.Rules.Store != "file" {
		c.fault("rules.store", fmt.Sprintf("there is no rule store %q", s.Rules.Store), "write file, the only one so far")
	}
	if s.Rules.Path == "" {
		c.fault("rules.path", "the path is empty", "name a directory")
	}
	at := s.Admin.Address
	if !at.Addr().IsLoopback() {
		c.fault("admin.address", fmt.Sprintf("%s is not a loopback address", at),
			"use 127.0.0.1 or [::1]: the admin API has no authentication yet, so only this machine may reach it")
	}
	for _, f := range s.Frontends {
		if f.Address.IsValid() && f.Address == at && at.Port() != 0 {
			c.fault("admin.address", fmt.Sprintf("%s is the address of frontend %s already", at, f.Name), "give each an address of its own")
		}
	}
	if s.AccessLog.Path == "" {
		c.fault("accessLog.path", "the path is empty", "write stdout, stderr, off or a file")
	}
	c.positive("accessLog.buffer", s.AccessLog.Buffer, 1)
	for i, name := range s.AccessLog.Mask {
		if !s.Identity.declares(name) {
			c.fault(fmt.Sprintf("accessLog.mask[%d]", i), fmt.Sprintf("there is no attribute %q", name), "name an attribute of identity")
		}
	}
	c.duration("upstream.connectTimeout", s.Upstream.ConnectTimeout, time.Millisecond)
	c.duration("upstream.responseTimeout", s.Upstream.ResponseTimeout, time.Millisecond)
	c.duration("upstream.idleTimeout", s.Upstream.IdleTimeout, time.Millisecond)
	c.positive("upstream.perEndpoint", s.Upstream.PerEndpoint, 1)
	c.duration("shutdown.delay", s.Shutdown.Delay, 0)
	c.duration("shutdown.grace", s.Shutdown.Grace, 0)
	switch s.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		c.fault("log.level", fmt.Sprintf("there is no level %q", s.Log.Level), "write debug, info, warn or error")
	}
}
