package rules

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// reference decides by reading the document itself, slowly and in the words of the contract. It shares no code with
// what it is held against.
type reference struct {
	service Service
	in      Inputs
	up      down
}

func (r *reference) index(version string) int {
	return slices.IndexFunc(r.service.Versions, func(v Version) bool { return v.Name == version })
}

func (r *reference) usable(version string) bool { return !r.up[r.index(version)] }

func (r *reference) state(version string) string {
	return cmp.Or(r.service.Versions[r.index(version)].State, "active")
}

type verdict struct {
	version, wanted, reason, rule, refusal string
	bucket                                 int
	pin                                    bool
}

func (r *reference) decide(q *Query, st Standing) verdict {
	if st.Forced != "" {
		v := verdict{version: st.Forced, wanted: st.Forced, reason: "tester", bucket: -1}
		if r.index(st.Forced) < 0 {
			v.refusal = "tester-unknown"
		} else if r.state(st.Forced) == "disabled" {
			v.refusal = "tester-disabled"
		} else if !r.usable(st.Forced) {
			v.refusal = "nothing-usable"
		}
		return v
	}
	pins := r.service.Sessions != nil
	override, overridden := r.in.Overrides[r.service.Name]
	wanted, bucket, reason, rule := r.service.Default, -1, "default", ""
	switch {
	case overridden && override.Pinned == "move":
		wanted, reason = override.Version, "override"
	case pins && st.Pinned != "" && r.index(st.Pinned) >= 0 && r.state(st.Pinned) != "disabled":
		if !r.usable(st.Pinned) && !r.service.Sessions.FallbackPinned {
			return verdict{version: st.Pinned, wanted: st.Pinned, reason: "pin", refusal: "pinned-unusable", bucket: -1}
		}
		wanted, reason = st.Pinned, "pin"
	case overridden:
		wanted, reason = override.Version, "override"
	default:
		ordered := slices.Clone(r.service.Rules)
		slices.SortFunc(ordered, func(a, b Rule) int { return b.Priority - a.Priority })
		for _, candidate := range ordered {
			if candidate.When == nil || r.holds(candidate.When, q) {
				wanted, bucket = r.choose(candidate.Then, q)
				reason, rule = "rule", candidate.Name
				break
			}
		}
	}
	v := verdict{wanted: wanted, reason: reason, rule: rule, bucket: bucket}
	candidates := []string{wanted}
	for {
		next := r.service.Versions[r.index(candidates[len(candidates)-1])].Fallback
		if next == "" {
			break
		}
		candidates = append(candidates, next)
	}
	for _, candidate := range append(candidates, r.service.Default) {
		state := r.state(candidate)
		if state == "disabled" || !r.usable(candidate) || state == "draining" && !(pins && st.Pinned == candidate) {
			continue
		}
		v.version = candidate
		v.pin = pins && st.Keyed && st.Pinned != candidate
		return v
	}
	v.version, v.refusal = wanted, "nothing-usable"
	return v
}

func (r *reference) choose(then Outcome, q *Query) (version string, bucket int) {
	if then.Version != "" {
		return then.Version, -1
	}
	bucket = r.bucket(then.By, then.Salt, q)
	switch {
	case bucket < 0:
		return then.Split[0].Version, -1
	case bucket < then.Split[1].Weight:
		return then.Split[1].Version, bucket
	case len(then.Split) == 3 && bucket >= 10000-then.Split[2].Weight:
		return then.Split[2].Version, bucket
	}
	return then.Split[0].Version, bucket
}

func (r *reference) value(attribute string, q *Query) string {
	return q.Attributes[r.in.Schema.Index(attribute)]
}

func (r *reference) bucket(by []string, salt string, q *Query) int {
	for _, attribute := range by {
		value := r.value(attribute, q)
		if value == "" {
			continue
		}
		outer := ""
		if r.in.Schema.Attribute(r.in.Schema.Index(attribute)).Within != "" {
			outer, value, _ = strings.Cut(value, "/")
		}
		_, bucket := plainBucket(salt, attribute, outer, value)
		return bucket
	}
	return -1
}

func (r *reference) holds(c *Condition, q *Query) bool {
	holds := func(part Condition) bool { return r.holds(&part, q) }
	fails := func(part Condition) bool { return !r.holds(&part, q) }
	switch {
	case c.All != nil:
		return !slices.ContainsFunc(c.All, fails)
	case c.Any != nil:
		return slices.ContainsFunc(c.Any, holds)
	case c.Not != nil:
		return !r.holds(c.Not, q)
	case c.Bucket != nil:
		bucket := r.bucket(c.Bucket.By, c.Bucket.Salt, q)
		return bucket >= 0 && bucket < c.Bucket.Below
	case c.Method != nil:
		return slices.Contains(c.Method, q.Method)
	case c.Path != nil:
		switch {
		case c.Path.Is != nil:
			return q.Path == *c.Path.Is
		case c.Path.Prefix != nil:
			prefix := strings.Split(strings.Trim(*c.Path.Prefix, "/"), "/")
			path := strings.Split(strings.Trim(q.Path, "/"), "/")
			return *c.Path.Prefix == "/" || len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
		}
		return wholly(*c.Path.Matches, q.Path)
	case c.Header != nil:
		value, found := q.Headers.Get(c.Header.Name)
		switch {
		case c.Header.Is != nil:
			return found && value == *c.Header.Is
		case c.Header.In != nil:
			return found && slices.Contains(c.Header.In, value)
		case c.Header.Matches != nil:
			return found && wholly(*c.Header.Matches, value)
		}
		return found == *c.Header.Present
	case c.Source != nil:
		return slices.ContainsFunc(c.Source, func(s string) bool {
			if !strings.Contains(s, "/") {
				return q.Source.IsValid() && s == q.Source.String()
			}
			return netip.MustParsePrefix(s).Contains(q.Source)
		})
	}
	return r.attributeHolds(c, r.value(c.Attribute, q))
}

func (r *reference) attributeHolds(c *Condition, value string) bool {
	if c.Present != nil {
		return *c.Present == (value != "")
	}
	if value == "" {
		return false
	}
	switch {
	case c.Is != nil:
		return value == *c.Is
	case c.In != nil:
		return slices.Contains(c.In, value)
	case c.InList != nil:
		return slices.Contains(r.in.Lists[*c.InList].Values(), value)
	case c.Prefix != nil:
		return strings.HasPrefix(value, *c.Prefix)
	case c.Matches != nil:
		return wholly(*c.Matches, value)
	}
	entity, code, _ := strings.Cut(value, "/")
	wantEntity, ancestor, _ := strings.Cut(*c.Under, "/")
	if entity != wantEntity {
		return false
	}
	parents := map[string]string{}
	for _, b := range r.in.Organisations[entity].Branches() {
		parents[b.Code] = b.Parent
	}
	for {
		parent, known := parents[code]
		if !known || code == ancestor {
			return known
		}
		code = parent
	}
}

// wholly reports whether one leftmost-longest match covers the whole value.
func wholly(pattern, value string) bool {
	re := regexp.MustCompile(pattern)
	re.Longest()
	at := re.FindStringIndex(value)
	return at != nil && at[0] == 0 && at[1] == len(value)
}

// A generator makes random documents, standings and queries from a few values, so that conditions hold now and then.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// subset returns at least one of the values, in their order.
func subset[T any](g generator, from ...T) []T {
	var some []T
	for _, v := range from {
		if g.IntN(2) == 0 {
			some = append(some, v)
		}
	}
	if some == nil {
		some = []T{pick(g, from...)}
	}
	return some
}

func (g generator) value(attribute string) string {
	switch attribute {
	case "legalEntity":
		return pick(g, "9001", "9002")
	case "branch":
		return pick(g, "9001/3000", "9001/3200", "9001/3201", "9001/3202", "9001/3300", "9002/3200", "9001/4000")
	case "teller":
		return pick(g, "9001/0001", "9001/0002", "9001/0003", "9002/0001", "9002/1")
	case "session":
		return pick(g, "a", "b", "5F3A9C", "会话")
	}
	return pick(g, "ATM", "STM", "手机银行")
}

func (g generator) attributeName() string {
	return pick(g, "legalEntity", "branch", "teller", "session", "channel")
}

func (g generator) condition(depth int) Condition {
	kinds := 6
	if depth > 0 {
		kinds = 9
	}
	switch g.IntN(kinds) {
	case 0:
		return Condition{Bucket: &Bucket{By: subset(g, "teller", "session", "branch"), Below: pick(g, 0, 3000, 10000),
			Salt: pick(g, "s", "t")}}
	case 1:
		return pick(g, Condition{Method: subset(g, "GET", "POST")},
			Condition{Source: subset(g, "10.1.2.3", "10.20.0.0/14", "fd00::/8")})
	case 2:
		return Condition{Path: pick(g, &PathTest{Is: ptr("/teller")}, &PathTest{Prefix: ptr("/teller")},
			&PathTest{Prefix: ptr("/")}, &PathTest{Matches: ptr("/[a-z]+|/teller/eod")})}
	case 3:
		return Condition{Header: pick(g, &HeaderTest{Name: "X-A", Is: ptr("1")},
			&HeaderTest{Name: "X-A", In: []string{"2", "1"}}, &HeaderTest{Name: "X-B", Matches: ptr("x*")},
			&HeaderTest{Name: "X-B", Present: ptr(g.IntN(2) == 0)})}
	case 6:
		return Condition{All: g.conditions(depth - 1)}
	case 7:
		return Condition{Any: g.conditions(depth - 1)}
	case 8:
		return Condition{Not: ptr(g.condition(depth - 1))}
	}
	return g.attributeCondition()
}

func (g generator) conditions(depth int) []Condition {
	conditions := make([]Condition, 1+g.IntN(3))
	for i := range conditions {
		conditions[i] = g.condition(depth)
	}
	return conditions
}

func (g generator) attributeCondition() Condition {
	name := g.attributeName()
	switch g.IntN(7) {
	case 0:
		return Condition{Attribute: name, Is: ptr(g.value(name))}
	case 1:
		values := []string{g.value(name), g.value(name), g.value(name)}
		slices.Sort(values)
		return Condition{Attribute: name, In: slices.Compact(values)}
	case 2:
		return pick(g, Condition{Attribute: "teller", InList: ptr("pilot-tellers")},
			Condition{Attribute: "branch", InList: ptr("pilot-branches")}, Condition{Attribute: "teller", InList: ptr("nobody")})
	case 3:
		return Condition{Attribute: "branch", Under: ptr(pick(g, "9001/3000", "9001/3200", "9001/3201", "9002/3200"))}
	case 4:
		return Condition{Attribute: "teller", Prefix: ptr(pick(g, "9001/", "9001/000", "9002/1"))}
	case 5:
		return Condition{Attribute: name, Matches: ptr(pick(g, ".*", "900[12]/.*1", "a|b", "[A-Z]+", "手机.."))}
	}
	return Condition{Attribute: name, Present: ptr(g.IntN(2) == 0)}
}

func (g generator) document() (*Document, map[string]Override) {
	s := Service{Name: "counter", Default: "v1"}
	n := 2 + g.IntN(4)
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("v%d", i+1)
	}
	for i, name := range names {
		v := Version{Name: name, Pods: pods()}
		if i > 0 {
			v.State = pick(g, "", StateActive, StateDraining, StateDisabled)
		}
		if i+1 < n && g.IntN(2) == 0 {
			v.Fallback = pick(g, names[i+1:]...)
		}
		s.Versions = append(s.Versions, v)
	}
	if g.IntN(4) > 0 {
		s.Sessions = &Sessions{Key: []string{"session"}, FallbackPinned: g.IntN(2) == 0,
			Idle: pick(g, 0, Duration(DefaultIdle), Duration(DefaultIdle/7))}
	}
	for i := range g.IntN(6) {
		rule := Rule{Name: fmt.Sprintf("rule-%d", i), Priority: 10*g.IntN(5) + i}
		if g.IntN(8) > 0 {
			rule.When = ptr(g.condition(3))
		}
		rule.Then = g.outcome(names)
		if !slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.Priority == rule.Priority }) {
			s.Rules = append(s.Rules, rule)
		}
	}
	var overrides map[string]Override
	if g.IntN(3) == 0 {
		overrides = map[string]Override{"counter": {Version: "v1", Pinned: pick(g, PinnedMove, PinnedKeep)}}
	}
	return &Document{Services: []Service{s}}, overrides
}

func (g generator) outcome(names []string) Outcome {
	if g.IntN(2) == 0 {
		return Outcome{Version: pick(g, names...)}
	}
	second := g.IntN(Buckets + 1)
	third := g.IntN(Buckets - second + 1)
	order := g.Perm(len(names))
	o := Outcome{By: subset(g, "teller", "session"), Salt: pick(g, "s", "2026", "盐")}
	if len(names) == 2 || g.IntN(2) == 0 {
		o.Split = []Share{{names[order[0]], Buckets - second}, {names[order[1]], second}}
	} else {
		o.Split = []Share{{names[order[0]], Buckets - second - third}, {names[order[1]], second}, {names[order[2]], third}}
	}
	return o
}

func (g generator) query(schema *Schema) *Query {
	q := &Query{
		Frontend: "counter", Host: "counter.bank.example", Method: pick(g, "GET", "POST", "PUT"),
		Path: pick(g, "/", "/teller", "/teller/eod", "/tellers"),
		Source: pick(g, netip.Addr{}, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.21.0.1"),
			netip.MustParseAddr("fd00::1")),
		Attributes: make([]string, schema.Len()),
		Headers:    headers{},
	}
	for i := range q.Attributes {
		if g.IntN(3) > 0 {
			q.Attributes[i] = g.value(schema.Attribute(i).Name)
		}
	}
	for _, name := range []string{"X-A", "X-B"} {
		if g.IntN(2) == 0 {
			q.Headers.(headers)[name] = pick(g, "1", "2", "xx")
		}
	}
	return q
}

func (g generator) standing() Standing {
	st := Standing{Keyed: g.IntN(3) > 0}
	if st.Keyed {
		st.Pinned = pick(g, "", "v1", "v2", "v3", "v4", "gone")
	}
	if g.IntN(6) == 0 {
		st.Forced = pick(g, "v1", "v2", "v3", "gone")
	}
	return st
}

// TestAgainstReference compares the decision, its explanation and the warnings with the reference on random documents.
func TestAgainstReference(t *testing.T) {
	t.Parallel()
	documents := manyTimes(t, 400)
	if testing.Short() {
		documents = 50
	}
	in := testInputs(t)
	for seed := range documents {
		g := generator{rand.New(rand.NewPCG(uint64(seed), 2))}
		d, overrides := g.document()
		in.Overrides = overrides
		set, err := Compile(d, in)
		require.NoError(t, err, "seed %d", seed)
		requirePrints(t, d)
		again, err := Parse(d.Print())
		require.NoError(t, err)
		printed := compiled(t, again, in)
		for range 20 {
			q, st := g.query(in.Schema), g.standing()
			up := down{g.IntN(5): true, g.IntN(10): true}
			r := &reference{service: d.Services[0], in: in, up: up}
			service := set.Match(q)
			want, got := r.decide(q, st), service.Decide(q, st, up)
			if got.Refusal == TesterUnknown {
				require.Nil(t, got.Version)
				want.version, want.wanted = "", ""
			}
			require.Equal(t, want, verdict{versionName(got.Version), versionName(got.Wanted), got.Reason.String(), got.Rule,
				got.Refusal.String(), got.Bucket, got.WritePin}, "seed %d, %+v, %+v\n%s", seed, q, st, d.Print())
			other := printed.Match(q).Decide(q, st, up)
			require.Equal(t, versionName(got.Version), versionName(other.Version), "seed %d, printed", seed)
			requireExplains(t, r, service, q, st, got)
		}
	}
}

func requireExplains(t *testing.T, r *reference, service *CompiledService, q *Query, st Standing, d Decision) {
	t.Helper()
	e := service.Explain(q, st, r.up)
	require.Equal(t, d.Reason.String(), e.Reason)
	require.Equal(t, d.Rule, e.Rule)
	require.Equal(t, d.Refusal.String(), e.Refusal)
	if d.Refusal == NotRefused {
		require.Equal(t, d.Version.Name(), e.Version)
	} else {
		require.Empty(t, e.Version)
	}
	if d.Wanted != nil {
		require.Equal(t, d.Wanted.Name(), e.Wanted)
	}
	require.Equal(t, d.Bucket >= 0, e.Bucket != nil)
	require.NotEmpty(t, e.Steps)
	require.Len(t, e.Rules, len(r.service.Rules))
	for i, rule := range e.Rules {
		at := slices.IndexFunc(r.service.Rules, func(written Rule) bool { return written.Name == rule.Name })
		written := r.service.Rules[at]
		require.Equal(t, d.Rule == rule.Name, rule.Decided)
		if written.When == nil {
			require.True(t, rule.Matched)
			continue
		}
		require.Equal(t, rule.Matched, rule.Conditions.Holds)
		requireParts(t, r, q, written.When, rule.Conditions)
		if contradiction(service.rules.ordered[i].when) != "" {
			require.False(t, rule.Matched, "a rule that was said never to match did")
		}
	}
}

func requireParts(t *testing.T, r *reference, q *Query, c *Condition, e ConditionExplanation) {
	t.Helper()
	require.Equal(t, r.holds(c, q), e.Holds, e.Text)
	require.NotEmpty(t, e.Text)
	parts := append(slices.Clone(c.All), c.Any...)
	if c.Not != nil {
		parts = append(parts, *c.Not)
	}
	require.Len(t, e.Parts, len(parts))
	for i := range parts {
		requireParts(t, r, q, &parts[i], e.Parts[i])
	}
}
