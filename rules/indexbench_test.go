package rules

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bankRules returns n rules of which every one names a branch, a teller or the list, 16 of which may match one request,
// and requests that lead to them. The rules above all that match are many, as in a bank whose branches each have one.
func bankRules(n int, withList bool) []Rule {
	rules := make([]Rule, 0, n)
	add := func(when ...Condition) {
		i := len(rules)
		rules = append(rules, Rule{Name: fmt.Sprintf("rule-%d", i), Priority: n - i, Then: Outcome{Version: "v2"},
			When: &Condition{All: when}})
	}
	eod := Condition{Path: &PathTest{Prefix: ptr("/teller/eod")}}
	for i := 0; len(rules) < n-2; i++ {
		switch i % 4 {
		case 0:
			add(Condition{Attribute: "branch", Under: ptr(fmt.Sprintf("9001/%06d", i%100_000))}, eod)
		case 1:
			add(Condition{Attribute: "teller", Is: ptr(fmt.Sprintf("9001/%08d", i))}, eod)
		case 2:
			add(Condition{Attribute: "branch", In: []string{fmt.Sprintf("9001/%06d", i%100_000), fmt.Sprintf("9002/%06d", i)}}, eod)
		default:
			add(Condition{Attribute: "legalEntity", Is: ptr("9001")},
				Condition{Attribute: "teller", Is: ptr(fmt.Sprintf("9001/%08d", i))}, eod)
		}
	}
	if withList {
		add(Condition{Attribute: "teller", InList: ptr("everybody")}, eod)
		add(Condition{Attribute: "teller", InList: ptr("everybody")}, Condition{Path: &PathTest{Prefix: ptr("/teller")}})
	}
	return rules
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

// BenchmarkDecideAtScale is the table of docs/rules.md: decisions by any of many tellers and branches, of whom each
// leads to a few rules and, where there are values, to the list.
func BenchmarkDecideAtScale(b *testing.B) {
	for _, values := range []int{0, 1_000, 1_000_000} {
		in := bankInputs(b, values)
		for _, n := range []int{10, 1_000, 100_000} {
			set := compiled(b, counter(bankRules(n, true)...), in)
			service := set.Service(0)
			g := rand.New(rand.NewPCG(1, 2))
			queries := make([]Query, 1024)
			for i := range queries {
				teller, branch := g.IntN(max(values, 1000)), g.IntN(n)
				queries[i] = Query{Frontend: "counter", Method: "POST", Path: "/teller/loan", Attributes: []string{"9001",
					fmt.Sprintf("9001/%06d", branch), fmt.Sprintf("9001/%08d", teller), "5F3A9C", ""}}
			}
			var up Availability = down{}
			b.Run(fmt.Sprintf("rules=%d/values=%d", n, values), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					service.Decide(&queries[i&1023], Standing{Keyed: true}, up)
					i++
				}
			})
		}
	}
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
		d := counter(bankRules(n, true)...)
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
	if testing.Short() {
		t.Skip("builds lists of a million values")
	}
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
