package rules

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImpact(t *testing.T) {
	t.Parallel()
	in := testInputs(t)
	pilot := func(under string, version string) Rule {
		return Rule{Name: "pilot", Priority: 2, When: &Condition{Attribute: "branch", Under: &under},
			Then: Outcome{Version: version}}
	}
	tellers := Rule{Name: "tellers", Priority: 1, When: &Condition{Attribute: "teller", InList: ptr("pilot-tellers")},
		Then: Outcome{Version: "v4"}}
	before, after := counter(pilot("9001/3201", "v2")), counter(pilot("9001/3200", "v2"), tellers)
	before.Services = append(before.Services, Service{Name: "old", Default: "v1", Versions: before.Services[0].Versions,
		Match: Match{Hosts: []string{"old.bank.example"}}})
	population := "branch,teller,legalEntity\n" +
		"3201,0001,9001\n" + // v2 before and after
		"3202,0001,9001\n" + // default to pilot
		"3202,0009,\n" + // the same, by the default
		"9001/3300,9001/0002,\n" + // default to tellers
		"9002/3200,1,\n" + // nothing
		",,9002\n"
	impact, err := ImpactOf(compiled(t, before, in), compiled(t, after, in), Population{Text: population,
		Schema: in.Schema, Defaults: map[string]string{"legalEntity": "9001"}}, Query{Method: "GET"}, "")
	require.NoError(t, err)
	require.Equal(t, 6, impact.Identities)
	require.Equal(t, []string{"old"}, impact.OnlyBefore)
	s := impact.Services[0]
	require.Equal(t, 3, s.Changed)
	require.Equal(t, []Move{{From: "v1", To: "v2", RuleAfter: "pilot", Identities: 2},
		{From: "v1", To: "v4", RuleAfter: "tellers", Identities: 1}}, s.Moves)
	require.Equal(t, []GroupImpact{{Value: "9001", Identities: 4, Changed: 3}}, s.LegalEntities)
	require.Equal(t, []GroupImpact{{Value: "9001/3202", Identities: 2, Changed: 2},
		{Value: "9001/3300", Identities: 1, Changed: 1}}, s.Branches)
	require.Equal(t, ImpactCase{Attributes: map[string]string{"legalEntity": "9001", "branch": "9001/3202",
		"teller": "9001/0001"}, From: "v1", To: "v2"}, s.Examples[0])

	for text, want := range map[string]string{
		"3201,0001\n": "1:1: branch 3201 is unique only within legalEntity, which is missing; write the pair, or fill in " +
			"legalEntity",
		"a,b,c,d\n":        "1:1: the line has 4 columns; a line is branch,teller,legalEntity, or what the header line names",
		"1,1,9001\n\"a\"b": "2:1: a quotation mark is not closed, or something follows the closing one; put the whole value in quotation marks and double those inside it",
	} {
		_, err := ImpactOf(compiled(t, before, in), compiled(t, after, in), Population{Text: text,
			Schema: in.Schema}, Query{}, "")
		require.EqualError(t, err, want)
	}
	_, err = ImpactOf(compiled(t, before, in), compiled(t, after, in), Population{Schema: in.Schema}, Query{}, "none")
	require.EqualError(t, err, `service: there is no service "none"; correct the name, or leave it out`)
}

// TestImpactAgainstReference counts the changes of random documents with the reference.
func TestImpactAgainstReference(t *testing.T) {
	t.Parallel()
	in := testInputs(t)
	for seed := range 40 {
		g := seeded(uint64(seed))
		before, _ := g.document()
		after, _ := g.document()
		var text strings.Builder
		text.WriteString("legalEntity,branch,teller,session,channel\n")
		q := &Query{Method: "POST", Path: "/teller", Headers: headers{}}
		want := 0
		for range 200 {
			q.Attributes = g.query(in.Schema).Attributes
			if q.Attributes[0] == "" {
				q.Attributes[0] = "9002"
			}
			fmt.Fprintln(&text, strings.Join(q.Attributes, ","))
			was := (&reference{service: before.Services[0], in: in}).decide(q, Standing{})
			is := (&reference{service: after.Services[0], in: in}).decide(q, Standing{})
			if was.version != is.version || was.refusal != is.refusal {
				want++
			}
		}
		impact, err := ImpactOf(compiled(t, before, in), compiled(t, after, in), Population{Text: text.String(),
			Schema: in.Schema}, *q, "counter")
		require.NoError(t, err)
		require.Equal(t, want, impact.Services[0].Changed, "seed %d", seed)
		moved := 0
		for _, move := range impact.Services[0].Moves {
			moved += move.Identities
		}
		require.Equal(t, want, moved)
	}
}

func BenchmarkImpactMillion(b *testing.B) {
	in := bankInputs(b, 1_000_000)
	before, after := bankRules(1000), bankRules(1000)
	for i := range after {
		if i%2 == 0 {
			after[i].Then.Version = "v4"
		}
	}
	after = append(after, Rule{Name: "odd", Priority: 5000, When: &Condition{Attribute: "teller", InList: ptr("everybody")},
		Then: Outcome{Version: "v4"}})
	x, y := compiled(b, counter(before...), in), compiled(b, counter(after...), in)
	var text bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "%06d,%08d,9001\n", i%100_000, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		impact, err := ImpactOf(x, y, Population{Text: text.String(), Schema: in.Schema}, Query{Method: "POST",
			Path: "/teller/loan"}, "")
		require.NoError(b, err)
		require.Equal(b, 1_000_000, impact.Identities)
	}
}
