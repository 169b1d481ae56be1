package rules

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// everyCondition is a rule with a condition of every kind that holds for fullQuery; it cannot stop early.
func everyCondition() Rule {
	return Rule{Name: "everything", Priority: 1, Then: shares("", "loan", 5000, 5000).Then, When: &Condition{All: []Condition{
		{Attribute: "teller", Is: ptr("9001/0001")},
		{Attribute: "teller", In: []string{"9001/0002", "9001/0001"}},
		{Attribute: "teller", InList: ptr("pilot-tellers")},
		{Attribute: "branch", Under: ptr("9001/3200")},
		{Attribute: "teller", Prefix: ptr("9001/00")},
		{Attribute: "teller", Matches: ptr("9001/[0-9]+")},
		{Attribute: "channel", Present: ptr(false)},
		{Bucket: &Bucket{By: []string{"channel", "teller"}, Below: 10000, Salt: "s"}},
		{Method: []string{"GET", "POST"}},
		{Path: &PathTest{Prefix: ptr("/teller")}},
		{Not: &Condition{Path: &PathTest{Is: ptr("/teller")}}},
		{Path: &PathTest{Matches: ptr("/[a-z/]+")}},
		{Header: &HeaderTest{Name: "X-Channel", Is: ptr("ATM")}},
		{Header: &HeaderTest{Name: "X-Channel", In: []string{"STM", "ATM"}}},
		{Header: &HeaderTest{Name: "X-Channel", Matches: ptr("A.*")}},
		{Header: &HeaderTest{Name: "X-Other", Present: ptr(false)}},
		{Any: []Condition{{Source: []string{"10.1.2.3"}}, {Source: []string{"10.20.0.0/14", "fd00::/8"}}}},
	}}}
}

func fullQuery() *Query {
	return &Query{Frontend: "counter", Host: "a.branch.bank.example", Method: "POST", Path: "/teller/loan",
		Source:     netip.MustParseAddr("10.20.3.4"),
		Attributes: []string{"9001", "9001/3201", "9001/0001", "5F3A9C", ""},
		Headers:    headers{"X-Channel": "ATM"}}
}

func TestDecideAllocatesNothing(t *testing.T) {
	d := counter(everyCondition())
	d.Services[0].Match = Match{Hosts: []string{"*.bank.example"}, PathPrefix: "/teller"}
	set, q := compiled(t, d, testInputs(t)), fullQuery()
	var up Availability = down{0: true, 1: true, 3: false}
	decision := set.Match(q).Decide(q, Standing{Keyed: true}, up)
	require.Equal(t, "everything", decision.Rule)
	require.GreaterOrEqual(t, decision.Bucket, 0)
	for _, standing := range []Standing{
		{}, {Keyed: true}, {Keyed: true, Pinned: "v4"}, {Keyed: true, Pinned: "v5"}, {Forced: "v4"}, {Forced: "v9"},
	} {
		allocations := testing.AllocsPerRun(100, func() { decision = set.Match(q).Decide(q, standing, up) })
		require.Zero(t, allocations, "%+v", standing)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			rules := []Rule{everyCondition()}
			for i := range n - 1 {
				rules = append(rules, Rule{
					Name: fmt.Sprintf("branch-%d", i), Priority: 2 + i, Then: Outcome{Version: "v2"},
					When: &Condition{All: []Condition{
						{Attribute: "branch", Is: ptr(fmt.Sprintf("9001/%d", 90000+i))},
						{Attribute: "teller", InList: ptr("pilot-tellers")},
					}},
				})
			}
			set, q := compiled(b, counter(rules...), testInputs(b)), fullQuery()
			var up Availability = down{}
			b.ReportAllocs()
			for b.Loop() {
				if set.Match(q).Decide(q, Standing{Keyed: true}, up).Rule != "everything" {
					b.Fatal("another rule decided")
				}
			}
		})
	}
}

func BenchmarkDecidePinned(b *testing.B) {
	set, q := compiled(b, counter(everyCondition()), testInputs(b)), fullQuery()
	var up Availability = down{}
	b.ReportAllocs()
	for b.Loop() {
		if set.Match(q).Decide(q, Standing{Keyed: true, Pinned: "v2"}, up).Reason != ByPin {
			b.Fatal("the pin did not decide")
		}
	}
}
