package rules

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A solver looks for requests that meet conditions. What it finds is verified; where it finds nothing, it says whether
// it has proved that there is nothing.
type solver struct {
	schema *Schema
	match  *Match // of the service: requests must reach it
	inner  [][]int
	// branches and listed hold what was needed of organisations and lists, because hundreds of rules ask for the same.
	branches map[branchesOf][]string
	listed   map[listedIn][]string
	steps    int // left for the present question
}

// A branchesOf stands for the branches of an organisation, by number.
type branchesOf struct {
	organisation *Organisation
	entity       string
}

// A listedIn stands for the first values of a list, or for the first that begin with an outer value.
type listedIn struct {
	list  *List
	outer string
}

// Bounds of one question: choices between alternatives and attempts at buckets, and how many values of one list or
// organisation are tried.
const (
	maxSteps  = 20_000
	maxValues = 2_000
)

func newSolver(schema *Schema, match *Match) *solver {
	s := &solver{schema: schema, match: match, inner: make([][]int, schema.Len()),
		branches: make(map[branchesOf][]string), listed: make(map[listedIn][]string)}
	for i, a := range schema.attributes {
		if a.Within != "" {
			outer := schema.Index(a.Within)
			s.inner[outer] = append(s.inner[outer], i)
		}
	}
	return s
}

// A demand is a condition that must hold or, if negated, must not.
type demand struct {
	test    condition
	negated bool
}

func (l demand) holds(q *Query) bool { return l.test.holds(q) != l.negated }

// solve returns a request that meets all conditions, or nil and whether there is none for certain.
func (s *solver) solve(conditions ...condition) (q *Query, impossible bool) {
	s.steps = maxSteps
	todo := make([]demand, 0, len(conditions)+4)
	for _, c := range conditions {
		todo = append(todo, demand{test: c})
	}
	return s.expand(todo, make([]demand, 0, 8))
}

// expand resolves all, any and not, trying one alternative after the other, until only single tests are left.
func (s *solver) expand(todo, tests []demand) (q *Query, impossible bool) {
	for len(todo) > 0 {
		l := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		var parts []condition
		conjunction := false
		switch c := l.test.(type) {
		case notOf:
			todo = append(todo, demand{c.inner, !l.negated})
			continue
		case *allOf:
			parts, conjunction = c.parts, !l.negated
		case anyOf:
			parts, conjunction = c, l.negated
		default:
			tests = append(tests, l)
			continue
		}
		if conjunction {
			for _, part := range parts {
				todo = append(todo, demand{part, l.negated})
			}
			continue
		}
		impossible = true
		for _, part := range parts {
			if s.steps--; s.steps < 0 {
				return nil, false
			}
			found, none := s.expand(append(slices.Clip(todo), demand{part, l.negated}), slices.Clip(tests))
			if found != nil {
				return found, false
			}
			impossible = impossible && none
		}
		return nil, impossible
	}
	return s.assign(tests)
}

// A question is the single tests of one alternative by what they look at.
type question struct {
	attributes           [][]demand
	method, path, source []demand
	headers              map[string][]demand
	buckets              []demand
}

func (s *solver) question(tests []demand) *question {
	k := &question{attributes: make([][]demand, s.schema.Len())}
	for _, l := range tests {
		switch c := l.test.(type) {
		case *bucketBelow:
			k.buckets = append(k.buckets, l)
		case *methodIn:
			k.method = append(k.method, l)
		case *pathIs, *pathUnder, *pathMatches:
			k.path = append(k.path, l)
		case *sourceIn:
			k.source = append(k.source, l)
		case *headerIn:
			k.header(string(c.headerRef), l)
		case *headerMatches:
			k.header(string(c.headerRef), l)
		case *headerPresent:
			k.header(string(c.headerRef), l)
		default:
			about := topicOf(c)
			k.attributes[about.index] = append(k.attributes[about.index], l)
		}
	}
	if prefix := s.match.PathPrefix; prefix != "" {
		k.path = append(k.path, demand{test: &pathUnder{prefix}})
	}
	return k
}

func (k *question) header(name string, l demand) {
	if k.headers == nil {
		k.headers = make(map[string][]demand)
	}
	name = http.CanonicalHeaderKey(name)
	k.headers[name] = append(k.headers[name], l)
}

// witnessHeaders are the headers of a request that a solver made, by canonical name.
type witnessHeaders map[string]string

func (h witnessHeaders) Get(name string) (string, bool) {
	value, found := h[http.CanonicalHeaderKey(name)]
	return value, found
}

// assign finds a value for everything that the tests look at.
func (s *solver) assign(tests []demand) (q *Query, impossible bool) {
	k := s.question(tests)
	q = &Query{Method: http.MethodGet, Path: "/", Source: netip.MustParseAddr("192.0.2.1"),
		Attributes: make([]string, s.schema.Len())}
	if len(s.match.Frontends) > 0 {
		q.Frontend = s.match.Frontends[0]
	}
	if len(s.match.Hosts) > 0 {
		q.Host = strings.ToLower(strings.Replace(s.match.Hosts[0], "*", "x", 1))
	}
	try := func(tests []demand, values []string, set func(string)) bool {
		for _, value := range values {
			if set(value); meets(tests, q) {
				return true
			}
		}
		return false
	}
	methods, complete := methodsFor(k.method)
	if !try(k.method, methods, func(v string) { q.Method = v }) {
		return nil, complete
	}
	paths, complete := pathsFor(k.path)
	if !try(k.path, paths, func(v string) { q.Path = v }) {
		return nil, complete
	}
	sources, complete := sourcesFor(k.source)
	if !try(k.source, sources, func(v string) { q.Source = netip.MustParseAddr(v) }) {
		return nil, complete
	}
	headers := witnessHeaders{}
	q.Headers = headers
	for _, name := range sortedKeys(k.headers) {
		values, complete := headerValuesFor(k.headers[name])
		if !try(k.headers[name], values, func(v string) {
			if headers[name] = v; v == "" {
				delete(headers, name)
			}
		}) {
			return nil, complete
		}
	}
	for i := range q.Attributes {
		if s.schema.Attribute(i).Within != "" {
			continue
		}
		if found, none := s.assignAttribute(k, q, i); !found {
			return nil, none
		}
	}
	if !meets(k.buckets, q) && !s.meetBuckets(k, q) {
		return nil, false
	}
	return q, false
}

func meets(tests []demand, q *Query) bool {
	for _, l := range tests {
		if !l.holds(q) {
			return false
		}
	}
	return true
}

// assignAttribute finds values of an attribute and of those within it that go together.
func (s *solver) assignAttribute(k *question, q *Query, outer int) (found, impossible bool) {
	values, complete := s.valuesFor(k.attributes[outer], "")
	for _, i := range s.inner[outer] {
		if len(k.attributes[i]) == 0 {
			continue
		}
		pairs, all := s.valuesFor(k.attributes[i], "")
		complete = complete || all && !slices.Contains(pairs, "")
		for _, pair := range pairs {
			if value, _, _ := strings.Cut(pair, "/"); value != "" && !slices.Contains(values, value) {
				values = append([]string{value}, values...)
			}
		}
	}
	impossible = complete
	for _, value := range values {
		if q.Attributes[outer] = value; !meets(k.attributes[outer], q) {
			continue
		}
		fits := true
		for _, i := range s.inner[outer] {
			if len(k.attributes[i]) == 0 {
				q.Attributes[i] = ""
				continue
			}
			pairs, all := s.valuesFor(k.attributes[i], value)
			if !slices.ContainsFunc(pairs, func(pair string) bool {
				q.Attributes[i] = pair
				return s.goesWith(pair, value) && meets(k.attributes[i], q)
			}) {
				fits, impossible = false, impossible && all
				break
			}
		}
		if fits {
			return true, false
		}
	}
	return false, impossible
}

// goesWith reports whether a request whose outer attribute has this value may have the pair.
func (s *solver) goesWith(pair, outer string) bool {
	return pair == "" || outer != "" && strings.HasPrefix(pair, outer+"/")
}

// meetBuckets varies the attributes that buckets are drawn by.
func (s *solver) meetBuckets(k *question, q *Query) bool {
	for _, l := range k.buckets {
		for _, by := range l.test.(*bucketBelow).draw.by {
			before := q.Attributes[by.index]
			prefix := ""
			if within := s.schema.Attribute(by.index).Within; within != "" {
				outer := s.schema.Index(within)
				if q.Attributes[outer] == "" {
					if q.Attributes[outer] = anyOuter; !meets(k.attributes[outer], q) {
						q.Attributes[outer] = ""
						continue
					}
				}
				prefix = q.Attributes[outer] + "/"
			} else if len(s.inner[by.index]) > 0 {
				continue // those within it would have to follow
			}
			values, _ := s.valuesFor(k.attributes[by.index], strings.TrimSuffix(prefix, "/"))
			for i := 0; ; i++ {
				if s.steps--; s.steps < 0 {
					return false
				}
				if i < len(values) {
					q.Attributes[by.index] = values[i]
				} else if q.Attributes[by.index] = prefix + "x" + strconv.Itoa(i); !meets(k.attributes[by.index], q) {
					break
				}
				if s.goesWith(q.Attributes[by.index], strings.TrimSuffix(prefix, "/")) || prefix == "" {
					if meets(k.attributes[by.index], q) && meets(k.buckets, q) {
						return true
					}
				}
			}
			q.Attributes[by.index] = before
		}
	}
	return false
}

// anyOuter stands in requests whose legal entity, or whatever others are declared within, does not matter.
const anyOuter = "9001"

// valuesFor returns values of one attribute to try, and whether no other can meet the tests. outer is what pairs should
// begin with, empty if that is not known yet.
func (s *solver) valuesFor(tests []demand, outer string) (values []string, complete bool) {
	if len(tests) == 0 {
		return []string{""}, false
	}
	best := -1
	var source condition
	simple, longest := true, ""
	for _, l := range tests {
		size := -1
		switch c := l.test.(type) {
		case *attributeIs, *attributeIn, *attributeInList, *attributePresent:
			if _, n := possible(asWritten(l)); n > 0 || isEmptyList(l) {
				size = n
			}
		case *attributeUnder:
			if !l.negated {
				size = int(c.hi - c.lo)
			}
		case *attributePrefix:
			if !l.negated && len(c.prefix) > len(longest) {
				longest = c.prefix
			}
		}
		_, isPrefix := l.test.(*attributePrefix)
		simple = simple && isPrefix && !l.negated
		if size >= 0 && (source == nil || size < best) {
			best, source = size, asWritten(l)
		}
	}
	if source != nil {
		return s.enumerate(source, best, outer), best <= maxValues
	}
	if longest != "" {
		return []string{longest + "0", longest + "x1", longest + "x2", longest}, simple
	}
	attribute := s.schema.Attribute(topicOf(tests[0].test).index)
	prefix := ""
	if attribute.Within != "" {
		if prefix = outer + "/"; outer == "" {
			prefix = anyOuter + "/"
		}
	}
	values = []string{prefix + "x1", prefix + "x2", prefix + "x3", ""}
	if attribute.Within == "" {
		values = append(values, anyOuter)
	}
	return values, false
}

// asWritten turns a demand back into a condition.
func asWritten(l demand) condition {
	if l.negated {
		return notOf{l.test}
	}
	return l.test
}

func isEmptyList(l demand) bool {
	c, ok := l.test.(*attributeInList)
	return ok && !l.negated && c.list.Len() == 0
}

// enumerate returns up to maxValues of the values that a test leaves; of a large list, of those that begin with outer.
// The caller must not change them.
func (s *solver) enumerate(source condition, n int, outer string) []string {
	var values []string
	switch c := source.(type) {
	case *attributeIn:
		values = c.values
	case *attributeInList:
		if n <= maxValues {
			outer = ""
		}
		values = s.valuesOf(c.list, outer)
	case *attributeUnder:
		values = s.branchesOf(c.organisation, c.entity)[c.lo:c.hi]
	default:
		only, _ := possible(source)
		values = slices.Collect(only)
	}
	return values[:min(len(values), maxValues)]
}

// valuesOf returns up to maxValues values of the list: any, or such as begin with outer if that is not empty.
func (s *solver) valuesOf(list *List, outer string) []string {
	key := listedIn{list, outer}
	if values, found := s.listed[key]; found {
		return values
	}
	prefix := ""
	if outer != "" {
		prefix = outer + "/"
	}
	var values []string
	for value := range list.All() {
		if strings.HasPrefix(value, prefix) {
			if values = append(values, value); len(values) == maxValues {
				break
			}
		}
	}
	s.listed[key] = values
	return values
}

// branchesOf returns the branches of an organisation by number, as pairs.
func (s *solver) branchesOf(o *Organisation, entity string) []string {
	key := branchesOf{o, entity}
	if branches, found := s.branches[key]; found {
		return branches
	}
	branches := make([]string, o.Len())
	for i := range branches {
		code := o.branch(i).Code
		number, _, _ := o.Interval(code)
		branches[number] = entity + "/" + code
	}
	s.branches[key] = branches
	return branches
}

func methodsFor(tests []demand) (values []string, complete bool) {
	for _, l := range tests {
		if !l.negated {
			return l.test.(*methodIn).methods, true
		}
	}
	return []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "X"}, false
}

func pathsFor(tests []demand) (values []string, complete bool) {
	complete = true
	for _, l := range tests {
		switch c := l.test.(type) {
		case *pathIs:
			if !l.negated {
				return []string{c.path}, true
			}
			complete = false
		case *pathUnder:
			base := strings.TrimSuffix(c.prefix, "/")
			values = append(values, c.prefix, base+"/x1", base+"/x2")
			complete = complete && !l.negated
		case *pathMatches:
			complete = false
			values = append(values, c.pattern.written)
		}
	}
	return append(values, "/", "/x1"), complete
}

func sourcesFor(tests []demand) (values []string, complete bool) {
	complete = true
	for _, l := range tests {
		complete = complete && !l.negated
		for _, prefix := range l.test.(*sourceIn).prefixes {
			values = append(values, prefix.Addr().String())
		}
	}
	return append(values, "192.0.2.1", "198.51.100.1", "10.255.255.254", "127.0.0.1", "2001:db8::1"), complete
}

// headerValuesFor returns values of one header; an empty one stands for its absence.
func headerValuesFor(tests []demand) (values []string, complete bool) {
	for _, l := range tests {
		switch c := l.test.(type) {
		case *headerIn:
			if !l.negated {
				return c.values, true
			}
		case *headerMatches:
			values = append(values, c.pattern.written)
		}
	}
	return append(values, "", "x1", "x2"), false
}

// unsolved says what of a condition the solver does not understand, for the list of what was not analysed.
func unsolved(parts []condition) string {
	why := "its conditions are too many to try"
	var visit func(c condition, negated bool)
	visit = func(c condition, negated bool) {
		switch c := c.(type) {
		case *allOf:
			for _, part := range c.parts {
				visit(part, negated)
			}
		case anyOf:
			for _, part := range c {
				visit(part, negated)
			}
		case notOf:
			visit(c.inner, !negated)
		case *attributeMatches:
			why = fmt.Sprintf("it holds the regular expression %s", shown(c.pattern.written))
		case *pathMatches:
			why = fmt.Sprintf("it holds the regular expression %s", shown(c.pattern.written))
		case *headerMatches:
			why = fmt.Sprintf("it holds the regular expression %s", shown(c.pattern.written))
		case *bucketBelow:
			why = "nobody was found in its bucket"
		}
	}
	for _, part := range parts {
		visit(part, false)
	}
	return why
}
