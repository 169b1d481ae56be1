package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

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
	var out Identity
	places := map[string]string{} // kind and name of a source → attribute that reads it
	for _, name := range written.Order {
		w := written.Attributes[name]
		path := "identity." + name
		a := Attribute{Name: name, Within: w.Within, Claim: w.Claim == nil || *w.Claim}
		if !attributeName.MatchString(name) {
			c.fault(path, fmt.Sprintf("%q is not a name for an attribute", name), "begin with a letter and use letters, digits, _ and -")
		}
		if w.Within != "" {
			c.within(path+".within", name, written)
		}
		for _, key := range w.Order {
			kind := SourceKind(key)
			value := w.source(kind)
			switch kind {
			case SourceHeader, SourceCookie, SourceQuery:
				if kind != SourceQuery && !isToken(value) || value == "" {
					c.fault(path+"."+key, fmt.Sprintf("%q is not the name of a %s", value, describeKind(kind)), "use letters, digits and -")
				}
				if other := places[placeOf(kind, value)]; other != "" {
					c.fault(path+"."+key, fmt.Sprintf("%s %s is read as attribute %s already", describeKind(kind), value, other),
						"give each attribute a source of its own")
				}
				places[placeOf(kind, value)] = name
				a.Sources = append(a.Sources, Source{Kind: kind, Name: value})
			case SourceSubnets:
				a.Sources = append(a.Sources, Source{Kind: kind, Name: value, Subnets: c.subnets(path+"."+key, value)})
			}
		}
		if w.Default != nil {
			a.Default = strings.TrimSpace(*w.Default)
			if a.Default == "" {
				c.fault(path+".default", "the default is empty", "give a value, or leave the key out")
			}
		}
		if len(a.Sources) == 0 && a.Default == "" {
			c.fault(path, "the attribute has no source", "give it a header, cookie, query, subnets or default")
		}
		out = append(out, a)
	}
	for _, a := range out {
		if a.Within == "" && strings.Contains(a.Default, "/") && slices.ContainsFunc(out, func(b Attribute) bool { return b.Within == a.Name }) {
			c.fault("identity."+a.Name+".default", fmt.Sprintf("%q holds a slash", a.Default),
				"values of an attribute that others are within hold none: it divides the pair")
		}
	}
	return out
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
		c.fault(path, fmt.Sprintf("%s is itself within %s", outer, target.Within), "only one level is possible: name "+target.Within)
	}
}

// placeOf identifies a source. Header names have no case, and an underscore is read as a dash by some pods.
func placeOf(kind SourceKind, name string) string {
	if kind == SourceHeader {
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	return string(kind) + " " + name
}

func describeKind(kind SourceKind) string {
	if kind == SourceQuery {
		return "query parameter"
	}
	return string(kind)
}
