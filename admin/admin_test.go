package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"tellergate/admin"
	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/internal/live"
	"tellergate/internal/seen"
	"tellergate/rules"
	"tellergate/session"
	"tellergate/store/file"
)

var update = flag.Bool("update", false, "renew the generated OpenAPI document and the golden answers")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var schema = rules.NewSchema([]rules.Attribute{
	{Name: "legalEntity", Claim: true},
	{Name: "branch", Within: "legalEntity", Claim: true},
	{Name: "teller", Within: "legalEntity", Claim: true},
	{Name: "session"},
}, []string{"counter"}, false)

// A pods answers every static address of what runs, usable but for those that are down.
type pods struct {
	loop *live.Loop
	down map[string]bool
}

func (p *pods) Endpoints(service, version string) []api.Endpoint {
	current := p.loop.Current()
	for i := range current.Rules.Len() {
		if s := current.Rules.Service(i); s.Name() == service {
			var endpoints []api.Endpoint
			for _, addr := range s.VersionNamed(version).Static() {
				endpoints = append(endpoints, api.Endpoint{Address: addr, State: "active", Usable: !p.down[addr.String()]})
			}
			return endpoints
		}
	}
	return nil
}

// A replica is everything behind the admin API but the data plane: the real store, loop and sessions.
type replica struct {
	t        testing.TB
	store    *file.Store
	loop     *live.Loop
	sessions *session.Memory
	pods     *pods
	server   *admin.Server
	handler  http.Handler
	missing  []string
	inFlight int                          // requests at versions that are not active
	publish  func(*live.Generation) error // nil: nothing fails
}

// now is the clock of the tests' sessions; it does not run.
var now = time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)

func newReplica(t testing.TB, change ...func(*admin.Options)) *replica {
	t.Helper()
	r := &replica{t: t}
	var err error
	r.store, _, err = file.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.store.Close()) })
	reader := content.NewReader(r.store, nil)
	r.loop = live.New(r.store, reader, schema, func(g *live.Generation) error {
		if r.publish != nil {
			return r.publish(g)
		}
		return nil
	})
	r.sessions = session.NewMemory(1000, func() time.Time { return now })
	r.pods = &pods{loop: r.loop, down: map[string]bool{}}
	alone := session.NewAlone(r.sessions, r.self)
	options := admin.Options{
		Address: netip.MustParseAddrPort("127.0.0.1:0"), Replica: "here", Schema: schema,
		Defaults: map[string]string{"legalEntity": "9001"}, Store: r.store, Reader: reader, Live: r.loop,
		Pins: r.sessions, Ledger: r.sessions, Fleet: alone, Moves: alone, Pods: r.pods, Ready: func() []string { return r.missing },
		Seen: seen.New(schema.Len(), []int{0, 1, 2}), Masked: []string{"teller"},
		Notes:   func() []string { return []string{"a note"} },
		Metrics: http.NotFoundHandler(), Log: zaptest.NewLogger(t, zaptest.Level(zap.DPanicLevel)),
	}
	for _, f := range change {
		f(&options)
	}
	r.server, err = admin.New(options)
	require.NoError(t, err)
	r.handler = r.server.Handler()

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.loop.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	require.NoError(t, r.loop.WaitApplied(t.Context(), 0))
	return r
}

// self says of the replica what cmd says of one.
func (r *replica) self() session.Replica {
	status := r.loop.Status()
	self := session.Replica{Name: "here", Started: now, Revision: status.Applied, Since: now, Head: status.Head}
	current := r.loop.Current()
	for i := range current.Rules.Len() {
		for service, j := current.Rules.Service(i), 0; j < service.Len(); j++ {
			v := service.Version(j)
			self.Versions = append(self.Versions, session.Running{
				Service: service.Name(), Version: v.Name(), Active: v.State() == rules.StateActive, Resting: now, InFlight: r.inFlight,
			})
		}
	}
	return self
}

// An answer is what a call got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call as a well-behaved program of this machine would. headers are name, value, name, value.
func (r *replica) do(method, target, body string, headers ...string) answer {
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	req.Host = "127.0.0.1:9180"
	if body != "" {
		req.Header.Set("Content-Type", api.JSON)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Del(headers[i])
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	result := w.Result()
	text, err := io.ReadAll(result.Body)
	require.NoError(r.t, err)
	return answer{result.StatusCode, result.Header, text}
}

// put makes a change against the head and expects it to be made and run.
func (r *replica) put(target, contentType, body string) api.WriteResult {
	r.t.Helper()
	got := r.do("PUT", target, body, "Content-Type", contentType, "If-Match", r.etag())
	require.Equal(r.t, http.StatusOK, got.status, "%s", got.body)
	return decode[api.WriteResult](r.t, got)
}

func (r *replica) etag() string {
	head, err := r.store.Head(r.t.Context())
	require.NoError(r.t, err)
	return api.ETag(head.Seq)
}

// decode reads an answer strictly: a field that the wire types do not have fails the test.
func decode[T any](t testing.TB, a answer) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&v), "%s", a.body)
	return v
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}
