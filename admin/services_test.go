package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tellergate/admin"
	"tellergate/admin/api"
	"tellergate/rules"
	"tellergate/session"
)

// pin puts a session of the counter on version.
func (r *replica) pin(cookie, teller, version string) {
	keys := []session.Key{{Service: "counter", Attribute: "session", Value: cookie}}
	if teller != "" {
		keys = append(keys, session.Key{Service: "counter", Attribute: "teller", Value: teller})
	}
	r.sessions.Swap(keys, session.Pin{}, session.Pin{
		Version: version, Endpoint: netip.MustParseAddrPort("127.0.0.1:7001"), Subject: teller, Branch: "9001/3201",
		Revision: 3, Start: now, Renewed: now, Idle: 30 * time.Minute, End: now.Add(10 * time.Hour),
	}, nil)
}

func TestServices(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	r.pods.down["127.0.0.1:7003"] = true
	r.pin("a", "9001/0001", "v1")
	r.pin("b", "", "v2")
	services := decode[api.Services](t, r.do("GET", api.ServicesPath, ""))
	require.Equal(t, uint64(3), services.Revision)
	require.Len(t, services.Services, 1)

	counter := decode[api.ServiceStatus](t, r.do("GET", api.ServicePath("counter"), ""))
	require.Equal(t, services.Services[0], counter)
	require.Equal(t, "v1", counter.Default)
	require.Equal(t, 2, counter.Rules)
	require.Nil(t, counter.Override)
	endpoint := func(address string, usable bool) api.Endpoint {
		return api.Endpoint{Address: netip.MustParseAddrPort(address), State: "active", Usable: usable}
	}
	require.Equal(t, []api.VersionStatus{
		{Name: "v1", State: "active", Usable: true, Sessions: 1, Counted: now,
			Endpoints: []api.Endpoint{endpoint("127.0.0.1:7001", true), endpoint("127.0.0.1:7002", true)}},
		{Name: "v2", State: "active", Fallback: "v1", Sessions: 1, Counted: now,
			Endpoints: []api.Endpoint{endpoint("127.0.0.1:7003", false)}},
		{Name: "v3", State: "disabled", Usable: true, Counted: now, Endpoints: []api.Endpoint{endpoint("127.0.0.1:7004", true)}},
	}, counter.Versions)
}

func TestOverrideNeedsNoRevisionAndSurvivesDocuments(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	got := r.do("PUT", api.OverridePath("counter"), `{"version":"v2","pinned":"move","reason":"v1 loses postings"}`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.True(t, decode[api.WriteResult](t, got).Changed)
	r.put(api.RulesPath, api.YAML, read(t, "testdata/rules.yaml")+"# applied again\n")
	counter := decode[api.ServiceStatus](t, r.do("GET", api.ServicePath("counter"), ""))
	require.Equal(t, &rules.Override{Version: "v2", Pinned: "move", Reason: "v1 loses postings"}, counter.Override)

	require.True(t, decode[api.WriteResult](t, r.do("DELETE", api.OverridePath("counter"), "")).Changed)
	require.False(t, decode[api.WriteResult](t, r.do("DELETE", api.OverridePath("counter"), "")).Changed)
}

// TestOldWarningsAreNotRepeated: a call that does not write the rules tells only what it brought about itself.
func TestOldWarningsAreNotRepeated(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	unused := decode[api.WriteResult](t, r.do("PUT", api.ListPath("unused"), `{"attribute":"teller","values":[]}`, "If-Match", r.etag()))
	require.Len(t, unused.Warnings, 1, "the list that this call brought in")
	lever := decode[api.WriteResult](t, r.do("PUT", api.OverridePath("counter"), `{"version":"v2","pinned":"move","reason":"now"}`))
	require.Empty(t, lever.Warnings)
	rewritten := decode[api.WriteResult](t, r.do("PUT", api.RulesPath, read(t, "testdata/rules.yaml")+"# again\n",
		"If-Match", r.etag(), "Content-Type", api.YAML))
	require.NotEmpty(t, rewritten.Warnings, "whoever writes the rules is told everything")
}

// TestOverridesAmongOtherWriters: the lever is pulled although lists are uploaded all the time.
func TestOverridesAmongOtherWriters(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			pinned := []string{"move", "keep"}[i%2]
			got := r.do("PUT", api.OverridePath("counter"), `{"version":"v2","pinned":"`+pinned+`","reason":"now"}`)
			assert.Equal(t, http.StatusOK, got.status, "%s", got.body)
		})
		group.Go(func() {
			got := r.do("PUT", api.ListPath("x"), `{"attribute":"teller","values":[]}`, "If-Match", r.etag())
			assert.Contains(t, []int{http.StatusOK, http.StatusPreconditionFailed}, got.status, "%s", got.body)
		})
	}
	group.Wait()
}

func TestLedger(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	r.pin("a", "9001/0001", "v1")
	r.pin("b", "", "v2")
	all := decode[api.Sessions](t, r.do("GET", api.SessionsPath, "")).Sessions
	require.Len(t, all, 2)
	first := decode[api.Sessions](t, r.do("GET", api.SessionsPath+"?limit=1", ""))
	second := decode[api.Sessions](t, r.do("GET", api.SessionsPath+"?limit=1&after="+first.Next, ""))
	require.Equal(t, all, append(first.Sessions, second.Sessions...))

	filter := "?service=counter&version=v1&branch=9001%2F3201"
	rows := decode[api.Sessions](t, r.do("GET", api.SessionsPath+filter, "")).Sessions
	require.Len(t, rows, 1)
	row := rows[0]
	require.Equal(t, api.Session{
		ID: row.ID, Service: "counter", Version: "v1", Endpoint: netip.MustParseAddrPort("127.0.0.1:7001"),
		Subject: "9001/0001", Branch: "9001/3201", Keys: []string{"session", "teller"}, Revision: 3,
		Start: now, LastSeen: now, Ends: now.Add(30 * time.Minute), Latest: now.Add(10 * time.Hour),
	}, row)

	for version, message := range map[string]string{
		"v3": `version "v3" of service "counter" is disabled`, "v7": `its service "counter" has no version "v7"`,
	} {
		got := r.do("POST", api.MovePath(row.ID), `{"version":"`+version+`"}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status)
		require.Equal(t, message, decode[api.Error](t, got).Problems[0].Message)
	}
	require.Equal(t, http.StatusNoContent, r.do("POST", api.MovePath(row.ID), `{"version":"v2"}`).status)
	require.Empty(t, decode[api.Sessions](t, r.do("GET", api.SessionsPath+"?version=v1", "")).Sessions)
	require.Equal(t, http.StatusNoContent, r.do("DELETE", api.SessionPath(row.ID), "").status)
	require.Equal(t, http.StatusNotFound, r.do("DELETE", api.SessionPath(row.ID), "").status)
	require.Len(t, decode[api.Sessions](t, r.do("GET", api.SessionsPath, "")).Sessions, 1)
}

func TestExplain(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	r.pin("a", "9001/0001", "v1")
	explain := func(request string) api.ExplainResult {
		t.Helper()
		got := r.do("POST", api.ExplainPath, request)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		return decode[api.ExplainResult](t, got)
	}
	t.Run("a rule over the organisation", func(t *testing.T) {
		got := explain(`{"attributes":{"branch":"3201"},"path":"/teller/query?x=1"}`)
		require.Equal(t, "v2", got.Version)
		require.Equal(t, "rule", got.Reason)
		require.Equal(t, "pilot-branches", got.Rule)
		require.Equal(t, map[string]string{"legalEntity": "9001", "branch": "9001/3201"}, got.Attributes,
			"the default applies")
		require.Equal(t, uint64(3), got.Revision)
		require.Len(t, got.Endpoints, 1)
		require.Nil(t, got.Pin)
	})
	t.Run("a pair and its two halves are the same", func(t *testing.T) {
		require.Equal(t, explain(`{"attributes":{"teller":"9001/0007"}}`),
			explain(`{"attributes":{"teller":" 0007 ","legalEntity":"9001"}}`))
	})
	t.Run("a pin holds, and may be ignored", func(t *testing.T) {
		got := explain(`{"service":"counter","attributes":{"session":"a","branch":"3201"}}`)
		require.Equal(t, "v1", got.Version)
		require.Equal(t, "pin", got.Reason)
		require.Equal(t, "session", got.Pin.Key)
		require.Equal(t, "v2", explain(`{"attributes":{"session":"a","branch":"3201"},"ignorePins":true}`).Version)
		require.Equal(t, "v2", explain(`{"attributes":{"session":"a","branch":"3201","teller":"0007"}}`).Version,
			"another teller at the same terminal is decided anew")
	})
	t.Run("a tester", func(t *testing.T) {
		require.Equal(t, "tester", explain(`{"forced":"v2"}`).Reason)
		require.NotEmpty(t, explain(`{"forced":"v3"}`).Refusal)
	})
	t.Run("a version without a usable endpoint", func(t *testing.T) {
		r.pods.down["127.0.0.1:7003"] = true
		got := explain(`{"attributes":{"branch":"3201"}}`)
		require.Equal(t, "v2", got.Wanted)
		require.Equal(t, "v1", got.Version)
	})
	t.Run("a draft", func(t *testing.T) {
		request, err := json.Marshal(api.ExplainRequest{Attributes: map[string]string{"teller": "9001/1"}, Document: `
services:
  - name: counter
    match: {pathPrefix: /}
    default: v1
    versions: [{name: v1, pods: {static: ["127.0.0.1:7777"]}}]
`})
		require.NoError(t, err)
		got := explain(string(request))
		require.True(t, got.Draft)
		require.Equal(t, "v1", got.Version, "pods that are not bound yet count as usable")
		require.Empty(t, got.Refusal)
		require.NotEmpty(t, got.Warnings, "the pilot list is not used any more")
		require.Equal(t, `"3"`, r.etag())
	})
	t.Run("no service matches", func(t *testing.T) {
		got := r.do("POST", api.ExplainPath, `{"frontend":"other"}`)
		require.Equal(t, http.StatusNotFound, got.status)
		require.Contains(t, decode[api.Error](t, got).Detail, `no service matches frontend "other"`)
	})
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	r := newReplica(t)
	got := r.do("GET", api.ReadyPath, "")
	require.Equal(t, http.StatusOK, got.status)
	ready := decode[api.Readiness](t, got)
	require.True(t, ready.Ready)
	require.Equal(t, []string{"a note"}, ready.Notes)

	r.missing = []string{"there are no rules yet: PUT /api/v1/rules"}
	got = r.do("GET", api.ReadyPath, "")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, r.missing, decode[api.Readiness](t, got).Missing)
	require.Equal(t, http.StatusOK, r.do("GET", api.HealthPath, "").status, "not ready is not dead")
	require.Equal(t, http.StatusOK, r.do("GET", "/debug/pprof/heap?debug=1", "").status)
}

func TestPanicsAreAnswered(t *testing.T) {
	t.Parallel()
	r := newReplica(t, func(o *admin.Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(errors.New("boom")) })
	})
	got := r.do("GET", api.MetricsPath, "")
	require.Equal(t, http.StatusInternalServerError, got.status)
	require.Equal(t, api.CodeInternal, decode[api.Error](t, got).Code)
	require.NotContains(t, string(got.body), "boom")
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:9180", "10.0.0.1:9180", "[::]:9180", "[2001:db8::1]:9180"} {
		_, err := admin.New(admin.Options{Address: netip.MustParseAddrPort(address)})
		require.ErrorContains(t, err, "loopback only; set admin.address to 127.0.0.1:9180", address)
	}
}

func TestTakenAddressIsSaid(t *testing.T) {
	t.Parallel()
	first := newReplica(t)
	first.listen()
	second := newReplica(t, func(o *admin.Options) { o.Address = first.server.Addr() })
	require.ErrorContains(t, second.server.Listen(), "free the address or set admin.address")
}
