package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// service compiles everything of a service but its match.
func (c *compiler) service(at string, from *Service, to *CompiledService) {
	to.name = from.Name
	c.versions(at, from, to)
	c.byDefault(at+".default", from, to)
	if from.Sessions != nil {
		to.sessions = c.sessions(at+".sessions", from.Sessions)
	}
	to.serialHeader = from.SerialHeader
	if name := from.SerialHeader; name != "" {
		c.serialHeader(at+".serialHeader", name)
	}
	c.rules(at+".rules", from.Rules, to)
	if o, found := c.in.Overrides[from.Name]; found && from.Name != "" {
		c.override(element("overrides", from.Name), o, to)
	}
}

// noSerial are headers that stand in requests whatever their application does.
var noSerial = []string{"Host", "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Cookie", "User-Agent",
	"Accept", "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Traceparent"}

func (c *compiler) serialHeader(at, name string) {
	const remedy = "name the header in which the channel sends its serial number, for example X-Serial-No"
	switch {
	case !isToken(name):
		c.fault(at, remedy, "%q is not the name of a header", name)
	case slices.ContainsFunc(noSerial, func(no string) bool { return strings.EqualFold(no, name) }):
		c.fault(at, remedy, "header %q does not prove that a pod knows a repeated request", name)
	}
}

func (c *compiler) byDefault(at string, from *Service, to *CompiledService) {
	if len(to.versions) == 0 {
		return // said already
	}
	if from.Default == "" {
		c.fault(at, "name the version that takes whoever no rule matches", "the service has no default version")
		return
	}
	to.byDefault = c.version(at, from.Default, to)
	if to.byDefault != nil && to.byDefault.state != StateActive {
		c.fault(at, "make it active, or choose another default", "the default version %q is %s", from.Default,
			to.byDefault.state)
	}
}

// version returns the named version of the service, or notes that it does not exist.
func (c *compiler) version(at, name string, of *CompiledService) *CompiledVersion {
	if name != "" {
		if v := of.VersionNamed(name); v != nil {
			return v
		}
	}
	known := make([]string, len(of.versions))
	for i := range of.versions {
		known[i] = of.versions[i].name
	}
	c.fault(at, alternatives("version", known), "service %q has no version %q", of.name, name)
	return nil
}

// override checks the emergency lever against the document it is in force with.
func (c *compiler) override(at string, o Override, to *CompiledService) {
	const lift = "lift the override first"
	version := to.VersionNamed(o.Version)
	switch {
	case version == nil:
		c.fault(at+".version", lift+", or keep the version",
			"an override sends everybody to version %q, which service %q does not have", o.Version, to.name)
	case version.state != StateActive:
		c.fault(at+".version", lift+", or make the version active",
			"an override sends everybody to version %q of service %q, which is %s", o.Version, to.name, version.state)
	}
	if o.Pinned != PinnedMove && o.Pinned != PinnedKeep {
		c.fault(at+".pinned", fmt.Sprintf("write %q or %q", PinnedMove, PinnedKeep),
			"%q says nothing about pinned sessions", o.Pinned)
	}
	to.override, to.overrideTo = &o, version
}

// match checks which requests belong to the service and enters them into the table.
func (c *compiler) match(at string, from *Match, to *CompiledService, table *matchTable) {
	prefix := from.PathPrefix
	if prefix == "" {
		prefix = "/"
	}
	sound := c.path(at+".pathPrefix", prefix, true)
	first := firsts(from.Frontends)
	for i, frontend := range from.Frontends {
		place := element(at+".frontends", i)
		switch {
		case frontend == "":
			c.fault(place, "name it, or remove the entry", "the frontend has no name")
		case first[frontend] < i:
			c.fault(place, "remove one of them", "frontend %q occurs twice", frontend)
		case !slices.Contains(c.in.Schema.frontends, frontend):
			c.warn(place, "correct the name, or add the frontend to the process settings",
				"this replica has no frontend %q", frontend)
		}
	}
	hosts := make([]string, 0, len(from.Hosts))
	seen := make(map[string]bool, len(from.Hosts))
	for i, host := range from.Hosts {
		place := element(at+".hosts", i)
		lower := strings.ToLower(host)
		switch {
		case !isHost(strings.TrimPrefix(lower, "*.")):
			c.fault(place, `write a name without port and scheme, for example "counter.bank.example" or "*.bank.example"`,
				"%q is not a host", host)
		case seen[lower]:
			c.fault(place, "remove one of them", "host %q occurs twice", host)
		default:
			seen[lower] = true
			hosts = append(hosts, lower)
		}
	}
	if !sound {
		return
	}
	own := reach{prefix: prefix, frontends: slices.Clone(from.Frontends), service: to}
	if len(from.Hosts) == 0 {
		c.reach(at, "", own, table)
	}
	for _, host := range hosts {
		c.reach(at, host, own, table)
	}
}

// reach enters one host of a service's match unless another service is equally specific there.
func (c *compiler) reach(at, host string, own reach, table *matchTable) {
	before, frontend := table.add(host, own)
	if before == nil {
		return
	}
	where := "any host"
	if host != "" {
		where = fmt.Sprintf("host %q", host)
	}
	if frontend != "" {
		where += fmt.Sprintf(" on frontend %q", frontend)
	}
	c.fault(at, "tell them apart by frontend, host or pathPrefix",
		"services %q and %q both ask for %s and path prefix %q", before.service.name, own.service.name, where, own.prefix)
}

// isHost reports whether s, in lower case, can be the host of a request: a name or an IPv4 address.
func isHost(s string) bool {
	for i := range len(s) {
		b := s[i]
		if ('a' > b || b > 'z') && ('0' > b || b > '9') && (i == 0 || strings.IndexByte("-._", b) < 0) {
			return false
		}
	}
	return s != "" && !strings.Contains(s, "..")
}

func (c *compiler) sessions(at string, from *Sessions) *CompiledSessions {
	to := &CompiledSessions{
		Subject:        -1,
		Branch:         c.in.Schema.Index(AttributeBranch),
		Idle:           DefaultIdle,
		Absolute:       DefaultAbsolute,
		FallbackPinned: from.FallbackPinned,
	}
	to.Key = c.attributes(at+".key", from.Key, "a session is known by at least one attribute, for example session")
	if from.Subject != "" {
		if a, found := c.attribute(at+".subject", from.Subject); found {
			to.Subject = a.index
		}
	}
	if c.positive(at+".idle", from.Idle) {
		to.Idle = time.Duration(from.Idle)
	}
	if c.positive(at+".absolute", from.Absolute) {
		to.Absolute = time.Duration(from.Absolute)
	}
	if to.Idle > to.Absolute {
		c.fault(at+".idle", "shorten idle, or lengthen absolute", "idle %s%s is longer than absolute %s%s",
			Duration(to.Idle), orDefault(from.Idle), Duration(to.Absolute), orDefault(from.Absolute))
	}
	if from.End != nil {
		for i, path := range from.End.Paths {
			if c.path(element(at+".end.paths", i), path, true) {
				to.EndPaths = append(to.EndPaths, path)
			}
		}
	}
	return to
}

// positive reports whether a duration was given that is more than nothing.
func (c *compiler) positive(at string, d Duration) bool {
	if d < 0 {
		c.fault(at, "write how long, for example 30m", "%s is not a length of time", d)
	}
	return d > 0
}

func orDefault(d Duration) string {
	if d > 0 {
		return ""
	}
	return " (the default)"
}

// attribute returns a declared attribute, or notes that it is not.
func (c *compiler) attribute(at, name string) (attributeRef, bool) {
	index := c.in.Schema.Index(name)
	if index < 0 {
		known := make([]string, c.in.Schema.Len())
		for i := range known {
			known[i] = c.in.Schema.Attribute(i).Name
		}
		remedy := "declare it under identity in the process settings"
		if len(known) > 0 {
			remedy = "write " + listing(known) + ", or " + remedy
		}
		c.fault(at, remedy, "attribute %q is not declared", name)
		return attributeRef{}, false
	}
	return attributeRef{index: index, name: c.in.Schema.Attribute(index).Name}, true
}

// attributes returns the indexes of the named attributes; there must be one, and none twice.
func (c *compiler) attributes(at string, attributes []string, remedy string) []int {
	if len(attributes) == 0 {
		c.fault(at, remedy, "no attribute is named")
	}
	indexes := make([]int, 0, len(attributes))
	for i, name := range attributes {
		a, found := c.attribute(element(at, i), name)
		switch {
		case !found:
		case slices.Contains(indexes, a.index):
			c.fault(element(at, i), "remove one of them", "attribute %q occurs twice", name)
		default:
			indexes = append(indexes, a.index)
		}
	}
	return indexes
}
