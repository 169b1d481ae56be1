package content

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
	"tellergate/rules"
	"tellergate/store"
)

// memory is a Contents that counts what is read from it.
type memory struct {
	mu    sync.Mutex
	texts map[store.Digest][]byte
	reads int
}

func (m *memory) Content(_ context.Context, digest store.Digest) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	text, ok := m.texts[digest]
	if !ok {
		return nil, store.ErrNotFound
	}
	return text, nil
}

func (m *memory) taken() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.reads
	m.reads = 0
	return n
}

// revision stores parts and returns the revision that consists of them.
func (m *memory) revision(seq uint64, parts map[string]string) store.Revision {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := store.Revision{Seq: seq, Parts: map[string]store.Digest{}, Hash: store.DigestOf(fmt.Append(nil, seq))}
	for name, text := range parts {
		digest := store.DigestOf([]byte(text))
		m.texts[digest] = []byte(text)
		r.Parts[name] = digest
	}
	return r
}

func newMemory() *memory { return &memory{texts: map[store.Digest][]byte{}} }

func tellers(values ...string) *rules.List { return rules.NewList("teller", values) }

func organisation(t *testing.T, branches ...rules.Branch) *rules.Organisation {
	t.Helper()
	o, err := rules.NewOrganisation(branches)
	require.NoError(t, err)
	return o
}

func TestParsePart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		part string
		kind Kind
		name string
		ok   bool
	}{
		{RulesPart, Rules, "", true},
		{ListPart("pilot-tellers"), List, "pilot-tellers", true},
		{OrganisationPart("9001"), Organisation, "9001", true},
		{OverridePart("a/b"), Override, "a/b", true},
		{"lists/", "", "", false},
		{"lists", "", "", false},
		{"rules/x", "", "", false},
		{"calendars/2026", "", "", false},
		{"", "", "", false},
	} {
		kind, name, ok := ParsePart(c.part)
		require.Equal(t, c.ok, ok, c.part)
		require.Equal(t, c.kind, kind, c.part)
		require.Equal(t, c.name, name, c.part)
	}
}

func TestReadGivesEveryPartItsMeaning(t *testing.T) {
	t.Parallel()
	m := newMemory()
	list, tree := tellers("9001/0001", "9001/0002"), organisation(t, rules.Branch{Code: "3200", Name: "江苏分行"})
	override := rules.Override{Version: "v1", Pinned: rules.PinnedMove, Reason: "数据 <错>"}
	const text = "# by hand\nservices: []\n"
	r := m.revision(7, map[string]string{
		RulesPart:                text,
		ListPart("pilot"):        string(EncodeList(list, nil)),
		ListPart("试点"):           string(EncodeList(tellers(), nil)),
		OrganisationPart("9001"): string(EncodeOrganisation(tree)),
		OverridePart("counter"):  string(EncodeOverride(override)),
	})
	state, err := NewReader(m, nil).Read(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, text, string(state.Text))
	require.NotNil(t, state.Document)
	require.Equal(t, map[string]*rules.List{"pilot": list, "试点": tellers()}, state.Lists)
	require.Equal(t, map[string]*rules.Organisation{"9001": tree}, state.Organisations)
	require.Equal(t, map[string]rules.Override{"counter": override}, state.Overrides)
}

func TestReadTheEmptyState(t *testing.T) {
	t.Parallel()
	state, err := NewReader(newMemory(), nil).Read(t.Context(), store.Revision{})
	require.NoError(t, err)
	require.Equal(t, newState(), state)
	require.NotNil(t, state.Document)
}

func TestWhatIsOfferedIsNotReadAgain(t *testing.T) {
	t.Parallel()
	m := newMemory()
	reader := NewReader(m, nil)
	list := tellers("9001/0001")
	text := EncodeList(list, nil)
	reader.OfferList(store.DigestOf(text), list)
	state, err := reader.Read(t.Context(), m.revision(1, map[string]string{"lists/pilot": string(text)}))
	require.NoError(t, err)
	require.Same(t, list, state.Lists["pilot"])
	require.Zero(t, m.taken())
	other := string(EncodeList(tellers("9001/0002"), nil))
	state, err = reader.Read(t.Context(), m.revision(2, map[string]string{"lists/pilot": other}))
	require.NoError(t, err)
	require.True(t, state.Lists["pilot"].Contains("9001/0002"))
	require.Equal(t, 1, m.taken())
}

func TestWhatIsKnownIsNotKeptTwice(t *testing.T) {
	t.Parallel()
	m := newMemory()
	reader := NewReader(m, nil)
	list, same := tellers("9001/0001"), tellers("9001/0001")
	text := EncodeList(list, nil)
	reader.OfferList(store.DigestOf(text), list)
	_, err := reader.Read(t.Context(), m.revision(1, map[string]string{"lists/pilot": string(text)}))
	require.NoError(t, err)
	reader.OfferList(store.DigestOf(text), same)
	require.Zero(t, reader.offered)
	state, err := reader.Read(t.Context(), m.revision(2, map[string]string{"lists/tail": string(text)}))
	require.NoError(t, err)
	require.Same(t, list, state.Lists["tail"])
}

func TestReadSharesWhatTheLastTwoRevisionsHeld(t *testing.T) {
	t.Parallel()
	m := newMemory()
	reader := NewReader(m, nil)
	pilot, tail := string(EncodeList(tellers("9001/0001"), nil)), string(EncodeList(tellers("9001/0002"), nil))
	read := func(seq uint64, parts map[string]string) *State {
		t.Helper()
		state, err := reader.Read(t.Context(), m.revision(seq, parts))
		require.NoError(t, err)
		return state
	}
	both := map[string]string{"lists/pilot": pilot, "lists/tail": tail}
	first := read(1, both)
	require.Equal(t, 2, m.taken())

	again := read(1, both)
	require.Zero(t, m.taken())
	require.Same(t, first.Lists["pilot"], again.Lists["pilot"])
	again.Lists["pilot"] = nil // a State's maps are its holder's own
	require.NotNil(t, read(1, both).Lists["pilot"])

	renamed := read(2, map[string]string{"lists/other": pilot})
	require.Zero(t, m.taken(), "the same content under another name")
	require.Same(t, first.Lists["pilot"], renamed.Lists["other"])

	restored := read(3, both)
	require.Zero(t, m.taken(), "tail was held by the revision before the last")
	require.Same(t, first.Lists["tail"], restored.Lists["tail"])

	read(4, map[string]string{"lists/pilot": pilot})
	read(5, map[string]string{"lists/pilot": pilot})
	require.Zero(t, m.taken())
	read(6, both)
	require.Equal(t, 1, m.taken(), "two revisions later tail has been forgotten")
}

func TestReadDoesNotMistakeOneKindForAnother(t *testing.T) {
	t.Parallel()
	m := newMemory()
	text := string(EncodeOverride(rules.Override{Version: "v1", Pinned: rules.PinnedKeep}))
	reader := NewReader(m, nil)
	_, err := reader.Read(t.Context(), m.revision(1, map[string]string{"overrides/counter": text}))
	require.NoError(t, err)
	_, err = reader.Read(t.Context(), m.revision(2, map[string]string{"lists/counter": text}))
	require.ErrorIs(t, err, ErrUnreadable)
}

func TestReadNamesThePartThatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, part, text, want string
	}{
		{"unknown kind", "calendars/2026", "{}",
			`part "calendars/2026" of revision 9 is unreadable: this version does not know its kind; run the version that wrote it`},
		{"list", "lists/pilot", `{"attribute":"teller","values":[1]}`,
			`part "lists/pilot" of revision 9: unreadable: ` +
				`1:33: values[0]: number 1 where a text belongs; put it in quotes, leading zeros count`},
		{"organisation", "organisations/9001", `{"branches":[{"code":"1","parent":"2"}]}`,
			`part "organisations/9001" of revision 9: unreadable: ` +
				`1:14: branches[0].parent: branch "1" stands under "2", which the organisation does not have; ` +
				`add that branch, or correct the parent`},
		{"override", "overrides/counter", `{"version":"v1","until":"noon"}`,
			`part "overrides/counter" of revision 9: unreadable: an override was expected: json: unknown field "until"`},
		{"two overrides", "overrides/counter", `{} {}`,
			`part "overrides/counter" of revision 9: unreadable: something follows the override`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			_, err := NewReader(m, nil).Read(t.Context(), m.revision(9, map[string]string{c.part: c.text}))
			require.EqualError(t, err, c.want)
			require.ErrorIs(t, err, ErrUnreadable)
		})
	}
}

func TestReadNamesTheRulesIfTheyAreDamaged(t *testing.T) {
	t.Parallel()
	m := newMemory()
	_, err := NewReader(m, nil).Read(t.Context(), m.revision(9, map[string]string{RulesPart: "services: [}"}))
	require.ErrorIs(t, err, ErrUnreadable)
	require.ErrorContains(t, err, `part "rules" of revision 9: unreadable: `)
	var problems problem.List
	require.ErrorAs(t, err, &problems)
}

func TestReadRefusesContentThatIsNotWhatWasStored(t *testing.T) {
	t.Parallel()
	m := newMemory()
	r := m.revision(3, map[string]string{"lists/pilot": string(EncodeList(tellers("9001/0001"), nil))})
	m.texts[r.Parts["lists/pilot"]] = EncodeList(tellers("9001/0002"), nil)
	_, err := NewReader(m, nil).Read(t.Context(), r)
	require.ErrorIs(t, err, ErrUnreadable)
	require.ErrorContains(t, err, `part "lists/pilot" of revision 3: unreadable: its content has digest `)
}

func TestReadPassesOnThatTheStoreHasNoAnswer(t *testing.T) {
	t.Parallel()
	m := newMemory()
	r := m.revision(3, map[string]string{"lists/pilot": "{}"})
	clear(m.texts)
	_, err := NewReader(m, nil).Read(t.Context(), r)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NotErrorIs(t, err, ErrUnreadable)
	require.EqualError(t, err, `part "lists/pilot" of revision 3: not found`)
}

func TestReadersMayShareAReader(t *testing.T) {
	t.Parallel()
	m := newMemory()
	reader := NewReader(m, nil)
	var all sync.WaitGroup
	for i := range 8 {
		r := m.revision(uint64(i%3+1), map[string]string{
			"lists/pilot":                    string(EncodeList(tellers("9001/0001"), nil)),
			fmt.Sprintf("lists/own-%d", i%3): string(EncodeList(tellers(fmt.Sprint("9001/", i%3)), nil)),
		})
		all.Go(func() {
			state, err := reader.Read(context.Background(), r)
			if err == nil && len(state.Lists) != 2 {
				err = fmt.Errorf("%d lists", len(state.Lists))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestCloneHasMapsOfItsOwn(t *testing.T) {
	t.Parallel()
	state := newState()
	state.Text = []byte("x")
	state.Lists["pilot"] = tellers("9001/0001")
	draft := state.Clone()
	require.Equal(t, state, draft)
	draft.Lists["pilot"] = tellers()
	draft.Organisations["9001"] = organisation(t)
	draft.Overrides["counter"] = rules.Override{Version: "v1"}
	require.Equal(t, 1, state.Lists["pilot"].Len())
	require.Empty(t, state.Organisations)
	require.Empty(t, state.Overrides)

	require.NotNil(t, (&State{}).Clone().Lists, "a draft of anything can be written to")
}

func TestEncodeOverrideIsStable(t *testing.T) {
	t.Parallel()
	text := EncodeOverride(rules.Override{Version: "v1", Pinned: "move", Reason: "<回退> & \"now\""})
	require.Equal(t, `{"version":"v1","pinned":"move","reason":"<回退> & \"now\""}`+"\n", string(text))
}
