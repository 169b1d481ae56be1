package admin_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
)

// TestFaults holds every error document word for word: testdata/faults/NAME.json. Renew: go test ./admin -run Faults
// -update. Each is also asked to have changed nothing.
func TestFaults(t *testing.T) {
	t.Parallel()
	rules := read(t, "testdata/rules.yaml")
	in := func(old, with string) string {
		require.Contains(t, rules, old)
		return strings.Replace(rules, old, with, 1)
	}
	const put, post, yaml = "PUT", "POST", api.YAML
	asJSON := []string{"If-Match", `"3"`}
	asYAML := []string{"If-Match", `"3"`, "Content-Type", yaml}
	asCSV := []string{"If-Match", `"3"`, "Content-Type", api.CSV}
	split := func(weights string) string {
		return in("then: {version: v2}", "then: {split: ["+weights+"], by: [teller], salt: s}")
	}
	type call struct {
		name, method, path, body string
		headers                  []string
		status                   int
	}
	document := func(name, text string) call {
		return call{name, put, api.RulesPath, text, asYAML, 422}
	}
	calls := []call{
		document("unknown-key", in("default: v1", "defualt: v1")),
		document("wrong-type", in("priority: 200", "priority: high")),
		document("weights-do-not-sum", split("{version: v1, weight: 9000}, {version: v2, weight: 500}")),
		document("equal-priorities", in("priority: 200", "priority: 100")),
		document("unknown-version", in("then: {version: v2}", "then: {version: v7}")),
		document("unknown-list", in("inList: pilot-tellers", "inList: pilots")),
		document("unknown-attribute", in("attribute: teller, inList", "attribute: cashier, inList")),
		document("unknown-branch", in("9001/3200", "9001/3299")),
		document("empty-inline-in", in("inList: pilot-tellers", "in: []")),
		document("unquoted-number", in("inList: pilot-tellers", "in: [0012]")),
		document("list-of-another-attribute", in("attribute: teller, inList", "attribute: branch, inList")),
		document("cycle-of-fallbacks", in("7002\"]}}", "7002\"]}, fallback: v2}")),
		document("default-not-active", in("default: v1", "default: v3")),
		document("duplicate-names", in("name: pilot-branches", "name: pilot-tellers")),
		document("bad-cidr", in("{attribute: branch, under: \"9001/3200\"}", "{source: 10.0.0.0/33}")),
		document("bad-regexp", in("under: \"9001/3200\"", "matches: \"(\"")),
		document("not-utf-8", in("The counter", "\xb9\xf1\xcc\xa8")),
		document("several-faults", in("default: v1", "default: v9")+
			"      - {name: pilot-tellers, priority: 1, then: {version: v8}}\n"),
		{"document-too-large", put, api.RulesPath, strings.Repeat("#", 64<<20+1), asYAML, 413},
		{"no-if-match", put, api.RulesPath, rules, []string{"Content-Type", yaml}, 428},
		{"if-match-anything", put, api.RulesPath, rules, []string{"Content-Type", yaml, "If-Match", "*"}, 428},
		{"if-match-stale", put, api.RulesPath, rules, []string{"Content-Type", yaml, "If-Match", `"2"`}, 412},
		{"if-match-weak", put, api.RulesPath, rules, []string{"Content-Type", yaml, "If-Match", `W/"3"`}, 412},
		{"empty-body", put, api.RulesPath, "", asYAML, 400},
		{"reason-not-encoded", put, api.RulesPath, rules,
			[]string{"Content-Type", yaml, "If-Match", `"3"`, "X-Reason", "100%"}, 400},

		{"delete-used-list", "DELETE", api.ListPath("pilot-tellers"), "", asJSON, 422},
		{"delete-unknown-list", "DELETE", api.ListPath("nobody"), "", asJSON, 404},
		{"get-unknown-list", "GET", api.ListPath("nobody"), "", nil, 404},
		{"list-of-undeclared-attribute", put, api.ListPath("x"), `{"attribute":"cashier","values":["1"]}`, asJSON, 422},
		{"list-of-numbers", put, api.ListPath("x"), `{"attribute":"teller","values":[12]}`, asJSON, 422},
		{"list-without-pairs", put, api.ListPath("x"), `{"attribute":"teller","values":["0012"]}`, asJSON, 422},
		{"list-attribute-changed-in-use", put, api.ListPath("pilot-tellers"), `{"attribute":"branch","values":["9001/3200"]}`,
			asJSON, 422},
		{"list-csv-without-attribute", put, api.ListPath("x"), "9001/0012\n", asCSV, 422},
		{"list-csv-not-utf-8", put, api.ListPath("x") + "?attribute=teller", "9001/\xb9\xf1\n", asCSV, 422},
		{"list-name-with-slash", put, api.ListPath("a/b"), `{"attribute":"teller","values":[]}`, asJSON, 422},

		{"delete-used-organisation", "DELETE", api.OrganisationPath("9001"), "", asJSON, 422},
		{"organisation-loses-used-branch", put, api.OrganisationPath("9001"), "0001,\n", asCSV, 422},
		{"organisation-cycle", put, api.OrganisationPath("9001"), "3200,3201\n3201,3200\n", asCSV, 422},

		{"override-to-disabled", put, api.OverridePath("counter"), `{"version":"v3","pinned":"move","reason":"x"}`, nil, 422},
		{"override-of-unknown-service", put, api.OverridePath("loans"), `{"version":"v1","pinned":"move","reason":"x"}`, nil, 422},
		{"override-pinned-misspelt", put, api.OverridePath("counter"), `{"version":"v1","pinned":"moved","reason":"x"}`, nil, 422},
		{"override-unknown-key", put, api.OverridePath("counter"), `{"version":"v1","pinned":"move","reason":"x","until":"noon"}`, nil, 422},
		{"override-not-json", put, api.OverridePath("counter"), `version: v1`, nil, 400},
		{"override-not-utf-8", put, api.OverridePath("counter"), "{\"version\":\"\xff\"}", nil, 400},

		{"revision-unknown", "GET", api.RevisionPath(99), "", nil, 404},
		{"revision-no-number", "GET", api.RevisionsPath + "/last", "", nil, 422},
		{"diff-to-unknown", "GET", api.DiffPath(1, 99), "", nil, 404},
		{"restore-unknown", post, api.RestorePath(99), "{}", asJSON, 404},
		{"restore-before-rules", post, api.RestorePath(2), "{}", asJSON, 422},
		{"restore-unknown-part", post, api.RestorePath(3), `{"parts":["lists/none","rules","rules"]}`, asJSON, 422},
		{"restore-without-if-match", post, api.RestorePath(3), "{}", nil, 428},
		{"restore-breaks-rules", post, api.RestorePath(1), `{"parts":["lists/pilot-tellers"]}`, asJSON, 422},

		{"explain-bad-input", post, api.ExplainPath, `{"path":"teller","source":"10.0.0.1:80","attributes":{"cashier":"1"}}`, nil, 422},
		{"explain-unknown-service", post, api.ExplainPath, `{"service":"loans"}`, nil, 404},
		{"explain-bad-draft", post, api.ExplainPath, `{"document":"services: 3"}`, nil, 422},
		{"service-unknown", "GET", api.ServicePath("loans"), "", nil, 404},
		{"session-unknown", "DELETE", api.SessionPath("nobody"), "", nil, 404},
		{"session-move-unknown", post, api.MovePath("nobody"), `{"version":"v2"}`, nil, 404},
		{"sessions-of-unknown-service", "GET", api.SessionsPath + "?service=loans", "", nil, 422},
		{"sessions-of-unknown-version", "GET", api.SessionsPath + "?service=counter&version=v7", "", nil, 422},
		{"sessions-of-bare-branch", "GET", api.SessionsPath + "?branch=3201", "", nil, 422},
		{"sessions-bad-cursor", "GET", api.SessionsPath + "?after=x", "", nil, 400},
		{"sessions-bad-limit", "GET", api.SessionsPath + "?limit=0", "", nil, 422},
		{"unknown-query", "GET", api.SessionsPath + "?servce=counter", "", nil, 422},
		{"unknown-call", "GET", "/api/v1/rulez", "", nil, 404},
		{"method-not-allowed", "PATCH", api.RulesPath, "{}", nil, 405},
		{"not-acceptable", "GET", api.RulesPath, "", []string{"Accept", "text/html"}, 406},

		{"write-without-content-type", put, api.OverridePath("counter"), "{}", []string{"Content-Type", ""}, 415},
		{"write-as-form", put, api.OverridePath("counter"), "{}",
			[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{"write-as-text", post, api.MovePath("x"), "{}", []string{"Content-Type", "text/plain"}, 415},
		{"write-in-big5", put, api.ListPath("x"), "1",
			[]string{"Content-Type", "text/csv; charset=big5", "If-Match", `"3"`}, 415},
		{"foreign-host", "GET", api.RulesPath, "", []string{"Host", "rebound.example:9180"}, 421},
		{"foreign-origin", "DELETE", api.OverridePath("counter"), "", []string{"Origin", "https://evil.example"}, 403},
		{"foreign-site", "GET", "/debug/pprof/profile", "", []string{"Sec-Fetch-Site", "cross-site"}, 403},
	}
	r := newBank(t)
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			got := r.do(c.method, c.path, c.body, c.headers...)
			require.Equal(t, c.status, got.status, "%s", got.body)
			require.Equal(t, api.ProblemJSON, got.header.Get("Content-Type"))
			e := decode[api.Error](t, got)
			require.Equal(t, c.status, e.Status)
			require.Equal(t, `"3"`, r.etag(), "something was changed")

			var pretty bytes.Buffer
			require.NoError(t, json.Indent(&pretty, got.body, "", "  "))
			path := filepath.Join("testdata", "faults", c.name+".json")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, pretty.Bytes(), 0o644))
			}
			require.Equal(t, read(t, path), pretty.String())
		})
	}
	golden, err := os.ReadDir("testdata/faults")
	require.NoError(t, err)
	require.Len(t, golden, len(calls), "a golden answer that no call gives")
}

func TestLoopbackHostsAndOwnPagesAreServed(t *testing.T) {
	t.Parallel()
	r := newReplica(t)
	for _, host := range []string{"localhost", "LOCALHOST:9180", "127.0.0.1", "127.8.8.8:1", "[::1]:9180", "[::1]",
		"[::ffff:127.0.0.1]:80"} {
		require.Equal(t, http.StatusOK, r.do("GET", "/healthz", "", "Host", host).status, host)
	}
	for _, host := range []string{"", "localhost.evil.example", "10.0.0.1:9180", "127.0.0.1.nip.io",
		"localhost@evil.example",
		"[::2]:9180", "0.0.0.0:9180", "evil.example#127.0.0.1", "127.0.0.1/x"} {
		require.Equal(t, http.StatusMisdirectedRequest, r.do("GET", "/healthz", "", "Host", host).status, host)
	}
	require.Equal(t, http.StatusOK, r.do("GET", "/healthz", "", "Origin", "http://localhost:3000").status)
	for _, origin := range []string{"null", "https://10.0.0.1", "file://", "http://localhost.evil.example"} {
		require.Equal(t, http.StatusForbidden, r.do("GET", "/healthz", "", "Origin", origin).status, origin)
	}
}
