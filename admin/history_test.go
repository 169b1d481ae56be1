package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
	"tellergate/rules"
)

func TestHistoryIsPaged(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	first := decode[api.Revisions](t, r.do("GET", api.RevisionsPath+"?limit=2", ""))
	require.Equal(t, uint64(3), first.Head)
	require.Equal(t, []uint64{3, 2}, []uint64{first.Revisions[0].Seq, first.Revisions[1].Seq})
	require.Equal(t, []string{"rules"}, first.Revisions[0].Changed)
	require.Equal(t, []string{"lists/pilot-tellers"}, first.Revisions[1].Changed, "the parent lies on the next page")
	require.Equal(t, "anonymous", first.Revisions[0].Author)
	require.Equal(t, uint64(2), first.Next)

	last := decode[api.Revisions](t, r.do("GET", api.RevisionsPath+"?limit=2&before=2", ""))
	require.Len(t, last.Revisions, 1)
	require.Equal(t, []string{"organisations/9001"}, last.Revisions[0].Changed)
	require.Zero(t, last.Next)
}

func TestDiffOfEveryKindOfPart(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	r.put(api.ListPath("pilot-tellers")+"?attribute=teller", api.CSV, "teller\n9001/0008\n9001/0009\n9001/0010\n")
	r.put(api.OrganisationPath("9001"), api.CSV, "0001,,总行\n3200,0001,江苏\n3202,0001,\n3203,3200,\n")
	got := r.do("PUT", api.OverridePath("counter"), `{"version":"v1","pinned":"keep","reason":"night"}`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	r.put(api.RulesPath, api.YAML, strings.Replace(read(t, "testdata/rules.yaml"), "priority: 200", "priority: 300", 1))

	diff := decode[api.Diff](t, r.do("GET", api.RevisionPath(3)+"/diff", ""))
	require.Equal(t, uint64(7), diff.To, "without to it is the head")
	require.Len(t, diff.Parts, 4)
	require.Equal(t, "rules", diff.Parts[0].Part)
	require.Equal(t, api.PartChanged, diff.Parts[0].Change)
	require.Contains(t, diff.Parts[0].Rules, "+        priority: 300\n")
	require.Equal(t, api.PartDiff{Part: "lists/pilot-tellers", Change: api.PartChanged, List: &api.ListDiff{
		Added: 2, Removed: 1, AddedExamples: []string{"9001/0009", "9001/0010"}, RemovedExamples: []string{"9001/0007"},
	}}, diff.Parts[1])
	require.Equal(t, api.PartDiff{Part: "organisations/9001", Change: api.PartChanged, Organisation: &api.OrganisationDiff{
		Added: 1, Removed: 1, Moved: 1, Renamed: 1, AddedExamples: []string{"3203"}, RemovedExamples: []string{"3201"},
		MovedExamples: []string{"3202"},
	}}, diff.Parts[2])
	require.Equal(t, api.PartDiff{Part: "overrides/counter", Change: api.PartAdded, Override: &api.OverrideDiff{
		After: &rules.Override{Version: "v1", Pinned: "keep", Reason: "night"},
	}}, diff.Parts[3])

	back := decode[api.Diff](t, r.do("GET", api.DiffPath(7, 0), ""))
	require.Len(t, back.Parts, 4)
	for _, part := range back.Parts {
		require.Equal(t, api.PartRemoved, part.Change)
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	text := read(t, "testdata/rules.yaml")
	r.put(api.RulesPath, api.YAML, strings.Replace(text, "priority: 200", "priority: 300", 1))
	r.put(api.ListPath("pilot-tellers"), api.JSON, `{"attribute":"teller","values":[]}`)

	got := r.do("POST", api.RestorePath(3), `{}`, "If-Match", `"5"`, "X-Author", "ops")
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	result := decode[api.RestoreResult](t, got)
	require.Equal(t, uint64(6), result.Revision)
	require.Equal(t, uint64(3), result.Restored)
	require.True(t, result.Applied)
	require.Len(t, result.Changes, 1, "the rules alone")
	require.Contains(t, result.Changes[0].Rules, "+        priority: 200\n")
	require.Equal(t, text, string(r.do("GET", api.RulesPath, "", "Accept", api.YAML).body))
	require.Equal(t, "teller\n", string(r.do("GET", api.ListPath("pilot-tellers"), "", "Accept", api.CSV).body))

	got = r.do("POST", api.RestorePath(3), `{"parts":["lists/pilot-tellers"]}`, "If-Match", `"6"`)
	require.Equal(t, 2, decode[api.RestoreResult](t, got).Changes[0].List.Added)

	r.put(api.ListPath("vip"), api.JSON, `{"attribute":"teller","values":["9001/1"]}`)
	got = r.do("POST", api.RestorePath(7), `{"parts":["lists/vip"]}`, "If-Match", `"8"`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Equal(t, http.StatusNotFound, r.do("GET", api.ListPath("vip"), "").status, "it did not exist then")

	got = r.do("POST", api.RestorePath(9), `{}`, "If-Match", `"9"`)
	require.False(t, decode[api.RestoreResult](t, got).Changed, "the rules are so already")
}
