package rules

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"tellergate/internal/problem"
)

// An Impact is what a change of rules means to a population: who would get another version at a new session. Its JSON
// form is part of the admin API.
type Impact struct {
	Identities int             `json:"identities" doc:"how many were looked at"`
	Services   []ServiceImpact `json:"services" doc:"those that exist before and after, in the order after"`
	// OnlyBefore and OnlyAfter name the services that cannot be compared.
	OnlyBefore []string `json:"onlyBefore,omitempty"`
	OnlyAfter  []string `json:"onlyAfter,omitempty"`
}

// A ServiceImpact is the impact on one service.
type ServiceImpact struct {
	Service    string `json:"service"`
	Identities int    `json:"identities" doc:"how many of those looked at are this service's: of people seen, who asked for it"`
	Changed    int    `json:"changed" doc:"how many identities change version"`
	// Moves groups the changes by versions and by the rules that decide before and after; the largest first.
	Moves []Move `json:"moves"`
	// LegalEntities and Branches group the changes; the largest first, branches up to 1,000.
	LegalEntities []GroupImpact `json:"legalEntities"`
	Branches      []GroupImpact `json:"branches"`
	MoreBranches  int           `json:"moreBranches,omitempty" doc:"branches with changes beyond those listed"`
	Examples      []ImpactCase  `json:"examples,omitempty" doc:"the first 20"`
}

// A Move is how many identities go from one version to another by the same rules.
type Move struct {
	From       string `json:"from"`
	To         string `json:"to"`
	RuleBefore string `json:"ruleBefore,omitempty" doc:"absent: the default or an override"`
	RuleAfter  string `json:"ruleAfter,omitempty" doc:"absent: the default or an override"`
	Identities int    `json:"identities"`
}

// A GroupImpact is the part of the population with one value of an attribute.
type GroupImpact struct {
	Value      string `json:"value,omitempty" doc:"absent: of those without one"`
	Identities int    `json:"identities"`
	Changed    int    `json:"changed"`
}

// An ImpactCase is one identity that changes version.
type ImpactCase struct {
	Attributes map[string]string `json:"attributes"`
	From       string            `json:"from"`
	To         string            `json:"to"`
}

const (
	maxImpactBranches = 1_000
	maxImpactCases    = 20
)

// A Population is who an impact is about: a CSV text of identities, or who has been seen.
//
// Of a CSV a header line names attributes; without one, lines are branch,teller,legalEntity. A value of an attribute
// declared within another is a pair, or stands alone beside the outer one, which may come from Defaults.
type Population struct {
	Text     string
	Schema   *Schema
	Defaults map[string]string // by attribute; may be nil
	// Seen, if it is not nil, takes the place of Text: the identities that each service has seen, attributes by index,
	// valid until the next. They count for that service alone.
	Seen iter.Seq2[string, []string]
	// Masked names attributes of which examples show no more than logs do.
	Masked []string
}

// ImpactOf decides every identity of the population for every service before and after. request is what all of them
// ask for; its Attributes do not matter, and an empty Path is the service's path prefix. Pins do not count: it is about
// new sessions, and every version counts as usable. service restricts it to one, empty takes all. The error is a
// problem.List.
func ImpactOf(before, after *RuleSet, people Population, request Query, service string) (*Impact, error) {
	impact := &Impact{Services: []ServiceImpact{}}
	var gauges []*gauge
	for i := range after.services {
		of := &after.services[i]
		if service != "" && of.name != service {
			continue
		}
		was := before.named(of.name)
		if was == nil {
			impact.OnlyAfter = append(impact.OnlyAfter, of.name)
			continue
		}
		gauges = append(gauges, newGauge(was, of, &people))
	}
	for i := range before.services {
		if name := before.services[i].name; (service == "" || service == name) && after.named(name) == nil {
			impact.OnlyBefore = append(impact.OnlyBefore, name)
		}
	}
	if service != "" && len(gauges)+len(impact.OnlyAfter)+len(impact.OnlyBefore) == 0 {
		return nil, problem.List{{Path: "service", Message: fmt.Sprintf("there is no service %q", service),
			Remedy: "correct the name, or leave it out"}}
	}
	q := request
	if q.Path == "" {
		q.Path = "/"
	}
	err := people.each(func(seenBy string, attributes []string) {
		impact.Identities++
		q.Attributes = attributes
		for _, g := range gauges {
			if seenBy == "" || seenBy == g.after.name {
				g.take(&q)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, g := range gauges {
		impact.Services = append(impact.Services, g.finish())
	}
	return impact, nil
}

func (s *RuleSet) named(service string) *CompiledService {
	for i := range s.services {
		if s.services[i].name == service {
			return &s.services[i]
		}
	}
	return nil
}

// A gauge counts the impact on one service.
type gauge struct {
	before, after      *CompiledService
	schema             *Schema
	masked             []string
	branch, entity     int // attribute indexes or -1
	moves              map[Move]int
	branches, entities impactGroups
	examples           []ImpactCase
	taken, changed     int
}

// impactGroups are the identities by the value of one attribute. People stand together in files by what they have in
// common, so the last group is often the next.
type impactGroups struct {
	of   map[string]*GroupImpact
	last *GroupImpact
}

func newGauge(before, after *CompiledService, people *Population) *gauge {
	schema := people.Schema
	return &gauge{before: before, after: after, schema: schema, masked: people.Masked, branch: schema.Index(AttributeBranch),
		entity: schema.Index(AttributeLegalEntity), moves: make(map[Move]int),
		branches: impactGroups{of: make(map[string]*GroupImpact)}, entities: impactGroups{of: make(map[string]*GroupImpact)}}
}

func (g *gauge) take(q *Query) {
	was, is := g.before.Decide(q, Standing{}, nil), g.after.Decide(q, Standing{}, nil)
	from, to := goesTo(was), goesTo(is)
	changed := from != to
	g.taken++
	g.branches.tally(g.branch, q, changed)
	g.entities.tally(g.entity, q, changed)
	if !changed {
		return
	}
	g.changed++
	g.moves[Move{From: from, To: to, RuleBefore: was.Rule, RuleAfter: is.Rule}]++
	if len(g.examples) < maxImpactCases {
		example := ImpactCase{Attributes: map[string]string{}, From: from, To: to}
		for i, value := range q.Attributes {
			if value == "" {
				continue
			}
			a := g.schema.Attribute(i)
			example.Attributes[a.Name] = strings.Clone(value)
			if slices.Contains(g.masked, a.Name) {
				example.Attributes[a.Name] = masked(value, &a)
			}
		}
		g.examples = append(g.examples, example)
	}
}

// masked returns a value as logs show it: its first and its last character; of a pair the outer value stays.
func masked(value string, a *Attribute) string {
	outer := ""
	if before, after, pair := strings.Cut(value, "/"); pair && a.Within != "" {
		outer, value = before+"/", after
	}
	_, first := utf8.DecodeRuneInString(value)
	_, last := utf8.DecodeLastRuneInString(value)
	if len(value) <= first+last {
		return outer + "***"
	}
	return outer + value[:first] + "***" + value[len(value)-last:]
}

// goesTo returns the name of the version that a decision sends to, empty if it refuses.
func goesTo(d Decision) string {
	if d.Refusal != NotRefused {
		return ""
	}
	return d.Version.name
}

func (all *impactGroups) tally(attribute int, q *Query, changed bool) {
	if attribute < 0 {
		return
	}
	value, group := q.Attributes[attribute], all.last
	if group == nil || group.Value != value {
		if group = all.of[value]; group == nil {
			value = strings.Clone(value)
			group = &GroupImpact{Value: value}
			all.of[value] = group
		}
		all.last = group
	}
	group.Identities++
	if changed {
		group.Changed++
	}
}

func (g *gauge) finish() ServiceImpact {
	s := ServiceImpact{Service: g.after.name, Identities: g.taken, Changed: g.changed, Moves: []Move{}, Examples: g.examples}
	for move, n := range g.moves {
		move.Identities = n
		s.Moves = append(s.Moves, move)
	}
	slices.SortFunc(s.Moves, func(a, b Move) int {
		return cmp.Or(cmp.Compare(b.Identities, a.Identities), cmp.Compare(a.RuleAfter, b.RuleAfter),
			cmp.Compare(a.RuleBefore, b.RuleBefore), cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From))
	})
	s.LegalEntities, s.Branches = largest(g.entities.of), largest(g.branches.of)
	if s.MoreBranches = len(s.Branches) - maxImpactBranches; s.MoreBranches < 0 {
		s.MoreBranches = 0
	}
	s.Branches = s.Branches[:len(s.Branches)-s.MoreBranches]
	return s
}

// largest returns the groups with changes.
func largest(groups map[string]*GroupImpact) []GroupImpact {
	list := []GroupImpact{}
	for _, group := range groups {
		if group.Changed > 0 {
			list = append(list, *group)
		}
	}
	slices.SortFunc(list, func(a, b GroupImpact) int {
		return cmp.Or(cmp.Compare(b.Changed, a.Changed), cmp.Compare(a.Value, b.Value))
	})
	return list
}

// each calls do with every identity, and with the service that has seen it, empty for all; the attributes are valid
// during the call only. The error is a problem.List with lines.
func (p *Population) each(do func(seenBy string, attributes []string)) error {
	if p.Seen != nil {
		for service, attributes := range p.Seen {
			do(service, attributes)
		}
		return nil
	}
	text, err := Pause(nil).checkText(bytesOf(p.Text))
	if err != nil {
		return err
	}
	r := newCSVReader(text, nil)
	columns := []int{p.Schema.Index(AttributeBranch), p.Schema.Index("teller"), p.Schema.Index(AttributeLegalEntity)}
	given, attributes := make([]string, p.Schema.Len()), make([]string, p.Schema.Len())
	defaults := make([]string, p.Schema.Len())
	for name, value := range p.Defaults {
		if i := p.Schema.Index(name); i >= 0 {
			defaults[i] = value
		}
	}
	var pairs []byte // of one identity; where it has to grow, the pairs before keep the old one alive
	for first := true; ; first = false {
		record, ok := r.read()
		if !ok {
			break
		}
		pairs = pairs[:0]
		if first {
			if named := p.header(record); named != nil {
				columns = named
				continue
			}
		}
		if len(record) > len(columns) {
			r.fault(&problem.Problem{Message: fmt.Sprintf("the line has %d columns", len(record)),
				Remedy: "a line is branch,teller,legalEntity, or what the header line names"})
			continue
		}
		clear(given)
		for i, cell := range record {
			if columns[i] < 0 {
				continue
			}
			if cell = strings.TrimSpace(cell); cell != "" {
				given[columns[i]] = cell
			}
		}
		if fault := p.identity(given, defaults, attributes, &pairs); fault != nil {
			r.fault(fault)
			continue
		}
		do("", attributes)
	}
	return r.faults.err(text)
}

// header returns the attributes that the first line names, nil if it names none.
func (p *Population) header(record []string) []int {
	columns := make([]int, len(record))
	for i, cell := range record {
		columns[i] = slices.IndexFunc(p.Schema.attributes, func(a Attribute) bool {
			return strings.EqualFold(trimValue(cell), a.Name)
		})
		if columns[i] < 0 {
			return nil
		}
	}
	return columns
}

// identity completes what a line gives: an outer value that is missing is that of a pair, or the default; values that
// stand alone become pairs, which are written to the end of pairs.
func (p *Population) identity(given, defaults, attributes []string, pairs *[]byte) *problem.Problem {
	for i, value := range given {
		if within := p.Schema.attributes[i].Within; within != "" {
			outer := p.Schema.index[within]
			if before, _, pair := strings.Cut(value, "/"); pair && given[outer] == "" {
				given[outer] = before
			}
		}
	}
	for i, value := range given {
		a := &p.Schema.attributes[i]
		if value == "" {
			value = defaults[i]
		}
		if value != "" && a.Within != "" && !strings.Contains(value, "/") {
			outer := cmp.Or(given[p.Schema.index[a.Within]], defaults[p.Schema.index[a.Within]])
			if outer == "" {
				return &problem.Problem{Message: fmt.Sprintf("%s %s is unique only within %s, which is missing", a.Name,
					shown(value), a.Within), Remedy: "write the pair, or fill in " + a.Within}
			}
			start := len(*pairs)
			*pairs = append(append(append(*pairs, outer...), '/'), value...)
			value = view((*pairs)[start:])
		}
		if value != "" {
			clean, fault := cleanText(value, MaxValueBytes+1+MaxValueBytes)
			if fault != nil {
				return fault
			}
			value = clean
		}
		attributes[i] = value
	}
	return nil
}
