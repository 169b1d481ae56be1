package rules

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// ptr returns a pointer to a copy of v, for the optional fields of documents.
func ptr[T any](v T) *T { return &v }

// testSchema declares what the documents of the tests refer to.
func testSchema() *Schema {
	return NewSchema([]Attribute{
		{Name: "legalEntity", Claim: true},
		{Name: "branch", Within: "legalEntity", Claim: true},
		{Name: "teller", Within: "legalEntity", Claim: true},
		{Name: "session"},
		{Name: "channel"},
	}, []string{"counter", "mobile"}, true)
}

// testInputs is the fixture of the corpus: lists, organisations and overrides.
func testInputs(t testing.TB) Inputs {
	t.Helper()
	head, err := NewOrganisation([]Branch{
		{Code: "3000", Name: "总行"},
		{Code: "3200", Parent: "3000", Name: "江苏分行"},
		{Code: "3201", Parent: "3200"},
		{Code: "3202", Parent: "3200"},
		{Code: "3300", Parent: "3000"},
	})
	require.NoError(t, err)
	village, err := NewOrganisation([]Branch{{Code: "3200"}})
	require.NoError(t, err)
	return Inputs{
		Schema: testSchema(),
		Lists: map[string]*List{
			"pilot-tellers":  NewList("teller", []string{"9001/0001", "9001/0002", "9002/0001"}),
			"pilot-branches": NewList("branch", []string{"9001/3201"}),
			"nobody":         NewList("teller", nil),
		},
		Organisations: map[string]*Organisation{"9001": head, "9002": village},
	}
}

// pods returns some static pods.
func pods() Pods { return Pods{Static: []string{"10.2.0.7:8080"}} }

// counter returns a document with one service of three versions and the given rules; v1 is the default, v3 drains.
func counter(rules ...Rule) *Document {
	return &Document{Services: []Service{{
		Name:    "counter",
		Default: "v1",
		Versions: []Version{
			{Name: "v1", Pods: pods()},
			{Name: "v2", Pods: pods(), Fallback: "v4"},
			{Name: "v3", Pods: pods(), State: StateDraining},
			{Name: "v4", Pods: pods()},
			{Name: "v5", Pods: pods(), State: StateDisabled, Fallback: "v2"},
		},
		Sessions: &Sessions{Key: []string{"session", "teller"}, Subject: "teller"},
		Rules:    rules,
	}}}
}

func compiled(t testing.TB, d *Document, in Inputs) *RuleSet {
	t.Helper()
	set, err := Compile(d, in)
	require.NoError(t, err)
	return set
}

// down is the Availability in which the named versions have no usable endpoint.
type down map[int]bool

func (d down) Usable(_, version int) bool { return !d[version] }

func TestDecide(t *testing.T) {
	t.Parallel()
	toV2 := Rule{Name: "everybody", Then: Outcome{Version: "v2"}}
	toDisabled := Rule{Name: "everybody", Then: Outcome{Version: "v5"}}
	toDraining := Rule{Name: "everybody", Then: Outcome{Version: "v3"}}
	move := &Override{Version: "v4", Pinned: PinnedMove}
	keep := &Override{Version: "v4", Pinned: PinnedKeep}
	tests := []struct {
		name           string
		rules          []Rule
		override       *Override
		fallbackPinned bool
		unpinned       bool // the service has no sessions
		standing       Standing
		down           down

		version string
		wanted  string
		reason  Reason
		rule    string
		refusal Refusal
		pin     bool
	}{
		{name: "default", version: "v1"},
		{name: "default pins a keyed session", standing: Standing{Keyed: true}, version: "v1", pin: true},
		{name: "rule", rules: []Rule{toV2}, standing: Standing{Keyed: true}, version: "v2", reason: ByRule,
			rule: "everybody", pin: true},
		{name: "anonymous requests are not pinned", rules: []Rule{toV2}, version: "v2", reason: ByRule, rule: "everybody"},
		{name: "services without sessions pin nothing and know no pin", rules: []Rule{toV2}, unpinned: true,
			standing: Standing{Keyed: true, Pinned: "v1"}, version: "v2", reason: ByRule, rule: "everybody"},

		{name: "pin before rules", rules: []Rule{toV2}, standing: Standing{Keyed: true, Pinned: "v1"}, version: "v1",
			reason: ByPin},
		{name: "pin to a draining version stays", rules: []Rule{toV2}, standing: Standing{Keyed: true, Pinned: "v3"},
			version: "v3", reason: ByPin},
		{name: "pin to a disabled version ends", rules: []Rule{toV2}, standing: Standing{Keyed: true, Pinned: "v5"},
			version: "v2", reason: ByRule, rule: "everybody", pin: true},
		{name: "pin to an unknown version ends", standing: Standing{Keyed: true, Pinned: "v0"}, version: "v1", pin: true},
		{name: "pinned version without endpoint", standing: Standing{Keyed: true, Pinned: "v2"}, down: down{1: true},
			version: "v2", reason: ByPin, refusal: PinnedUnusable},
		{name: "pinned sessions follow fallbacks if the service says so", fallbackPinned: true,
			standing: Standing{Keyed: true, Pinned: "v2"}, down: down{1: true},
			version: "v4", wanted: "v2", reason: ByPin, pin: true},
		{name: "pinned sessions with no fallback left", fallbackPinned: true,
			standing: Standing{Keyed: true, Pinned: "v2"}, down: down{0: true, 1: true, 3: true},
			version: "v2", reason: ByPin, refusal: NothingUsable},

		{name: "override that moves", rules: []Rule{toV2}, override: move, standing: Standing{Keyed: true, Pinned: "v2"},
			version: "v4", reason: ByOverride, pin: true},
		{name: "override that moves whom is there already", override: move,
			standing: Standing{Keyed: true, Pinned: "v4"}, version: "v4", reason: ByOverride},
		{name: "override that moves to what has no endpoint", override: move, down: down{3: true},
			standing: Standing{Keyed: true, Pinned: "v2"}, version: "v1", wanted: "v4", reason: ByOverride, pin: true},
		{name: "override that keeps", rules: []Rule{toV2}, override: keep, standing: Standing{Keyed: true, Pinned: "v2"},
			version: "v2", reason: ByPin},
		{name: "override that keeps takes new sessions", rules: []Rule{toV2}, override: keep,
			standing: Standing{Keyed: true}, version: "v4", reason: ByOverride, pin: true},

		{name: "tester", rules: []Rule{toV2}, override: move,
			standing: Standing{Keyed: true, Forced: "v1", Pinned: "v2"}, version: "v1", reason: ByTester},
		{name: "tester at a draining version", standing: Standing{Forced: "v3"}, version: "v3", reason: ByTester},
		{name: "tester at a disabled version", standing: Standing{Forced: "v5"}, version: "v5", reason: ByTester,
			refusal: TesterDisabled},
		{name: "tester at an unknown version", standing: Standing{Forced: "v9"}, reason: ByTester,
			refusal: TesterUnknown},
		{name: "tester at a version without endpoint", standing: Standing{Forced: "v2"}, down: down{1: true},
			version: "v2", reason: ByTester, refusal: NothingUsable},

		{name: "disabled target, along the chain", rules: []Rule{toDisabled}, standing: Standing{Keyed: true},
			version: "v2", wanted: "v5", reason: ByRule, rule: "everybody", pin: true},
		{name: "disabled target, further along", rules: []Rule{toDisabled}, down: down{1: true},
			version: "v4", wanted: "v5", reason: ByRule, rule: "everybody"},
		{name: "disabled target, at last the default", rules: []Rule{toDisabled}, down: down{1: true, 3: true},
			version: "v1", wanted: "v5", reason: ByRule, rule: "everybody"},
		{name: "draining target, new session", rules: []Rule{toDraining}, standing: Standing{Keyed: true},
			version: "v1", wanted: "v3", reason: ByRule, rule: "everybody", pin: true},
		{name: "nothing usable", rules: []Rule{toV2}, down: down{0: true, 1: true, 3: true},
			version: "v2", reason: ByRule, rule: "everybody", refusal: NothingUsable},
		{name: "default without endpoint", down: down{0: true}, version: "v1", refusal: NothingUsable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, in := counter(test.rules...), testInputs(t)
			d.Services[0].Sessions.FallbackPinned = test.fallbackPinned
			if test.unpinned {
				d.Services[0].Sessions = nil
			}
			if test.override != nil {
				in.Overrides = map[string]Override{"counter": *test.override}
			}
			service := compiled(t, d, in).Service(0)
			got := service.Decide(&Query{Path: "/"}, test.standing, test.down)

			require.Equal(t, test.version, versionName(got.Version))
			if test.wanted == "" {
				test.wanted = test.version
			}
			require.Equal(t, test.wanted, versionName(got.Wanted))
			require.Equal(t, test.reason, got.Reason)
			require.Equal(t, test.rule, got.Rule)
			require.Equal(t, test.refusal, got.Refusal)
			require.Equal(t, test.pin, got.WritePin)
			require.Equal(t, -1, got.Bucket)
		})
	}
}

func versionName(v *CompiledVersion) string {
	if v == nil {
		return ""
	}
	return v.Name()
}

func TestDecideConditions(t *testing.T) {
	t.Parallel()
	teller := []string{"9001", "9001/3201", "9001/0001", "", ""}
	nobody := make([]string, 5)
	q := func(attributes []string) Query {
		return Query{Method: "GET", Path: "/teller/eod/run", Source: netip.MustParseAddr("10.20.3.4"),
			Attributes: attributes, Headers: headers{"X-Channel": "ATM"}}
	}
	tests := []struct {
		name      string
		condition Condition
		query     Query
		holds     bool
	}{
		{"is", Condition{Attribute: "teller", Is: ptr("9001/0001")}, q(teller), true},
		{"is not", Condition{Attribute: "teller", Is: ptr("9001/1")}, q(teller), false},
		{"is, missing", Condition{Attribute: "teller", Is: ptr("9001/0001")}, q(nobody), false},
		{"not is, missing", Condition{Not: &Condition{Attribute: "teller", Is: ptr("9001/0001")}}, q(nobody), true},
		{"in", Condition{Attribute: "legalEntity", In: []string{"9002", "9001"}}, q(teller), true},
		{"in, missing", Condition{Attribute: "legalEntity", In: []string{"9002", "9001"}}, q(nobody), false},
		{"in list", Condition{Attribute: "teller", InList: ptr("pilot-tellers")}, q(teller), true},
		{"in list, missing", Condition{Attribute: "teller", InList: ptr("pilot-tellers")}, q(nobody), false},
		{"in an empty list", Condition{Attribute: "teller", InList: ptr("nobody")}, q(teller), false},
		{"under its parent", Condition{Attribute: "branch", Under: ptr("9001/3200")}, q(teller), true},
		{"under the head office", Condition{Attribute: "branch", Under: ptr("9001/3000")}, q(teller), true},
		{"under itself", Condition{Attribute: "branch", Under: ptr("9001/3201")}, q(teller), true},
		{"under a sibling of its parent", Condition{Attribute: "branch", Under: ptr("9001/3300")}, q(teller), false},
		{"under the same code elsewhere", Condition{Attribute: "branch", Under: ptr("9002/3200")}, q(teller), false},
		{"under, missing", Condition{Attribute: "branch", Under: ptr("9001/3200")}, q(nobody), false},
		{"prefix", Condition{Attribute: "teller", Prefix: ptr("9001/00")}, q(teller), true},
		{"other prefix", Condition{Attribute: "teller", Prefix: ptr("9001/1")}, q(teller), false},
		{"matches", Condition{Attribute: "teller", Matches: ptr("9001/0.*")}, q(teller), true},
		{"matches only the whole", Condition{Attribute: "teller", Matches: ptr("0001")}, q(teller), false},
		{"matches alternatives as a whole", Condition{Attribute: "teller", Matches: ptr("9001|9001/0001")}, q(teller), true},
		{"matches nothing, missing", Condition{Attribute: "teller", Matches: ptr(".*")}, q(nobody), false},
		{"present", Condition{Attribute: "teller", Present: ptr(true)}, q(teller), true},
		{"present, missing", Condition{Attribute: "teller", Present: ptr(true)}, q(nobody), false},
		{"absent", Condition{Attribute: "teller", Present: ptr(false)}, q(nobody), true},
		{"bucket of everybody", Condition{Bucket: &Bucket{By: []string{"teller"}, Below: 10000, Salt: "s"}}, q(teller), true},
		{"bucket of nobody", Condition{Bucket: &Bucket{By: []string{"teller"}, Below: 0, Salt: "s"}}, q(teller), false},
		{"bucket, missing", Condition{Bucket: &Bucket{By: []string{"teller"}, Below: 10000, Salt: "s"}}, q(nobody), false},
		{"method", Condition{Method: []string{"POST", "GET"}}, q(nobody), true},
		{"other method", Condition{Method: []string{"POST"}}, q(nobody), false},
		{"path prefix", Condition{Path: &PathTest{Prefix: ptr("/teller/eod")}}, q(nobody), true},
		{"path prefix of half an element", Condition{Path: &PathTest{Prefix: ptr("/teller/eo")}}, q(nobody), false},
		{"path is", Condition{Path: &PathTest{Is: ptr("/teller/eod")}}, q(nobody), false},
		{"path matches", Condition{Path: &PathTest{Matches: ptr("/teller/.*")}}, q(nobody), true},
		{"header", Condition{Header: &HeaderTest{Name: "X-Channel", Is: ptr("ATM")}}, q(nobody), true},
		{"header in", Condition{Header: &HeaderTest{Name: "X-Channel", In: []string{"STM", "ATM"}}}, q(nobody), true},
		{"header matches", Condition{Header: &HeaderTest{Name: "X-Channel", Matches: ptr("A.*")}}, q(nobody), true},
		{"header absent", Condition{Header: &HeaderTest{Name: "X-Other", Present: ptr(false)}}, q(nobody), true},
		{"header of none", Condition{Header: &HeaderTest{Name: "X-Channel", Present: ptr(true)}}, Query{Path: "/"}, false},
		{"source", Condition{Source: []string{"10.20.0.0/14"}}, q(nobody), true},
		{"source mapped into IPv6", Condition{Source: []string{"10.20.0.0/14"}},
			Query{Source: netip.MustParseAddr("::ffff:10.20.0.1")}, true},
		{"source, one address", Condition{Source: []string{"10.20.3.5"}}, q(nobody), false},
		{"source, unknown", Condition{Source: []string{"0.0.0.0/0", "::/0"}}, Query{}, false},
		{"all", Condition{All: []Condition{{Method: []string{"GET"}}, {Source: []string{"10.0.0.0/8"}}}}, q(nobody), true},
		{"not all", Condition{All: []Condition{{Method: []string{"GET"}}, {Method: []string{"PUT"}}}}, q(nobody), false},
		{"any", Condition{Any: []Condition{{Method: []string{"GET"}}, {Method: []string{"PUT"}}}}, q(nobody), true},
		{"none", Condition{Any: []Condition{{Method: []string{"HEAD"}}, {Method: []string{"PUT"}}}}, q(nobody), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rule := Rule{Name: "tested", When: &test.condition, Then: Outcome{Version: "v2"}}
			service := compiled(t, counter(rule), testInputs(t)).Service(0)
			require.Equal(t, test.holds, service.Decide(&test.query, Standing{}, nil).Reason == ByRule)
			require.Equal(t, test.holds, service.Explain(&test.query, Standing{}, nil).Rules[0].Conditions.Holds)
		})
	}
}

// headers is a Headers for tests; names are canonical already.
type headers map[string]string

func (h headers) Get(name string) (string, bool) {
	value, found := h[name]
	return value, found
}
