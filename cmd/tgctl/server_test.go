package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"tellergate/admin"
	"tellergate/admin/api"
	"tellergate/config"
	"tellergate/internal/content"
	"tellergate/internal/live"
	"tellergate/rules"
	"tellergate/session"
	"tellergate/store/file"
)

// A podless says of every version that its one pod is there.
type podless struct{}

func (podless) Endpoints(string, string) []api.Endpoint {
	return []api.Endpoint{{Address: netip.MustParseAddrPort("10.2.0.7:8080"), State: "active", Usable: true}}
}

// newServer starts the real admin API on a store of its own, with the embedded default settings and without a data plane.
func newServer(t *testing.T) (address string, pins *session.Memory) {
	t.Helper()
	settings, err := config.Load("")
	require.NoError(t, err)
	schema := schemaOf(settings)
	revisions, _, err := file.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, revisions.Close()) })
	reader := content.NewReader(revisions, nil)
	loop := live.New(revisions, reader, schema, func(*live.Generation) error { return nil })
	pins = session.NewMemory(1000, nil)
	fleet := session.NewAlone(pins, func() session.Replica { return selfOf(loop) })
	server, err := admin.New(admin.Options{
		Address: netip.MustParseAddrPort("127.0.0.1:0"), Replica: "gate-1", Schema: schema,
		Defaults: map[string]string{"legalEntity": "9001"}, Store: revisions, Reader: reader, Live: loop,
		Pins: pins, Ledger: pins, Fleet: fleet, Moves: fleet, Pods: podless{}, Ready: func() []string { return nil },
		Metrics: http.NotFoundHandler(), Log: zap.NewNop(),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = loop.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	require.NoError(t, loop.WaitApplied(t.Context(), 0))
	listener := httptest.NewServer(server.Handler())
	t.Cleanup(listener.Close)
	return listener.URL, pins
}

// selfOf says of the replica what the gateway says of itself.
func selfOf(loop *live.Loop) session.Replica {
	status := loop.Status()
	self := session.Replica{Name: "gate-1", Started: status.Since, Since: status.Since, Revision: status.Applied, Head: status.Head}
	current := loop.Current()
	for i := range current.Rules.Len() {
		for service, j := current.Rules.Service(i), 0; j < service.Len(); j++ {
			v := service.Version(j)
			self.Versions = append(self.Versions, session.Running{Service: service.Name(), Version: v.Name(),
				Active: v.State() == rules.StateActive, Resting: status.Since})
		}
	}
	return self
}

// TestAgainstTheServer walks through an operator's day, each step on what the one before left. shows is a regular
// expression on stdout followed by stderr; the server's own words are held by the tests of package admin.
func TestAgainstTheServer(t *testing.T) {
	t.Parallel()
	address, pins := newServer(t)
	operator := terminal{env: map[string]string{"TGCTL_SERVER": address, "TGCTL_AUTHOR": "wang", "LANG": "C.UTF-8"}}
	const rulesFile, faulty, data = "testdata/offline/rules.yaml", "testdata/offline/faulty.yaml", "testdata/offline/"
	step := func(code int, shows string, args ...string) {
		t.Helper()
		got := operator.run(args...)
		require.Equal(t, code, got.code, "tgctl %v:\n%s%s", args, got.out, got.err)
		require.Regexp(t, "(?s)"+shows, got.out+got.err, "tgctl %v", args)
	}
	step(exitDone, `^ready\n.*REPLICA .*\ngate-1 .* 0 `, "status")
	step(exitRefused, `^tgctl: .*\n`+rulesFile+`:15:43: services\[counter\].*inList: .*; .*\n$`, "apply", rulesFile)
	step(exitDone, `^lists/pilot-tellers added: 1 value added, 0 removed\n\+ 9001/0001\nrevision 1 is live\nrules: warning: `,
		"list", "put", "pilot-tellers", "--attribute", "teller", "--file", data+"tellers.csv")
	step(exitDone, `^organisations/9001 added: 2 branches added, .*revision 2 is live\n`,
		"organisation", "put", "9001", "--file", data+"branches.csv", "--reason", "机构调整")
	step(exitRefused, data+`loop.csv:2:1: `, "organisation", "put", "9001", "--file", data+"loop.csv")
	step(exitDone, `\+    default: v1\n.*`+rulesFile+`: 0 problems, 0 warnings\n$`, "check", rulesFile, "--server-side")
	step(exitNo, `^`+faulty+`:3:14: .*: 2 problems, 0 warnings\n$`, "check", faulty, "--server-side")
	step(exitNo, `^rules added\n.*\+    default: v1\n`, "diff", rulesFile)
	step(exitConflict, `tgctl history and tgctl diff N show`, "apply", rulesFile, "--if-revision", "1")
	step(exitDone, `^rules added\n.*revision 3 is live\n$`, "apply", rulesFile, "--reason", "试点 50%")
	step(exitDone, `^nothing to change: revision 3 is so already\n$`, "apply", rulesFile)
	step(exitDone, `^$`, "diff", rulesFile)
	step(exitRefused, `^tgctl: `+faulty+` has 2 problems:\n`+faulty+`:3:14: `, "diff", faulty)
	text, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	step(exitDone, `^`+regexp.QuoteMeta(string(text))+`$`, "get")
	step(exitDone, `"services": *\[`, "get", "rules", "-o", "json")
	step(exitDone, `\npilot-tellers  teller     1       counter/pilot-branches\n$`, "list", "get")
	step(exitDone, `^teller\n9001/0001\n$`, "list", "get", "pilot-tellers")
	step(exitDone, `^attribute: teller\nvalues:\n  - 9001/0001\n$`, "list", "get", "pilot-tellers", "-o", "yaml")
	step(exitDone, `^code,parent,name\n3200,,浦东支行\n3201,3200,陆家嘴网点\n$`, "organisation", "get", "9001")
	step(exitRefused, `^tgctl: .*nobody`, "list", "get", "nobody")
	step(exitRefused, `\nrules:15:43: services\[counter\]`, "list", "delete", "pilot-tellers")
	step(exitDone, `^counter → v2 because rule pilot-branches \(priority 200\) matched\n.*endpoints  10.2.0.7:8080 active\n`+
		`revision   3\n.*✓ pilot-branches`, "explain", "--branch", "3201", "--teller", "0001")
	step(exitRefused, `^tgctl: .*terminal`, "explain", "--attr", "terminal=T1")
	step(exitRefused, `^tgctl: .*no service`, "explain", "--frontend", "atm")
	step(exitRefused, `\n`+faulty+`:3:14: `, "explain", "--draft", faulty)
	step(exitDone, `^service    counter\n.*\nv2       active  0         10.2.0.7:8080  active `, "services", "counter")
	step(exitRefused, `^tgctl: .*v9`, "override", "counter", "v9", "--pinned", "keep", "--reason", "typing error")
	step(exitDone, `^overrides/counter added\n\+ everybody to v1, pinned sessions move: 过账失败\nrevision 4 is live\n$`,
		"override", "counter", "v1", "--pinned", "move", "--reason", "过账失败")
	step(exitDone, `counter  v1       active  1/1        0         default, override\n`, "services")
	step(exitDone, `^overrides/counter removed\n- everybody to v1, .*revision 5 is live\n$`, "override", "lift", "counter")
	step(exitNo, `^rules added\n.*\norganisations/9001 added: `, "diff", "1")
	step(exitDone, `^nothing to change: revision 5 is so already\n$`, "restore", "3", "--reason", "nothing to do")
	step(exitRefused, `\nrevision 2: parts`, "restore", "2")
	operator.in = "9001/0001\n9001/0002\n"
	step(exitDone, `^lists/pilot-tellers changed: 1 value added, 0 removed\n\+ 9001/0002\nrevision 6 is live\n$`,
		"list", "put", "pilot-tellers")
	step(exitDone, `^lists/pilot-tellers changed: 0 values added, 1 removed\n- 9001/0002\nrevision 7 is live\n$`,
		"restore", "3", "--part", "lists/pilot-tellers")
	step(exitRefused, `^tgctl: .*99`, "restore", "99")
	step(exitDone, `\n4         .*  wang    overrides/counter    过账失败\n3         .*  wang    rules                试点 50%\n`+
		`tgctl: there are older ones; see them with tgctl history --before 3\n$`, "history", "--limit", "5")

	step(exitDone, `^lists/pilot-tellers changed: 2 values added, 0 removed\n\+ 9001/0002\n\+ 9001/0003\n`+
		`1 value changed nothing: .*\nrevision 8 is live\n$`,
		"list", "add", "pilot-tellers", "9001/0002", "9001/0003", "9001/0001", "--reason", "second wave")
	operator.in = "legalEntity,teller\n9001,0002\n9001,0003\n"
	step(exitDone, `^lists/pilot-tellers changed: 0 values added, 2 removed\n.*revision 9 is live\n$`,
		"list", "remove", "pilot-tellers", "--file", "-")
	step(exitRefused, `^tgctl: .*nobody`, "list", "add", "nobody", "9001/0001")
	step(exitUsage, `takes values`, "list", "add", "pilot-tellers")
	step(exitDone, `^in lists pilot-tellers\nSERVICE .*\ncounter  pilot-branches  200 .* teller 9001/0001 is in list pilot-tellers .*when`,
		"mentions", "--teller", "9001/0001")
	step(exitDone, `^no rule mentions it\n$`, "mentions", "--teller", "9001/0002")
	step(exitUsage, `takes one of`, "mentions")
	operator.in = "code,parent,name\n3200,,\xc6\xd6\xb6\xab\xd6\xa7\xd0\xd0\n3201,3200,\n"
	step(exitDone, `1 renamed\nrevision 10 is live\n`, "organisation", "put", "9001", "--encoding", "gb18030")

	operator.in = "branch,teller\n3201,0001\n3201,0002\n3200,0001\n"
	step(exitDone, `^counter: 0 of 3 identities change version\n$`, "impact", "--from", "10", "--population", "-")
	step(exitDone, `^service counter exists only after\n$`, "impact", "--from", "2", "--population", "-")
	step(exitUsage, `takes a population`, "impact", rulesFile)
	changed := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(text), "default: v1", "default: v2", 1)), 0o600))
	step(exitDone, `^counter: 1 of 3 identities change version\nFROM +TO +IDENTITIES .*\nv1 +v2 +1 .*\nLEGAL ENTITY.*\n9001 +1 +3\n`,
		"impact", changed, "--population", "-", "--path", "/teller")

	begin := time.Now()
	key := []session.Key{{Service: "counter", Attribute: "teller", Value: "9001/0001"}}
	pins.Claim(key, session.Pin{Version: "v1", Subject: "9001/0001", Branch: "9001/3201", Revision: 3, Start: begin,
		Renewed: begin, Idle: time.Hour, End: begin.Add(2 * time.Hour)}, nil)
	page, _, err := pins.Sessions(session.Filter{}, "", 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	id := page[0].ID
	step(exitDone, `\n`+id+`  counter  v1       9001/3201  9001/0001 `,
		"sessions", "--service", "counter", "--version", "v1", "--branch", "9001/3201")
	step(exitDone, `^session `+id+` is on v2 from its next request on\n$`, "sessions", "move", id, "v2")
	step(exitDone, `\n`+id+`  counter  v2 `, "sessions", "--version", "v2")
	step(exitDone, `^session `+id+` has ended\n$`, "sessions", "end", id)
	step(exitRefused, `^tgctl: .*`+id, "sessions", "end", id)
}
