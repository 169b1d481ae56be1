package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Analysis is what is true of the rules of a document beyond each rule by itself. Everything it reports is so; what
// it does not report may be so too, and NotAnalysed says where nobody looked. Its JSON form is part of the admin API.
type Analysis struct {
	// Never holds the rules that no request can meet.
	Never []Finding `json:"never,omitempty"`
	// Shadowed holds the rules whose every request is decided by rules before them.
	Shadowed []Finding `json:"shadowed,omitempty"`
	// Overlaps holds pairs of rules that meet one request and send it to different versions.
	Overlaps []Overlap `json:"overlaps,omitempty"`
	// MoreOverlaps is how many overlaps were found beyond those listed.
	MoreOverlaps int `json:"moreOverlaps,omitempty" doc:"how many were found beyond those listed"`
	// OverlapsAtLeast tells that not every pair of rules was searched to the end, so that there may be more overlaps than
	// those listed and MoreOverlaps; NotAnalysed says which.
	OverlapsAtLeast bool `json:"overlapsAtLeast,omitempty" doc:"there may be more than overlaps and moreOverlaps: not every pair was searched to the end"`
	// UnknownBranches holds branches that rules and lists name and the organisation of their legal entity does not have.
	UnknownBranches []Finding `json:"unknownBranches,omitempty"`
	// Unmentioned counts, for each organisation, the branches that no test of any rule meets.
	Unmentioned []Unmentioned `json:"unmentioned,omitempty"`
	// NotAnalysed says of what nothing can be said.
	NotAnalysed []Finding `json:"notAnalysed,omitempty"`
}

// A Finding is something that is true of one rule, or of a service or list where Rule is empty.
type Finding struct {
	Service string   `json:"service,omitempty"`
	Rule    string   `json:"rule,omitempty"`
	By      []string `json:"by,omitempty" doc:"rules that decide in its place"`
	Why     string   `json:"why"`
}

// An Overlap is two rules that meet the same request. Before decides it; Rule would if Before did not exist.
type Overlap struct {
	Service string  `json:"service"`
	Before  string  `json:"before"`
	Rule    string  `json:"rule"`
	Witness Witness `json:"witness" doc:"a request that both rules meet; it is decided by before"`
}

// A Witness is a request, in the words of explain.
type Witness struct {
	Attributes map[string]string `json:"attributes"`
	Host       string            `json:"host,omitempty"`
	Frontend   string            `json:"frontend,omitempty"`
	Method     string            `json:"method"`
	Path       string            `json:"path"`
	Source     string            `json:"source"`
	Headers    map[string]string `json:"headers,omitempty"`
}

// Unmentioned counts the branches of one organisation that no rule speaks of.
type Unmentioned struct {
	LegalEntity string   `json:"legalEntity"`
	Branches    int      `json:"branches" doc:"how many, of all"`
	Of          int      `json:"of"`
	Examples    []string `json:"examples" doc:"the first 20"`
}

// Bounds of an analysis, for each service and kind of finding.
const (
	maxFindings = 1_000
	maxPairs    = 100_000   // that are searched for a request both rules meet
	maxCompared = 5_000_000 // of which most are seen at once to be about different people
	maxMet      = 5_000_000 // rules that come before a rule and that its request leads to, of all rules together
)

// Analyse looks for what the rules of a compiled document cannot mean. in and d are what set was compiled from.
func Analyse(d *Document, in Inputs, set *RuleSet) *Analysis {
	a := new(Analysis)
	for i := range set.services {
		newAnalyst(a, set, &set.services[i], &d.Services[i].Match).service()
	}
	a.unknownBranches(d, in)
	a.unmentioned(d, in)
	return a
}

// An analyst analyses one service.
type analyst struct {
	*Analysis
	set      *RuleSet
	of       *CompiledService
	solver   *solver
	parts    [][]condition // conjuncts by rank
	dead     []bool        // by rank: never matches, is shadowed or was not analysed
	found    []pairFound
	overlaps int
	pairs    int // searched
	compared int
	seen     map[[2]uint32]bool // overlaps noted
	tried    map[[2]uint32]bool // pairs searched
	met      int                // rules that requests of later rules lead to
	late     int                // rules that were not looked at for that, because there are too many
	hard     int                // pairs of which nothing can be said
	masked   int                // pairs that meet in a request which another rule decides
}

type pairFound struct {
	ranks [2]uint32
	Overlap
}

func newAnalyst(to *Analysis, set *RuleSet, of *CompiledService, match *Match) *analyst {
	return &analyst{Analysis: to, set: set, of: of, solver: newSolver(set.schema, match),
		parts: make([][]condition, len(of.rules.ordered)), dead: make([]bool, len(of.rules.ordered)),
		seen: make(map[[2]uint32]bool), tried: make(map[[2]uint32]bool)}
}

func (a *analyst) finding(rank uint32, by []string, why string) Finding {
	return Finding{Service: a.of.name, Rule: a.of.rules.ordered[rank].name, By: by, Why: why}
}

func (a *analyst) service() {
	ordered := a.of.rules.ordered
	for i := range ordered {
		rank := uint32(i)
		a.parts[rank] = conjuncts(ordered[rank].when)
		q, impossible := a.solver.solve(a.parts[rank]...)
		switch {
		case impossible:
			a.dead[rank] = true
			a.Never = append(a.Never, a.finding(rank, nil, "no request can meet its conditions together"))
		case q == nil || a.set.Match(q) != a.of:
			a.dead[rank] = true
			why := "every request that was tried belongs to another service"
			if q == nil {
				why = unsolved(a.parts[rank])
			}
			a.NotAnalysed = append(a.NotAnalysed, a.finding(rank, nil, why))
		case a.met > maxMet:
			a.late++
		default:
			before := a.of.rules.candidates(q)
			own, _ := slices.BinarySearch(before, rank)
			before = before[:own]
			a.met += len(before)
			a.reached(rank, q)
			for _, other := range before {
				a.pair(other, rank)
			}
		}
	}
	skipped := 0
	for i := range ordered {
		if !a.dead[i] {
			skipped += a.others(uint32(i))
		}
	}
	slices.SortFunc(a.found, func(x, y pairFound) int {
		return cmp.Or(cmp.Compare(x.ranks[1], y.ranks[1]), cmp.Compare(x.ranks[0], y.ranks[0]))
	})
	for _, f := range a.found {
		a.Overlaps = append(a.Overlaps, f.Overlap)
	}
	unsolved := slices.ContainsFunc(a.NotAnalysed, func(f Finding) bool { return f.Service == a.of.name && f.Rule != "" })
	note := func(n int, one, several string) {
		switch {
		case n == 1:
			a.NotAnalysed = append(a.NotAnalysed, Finding{Service: a.of.name, Why: one})
		case n > 1:
			a.NotAnalysed = append(a.NotAnalysed, Finding{Service: a.of.name, Why: fmt.Sprintf(several, n)})
		}
	}
	note(a.late, "of 1 rule it was not searched whether rules before it take its every request: too many lead to one request",
		"of %d rules it was not searched whether rules before them take their every request: too many lead to one request")
	note(a.hard-maxFindings, "of 1 more pair of rules it is not known whether a request meets both",
		"of %d more pairs of rules it is not known whether a request meets both")
	note(a.masked, "the rules of 1 pair both meet a request that a rule before them decides; whether one of them decides "+
		"another such request was not searched", "the rules of %d pairs both meet a request that a rule before them decides; "+
		"whether one of them decides another such request was not searched")
	note(skipped, "at most 1 pair of rules was not searched for a request that both meet: the service has too many",
		"up to %d pairs of rules were not searched for a request that both meet: the service has too many")
	if unsolved || a.late > 0 || a.masked > 0 || skipped > 0 {
		a.OverlapsAtLeast = true
	}
}

// reached looks at a rule that q meets: who decides q, and whether the same decides every other request of the rule.
func (a *analyst) reached(rank uint32, q *Query) {
	first := a.of.rules.first(q)
	if first == &a.of.rules.ordered[rank] {
		return
	}
	if by, why := a.shadow(rank, q); by != nil {
		a.dead[rank] = true
		a.Shadowed = append(a.Shadowed, a.finding(rank, by, why))
		return
	}
	a.overlap(rank, q)
}

// shadow returns the rules that decide every request of the rule, which q meets, or nil if that is not known.
func (a *analyst) shadow(rank uint32, q *Query) (by []string, why string) {
	if before := a.implied(rank, q, a.of.rules.ordered[rank].when); before != nil {
		return []string{before.name}, fmt.Sprintf("rule %s comes before it and takes every request that it could", before.name)
	}
	// Value by value, each may be taken by another rule.
	const maxSplit = 50
	for _, part := range a.parts[rank] {
		test, ok := part.(*attributeIn)
		if !ok || len(test.values) > maxSplit {
			continue
		}
		for _, value := range test.values {
			only := append(slices.Clone(a.parts[rank]), &attributeIs{test.attributeRef, value})
			q, impossible := a.solver.solve(only...)
			if impossible {
				continue
			}
			var before *compiledRule
			if q != nil {
				before = a.implied(rank, q, newAllOf(only))
			}
			if before == nil {
				by = nil
				break
			}
			if !slices.Contains(by, before.name) {
				by = append(by, before.name)
			}
		}
		if by != nil {
			return by, "rules before it take every request that it could: one " + test.name + " each"
		}
	}
	return nil, ""
}

// implied returns a rule before rank that takes every request that meets when, as q does; nil if none is known.
func (a *analyst) implied(rank uint32, q *Query, when condition) *compiledRule {
	for _, candidate := range a.of.rules.candidates(q) {
		before := &a.of.rules.ordered[candidate]
		if candidate < rank && before.matches(q) && implies(when, before.when) {
			return before
		}
	}
	return nil
}

// overlap notes that the rule, which q meets, and the one that decides q have different outcomes.
func (a *analyst) overlap(rank uint32, q *Query) {
	rule := &a.of.rules.ordered[rank]
	first := a.of.rules.first(q)
	if first == nil || first == rule || sameOutcome(&first.then, &rule.then) || !rule.matches(q) || a.set.Match(q) != a.of {
		return
	}
	// The proof: what the request path would do with this request.
	if d := a.of.Decide(q, Standing{}, nil); a.of.override == nil && d.Rule != first.name {
		return
	}
	before, _ := slices.BinarySearchFunc(a.of.rules.ordered, first.priority, func(r compiledRule, priority int) int {
		return cmp.Compare(priority, r.priority)
	})
	pair := [2]uint32{uint32(before), rank}
	if a.seen[pair] {
		return
	}
	a.seen[pair] = true
	if a.overlaps++; a.overlaps > maxFindings {
		a.MoreOverlaps++
		return
	}
	a.found = append(a.found, pairFound{pair, Overlap{Service: a.of.name, Before: first.name, Rule: rule.name,
		Witness: a.witness(q)}})
}

func (a *analyst) witness(q *Query) Witness {
	w := Witness{Attributes: map[string]string{}, Host: q.Host, Frontend: q.Frontend, Method: q.Method, Path: q.Path,
		Source: q.Source.String()}
	for i, value := range q.Attributes {
		if value != "" {
			w.Attributes[a.set.schema.Attribute(i).Name] = value
		}
	}
	if headers, ok := q.Headers.(witnessHeaders); ok && len(headers) > 0 {
		w.Headers = maps.Clone(headers)
	}
	return w
}

// others searches requests that the rule and one before it meet, and returns how many of those it had to pass over.
func (a *analyst) others(rank uint32) (skipped int) {
	for before := range rank {
		if a.compared++; a.pairs >= maxPairs || a.compared > maxCompared || a.overlaps > maxFindings {
			return int(rank - before)
		}
		a.pair(before, rank)
	}
	return 0
}

func (a *analyst) pair(before, rank uint32) {
	ordered := a.of.rules.ordered
	if a.dead[before] || a.dead[rank] || sameOutcome(&ordered[before].then, &ordered[rank].then) ||
		apart(a.parts[before], a.parts[rank]) || a.seen[[2]uint32{before, rank}] || a.pairs >= maxPairs {
		return
	}
	pair := [2]uint32{before, rank}
	if a.tried[pair] {
		return
	}
	a.tried[pair] = true
	a.pairs++
	together := append(slices.Clone(a.parts[before]), a.parts[rank]...)
	q, impossible := a.solver.solve(together...)
	switch {
	case impossible:
	case q == nil || a.set.Match(q) != a.of:
		if a.hard++; a.hard <= maxFindings {
			why := "every request that was tried belongs to another service"
			if q == nil {
				why = unsolved(together)
			}
			a.NotAnalysed = append(a.NotAnalysed, a.finding(rank, nil, fmt.Sprintf(
				"together with rule %s, which comes before it: %s", ordered[before].name, why)))
		}
	default:
		a.overlap(rank, q)
		if !a.seen[pair] {
			a.masked++
		}
	}
}

// apart reports whether one part of each rule asks for other values of one attribute than the other's, so that no request
// meets both. It is quick and misses much.
func apart(a, b []condition) bool {
	for _, x := range a {
		switch x.(type) {
		case *attributeIs, *attributeUnder, *attributePrefix:
			if slices.ContainsFunc(b, func(y condition) bool { return disjoint(x, y) }) {
				return true
			}
		}
	}
	return false
}

// disjoint reports whether no value meets both of two tests of the same kind.
func disjoint(a, b condition) bool {
	switch a := a.(type) {
	case *attributeIs:
		b, ok := b.(*attributeIs)
		return ok && a.index == b.index && a.value != b.value
	case *attributeUnder:
		b, ok := b.(*attributeUnder)
		return ok && a.index == b.index && (a.entity != b.entity || a.hi <= b.lo || b.hi <= a.lo)
	case *attributePrefix:
		b, ok := b.(*attributePrefix)
		return ok && a.index == b.index && !strings.HasPrefix(a.prefix, b.prefix) && !strings.HasPrefix(b.prefix, a.prefix)
	}
	return false
}

func sameOutcome(a, b *outcome) bool {
	if a.stable != b.stable || (a.split == nil) != (b.split == nil) {
		return false
	}
	if a.split == nil {
		return true
	}
	x, y := a.split, b.split
	return x.second == y.second && x.third == y.third && x.secondEnd == y.secondEnd && x.thirdBegin == y.thirdBegin &&
		x.draw.salt == y.draw.salt && slices.EqualFunc(x.draw.by, y.draw.by,
		func(p, q drawAttribute) bool { return p.index == q.index })
}

// unknownBranches finds branches that tests name and the organisation of their legal entity does not have.
func (a *Analysis) unknownBranches(d *Document, in Inputs) {
	missing := func(value string) bool {
		entity, code, _ := strings.Cut(value, "/")
		organisation := in.Organisations[entity]
		return organisation != nil && !organisation.Contains(code)
	}
	for i := range d.Services {
		service := &d.Services[i]
		for j := range service.Rules {
			rule := &service.Rules[j]
			eachTest(rule.When, "when", false, func(_ string, _ bool, test *Condition) {
				values := test.In
				if test.Is != nil {
					values = []string{*test.Is}
				}
				for _, value := range values {
					if test.Attribute == AttributeBranch && missing(value) && len(a.UnknownBranches) < maxFindings {
						a.UnknownBranches = append(a.UnknownBranches, Finding{Service: service.Name, Rule: rule.Name,
							Why: "the organisation does not have branch " + shown(value)})
					}
				}
			})
		}
	}
	for _, name := range sortedKeys(in.Lists) {
		list, n, example := in.Lists[name], 0, ""
		if list.Attribute() != AttributeBranch {
			continue
		}
		for value := range list.All() {
			if missing(value) {
				if n++; n == 1 {
					example = value
				}
			}
		}
		if n > 0 {
			a.UnknownBranches = append(a.UnknownBranches, Finding{Why: fmt.Sprintf(
				"branches of list %s that no organisation has: %d, for example %s", name, n, shown(example))})
		}
	}
}

// unmentioned counts the branches that no test by is, in, inList or under meets.
func (a *Analysis) unmentioned(d *Document, in Inputs) {
	mentioned := make(map[string][]bool) // by legal entity, by number
	for entity, organisation := range in.Organisations {
		mentioned[entity] = make([]bool, organisation.Len())
	}
	mark := func(value string, beneath bool) {
		entity, code, _ := strings.Cut(value, "/")
		if organisation := in.Organisations[entity]; organisation != nil {
			if lo, hi, known := organisation.Interval(code); known {
				for number := lo; number < hi && (beneath || number == lo); number++ {
					mentioned[entity][number] = true
				}
			}
		}
	}
	lists := make(map[string]bool)
	unders := make(map[string]bool)
	for i := range d.Services {
		for j := range d.Services[i].Rules {
			eachTest(d.Services[i].Rules[j].When, "", false, func(_ string, _ bool, test *Condition) {
				switch {
				case test.Attribute != AttributeBranch:
				case test.Is != nil:
					mark(*test.Is, false)
				case test.InList != nil:
					lists[*test.InList] = true
				case test.Under != nil:
					unders[*test.Under] = true
				default:
					for _, value := range test.In {
						mark(value, false)
					}
				}
			})
		}
	}
	for name := range lists {
		for value := range in.Lists[name].All() {
			mark(value, false)
		}
	}
	for value := range unders {
		mark(value, true)
	}
	for _, entity := range sortedKeys(in.Organisations) {
		organisation := in.Organisations[entity]
		u := Unmentioned{LegalEntity: entity, Of: organisation.Len()}
		for place := range organisation.Len() {
			code := organisation.branch(place).Code
			if number, _ := organisation.number(code); !mentioned[entity][number] {
				if u.Branches++; u.Branches <= 20 {
					u.Examples = append(u.Examples, code)
				}
			}
		}
		if u.Branches > 0 {
			a.Unmentioned = append(a.Unmentioned, u)
		}
	}
}
