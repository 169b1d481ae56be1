package rules

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/simplifiedchinese"
)

func TestMentions(t *testing.T) {
	t.Parallel()
	d := counter(
		Rule{Name: "a", Priority: 3, Then: Outcome{Version: "v2"}, When: &Condition{All: []Condition{
			{Attribute: "branch", Under: ptr("9001/3200")},
			{Attribute: "teller", InList: ptr("pilot-tellers")},
			{Not: &Condition{Any: []Condition{
				{Attribute: "branch", Is: ptr("9001/3201")}, {Not: &Condition{Attribute: "branch", InList: ptr("pilot-branches")}}}}},
		}}},
		Rule{Name: "b", Priority: 2, Then: Outcome{Version: "v2"}, When: &Condition{Attribute: "branch", Prefix: ptr("9001/32")}},
		Rule{Name: "c", Priority: 1, Then: Outcome{Version: "v2"}, When: &Condition{Attribute: "branch", Present: ptr(true)}},
		Rule{Name: "d", Then: Outcome{Version: "v2"}},
	)
	in := testInputs(t)
	compiled(t, d, in)
	mention := func(rule string, priority int, path, test string, negated bool) Mention {
		return Mention{Service: "counter", Rule: rule, Priority: priority, Path: path, Test: test, Negated: negated}
	}
	require.Equal(t, []Mention{
		mention("a", 3, "when.all[0].under", "branch 9001/3201 is under 9001/3200", false),
		mention("a", 3, "when.all[2].not.any[0].is", "branch is 9001/3201", true),
		mention("a", 3, "when.all[2].not.any[1].not.inList", "branch 9001/3201 is in list pilot-branches", false),
		mention("b", 2, "when.prefix", "branch 9001/3201 begins with 9001/32", false),
	}, MentionsOf(d, in, "branch", "9001/3201"))
	require.Empty(t, MentionsOf(d, in, "branch", "9001/3300"))
	require.Equal(t, []Mention{mention("a", 3, "when.all[1].inList", "teller is in list pilot-tellers", false)},
		MentionsOfList(d, "pilot-tellers"))
	require.Empty(t, MentionsOfList(d, "nobody"))
}

// TestListEdit holds edits to what the same does to a set, on random lists.
func TestListEdit(t *testing.T) {
	t.Parallel()
	for seed := range 300 {
		g := seeded(uint64(seed))
		values := func() []string {
			some := make([]string, g.IntN(40))
			for i := range some {
				some[i] = fmt.Sprintf("9001/%02d", g.IntN(60))
			}
			return some
		}
		have, add, remove := NewList("teller", values()), NewList("teller", values()), NewList("teller", values())
		want := map[string]bool{}
		for _, v := range append(have.Values(), add.Values()...) {
			want[v] = !remove.Contains(v)
		}
		kept := slices.DeleteFunc(sortedKeys(want), func(v string) bool { return !want[v] })
		added := slices.DeleteFunc(slices.Clone(kept), have.Contains)
		removed := slices.DeleteFunc(have.Values(), func(v string) bool { return !remove.Contains(v) })
		edited, n, m := have.Edit(add, remove)
		require.Equal(t, NewList("teller", kept), edited, "seed %d", seed)
		require.Equal(t, []int{len(added), len(removed)}, []int{n, m}, "seed %d", seed)
	}
}

func TestDecodeText(t *testing.T) {
	t.Parallel()
	const text = "code,parent,name\n3200,,江苏分行\n3201,3200,㐂网点😀\n"
	encoded, err := simplifiedchinese.GB18030.NewEncoder().String(text)
	require.NoError(t, err)
	for _, charset := range []string{"gb18030", "GBK", "gb2312"} {
		decoded, known, err := DecodeText([]byte(encoded), charset)
		require.NoError(t, err)
		require.True(t, known)
		require.Equal(t, text, string(decoded))
	}
	decoded, known, err := DecodeText([]byte(text), "")
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, text, string(decoded))
	_, known, _ = DecodeText(nil, "big5")
	require.False(t, known)
	_, _, err = DecodeText([]byte("3200,,\n支\xff\n"), "gb18030")
	require.EqualError(t, err, "2:2: the text is not GB18030, although it is declared as gb18030; "+
		"declare the charset that it is in, or save it as UTF-8")
}
