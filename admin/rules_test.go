package admin_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/admin"
	"tellergate/admin/api"
	"tellergate/internal/live"
)

// newBank returns a replica that runs testdata/rules.yaml with its list and organisation: revision 3.
func newBank(t testing.TB, change ...func(*admin.Options)) *replica {
	t.Helper()
	r := newReplica(t, change...)
	r.put(api.OrganisationPath("9001"), api.CSV, read(t, "testdata/organisation.csv"))
	r.put(api.ListPath("pilot-tellers"), api.JSON, `{"attribute":"teller","values":["9001/0007","9001/0008"]}`)
	r.put(api.RulesPath, api.YAML, read(t, "testdata/rules.yaml"))
	return r
}

func TestEmptyState(t *testing.T) {
	t.Parallel()
	r := newReplica(t)
	got := r.do("GET", api.RulesPath, "")
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, `"0"`, got.header.Get("ETag"))
	require.Equal(t, api.JSON, got.header.Get("Content-Type"))
	require.JSONEq(t, `{"services":[]}`, string(got.body))
	require.Empty(t, decode[api.Lists](t, r.do("GET", api.ListsPath, "")).Lists)
	require.Empty(t, decode[api.Revisions](t, r.do("GET", api.RevisionsPath, "")).Revisions)
	require.Empty(t, decode[api.Services](t, r.do("GET", api.ServicesPath, "")).Services)
	require.Empty(t, decode[api.Revision](t, r.do("GET", api.RevisionPath(0), "")).Parts)
}

func TestDocumentIsKeptAsItWasSent(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	text := read(t, "testdata/rules.yaml")

	got := r.do("GET", api.RulesPath, "", "Accept", "application/yaml")
	require.Equal(t, text, string(got.body))
	require.Equal(t, api.YAML, got.header.Get("Content-Type"))
	require.Equal(t, `"3"`, got.header.Get("ETag"))

	again := r.put(api.RulesPath, api.YAML, text)
	require.False(t, again.Changed, "identical content makes no revision")
	require.True(t, again.Applied)
	require.Equal(t, uint64(3), again.Revision)
	require.Empty(t, again.Changes)
}

func TestDocumentAsJSONCanBeSentBack(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	got := r.do("GET", api.RulesPath, "")
	sent := r.put(api.RulesPath, api.JSON, string(got.body))
	require.True(t, sent.Changed)
	require.Len(t, sent.Changes, 1)
	require.Empty(t, sent.Changes[0].Rules, "the same rules spelt otherwise")
	require.JSONEq(t, string(got.body), string(r.do("GET", api.RulesPath, "").body))

	printed := r.do("GET", api.RulesPath, "", "Accept", "application/yaml")
	require.True(t, strings.HasPrefix(string(printed.body), "services:\n"), "JSON is printed where YAML is asked for")
}

func TestAuthorAndReasonStandInTheHistory(t *testing.T) {
	t.Parallel()
	r := newReplica(t)
	got := r.do("PUT", api.RulesPath, read(t, "testdata/rules.yaml"), "Content-Type", api.YAML, "If-Match", `"0"`)
	require.Equal(t, http.StatusUnprocessableEntity, got.status, "list and organisation are not there yet")

	got = r.do("PUT", api.OrganisationPath("9001"), read(t, "testdata/organisation.csv"),
		"Content-Type", "text/csv; charset=UTF-8", "If-Match", `"0"`, "X-Author", "王芳", "X-Reason", url.PathEscape("新网点 100%"))
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	revision := decode[api.Revision](t, r.do("GET", api.RevisionPath(1), ""))
	require.Equal(t, "王芳", revision.Author)
	require.Equal(t, "新网点 100%", revision.Reason)
	require.Equal(t, []string{"organisations/9001"}, revision.Changed)
	require.WithinDuration(t, time.Now(), revision.At, time.Minute)

}

func TestCheckTellsWhatWouldChange(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	draft := strings.Replace(read(t, "testdata/rules.yaml"), "priority: 200", "priority: 300", 1)
	check := decode[api.CheckResult](t, r.do("POST", api.RulesCheckPath, draft, "Content-Type", api.YAML))
	require.True(t, check.Valid, "%v", check.Problems)
	require.Equal(t, uint64(3), check.Revision)
	require.Len(t, check.Changes, 1)
	require.Contains(t, check.Changes[0].Rules, "-        priority: 200\n+        priority: 300\n")

	draft = strings.Replace(draft, "version: v2", "version: v9", 2)
	got := r.do("POST", api.RulesCheckPath, draft, "Content-Type", api.YAML)
	require.Equal(t, http.StatusOK, got.status)
	check = decode[api.CheckResult](t, got)
	require.False(t, check.Valid)
	require.Len(t, check.Problems, 2)
	require.Equal(t, `"3"`, r.etag(), "a check stores nothing")
}

func TestOfTwoWritersOneIsTold(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	const writers = 8
	answers := make([]answer, writers)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			name := "list-" + string(rune('a'+i))
			answers[i] = r.do("PUT", api.ListPath(name), `{"attribute":"teller","values":[]}`, "If-Match", `"3"`)
		})
	}
	group.Wait()
	made := 0
	for _, got := range answers {
		if got.status == http.StatusOK {
			made++
			continue
		}
		require.Equal(t, http.StatusPreconditionFailed, got.status, "%s", got.body)
		require.Equal(t, `"4"`, got.header.Get("ETag"))
		require.Equal(t, uint64(4), *decode[api.Error](t, got).Revision)
	}
	require.Equal(t, 1, made)
}

func TestStoredButNotRunIsSaid(t *testing.T) {
	t.Parallel()
	r := newBank(t, func(o *admin.Options) { o.ApplyTimeout = 100 * time.Millisecond })
	r.publish = func(*live.Generation) error { return errors.New("the pods of v1 cannot be bound") }
	got := r.do("PUT", api.ListPath("vip"), `{"attribute":"teller","values":[]}`, "If-Match", `"3"`)
	require.Equal(t, http.StatusAccepted, got.status)
	result := decode[api.WriteResult](t, got)
	require.True(t, result.Changed)
	require.False(t, result.Applied)
	require.Contains(t, result.NotApplied, "the pods of v1 cannot be bound")

	replicas := decode[api.Replicas](t, r.do("GET", api.ReplicasPath, "")).Replicas
	require.Len(t, replicas, 1)
	require.Equal(t, "here", replicas[0].Name)
	require.Equal(t, uint64(3), replicas[0].Revision)
	require.Equal(t, uint64(4), replicas[0].Head)
	require.Contains(t, replicas[0].Failing, "the pods of v1 cannot be bound")
}
