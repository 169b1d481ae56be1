package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
	"tellergate/internal/problem"
	"tellergate/rules"
)

// A recorded is one request that the fake server got.
type recorded struct {
	line, body string
	header     http.Header
}

// A fake is an admin API whose answers the test decides: path with query → answer. It notes what it was asked.
type fake struct {
	*httptest.Server
	answers map[string]any

	mu    sync.Mutex
	asked []recorded // guarded by mu
}

// An answer is a fake's answer that is not plain 200 JSON.
type answer struct {
	status      int
	contentType string
	body        any // marshalled unless it is a string
}

func newFake(t *testing.T, answers map[string]any) *fake {
	f := &fake{answers: answers}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	line := r.Method + " " + r.URL.RequestURI()
	f.mu.Lock()
	f.asked = append(f.asked, recorded{line, string(body), r.Header})
	f.mu.Unlock()
	value, ok := f.answers[line]
	if !ok {
		value = answer{404, api.ProblemJSON, &api.Error{Code: api.CodeNotFound, Detail: "the test has no answer to " + line}}
	}
	a, ok := value.(answer)
	if !ok {
		a = answer{200, api.JSON, value}
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set(api.ETagHeader, api.ETag(3))
	w.WriteHeader(a.status)
	if text, ok := a.body.(string); ok {
		io.WriteString(w, text)
	} else {
		json.NewEncoder(w).Encode(a.body)
	}
}

func (f *fake) terminal() terminal {
	return terminal{env: map[string]string{"TGCTL_SERVER": f.URL, "TGCTL_AUTHOR": "王小明", "LANG": "zh_CN.UTF-8"}}
}

// last is the latest request.
func (f *fake) last(t *testing.T) recorded {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.NotEmpty(t, f.asked)
	return f.asked[len(f.asked)-1]
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const headLine = "GET /api/v1/revisions?limit=1"

var ruleChange = []api.PartDiff{{Part: "rules", Change: api.PartChanged,
	Rules: "--- revision 3\n+++ draft\n@@ -1 +1 @@\n-    default: v1\n+    default: v2\n"}}

func TestApplySendsTheTextAsItIs(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]any{
		headLine: api.Revisions{Head: 3},
		"PUT /api/v1/rules": api.WriteResult{Revision: 4, Changed: true, Applied: true, Changes: ruleChange,
			Warnings: []problem.Problem{{Path: "services[counter].rules[pilot]", Line: 7, Column: 5,
				Message: "list pilot-tellers is empty", Remedy: "fill it"}}},
	})
	text := "# 试点\nservices: []\n"
	path := written(t, "rules.yaml", text)
	got := f.terminal().run("apply", path, "--reason", "试点扩大 100%")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, "rules changed\n--- revision 3\n+++ draft\n@@ -1 +1 @@\n-    default: v1\n+    default: v2\n"+
		"revision 4 is live\n", got.out)
	require.Equal(t, path+":7:5: warning: services[counter].rules[pilot]: list pilot-tellers is empty; fill it\n", got.err)
	sent := f.last(t)
	require.Equal(t, text, sent.body)
	require.Equal(t, api.YAML, sent.header.Get("Content-Type"))
	require.Equal(t, `"3"`, sent.header.Get("If-Match"))
	require.Equal(t, "王小明", sent.header.Get(api.AuthorHeader))
	require.Equal(t, "%E8%AF%95%E7%82%B9%E6%89%A9%E5%A4%A7%20100%25", sent.header.Get(api.ReasonHeader))

	got = f.terminal().run("apply", path, "--if-revision", "2")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, `"2"`, f.last(t).header.Get("If-Match"))
}

func TestOutcomesOfApply(t *testing.T) {
	t.Parallel()
	three := uint64(3)
	tests := []struct {
		name     string
		answer   any
		code     int
		out, err string // FILE stands for the file
	}{
		{"as it was", api.WriteResult{Revision: 3, Applied: true}, exitDone,
			"nothing to change: revision 3 is so already\n", ""},
		{"stored, not live", answer{202, api.JSON, api.WriteResult{Revision: 4, Changed: true, NotApplied: "the pods are slow."}},
			exitNotApplied, "revision 4 is stored, not live\n",
			"tgctl: revision 4 is stored, but the replica that was asked does not run it yet: the pods are slow; see tgctl status\n"},
		{"faults", answer{422, api.ProblemJSON, &api.Error{Code: api.CodeInvalid, Detail: "the rule document does not compile; nothing was changed",
			Problems: []problem.Problem{{Path: "services[counter].default", Line: 3, Column: 14,
				Message: "version v9 does not exist", Remedy: "name one of v1, v2"}}}},
			exitRefused, "", "tgctl: the rule document does not compile; nothing was changed\n" +
				"FILE:3:14: services[counter].default: version v9 does not exist; name one of v1, v2\n"},
		{"conflict", answer{412, api.ProblemJSON, &api.Error{Code: api.CodeStaleRevision, Revision: &three,
			Detail: "the head is revision 3, not 2"}}, exitConflict, "", "tgctl: the head is revision 3, not 2\n" +
			"tgctl: tgctl history and tgctl diff N show what came in between\n"},
		{"required", answer{428, api.ProblemJSON, &api.Error{Code: api.CodeRevisionRequired, Detail: "If-Match is missing"}},
			exitConflict, "", "tgctl: If-Match is missing\n"},
		{"store down", answer{503, api.ProblemJSON, &api.Error{Code: api.CodeUnavailable, Detail: "the store does not answer"}},
			exitRefused, "", "tgctl: the store does not answer\n"},
		{"another server", answer{405, "text/html", "<html>"}, exitRefused, "", "tgctl: the server at URL answered 405 Method " +
			"Not Allowed to PUT /api/v1/rules, not as an admin API of tellergate does; correct --server if it is something else\n"},
		{"not JSON", answer{200, "text/html", "<html>"}, exitRefused, "", "tgctl: the answer of URL to PUT /api/v1/rules is not " +
			"what an admin API of tellergate sends: invalid character '<' looking for beginning of value; correct --server if it " +
			"is something else, or use the tgctl of the server's version\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, map[string]any{headLine: api.Revisions{Head: 3}, "PUT /api/v1/rules": test.answer})
			path := written(t, "rules.yaml", "services: []\n")
			got := f.terminal().run("apply", path)
			want := strings.NewReplacer("FILE", path, "URL", f.URL).Replace(test.err)
			require.Equal(t, invocation{test.code, test.out, want}, got)
		})
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]any{"POST /api/v1/rules/check": api.CheckResult{Revision: 3, Valid: true, Changes: ruleChange}})
	path := written(t, "rules.yaml", "services: []\n")
	got := f.terminal().run("apply", path, "--dry-run")
	require.Equal(t, exitDone, got.code)
	require.Contains(t, got.out, "+    default: v2\n"+path+": 0 problems, 0 warnings\n")
	require.Equal(t, "tgctl: dry run, nothing was changed; revision 3 stays\n", got.err)

	got = f.terminal().run("apply", path, "--dry-run", "--if-revision", "2")
	require.Equal(t, exitConflict, got.code)

	got = f.terminal().run("diff", path)
	require.Equal(t, invocation{exitNo, "rules changed\n" + ruleChange[0].Rules, ""}, got)
}

func TestDiffOfRevisions(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]any{
		"GET /api/v1/revisions/1/diff": api.Diff{From: 1, To: 3, Parts: []api.PartDiff{
			{Part: "rules", Change: api.PartChanged},
			{Part: "lists/pilot-tellers", Change: api.PartChanged, List: &api.ListDiff{Added: 3, Removed: 1,
				AddedExamples: []string{"9001/0003", "9001/0004"}, RemovedExamples: []string{"9001/0001"}, AttributeBefore: "branch"}},
			{Part: "organisations/9001", Change: api.PartAdded, Organisation: &api.OrganisationDiff{Added: 1, Moved: 1,
				Renamed: 2, AddedExamples: []string{"3201"}, MovedExamples: []string{"3202"}}},
			{Part: "overrides/counter", Change: api.PartRemoved, Override: &api.OverrideDiff{Before: &rules.Override{
				Version: "v1", Pinned: rules.PinnedKeep, Reason: "v2 fails"}}},
		}},
		"GET /api/v1/revisions/1/diff?to=2": api.Diff{From: 1, To: 2},
	})
	got := f.terminal().run("diff", "1")
	require.Equal(t, exitNo, got.code)
	golden(t, "diff.txt", got.out)
	require.Equal(t, invocation{}, f.terminal().run("diff", "1", "2"))
}

func TestTables(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort("10.2.0.7:8080")
	counter := api.ServiceStatus{
		Name: "counter", Default: "v1", Rules: 2, Match: rules.Match{Frontends: []string{"counter"}},
		Override: &rules.Override{Version: "v1", Pinned: rules.PinnedMove, Reason: "v2 过账失败"},
		Versions: []api.VersionStatus{
			{Name: "v1", State: "active", Usable: true, Sessions: 12, Endpoints: []api.Endpoint{
				{Address: address, State: "active", Usable: true, InFlight: 3},
				{Address: netip.MustParseAddrPort("10.2.0.8:8080"), State: "draining"}}},
			{Name: "v2", State: "disabled", Fallback: "v1"},
		},
	}
	f := newFake(t, map[string]any{
		"GET /api/v1/services":         api.Services{Revision: 3, Services: []api.ServiceStatus{counter}},
		"GET /api/v1/services/counter": counter,
		"GET /api/v1/sessions?branch=9001%2F3201&limit=100&service=counter": api.Sessions{Sessions: []api.Session{
			{ID: "6f1c2a", Service: "counter", Version: "v1", Endpoint: address, Subject: "9001/0001", Branch: "9001/3201",
				Keys: []string{"teller"}, Revision: 3, Start: noon, LastSeen: noon.Add(time.Minute), Latest: noon.Add(10 * time.Hour)},
			{ID: "7f1c2a", Service: "counter", Version: "v2", Keys: []string{"session"}, Start: noon}}},
		"GET /api/v1/revisions?limit=2": api.Revisions{Head: 3, Next: 2, Revisions: []api.Revision{
			{Seq: 3, Author: "王小明", Reason: "试点扩大", At: noon, Changed: []string{"rules", "lists/pilot-tellers"}},
			{Seq: 2, Author: "operator", At: noon}}},
		"GET /api/v1/lists": api.Lists{Revision: 3, Lists: []api.ListInfo{
			{Name: "pilot-tellers", Attribute: "teller", Values: 100000, UsedBy: []string{"counter/pilot"}}}},
		"GET /api/v1/organisations": api.Organisations{Revision: 3, Organisations: []api.OrganisationInfo{
			{LegalEntity: "9001", Branches: 6}}},
		"GET /readyz": answer{503, api.JSON, api.Readiness{Missing: []string{"no rules yet"}, Notes: []string{"one replica only"}}},
		"GET /api/v1/replicas": api.Replicas{Replicas: []api.Replica{
			{Name: "gate-1", Revision: 2, Since: noon, Head: 3, Failing: "no such list", Version: "v0.1"}}},
	})
	var all strings.Builder
	for _, args := range [][]string{
		{"services"}, {"services", "counter"}, {"services", "-o", "yaml"}, {"services", "counter", "-o", "json"},
		{"sessions", "--service", "counter", "--branch", "9001/3201"}, {"history", "--limit", "2"},
		{"list", "get"}, {"get", "list"}, {"organisation", "get"}, {"status"}, {"status", "-o", "yaml"},
	} {
		got := f.terminal().run(args...)
		want := exitDone
		if args[0] == "status" {
			want = exitNo
		}
		require.Equal(t, want, got.code, "%v: %s", args, got.err)
		all.WriteString("$ tgctl " + strings.Join(args, " ") + "\n" + got.out + got.err + "\n")
	}
	golden(t, "tables.txt", all.String())
}

func TestExplainOnline(t *testing.T) {
	t.Parallel()
	bucket := 4711
	f := newFake(t, map[string]any{"POST /api/v1/explain": api.ExplainResult{
		Explanation: rules.Explanation{
			Service: "counter", Version: "v2", Wanted: "v2", Reason: "rule", Rule: "pilot-branches", Bucket: &bucket,
			Steps: []string{"the session has no pin", "rule pilot-branches (priority 200) matches: version v2"},
			Rules: []rules.RuleExplanation{
				{Name: "pilot-branches", Priority: 200, Matched: true, Decided: true, Conditions: rules.ConditionExplanation{
					Holds: true, Text: "all of these hold", Parts: []rules.ConditionExplanation{
						{Holds: true, Text: "branch 9001/3201 is under 9001/3200"},
						{Holds: true, Text: "not", Parts: []rules.ConditionExplanation{{Text: "path / is not below /teller/eod"}}}}}},
				{Name: "one-percent", Priority: 100, Conditions: rules.ConditionExplanation{Text: "legalEntity is missing"}},
			},
		},
		Revision:   3,
		Attributes: map[string]string{"teller": "9001/0001", "branch": "9001/3201"},
		Pin:        &api.Pin{Version: "v1", Key: "teller", Revision: 2},
		Endpoints:  []api.Endpoint{{Address: netip.MustParseAddrPort("10.2.0.7:8080"), State: "active", Usable: true}},
	}})
	args := []string{"explain", "--branch", "3201", "--teller", "0001", "--legal-entity", "9001", "--session", "abc",
		"--attr", "terminal=T=1", "--header", "X-Channel: counter", "--header", "X-Trace=1", "--host", "counter.bank",
		"--path", "/teller", "--method", "POST", "--frontend", "counter", "--source", "10.1.2.3", "--ignore-pins"}
	got := f.terminal().run(args...)
	require.Equal(t, exitDone, got.code, got.err)
	golden(t, "explain.txt", got.out)
	require.JSONEq(t, `{"frontend":"counter","host":"counter.bank","method":"POST","path":"/teller","source":"10.1.2.3",
		"attributes":{"branch":"3201","teller":"0001","legalEntity":"9001","session":"abc","terminal":"T=1"},
		"headers":{"X-Channel":"counter","X-Trace":"1"},"ignorePins":true}`, f.last(t).body)
	got = terminal{env: map[string]string{"TGCTL_SERVER": f.URL, "LANG": "C"}}.run(args...)
	golden(t, "explain-ascii.txt", got.out)
}

func TestListUpAndDown(t *testing.T) {
	t.Parallel()
	csv := "teller\n9001/0001\n"
	f := newFake(t, map[string]any{
		"GET /api/v1/lists":                        api.Lists{Lists: []api.ListInfo{{Name: "pilot", Attribute: "teller"}}},
		"PUT /api/v1/lists/pilot?attribute=teller": api.WriteResult{Revision: 4, Changed: true, Applied: true},
		"GET /api/v1/lists/pilot":                  answer{200, api.CSV, csv},
		headLine:                                   api.Revisions{Head: 3},
		"DELETE /api/v1/lists/pilot": answer{422, api.ProblemJSON, &api.Error{Detail: "the list is used",
			Problems: []problem.Problem{{Path: "services[counter].rules[pilot]", Message: "it uses list pilot", Remedy: "change the rule"}}}},
	})
	got := f.terminal().run("list", "put", "pilot", "--file", written(t, "x.csv", csv))
	require.Equal(t, invocation{exitDone, "revision 4 is live\n", ""}, got)
	require.Equal(t, csv, f.last(t).body)
	require.Equal(t, api.CSV, f.last(t).header.Get("Content-Type"))
	require.Equal(t, `"3"`, f.last(t).header.Get("If-Match"))

	stdin := f.terminal()
	stdin.in = csv
	got = stdin.run("list", "put", "pilot")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, csv, f.last(t).body)

	got = f.terminal().run("list", "put", "new", "--file", written(t, "x.csv", csv))
	require.Equal(t, invocation{exitUsage, "", "tgctl: there is no list new yet; say with --attribute whose values it " +
		"holds, for example teller\n"}, got)

	require.Equal(t, invocation{exitDone, csv, ""}, f.terminal().run("list", "get", "pilot"))
	require.Equal(t, api.CSV, f.last(t).header.Get("Accept"))
	target := filepath.Join(t.TempDir(), "out.csv")
	require.Equal(t, invocation{}, f.terminal().run("get", "list", "pilot", "--file", target))
	saved, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, csv, string(saved))

	got = f.terminal().run("list", "delete", "pilot")
	require.Equal(t, invocation{exitRefused, "", "tgctl: the list is used\nrules: services[counter].rules[pilot]: it uses list " +
		"pilot; change the rule\n"}, got)
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	got := terminal{}.run("history", "--server", address)
	require.Equal(t, invocation{exitUnreachable, "", "tgctl: cannot reach the admin API at http://" + address + ": dial tcp " +
		address + ": connect: connection refused; start tellergate there, or name another with --server or TGCTL_SERVER\n"}, got)

	done := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer slow.Close()
	defer close(done)
	got = terminal{}.run("sessions", "end", "x", "--server", slow.URL, "--timeout", "50ms")
	require.Equal(t, invocation{exitUnreachable, "", "tgctl: the admin API at " + slow.URL + " did not answer within 50ms; " +
		"allow more with --timeout, but look first whether the change was made (tgctl history)\n"}, got)
}
