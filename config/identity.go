package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)

// isToken reports whether s may be the name of a header or cookie: RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func (i Identity) declares(name string) bool {
	return slices.ContainsFunc(i, func(a Attribute) bool { return a.Name == name })
}

// identity checks the attributes and reads their subnet files.
func (c *checker) identity(written *identityText) Identity {
	var out Identity // as far as it is read
	for _, name := range written.Order {
		w := written.Attributes[name]
		path := "identity." + name
		a := Attribute{Name: name, Within: w.Within, Claim: w.isClaim()}
		if !attributeName.MatchString(name) {
			c.fault(path, fmt.Sprintf("%q is not a name for an attribute", name),
				"begin with a letter and use letters, digits, _ and -, 63 at most")
		}
		if w.Within != "" {
			c.within(path+".within", name, written)
		}
		role := roleOf(name, written)
		for _, key := range w.Order {
			kind := SourceKind(key)
			value := w.source(kind)
			switch kind {
			case SourceHeader, SourceCookie, SourceQuery:
				c.sourceName(path+"."+key, kind, value)
				if other := out.reads(kind, value); other != "" {
					c.fault(path+"."+key, fmt.Sprintf("%s %s is read as attribute %s already", describeKind(kind), value, other),
						"give each attribute a source of its own")
				}
				a.Sources = append(a.Sources, Source{Kind: kind, Name: value})
			case SourceSubnets:
				a.Sources = append(a.Sources, Source{Kind: kind, Name: value, Subnets: c.subnets(path+"."+key, value, role)})
			}
		}
		if w.Default != nil {
			value, fault := role.clean(*w.Default)
			if fault != nil {
				c.fault(path+".default", fault.Message, fault.Remedy)
			}
			a.Default = value
		}
		if len(a.Sources) == 0 && w.Default == nil {
			c.fault(path, "the attribute has no source", "give it a header, cookie, query, subnets or default")
		}
		out = append(out, a)
	}
	return out
}

// sourceName checks the name of a header, cookie or query parameter.
func (c *checker) sourceName(path string, kind SourceKind, name string) {
	switch {
	case kind == SourceHeader:
		c.header(path, name)
	case kind == SourceCookie && !isToken(name), name == "":
		c.fault(path, fmt.Sprintf("%q is not the name of a %s", name, describeKind(kind)), "use letters, digits and -")
	}
}

// header checks the name of a header that something is read from.
func (c *checker) header(path, name string) {
	switch {
	case !isToken(name):
		c.fault(path, fmt.Sprintf("%q is not the name of a header", name), "use letters, digits and -")
	case slices.Contains(ownHeaders, spelledPlain(name)):
		c.fault(path, fmt.Sprintf("header %s belongs to HTTP and to tellergate itself", name), "name another header")
	}
}

// ownHeaders are written, removed or interpreted on the way, whatever a client says in them.
var ownHeaders = []string{
	"connection", "content-length", "cookie", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
	"transfer-encoding", "upgrade", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
}

func (c *checker) within(path, name string, written *identityText) {
	outer := written.Attributes[name].Within
	target, ok := written.Attributes[outer]
	switch {
	case outer == name:
		c.fault(path, fmt.Sprintf("%s is within itself", name), "name another attribute")
	case !ok:
		c.fault(path, fmt.Sprintf("there is no attribute %q", outer), "declare it under identity")
	case target.Within != "":
		c.fault(path, fmt.Sprintf("%s is itself within %s", outer, target.Within),
			"only one level is possible: name "+target.Within)
	case written.Attributes[name].isClaim() && !target.isClaim():
		c.fault(path,
			fmt.Sprintf("%s is a claim and %s is not: anybody could present the outer half of a trusted pair", name, outer),
			fmt.Sprintf("remove claim: false from %s", outer))
	}
}

// reads returns the attribute that is read from a source, "" if none is.
func (i Identity) reads(kind SourceKind, name string) string {
	for _, a := range i {
		for _, s := range a.Sources {
			if placeOf(s.Kind, s.Name) == placeOf(kind, name) {
				return a.Name
			}
		}
	}
	return ""
}

// placeOf identifies a source by kind and name.
func placeOf(kind SourceKind, name string) string {
	if kind == SourceHeader {
		name = spelledPlain(name)
	}
	return string(kind) + " " + name
}

// spelledPlain folds the spellings of a header's name: it has no case, and some pods read an underscore as a dash.
func spelledPlain(header string) string {
	return strings.ReplaceAll(strings.ToLower(header), "_", "-")
}

func describeKind(kind SourceKind) string {
	if kind == SourceQuery {
		return "query parameter"
	}
	return string(kind)
}
