package rules

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
)

// firstByScan is what ruleTable.first must find.
func (t *ruleTable) firstByScan(q *Query) *compiledRule {
	for i := range t.ordered {
		if t.ordered[i].matches(q) {
			return &t.ordered[i]
		}
	}
	return nil
}

// wideInputs has more lists than are asked themselves, some of them large, and an organisation of a few levels.
func wideInputs(t testing.TB) Inputs {
	t.Helper()
	in := testInputs(t)
	branches := []Branch{{Code: "0"}, {Code: "3000", Parent: "0"}, {Code: "3200", Parent: "7"}, {Code: "3201", Parent: "3200"}}
	for i := 1; i < 200; i++ {
		branches = append(branches, Branch{Code: strconv.Itoa(i), Parent: strconv.Itoa((i - 1) / 3)})
	}
	for i := range 6 { // longer than what a table of codes holds itself
		branches = append(branches, Branch{Code: fmt.Sprintf("branch-office-%d", i), Parent: strconv.Itoa(i * i)})
	}
	organisation, err := NewOrganisation(branches)
	require.NoError(t, err)
	in.Organisations["9001"], in.Organisations["9002"] = organisation, organisation
	for i, size := range []int{0, 1, 20, 60, 5000, 5001, 6000, 5000, 5500, 4097} {
		values := make([]string, 0, size)
		for j := range size {
			values = append(values, fmt.Sprintf("%d/%04d", 9001+j%2, (j*(i+1))%7000))
		}
		in.Lists[fmt.Sprintf("tellers-%d", i)] = NewList("teller", values)
	}
	return in
}

func (g generator) wideValue(attribute string) string {
	switch attribute {
	case "branch":
		if g.IntN(20) == 0 {
			return fmt.Sprintf("%d/branch-office-%d", 9001+g.IntN(2), g.IntN(6))
		}
		return fmt.Sprintf("%d/%d", 9001+g.IntN(2), g.IntN(200))
	case "teller":
		return fmt.Sprintf("%d/%04d", 9001+g.IntN(2), g.IntN(pick(g, 50, 7000)))
	case "session":
		return fmt.Sprintf("%0*d", pick(g, 1, 16, 17), g.IntN(30))
	}
	return g.value(attribute)
}

func (g generator) wideCondition(depth int) Condition {
	name := pick(g, "legalEntity", "branch", "branch", "teller", "teller", "session", "channel")
	switch kind := g.IntN(12); {
	case kind < 3 || depth == 0 && kind < 8:
		return Condition{Attribute: name, Is: ptr(g.wideValue(name))}
	case kind < 4:
		set := map[string]bool{}
		for range 1 + g.IntN(20) {
			set[g.wideValue(name)] = true
		}
		return Condition{Attribute: name, In: sortedKeys(set)}
	case kind < 5:
		return Condition{Attribute: "teller", InList: ptr(fmt.Sprintf("tellers-%d", g.IntN(10)))}
	case kind < 6:
		return Condition{Attribute: "branch", Under: ptr(g.wideValue("branch"))}
	case kind < 8:
		return Condition{All: g.wideConditions(depth - 1)}
	case kind < 10 && depth > 0:
		return Condition{Any: g.wideConditions(depth - 1)}
	case kind < 11 && depth > 0:
		return Condition{Not: ptr(g.wideCondition(depth - 1))}
	}
	return g.condition(0)
}

func (g generator) wideConditions(depth int) []Condition {
	conditions := make([]Condition, 1+g.IntN(4))
	for i := range conditions {
		conditions[i] = g.wideCondition(depth)
	}
	return conditions
}

func (g generator) wideDocument() *Document {
	var rules []Rule
	for i := range g.IntN(pick(g, 10, 60, 400)) {
		rules = append(rules, Rule{Name: fmt.Sprintf("rule-%d", i), Priority: i, When: ptr(g.wideCondition(3)),
			Then: Outcome{Version: "v2"}})
	}
	return counter(rules...)
}

func (g generator) wideQuery(schema *Schema) *Query {
	q := g.query(schema)
	for i := range q.Attributes {
		if q.Attributes[i] != "" {
			q.Attributes[i] = g.wideValue(schema.Attribute(i).Name)
		}
	}
	return q
}

// manyTimes returns how many random documents a test takes; TELLERGATE_DOCUMENTS overrides it for long runs.
func manyTimes(t testing.TB, usual int) int {
	if written := os.Getenv("TELLERGATE_DOCUMENTS"); written != "" {
		n, err := strconv.Atoi(written)
		require.NoError(t, err)
		return n
	}
	return usual
}

func requireIndexed(t testing.TB, in Inputs, seed uint64, queries int) (found int) {
	t.Helper()
	g := generator{rand.New(rand.NewPCG(seed, 3))}
	d := g.wideDocument()
	table := &compiled(t, d, in).Service(0).rules
	for range queries {
		q := g.wideQuery(in.Schema)
		want, got := table.firstByScan(q), table.first(q)
		if want != got {
			t.Fatalf("seed %d: the index finds %v where %v is meant\n%+v\n%s", seed, got, want, q, d.Print())
		}
		if want != nil {
			found++
		}
	}
	return found
}

// TestIndexFindsWhatAScanFinds holds the index to trying every rule, on documents with many rules and large lists.
func TestIndexFindsWhatAScanFinds(t *testing.T) {
	t.Parallel()
	in := wideInputs(t)
	const queries = 200
	documents, found := manyTimes(t, 60), 0
	for seed := range documents {
		found += requireIndexed(t, in, uint64(seed), queries)
	}
	require.Positive(t, found)
	t.Logf("%d decisions on %d documents, %d of them by a rule", documents*queries, documents, found)
}

func FuzzIndex(f *testing.F) {
	in := wideInputs(f)
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { requireIndexed(t, in, seed, 50) })
}

// TestIndexFollowsManyRuns has a request lead to many runs through one value.
func TestIndexFollowsManyRuns(t *testing.T) {
	in := testInputs(t)
	const n = 72
	var rules []Rule
	for i := range n {
		name := fmt.Sprintf("list-%d", i)
		in.Lists[name] = NewList("teller", []string{"9001/0001", fmt.Sprintf("9001/1%03d", i)})
		rules = append(rules, Rule{Name: name, Priority: (i * 7) % n, Then: Outcome{Version: "v2"}, When: &Condition{
			All: []Condition{{Attribute: "teller", InList: ptr(name)}, {Attribute: "session", Is: ptr("s")},
				{Path: &PathTest{Prefix: ptr("/" + name)}}}}})
	}
	// As many rules share the session as there are rules: the lists are what is looked up.
	table := &compiled(t, counter(rules...), in).Service(0).rules
	for _, rule := range rules {
		q := &Query{Path: "/" + rule.Name, Attributes: []string{"9001", "", "9001/0001", "s", ""}}
		require.Equal(t, rule.Name, table.first(q).name)
		require.Zero(t, testing.AllocsPerRun(10, func() { table.first(q) }))
		q.Attributes[2] = "9001/1999"
		require.Nil(t, table.first(q))
	}
}

func TestIndexSurvivesCollisions(t *testing.T) {
	t.Parallel()
	b := &indexBuilder{indexer: &indexer{guards: make([]uint32, 9)}, chains: map[link]uint32{}, bare: map[uint32]uint32{}}
	head := b.run([]uint32{0}, 0)
	inner := b.run([]uint32{1}, b.link(head, 0))
	other := b.run([]uint32{2}, b.link(head, 0))
	list := b.run([]uint32{3}, 0)
	const high = 1 << 40 // hashes below and this one have the same home
	entries := []entry{
		{high, valueClue, 4}, {2 * high, valueClue, 5},
		{7, valueClue, 6}, {7, listClue, list}, // one value, or two of the same hash
		{8, branchClue, inner}, {8, branchClue, other}, {8, listClue, list}, // two branches of the same hash
		{9, branchClue, inner}, {10, listClue, list}, // nothing but a run that is there
		{7 + high, listClue, list}, {7 + 2*high, branchClue, inner},
		{0, listClue, list}, {1 << 32, branchClue, inner}, // what looks like a free slot
		{11, valueClue, 0}, {11, valueClue, 1}, {11, valueClue, 2}, {11, valueClue, 3}, {11, valueClue, 4}, // more than a line
		{11, valueClue, 5}, {11, valueClue, 6}, {11, valueClue, 7}, {11, valueClue, 8}, {11, branchClue, other},
	}
	for i := range uint64(20) { // more than a bucket
		entries = append(entries, entry{20 + i, listClue, head})
	}
	var a attributeIndex
	b.enter(&a, nil, entries)
	for hash, want := range map[uint64][]uint32{
		high: {4}, 2 * high: {5}, 7: {3, 6}, 7 + high: {1, 0, 3}, 7 + 2*high: {1, 0, 3}, 8: {3, 1, 0, 2, 0}, 9: {1, 0}, 10: {3},
		11: {0, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0}, 12: nil, 0: {1, 0, 3}, 1 << 32: {1, 0, 3}, 3 << 32: {1, 0, 3}, 20: {0}, 39: {0}, 40: nil,
	} {
		var ranks []uint32
		s := search{index: &b.index, gather: &ranks}
		l := lookup{attribute: &a, hash: hash, line: a.lines.home(hash)}
		l.word = a.lines.words[l.line]
		s.values([]lookup{l})
		slices.Sort(ranks)
		slices.Sort(want)
		require.Equal(t, want, ranks, "%x", hash)
	}
}

func TestTablesHoldWhatWasEntered(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 7, 100, 3_000, 100_000} {
		hashes, strangers := make([]uint64, n), 0
		for i := range hashes {
			hashes[i] = xxhash.Sum64String(strconv.Itoa(i))
		}
		slices.Sort(hashes)
		lines, slots := newLineTable(hashes), newSlotTable(n, nil)
		require.LessOrEqual(t, len(lines.words)/lineWords, n*5/4+1+n/4)
		for i, hash := range hashes {
			slots.add(hash, uint32(i)+1)
		}
		for i, hash := range hashes {
			require.Equal(t, hash, lines.words[lines.home(hash)])
			require.Contains(t, slots.leadsTo(hash), uint32(i)+1)
			strangers += len(slots.leadsTo(hash + 1))
		}
		require.Less(t, strangers, 3)
	}
	// Hashes that differ in nothing but what a slot does not keep, more than fill a bucket.
	slots := newSlotTable(3*lineWords, nil)
	for i := range uint32(3 * lineWords) {
		slots.add(uint64(i)<<58, i+1)
	}
	require.Len(t, slots.leadsTo(0), 3*lineWords, "all of them are neighbours")
	require.Empty(t, slots.leadsTo(1))
}

// leadsTo returns what a hash may lead to.
func (t slotTable) leadsTo(hash uint64) (to []uint32) {
	for at := t.home(hash); ; at = t.next(at) {
		matches, more := t.bucket(at, hash)
		for ; matches != 0; matches &= matches - 1 {
			to = append(to, t.to(at+bits.TrailingZeros8(matches)))
		}
		if !more {
			return to
		}
	}
}

func TestTooManyRulesWithoutAClue(t *testing.T) {
	t.Parallel()
	rules := make([]Rule, maxScanned+1)
	for i := range rules {
		rules[i] = Rule{Name: fmt.Sprintf("rule-%d", i), Priority: i, Then: Outcome{Version: "v2"},
			When: &Condition{Any: []Condition{{Path: &PathTest{Is: ptr("/x")}}, {Attribute: "teller", Is: ptr("9001/0001")}}}}
	}
	rules[7].When = nil
	in := testInputs(t)
	_, err := Compile(counter(rules...), in)
	var problems problem.List
	require.True(t, errors.As(err, &problems))
	require.Len(t, problems, maxProblems+1)
	require.Equal(t, `services[counter].rules[rule-1000].when: rule "rule-1000" holds no is, in, inList or under outside a `+
		`not, so every request has to try it; service "counter" has 1001 such rules, and at most 1000 are taken; `+
		`add one of them, or join rules by any`, problems[0].String())
	rules[7].When = &Condition{Attribute: "branch", Is: ptr("9001/3200")}
	require.EqualValues(t, maxScanned, compiled(t, counter(rules...), in).Service(0).rules.index.words[0])
}

// TestExplainAmongManyRules lists only the rules that the request leads to.
func TestExplainAmongManyRules(t *testing.T) {
	t.Parallel()
	const n = 3_000
	service := compiled(t, counter(bankRules(n)...), bankInputs(t, 1000)).Service(0)
	branch, teller := bankPerson(7)
	q := Query{Method: "POST", Path: "/teller/loan", Attributes: []string{"9001", branch, teller, "", ""}}
	e := service.Explain(&q, Standing{}, nil)
	require.Equal(t, n, e.Omitted+len(e.Rules))
	require.LessOrEqual(t, len(e.Rules), 16)
	require.True(t, e.Rules[len(e.Rules)-1].Decided)
	require.Contains(t, e.Steps[3], "rules need a value, a list or a branch that the request does not have")
	require.Equal(t, e.Rules[len(e.Rules)-1].Name, service.Decide(&q, Standing{}, nil).Rule)
}

// seeded returns a generator whose values depend on the seed alone.
func seeded(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 4))} }
