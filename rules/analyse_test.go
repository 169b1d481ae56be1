package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// together makes the pairs of a random request belong to its legal entity, as those of real requests do.
func together(q *Query, schema *Schema) {
	for i := range q.Attributes {
		within := schema.Attribute(i).Within
		if within == "" || q.Attributes[i] == "" {
			continue
		}
		outer := q.Attributes[schema.Index(within)]
		_, inner, _ := strings.Cut(q.Attributes[i], "/")
		if q.Attributes[i] = outer + "/" + inner; outer == "" {
			q.Attributes[i] = ""
		}
	}
}

func requireSound(t testing.TB, in Inputs, seed uint64, queries int) *Analysis {
	t.Helper()
	g := seeded(seed)
	d := g.wideDocument()
	for i := range d.Services[0].Rules {
		d.Services[0].Rules[i].Then.Version = pick(g, "v1", "v2", "v4")
	}
	set := compiled(t, d, in)
	service := set.Service(0)
	analysis := Analyse(d, in, set)
	never, shadowed := map[string]bool{}, map[string]bool{}
	for _, f := range analysis.Never {
		never[f.Rule] = true
	}
	for _, f := range analysis.Shadowed {
		shadowed[f.Rule] = true
		require.NotEmpty(t, f.By)
	}
	for range queries {
		q := g.wideQuery(in.Schema)
		together(q, in.Schema)
		for i := range service.rules.ordered {
			rule := &service.rules.ordered[i]
			if never[rule.name] && rule.matches(q) {
				t.Fatalf("seed %d: rule %s was said never to match\n%+v\n%s", seed, rule.name, q, d.Print())
			}
		}
		if d := service.Decide(q, Standing{}, nil); shadowed[d.Rule] {
			t.Fatalf("seed %d: rule %s was said to be shadowed\n%+v", seed, d.Rule, q)
		}
	}
	for _, o := range analysis.Overlaps {
		q := &Query{Host: o.Witness.Host, Frontend: o.Witness.Frontend, Method: o.Witness.Method, Path: o.Witness.Path,
			Headers: witnessHeaders(o.Witness.Headers), Attributes: make([]string, in.Schema.Len())}
		require.NoError(t, q.Source.UnmarshalText([]byte(o.Witness.Source)))
		for name, value := range o.Witness.Attributes {
			q.Attributes[in.Schema.Index(name)] = value
		}
		before := append([]string(nil), q.Attributes...)
		together(q, in.Schema)
		require.Equal(t, before, q.Attributes, "a witness is a request that can be made")
		r := &reference{service: d.Services[0], in: in}
		require.Equal(t, o.Before, r.decide(q, Standing{}).rule, "seed %d", seed)
		for _, rule := range d.Services[0].Rules {
			if rule.Name == o.Rule {
				require.True(t, r.holds(rule.When, q), "seed %d, rule %s", seed, rule.Name)
			}
		}
	}
	return analysis
}

// TestAnalysisIsSound holds every finding to random requests, and every witness to the reference.
func TestAnalysisIsSound(t *testing.T) {
	t.Parallel()
	in := wideInputs(t)
	documents := manyTimes(t, 8)
	var never, shadowed, overlaps, not int
	for seed := range documents {
		a := requireSound(t, in, uint64(seed), 100)
		never, shadowed, overlaps = never+len(a.Never), shadowed+len(a.Shadowed), overlaps+len(a.Overlaps)
		not += len(a.NotAnalysed)
	}
	require.Positive(t, never)
	require.Positive(t, shadowed)
	require.Positive(t, overlaps)
	t.Logf("%d documents: %d rules never match, %d are shadowed, %d overlaps with witnesses, %d not analysed",
		documents, never, shadowed, overlaps, not)
}

func FuzzAnalysis(f *testing.F) {
	in := wideInputs(f)
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { requireSound(t, in, seed, 50) })
}

func TestAnalysis(t *testing.T) {
	t.Parallel()
	is := func(attribute, value string) Condition { return Condition{Attribute: attribute, Is: &value} }
	to := func(name string, priority int, version string, when ...Condition) Rule {
		rule := Rule{Name: name, Priority: priority, Then: Outcome{Version: version}}
		if when != nil {
			rule.When = &Condition{All: when}
		}
		return rule
	}
	d := counter(
		to("pilot", 90, "v2", Condition{Attribute: "branch", Under: ptr("9001/3200")}),
		to("one-branch", 80, "v4", is("branch", "9001/3201")),
		to("two-entities", 70, "v1", Condition{Attribute: "branch", In: []string{"9001/3201", "9002/3200"}}),
		to("other-entity", 60, "v2", is("legalEntity", "9002"), Condition{Attribute: "branch", Under: ptr("9001/3000")}),
		to("atm", 50, "v4", is("channel", "ATM")),
		to("odd", 40, "v1", Condition{Attribute: "teller", Matches: ptr("9001/[0-9]+7")}),
		to("closed", 30, "v2", is("branch", "9001/3999")),
		to("all-of-9001", 20, "v1", is("legalEntity", "9001")),
		to("half", 10, "v2", Condition{Bucket: &Bucket{By: []string{"teller"}, Below: 5000, Salt: "s"}}),
	)
	in := testInputs(t)
	a := Analyse(d, in, compiled(t, d, in))
	const no, by = "no request can meet its conditions together", "rule pilot comes before it and takes every request that it could"
	require.Equal(t, []Finding{{Service: "counter", Rule: "other-entity", Why: no}}, a.Never)
	require.Equal(t, []Finding{{Service: "counter", Rule: "one-branch", By: []string{"pilot"}, Why: by}}, a.Shadowed)
	require.Equal(t, []Finding{
		{Service: "counter", Rule: "odd", Why: "it holds the regular expression 9001/[0-9]+7"}}, a.NotAnalysed)
	require.Equal(t, []Finding{
		{Service: "counter", Rule: "closed", Why: "the organisation does not have branch 9001/3999"}}, a.UnknownBranches)
	require.Empty(t, a.Unmentioned)
	require.Equal(t, Overlap{Service: "counter", Before: "pilot", Rule: "two-entities", Witness: Witness{
		Attributes: map[string]string{"legalEntity": "9001", "branch": "9001/3201"}, Method: "GET", Path: "/",
		Source: "192.0.2.1"}}, a.Overlaps[0])
	var pairs []string
	for _, o := range a.Overlaps {
		pairs = append(pairs, o.Before+" over "+o.Rule)
	}
	require.Equal(t, []string{"pilot over two-entities", "pilot over atm", "two-entities over atm"}, pairs[:3])
	require.Contains(t, pairs, "closed over all-of-9001")
	require.Contains(t, pairs, "all-of-9001 over half")
}

// TestAnalysisTellsWhatItGaveUpOn has pairs of which nothing is known, each of whose rules by itself is well known.
func TestAnalysisTellsWhatItGaveUpOn(t *testing.T) {
	t.Parallel()
	drawn := func(salt string) Condition {
		return Condition{Bucket: &Bucket{By: []string{"teller"}, Below: 20, Salt: salt}}
	}
	to := func(name string, priority int, version string, when Condition) Rule {
		return Rule{Name: name, Priority: priority, Then: Outcome{Version: version}, When: &when}
	}
	in := testInputs(t)
	d := counter(
		to("no-channel", 90, "v2", Condition{Attribute: "channel", Present: ptr(false)}),
		to("branch", 80, "v1", Condition{Attribute: "branch", Is: ptr("9001/3201")}),
		to("teller", 70, "v4", Condition{Attribute: "teller", Is: ptr("9001/0001")}),
	)
	a := Analyse(d, in, compiled(t, d, in))
	require.Len(t, a.Overlaps, 2, "no-channel over both")
	require.True(t, a.OverlapsAtLeast)
	require.Equal(t, []Finding{{Service: "counter", Why: "the rules of 1 pair both meet a request that a rule before them decides; " +
		"whether one of them decides another such request was not searched"}}, a.NotAnalysed)

	d = counter(to("some", 90, "v2", drawn("s")), to("others", 80, "v4", drawn("t")))
	a = Analyse(d, in, compiled(t, d, in))
	require.Empty(t, a.Overlaps)
	require.True(t, a.OverlapsAtLeast)
	require.Equal(t, []Finding{{Service: "counter", Rule: "others",
		Why: "together with rule some, which comes before it: nobody was found in its bucket"}}, a.NotAnalysed)

	// 48 rules draw so few people that hardly ever an example of two of them is found.
	var many []Rule
	for i := range 48 {
		rule := to(fmt.Sprintf("draw-%d", i), 100-i, "", Condition{Bucket: &Bucket{By: []string{"teller"}, Below: 8, Salt: fmt.Sprintf("salt-%d", i)}})
		rule.Then = Outcome{Split: []Share{{Version: "v1", Weight: 9_900 - i}, {Version: "v2", Weight: 100 + i}},
			By: []string{"teller"}, Salt: "s"}
		many = append(many, rule)
	}
	d = counter(many...)
	a = Analyse(d, in, compiled(t, d, in))
	named, more := 0, 0
	for _, f := range a.NotAnalysed {
		switch {
		case f.Rule != "":
			named++
			require.Contains(t, f.Why, "together with rule draw-")
		case strings.HasPrefix(f.Why, "of "):
			_, err := fmt.Sscanf(f.Why, "of %d more pairs of rules it is not known whether a request meets both", &more)
			require.NoError(t, err, f.Why)
		}
	}
	require.Equal(t, maxFindings, named)
	require.Greater(t, more, 48*47/2-maxFindings-20, "each pair beyond is counted")
	require.LessOrEqual(t, len(a.Overlaps)+named+more, 48*47/2)
	require.True(t, a.OverlapsAtLeast)

	d = counter(to("a", 90, "v2", Condition{Attribute: "branch", Is: ptr("9001/3201")}),
		to("b", 80, "v4", Condition{Attribute: "branch", Is: ptr("9001/3200")}))
	a = Analyse(d, in, compiled(t, d, in))
	require.False(t, a.OverlapsAtLeast, "all was searched")
	require.Empty(t, a.NotAnalysed)

	under, prefix := Condition{Attribute: "branch", Under: ptr("9001/3200")}, Condition{Attribute: "teller", Prefix: ptr("9001/1")}
	both := func(x, y Condition) Condition { return Condition{All: []Condition{x, y}} }
	d = counter(to("a", 90, "v2", both(under, prefix)),
		to("b", 80, "v4", both(under, Condition{Attribute: "teller", Prefix: ptr("9001/2")})),
		to("c", 70, "v1", both(Condition{Attribute: "branch", Under: ptr("9002/3200")}, prefix)),
		to("d", 60, "v4", both(prefix, Condition{Attribute: "teller", Prefix: ptr("9001/12")})))
	a = Analyse(d, in, compiled(t, d, in))
	require.Empty(t, a.NotAnalysed, "other prefixes and other sub-trees are other people")
	require.Len(t, a.Overlaps, 1)
	require.Equal(t, [2]string{"a", "d"}, [2]string{a.Overlaps[0].Before, a.Overlaps[0].Rule})
}

// TestAnalysisSaysWhereItStopped: shadows are not searched without end, and that is said.
func TestAnalysisSaysWhereItStopped(t *testing.T) {
	t.Parallel()
	in := testInputs(t)
	branch := &Condition{Attribute: "branch", Is: ptr("9001/3201")}
	d := counter(Rule{Name: "a", Priority: 2, Then: Outcome{Version: "v2"}, When: branch},
		Rule{Name: "b", Priority: 1, Then: Outcome{Version: "v2"}, When: branch})
	set := compiled(t, d, in)
	for met, want := range map[int]Analysis{
		0: {Shadowed: []Finding{{Service: "counter", Rule: "b", By: []string{"a"},
			Why: "rule a comes before it and takes every request that it could"}}},
		maxMet + 1: {OverlapsAtLeast: true, NotAnalysed: []Finding{{Service: "counter",
			Why: "of 2 rules it was not searched whether rules before them take their every request: too many lead to one request"}}},
	} {
		var got Analysis
		analyst := newAnalyst(&got, set, set.Service(0), &d.Services[0].Match)
		analyst.met = met
		analyst.service()
		require.Equal(t, want, got)
	}
}

// BenchmarkAnalyse analyses many rules, as a call of the API does.
func BenchmarkAnalyse(b *testing.B) {
	in := bankInputs(b, 100_000)
	for _, n := range []int{1_000, 10_000, 100_000} {
		rules := bankRules(n)
		for i := range rules {
			rules[i].Then.Version = []string{"v1", "v2"}[i%2]
		}
		d := counter(rules...)
		set := compiled(b, d, in)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			for b.Loop() {
				require.NotEmpty(b, Analyse(d, in, set).Overlaps)
			}
		})
	}
}

// BenchmarkAnalyseLargeList analyses 10,000 rules about people of a million-value list whom it does not begin with.
func BenchmarkAnalyseLargeList(b *testing.B) {
	in := bankInputs(b, 1_000_000)
	rules := make([]Rule, 10_000)
	for i := range rules {
		rules[i] = Rule{Name: fmt.Sprintf("rule-%d", i), Priority: i, Then: Outcome{Version: []string{"v1", "v2"}[i%2]},
			When: &Condition{All: []Condition{
				{Attribute: "legalEntity", Is: ptr("9002")}, {Attribute: "teller", InList: ptr("everybody")},
				{Path: &PathTest{Prefix: ptr(fmt.Sprintf("/teller/%d", i))}},
			}}}
	}
	d := counter(rules...)
	set := compiled(b, d, in)
	for b.Loop() {
		require.Len(b, Analyse(d, in, set).NotAnalysed, len(rules))
	}
}
