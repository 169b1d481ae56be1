package rules

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bankRules returns n rules. The first ten are about everybody: they can match any request of bankQueries. Of the others,
// which are about one branch or one teller each, up to six more can. The last of the ten decides.
func bankRules(n int) []Rule {
	rules := make([]Rule, 0, n)
	add := func(when ...Condition) {
		i := len(rules)
		rules = append(rules, Rule{Name: fmt.Sprintf("rule-%d", i), Priority: n - i, Then: Outcome{Version: "v2"},
			When: &Condition{All: when}})
	}
	eod, loan := Condition{Path: &PathTest{Prefix: ptr("/teller/eod")}}, Condition{Path: &PathTest{Prefix: ptr("/teller/loan")}}
	put, atm := Condition{Method: []string{"PUT"}}, Condition{Header: &HeaderTest{Name: "X-Channel", Is: ptr("ATM")}}
	inList := Condition{Attribute: "teller", InList: ptr("everybody")}
	under := Condition{Attribute: "branch", Under: ptr("9001/000000")}
	entity := Condition{Attribute: "legalEntity", Is: ptr("9001")}
	for g := 0; len(rules) < n-10; g++ {
		branch, teller := bankPerson(g)
		isBranch, isTeller := Condition{Attribute: "branch", Is: &branch}, Condition{Attribute: "teller", Is: &teller}
		for i, when := range [][]Condition{
			{isBranch, eod},
			{entity, {Attribute: "branch", In: []string{branch, branch + "-bis"}}, put},
			{{Attribute: "branch", Under: &branch}, eod},
			{isTeller, eod},
			{isBranch, inList, put},
			{isBranch, isTeller, atm},
		} {
			if g*6+i < n-10 {
				add(when...)
			}
		}
	}
	add(inList, eod)
	add(inList, put)
	add(inList, atm)
	add(under, eod)
	add(under, put)
	add(under, atm)
	add(entity, eod)
	add(entity, put)
	add(under, inList, Condition{Path: &PathTest{Is: ptr("/teller")}})
	add(entity, under, loan)
	return rules
}

// bankPerson returns the branch and the teller that a group of rules is about.
func bankPerson(g int) (branch, teller string) {
	return fmt.Sprintf("9001/%06d", 99_999-g), fmt.Sprintf("9001/%08d", g*7)
}

// bankQueries returns requests of a thousand people, all of whom a hundred thousand rules are about.
func bankQueries() []Query {
	g := rand.New(rand.NewPCG(1, 2))
	queries := make([]Query, 1024)
	for i := range queries {
		branch, teller := bankPerson(g.IntN(100_000 / 6))
		queries[i] = Query{Frontend: "counter", Method: "POST", Path: "/teller/loan",
			Attributes: []string{"9001", branch, teller, "5F3A9C", ""}}
	}
	return queries
}

func bankInputs(t testing.TB, values int) Inputs {
	t.Helper()
	in := testInputs(t)
	organisation, err := NewOrganisation(orgHundredThousand())
	require.NoError(t, err)
	in.Organisations["9001"] = organisation
	tellers := make([]string, values)
	for i := range tellers {
		tellers[i] = fmt.Sprintf("9001/%08d", i)
	}
	in.Lists["everybody"] = NewList("teller", tellers)
	return in
}

// BenchmarkDecideAtScale is the table of docs/rules.md: the same requests at every size.
func BenchmarkDecideAtScale(b *testing.B) {
	queries := bankQueries()
	for _, values := range []int{0, 1_000, 1_000_000} {
		in := bankInputs(b, values)
		for _, n := range []int{10, 1_000, 100_000} {
			service := compiled(b, counter(bankRules(n)...), in).Service(0)
			var up Availability = down{}
			b.Run(fmt.Sprintf("rules=%d/values=%d", n, values), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if service.Decide(&queries[i&1023], Standing{Keyed: true}, up).Reason != ByRule {
						b.Fatal("no rule decided")
					}
					i++
				}
			})
		}
	}
}

// BenchmarkDecideRatio tells what a decision takes with 100,000 rules in proportion to ten, both with a list of a million
// values, in one run that turns from one to the other all the time.
func BenchmarkDecideRatio(b *testing.B) {
	queries, in := bankQueries(), bankInputs(b, 1_000_000)
	few := compiled(b, counter(bankRules(10)...), in).Service(0)
	many := compiled(b, counter(bankRules(100_000)...), in).Service(0)
	const turns = 16
	var up Availability = down{}
	decide := func(service *CompiledService) time.Duration {
		begun := time.Now()
		for i := range turns * len(queries) {
			if service.Decide(&queries[i&1023], Standing{Keyed: true}, up).Reason != ByRule {
				b.Fatal("no rule decided")
			}
		}
		return time.Since(begun)
	}
	var ofFew, ofMany time.Duration
	n := 0
	for b.Loop() {
		ofFew += decide(few)
		ofMany += decide(many)
		n += turns * len(queries)
	}
	b.ReportMetric(float64(ofFew)/float64(n), "ns/10-rules")
	b.ReportMetric(float64(ofMany)/float64(n), "ns/100000-rules")
	b.ReportMetric(float64(ofMany)/float64(ofFew), "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDecideScanned tells what a rule costs that nothing can look up.
func BenchmarkDecideScanned(b *testing.B) {
	for _, n := range []int{0, 10, 100, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			rules := make([]Rule, n)
			for i := range rules {
				rules[i] = Rule{Name: fmt.Sprintf("rule-%d", i), Priority: i, Then: Outcome{Version: "v2"},
					When: &Condition{Path: &PathTest{Prefix: ptr(fmt.Sprintf("/teller/%d", i))}}}
			}
			service, q := compiled(b, counter(rules...), testInputs(b)).Service(0), fullQuery()
			var up Availability = down{}
			b.ReportAllocs()
			for b.Loop() {
				service.Decide(q, Standing{Keyed: true}, up)
			}
		})
	}
}

// BenchmarkCompileAtScale compiles 100,000 rules against lists and organisations that are parsed already.
func BenchmarkCompileAtScale(b *testing.B) {
	in := bankInputs(b, 1_000_000)
	for _, n := range []int{1_000, 10_000, 100_000} {
		d := counter(bankRules(n)...)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				compiled(b, d, in)
			}
		})
	}
}

// TestTheIndexFitsInItsBudget holds a million values of which every one is entered, and a hundred thousand rules.
func TestTheIndexFitsInItsBudget(t *testing.T) {
	in := testInputs(t)
	var rules []Rule
	for i := range 10 { // more than are asked themselves, so that most are entered
		values := make([]string, 100_000)
		for j := range values {
			values[j] = fmt.Sprintf("9001/%08d", i*100_000+j)
		}
		name := fmt.Sprintf("wave-%d", i)
		in.Lists[name] = NewList("teller", values)
		rules = append(rules, Rule{Name: name, Priority: i, When: &Condition{Attribute: "teller", InList: ptr(name)},
			Then: Outcome{Version: "v2"}})
	}
	d := counter(rules...)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begun := time.Now()
	set := compiled(t, d, in)
	took := time.Since(begun)
	runtime.GC()
	runtime.ReadMemStats(&after)
	// With the 26 MiB of the lists themselves this stays below 48 MiB.
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(16<<20))
	require.Less(t, int64(after.HeapObjects)-int64(before.HeapObjects), int64(1000))
	t.Logf("compiled in %s, %d KiB", took, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	runtime.KeepAlive(set)
}
