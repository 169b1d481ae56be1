package rules

import (
	"cmp"
	"slices"
	"strings"
)

// Match returns the service that the query belongs to, or nil. It looks at Frontend, Host and Path only; a query
// without a frontend may belong to a service of any. It allocates nothing.
func (s *RuleSet) Match(q *Query) *CompiledService {
	if found := s.matches.exact[q.Host].find(q); found != nil {
		return found
	}
	if len(s.matches.below) > 0 {
		for rest := q.Host; ; {
			dot := strings.IndexByte(rest, '.')
			if dot < 0 {
				break
			}
			rest = rest[dot+1:]
			if found := s.matches.below[rest].find(q); found != nil {
				return found
			}
		}
	}
	return s.matches.any.find(q)
}

// A matchTable finds services from the most specific host to the least.
type matchTable struct {
	exact map[string]reaches // by host
	below map[string]reaches // by what follows "*."
	any   reaches
}

// A reach is the part of the requests that one service asks for under one host. reaches are ordered from the longest
// prefix to the shortest.
type (
	reach struct {
		prefix    string
		frontends []string // empty: all
		service   *CompiledService
	}
	reaches []reach
)

func (c reaches) find(q *Query) *CompiledService {
	for i := range c {
		if pathHasPrefix(q.Path, c[i].prefix) && c[i].takes(q.Frontend) {
			return c[i].service
		}
	}
	return nil
}

func (c *reach) takes(frontend string) bool {
	return frontend == "" || len(c.frontends) == 0 || slices.Contains(c.frontends, frontend)
}

// overlaps returns a frontend on which both reaches would be equally specific; "" stands for all of them.
func (c *reach) overlaps(other *reach) (frontend string, overlap bool) {
	if c.prefix != other.prefix {
		return "", false
	}
	if len(c.frontends) == 0 || len(other.frontends) == 0 {
		return strings.Join(c.frontends, ", ") + strings.Join(other.frontends, ", "), true
	}
	for _, frontend := range c.frontends {
		if slices.Contains(other.frontends, frontend) {
			return frontend, true
		}
	}
	return "", false
}

// add enters a reach for one host in lower case, "" for any, unless an equally specific one is there; then it returns
// that one and the frontend on which they overlap. The table finds nothing before it is sorted.
func (t *matchTable) add(host string, c reach) (before *reach, frontend string) {
	at, name := &t.any, ""
	var by map[string]reaches
	if below, wildcard := strings.CutPrefix(host, "*."); wildcard {
		by, name = t.below, below
	} else if host != "" {
		by, name = t.exact, host
	}
	if by != nil {
		entries := by[name]
		at = &entries
	}
	for i := range *at {
		if frontend, overlap := (*at)[i].overlaps(&c); overlap {
			return &(*at)[i], frontend
		}
	}
	*at = append(*at, c)
	if by != nil {
		by[name] = *at
	}
	return nil, ""
}

// sort puts the longest prefixes first.
func (t *matchTable) sort() {
	byLength := func(a, b reach) int { return cmp.Compare(len(b.prefix), len(a.prefix)) }
	slices.SortStableFunc(t.any, byLength)
	for _, by := range [...]map[string]reaches{t.exact, t.below} {
		for _, r := range by {
			slices.SortStableFunc(r, byLength)
		}
	}
}
