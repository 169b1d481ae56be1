package rules

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// A condition is the compiled form of a Condition: a tree of the types below. It is immutable, and holds allocates
// nothing. A test of something that the request does not have is false, so its negation is true.
type condition interface {
	holds(q *Query) bool
	explain(q *Query) ConditionExplanation
}

type (
	allOf struct {
		parts []condition // as written
		quick []condition // the same, the cheapest first
	}
	anyOf []condition
	notOf struct{ inner condition }
)

func newAllOf(parts []condition) *allOf {
	quick := slices.Clone(parts)
	slices.SortStableFunc(quick, func(a, b condition) int { return effort(a) - effort(b) })
	return &allOf{parts: parts, quick: quick}
}

// effort ranks conditions by what trying them costs.
func effort(c condition) int {
	switch c := c.(type) {
	case *attributeIs, *attributePresent, *methodIn, *pathIs:
		return 1
	case *attributePrefix, *pathUnder, *sourceIn:
		return 2
	case *attributeIn, *headerIn, *headerPresent:
		return 3
	case *bucketBelow:
		return 5
	case *attributeInList, *attributeUnder:
		return 6
	case *attributeMatches, *pathMatches, *headerMatches:
		return 20
	case notOf:
		return effort(c.inner)
	case *allOf:
		return efforts(c.parts)
	case anyOf:
		return efforts(c)
	}
	return 0 // what could not be compiled
}

func efforts(parts []condition) int {
	sum := 1
	for _, part := range parts {
		sum += effort(part)
	}
	return sum
}

func (c *allOf) holds(q *Query) bool {
	for _, part := range c.quick {
		if !part.holds(q) {
			return false
		}
	}
	return true
}

func (c anyOf) holds(q *Query) bool {
	for _, part := range c {
		if part.holds(q) {
			return true
		}
	}
	return false
}

func (c notOf) holds(q *Query) bool { return !c.inner.holds(q) }

// An attributeRef is an attribute of the schema.
type attributeRef struct {
	index int
	name  string
}

// of returns the request's value of the attribute, empty if it is missing.
func (a attributeRef) of(q *Query) string {
	if a.index < len(q.Attributes) {
		return q.Attributes[a.index]
	}
	return ""
}

type (
	attributeIs struct {
		attributeRef
		value string
	}
	attributeIn struct {
		attributeRef
		values []string // as written
		set    map[string]struct{}
	}
	attributeInList struct {
		attributeRef
		list *List
		name string
	}
	// attributeUnder holds for the branches whose number in the organisation of entity lies in [lo, hi).
	attributeUnder struct {
		attributeRef
		entity, code string
		organisation *Organisation
		lo, hi       uint32
	}
	attributePrefix struct {
		attributeRef
		prefix string
	}
	attributeMatches struct {
		attributeRef
		pattern pattern
	}
	attributePresent struct {
		attributeRef
		want bool
	}
)

// Values are never empty, so a missing attribute equals none and needs no test of its own.

func (c *attributeIs) holds(q *Query) bool { return c.of(q) == c.value }

func (c *attributeIn) holds(q *Query) bool {
	_, found := c.set[c.of(q)]
	return found
}

func (c *attributeInList) holds(q *Query) bool { return c.list.Contains(c.of(q)) }

func (c *attributeUnder) holds(q *Query) bool {
	entity, code, found := strings.Cut(c.of(q), "/")
	if !found || entity != c.entity {
		return false
	}
	at, known := c.organisation.number(code)
	return known && c.lo <= at && at < c.hi
}

func (c *attributePrefix) holds(q *Query) bool { return strings.HasPrefix(c.of(q), c.prefix) }

func (c *attributeMatches) holds(q *Query) bool {
	value := c.of(q)
	return value != "" && c.pattern.matches(value)
}

func (c *attributePresent) holds(q *Query) bool { return (c.of(q) != "") == c.want }

// A pattern is an RE2 expression anchored at both ends.
type pattern struct {
	written string
	anchor  *regexp.Regexp
}

func newPattern(written string) (pattern, error) {
	if _, err := regexp.Compile(written); err != nil { // on its own, so that ")(" is not made whole by the anchors
		return pattern{}, err
	}
	anchored, err := regexp.Compile(`\A(?:` + written + `)\z`)
	return pattern{written: written, anchor: anchored}, err
}

func (p pattern) matches(value string) bool { return p.anchor.MatchString(value) }

type (
	bucketBelow struct {
		draw  draw
		below int
	}
	methodIn    struct{ methods []string }
	pathIs      struct{ path string }
	pathUnder   struct{ prefix string }
	pathMatches struct{ pattern pattern }
	sourceIn    struct{ prefixes []netip.Prefix }
)

func (c *bucketBelow) holds(q *Query) bool {
	bucket, _ := c.draw.from(q)
	return bucket >= 0 && bucket < c.below
}

func (c *methodIn) holds(q *Query) bool { return slices.Contains(c.methods, q.Method) }

func (c *pathIs) holds(q *Query) bool { return q.Path == c.path }

func (c *pathUnder) holds(q *Query) bool { return pathHasPrefix(q.Path, c.prefix) }

func (c *pathMatches) holds(q *Query) bool { return c.pattern.matches(q.Path) }

func (c *sourceIn) holds(q *Query) bool {
	source := q.Source.Unmap()
	for _, prefix := range c.prefixes {
		if prefix.Contains(source) {
			return true
		}
	}
	return false
}

// pathHasPrefix compares whole elements. The prefix has no final slash unless it is "/".
func pathHasPrefix(path, prefix string) bool {
	if prefix == "/" {
		return true
	}
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// A headerRef is a request header.
type headerRef string

func (h headerRef) of(q *Query) (value string, found bool) {
	if q.Headers == nil {
		return "", false
	}
	return q.Headers.Get(string(h))
}

type (
	headerIn struct {
		headerRef
		values []string
	}
	headerMatches struct {
		headerRef
		pattern pattern
	}
	headerPresent struct {
		headerRef
		want bool
	}
)

func (c *headerIn) holds(q *Query) bool {
	value, found := c.of(q)
	return found && slices.Contains(c.values, value)
}

func (c *headerMatches) holds(q *Query) bool {
	value, found := c.of(q)
	return found && c.pattern.matches(value)
}

func (c *headerPresent) holds(q *Query) bool {
	_, found := c.of(q)
	return found == c.want
}
