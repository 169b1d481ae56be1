package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tellergate/internal/problem"
	"tellergate/internal/strictyaml"
)

// Compile checks the whole document and turns it into a RuleSet, or returns a problem.List with every fault. It never
// skips a bad rule and never repairs one. A nil document is the empty one.
func Compile(d *Document, in Inputs) (*RuleSet, error) {
	if d == nil {
		d = new(Document)
	}
	c := &compiler{in: in, source: d.source, mentioned: make(map[string]bool)}
	set := &RuleSet{
		schema:   in.Schema,
		services: make([]CompiledService, len(d.Services)),
		matches:  matchTable{exact: make(map[string]reaches), below: make(map[string]reaches)},
	}
	serviceNames := make([]string, len(d.Services))
	for i := range d.Services {
		serviceNames[i] = d.Services[i].Name
	}
	labels := c.names("services", "service", serviceNames)
	for i := range d.Services {
		at := element("services", labels[i])
		set.services[i].index = i
		c.service(at, &d.Services[i], &set.services[i])
		c.match(at+".match", &d.Services[i].Match, &set.services[i], &set.matches)
	}
	c.unknownOverrides(serviceNames)
	if len(c.problems) > 0 {
		return nil, c.inOrder(c.problems)
	}
	for i := range set.services {
		c.index(&set.services[i])
	}
	if len(c.problems) > 0 {
		return nil, c.inOrder(c.problems)
	}
	set.matches.sort()
	for i := range set.services {
		c.reviewService(element("services", labels[i]), &set.services[i])
	}
	c.withoutServices(d)
	c.unmentionedLists()
	set.warnings = c.inOrder(c.warnings)
	return set, nil
}

// A compiler gathers what is wrong with one document.
type compiler struct {
	in        Inputs
	source    *strictyaml.Source
	problems  problem.List
	warnings  problem.List
	mentioned map[string]bool // lists
}

// fault notes a problem at a path; message and remedy are as in problem.Problem.
func (c *compiler) fault(path, remedy, format string, args ...any) {
	c.problems = append(c.problems, c.problem(path, remedy, fmt.Sprintf(format, args...)))
}

func (c *compiler) warn(path, remedy, format string, args ...any) {
	c.warnings = append(c.warnings, c.problem(path, remedy, fmt.Sprintf(format, args...)))
}

func (c *compiler) problem(path, remedy, message string) problem.Problem {
	p := problem.Problem{Path: path, Message: message, Remedy: remedy}
	if c.source != nil && strings.HasPrefix(path, "services") {
		p.Line, p.Column = c.source.Position(path)
	}
	return p
}

// maxProblems is how many problems of one document are spelled out.
const maxProblems = 1000

// inOrder sorts by the place in the text; what has none, because it is not about the text, comes last. Of very many it
// keeps the first.
func (c *compiler) inOrder(list problem.List) problem.List {
	if c.source != nil {
		sortByPlace(list)
	}
	if more := len(list) - maxProblems; more > 0 {
		list = append(list[:maxProblems:maxProblems], problem.Problem{
			Message: fmt.Sprintf("%d more were found", more),
			Remedy:  "correct those above first",
		})
	}
	return list
}

func sortByPlace(list problem.List) {
	slices.SortStableFunc(list, func(a, b problem.Problem) int {
		if a.Line == 0 || b.Line == 0 {
			return cmp.Compare(min(b.Line, 1), min(a.Line, 1))
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// element returns the path of an element of a sequence.
func element[L string | int](sequence string, label L) string {
	return fmt.Sprintf("%s[%v]", sequence, label)
}

// names checks the names of a sequence's elements and returns their labels in paths.
func (c *compiler) names(sequence, what string, names []string) (labels []string) {
	labels = problem.Elements(names)
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		at := element(sequence, labels[i]) + ".name"
		if c.name(at, what, name) && seen[name] {
			c.fault(at, "give each "+what+" a name of its own", "%s %q occurs twice", what, name)
		}
		seen[name] = true
	}
	return labels
}

// maxNameLength bounds the names of services, versions, rules and lists, in characters.
const maxNameLength = 63

// name checks the syntax of a name.
func (c *compiler) name(path, what, name string) bool {
	const remedy = "write letters, digits, '-', '_' and '.', a letter or digit first"
	switch {
	case name == "":
		c.fault(path, remedy, "the %s has no name", what)
	case utf8.RuneCountInString(name) > maxNameLength:
		c.fault(path, "shorten it", "name %s of the %s has more than %d characters", abridged(name), what, maxNameLength)
	case !isName(name):
		c.fault(path, remedy, "%q cannot be the name of a %s", name, what)
	default:
		return true
	}
	return false
}

func isName(name string) bool {
	for i, r := range name {
		letter := unicode.IsLetter(r) || unicode.IsDigit(r)
		if !letter && (i == 0 || !strings.ContainsRune("-_.", r) && !unicode.IsMark(r)) {
			return false
		}
	}
	return name != ""
}

// unknownOverrides finds overrides of services that the document does not have.
func (c *compiler) unknownOverrides(services []string) {
	for _, name := range sortedKeys(c.in.Overrides) {
		if !slices.Contains(services, name) {
			c.fault(element("overrides", name), "lift the override first, or keep the service",
				"an override is in force for service %q, which the document does not have", name)
		}
	}
}

// firsts returns where each value occurs first.
func firsts(values []string) map[string]int {
	at := make(map[string]int, len(values))
	for i, value := range slices.Backward(values) {
		at[value] = i
	}
	return at
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// alternatives ends a remedy with what could have been written.
func alternatives(what string, known []string) string {
	if len(known) == 0 {
		return "there is no " + what + " yet; declare it"
	}
	return "write " + listing(known) + ", or declare it"
}

// isToken reports whether s is a token of HTTP (RFC 9110, section 5.6.2): a method or the name of a header.
func isToken(s string) bool {
	for i := range len(s) {
		b := s[i]
		letter := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}

// path checks a request path or, if prefix, one that matches whole elements, and returns whether it can match.
func (c *compiler) path(at, path string, prefix bool) bool {
	switch {
	case !strings.HasPrefix(path, "/"):
		c.fault(at, fmt.Sprintf("write %q", "/"+path), "path %q does not begin with a slash", path)
	case strings.ContainsAny(path, "?#"):
		c.fault(at, "remove what begins with it; conditions look at the path alone",
			"path %q holds a query or a fragment", path)
	case prefix && len(path) > 1 && strings.HasSuffix(path, "/"):
		c.fault(at, fmt.Sprintf("write %q: it matches whole elements", strings.TrimRight(path, "/")),
			"prefix %q ends with a slash", path)
	case strings.Contains(path, "//") || hasDotElement(path):
		c.fault(at, "write it without empty elements, '.' and '..'",
			"path %q is never requested: paths are normalised before rules look at them", path)
	case strings.IndexFunc(path, unicode.IsControl) >= 0:
		c.fault(at, "remove it", "path %q holds a control character", path)
	default:
		return true
	}
	return false
}

func hasDotElement(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}
