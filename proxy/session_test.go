package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/rules"
	"tellergate/session"
)

// application is a pod that behaves like a channel application: /login sets a session cookie, /renew gives a new one,
// /logout and its relatives end the session in the three ways there are.
func application(t testing.TB, name string) string {
	return address(pod(t, name, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/login":
			w.Header().Set("Set-Cookie", "JSESSIONID="+r.URL.Query().Get("id")+"; Path=/; HttpOnly")
		case "/logout/header":
			w.Header().Set("X-Session-End", "1")
		case "/expire":
			w.Header().Set("Set-Cookie", "JSESSIONID=gone; Max-Age=0")
		case "/ending":
			w.Header().Set("X-Session-End", "1")
		case "/logout/refused":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, name)
		}
	}))
}

const (
	pilotBranch = "X-Branch-Id: 0002"
	otherBranch = "X-Branch-Id: 0001"
)

// at is a request to path with header lines; it returns the version that answered.
func (g *gateway) at(path string, lines ...string) string {
	g.t.Helper()
	_, body := g.do(ask{path: path, header: header(lines...)})
	return body
}

func TestAnonymousIsNeverPinned(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v1", g.get(otherBranch))
	require.Equal(t, "v2", g.get(pilotBranch))
	require.Equal(t, "v1", g.get())
	kept, _ := g.pins.Keys()
	require.Zero(t, kept)
}

func TestLoginPageToTeller(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v2", g.at("/login?id=s1", pilotBranch), "anonymous, decided by its branch")
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=s1", otherBranch),
		"the session began with the answer and stays with who answered")
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=s1", otherBranch, "X-Teller-Id: 7"),
		"the pin was provisional: the session is decided once more when its teller appears")
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=s1", pilotBranch, "X-Teller-Id: 7"), "and then it is fixed")
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=s1", pilotBranch), "also without the teller")
}

func TestSessionRenewedAtLoginKeepsItsVersion(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=s1", pilotBranch))
	require.Equal(t, "v2", g.at("/login?id=s2", "Cookie: JSESSIONID=s1", otherBranch), "a new id in mid-session")
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=s2", otherBranch), "the new id is the same session")
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=s3", otherBranch), "a new session is decided by the rules")
}

func TestTellerCarriesTheSession(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v2", g.get("X-Teller-Id: 7", pilotBranch), "pinned by teller alone")
	require.Equal(t, "v2", g.get("X-Teller-Id: 7", "Cookie: JSESSIONID=s1", otherBranch), "the session id joins")
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=s1", otherBranch), "and carries the pin by itself")
	require.Equal(t, "v1", g.get("X-Teller-Id: 7", "X-Legal-Entity: 9002", otherBranch),
		"the same number at another bank is another teller")
}

func TestTwoTellersOnOneCookie(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=s1", "X-Teller-Id: 7", pilotBranch))
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=s1", "X-Teller-Id: 8", otherBranch), "another teller sits down")
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=s1", "X-Teller-Id: 8", pilotBranch), "and stays")
	require.Equal(t, "v2", g.get("X-Teller-Id: 7", otherBranch), "the first one's own pin is untouched")
}

func TestLogout(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"end path": "/logout", "below an end path": "/logout/now", "header": "/ending", "expired cookie": "/expire",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
			both := []string{"Cookie: JSESSIONID=s1", "X-Teller-Id: 7"}
			require.Equal(t, "v2", g.at("/", append(both, pilotBranch)...))
			require.Equal(t, "v2", g.at(path, append(both, otherBranch)...), "the logout itself goes to the session's version")
			require.Equal(t, "v1", g.at("/", append(both, otherBranch)...), "afterwards a new session is decided")
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
		require.Equal(t, "v2", g.get("Cookie: JSESSIONID=s1", pilotBranch))
		require.Equal(t, "v2", g.at("/logout/refused", "Cookie: JSESSIONID=s1", otherBranch))
		require.Equal(t, "v2", g.get("Cookie: JSESSIONID=s1", otherBranch), "a logout that failed ends nothing")
	})
}

func TestPinnedStaysAndUnpinnedObeys(t *testing.T) {
	t.Parallel()
	v1, v2 := application(t, "v1"), application(t, "v2")
	g := start(t, settings(), twoVersions(v1, v2))
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=old"))
	g.publish(fmt.Sprintf(`
services:
  - name: counter
    default: v2
    versions:
      - {name: v1, pods: {static: [%q]}, state: draining}
      - {name: v2, pods: {static: [%q]}}
    sessions: {key: [session, teller], subject: teller}
`, v1, v2), nil)
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=old"), "draining keeps its sessions")
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=new"), "new ones obey")
	require.Equal(t, "v2", g.get(), "anonymous ones too")
}

func TestOverride(t *testing.T) {
	t.Parallel()
	document := twoVersions(application(t, "v1"), application(t, "v2"))
	g := start(t, settings(), document)
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=a"))

	g.publish(document, map[string]rules.Override{"counter": {Version: "v2", Pinned: rules.PinnedKeep}})
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=a"), "keep: pinned sessions stay")
	require.Equal(t, "v2", g.get(), "everybody else moves")

	g.publish(document, map[string]rules.Override{"counter": {Version: "v2", Pinned: rules.PinnedMove}})
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a"), "move: pinned sessions too")

	g.publish(document, nil)
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a"), "lifting the override moves nobody back")
	require.Equal(t, "v1", g.get(), "who is not pinned is decided by the rules again")
}

// dead is an address where nothing listens.
func dead(t testing.TB) string {
	server := pod(t, "dead", nil)
	server.Close()
	return address(server)
}

func TestPinnedVersionGone(t *testing.T) {
	t.Parallel()
	v2 := pod(t, "v2", nil)
	g := start(t, settings(), twoVersions(application(t, "v1"), address(v2)))
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a", pilotBranch))
	v2.Close()
	// The first request finds out, the second one is refused because of it.
	g.do(ask{header: header("Cookie: JSESSIONID=a", pilotBranch)})
	status, code := g.code(ask{header: header("Cookie: JSESSIONID=a", pilotBranch)})
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "pinned_version_unavailable", code)
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=b", pilotBranch), "new sessions fall back")
}

func TestFallbackOfDeadVersion(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), dead(t)))
	require.Equal(t, "v1", g.get(pilotBranch), "the version that was decided cannot be dialled: its fallback answers at once")
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=a", pilotBranch))
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=a", pilotBranch), "the pin names the version that served")
}

func TestFallbackOfNewSessionRewritesItsClaim(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), dead(t)))
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=a", "X-Teller-Id: 7", pilotBranch),
		"claimed for v2, then decided once more before anything was executed")
	page, _, err := g.pins.Sessions(sessionFilter, "", 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, "v1", page[0].Pin.Version)
	require.Len(t, page[0].Keys, 2)
}

func TestTester(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Testers.From = loopback
	v1, v2, v3 := application(t, "v1"), application(t, "v2"), application(t, "v3")
	g := start(t, s, fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: {static: [%q]}}
      - {name: v2, pods: {static: [%q]}, state: draining}
      - {name: v3, pods: {static: [%q]}, state: disabled}
    sessions: {key: [session]}
`, v1, v2, v3))
	const cookie = "Cookie: JSESSIONID=a"
	require.Equal(t, "v1", g.get(cookie))
	require.Equal(t, "v2", g.get(cookie, "X-Tellergate-Version: v2"), "draining is allowed")
	require.Equal(t, "v1", g.get(cookie), "no pin was written")
	status, code := g.code(ask{header: header("X-Tellergate-Version: v9")})
	require.Equal(t, 400, status)
	require.Equal(t, "tester_version_unknown", code)
	status, code = g.code(ask{header: header("X-Tellergate-Version: v3")})
	require.Equal(t, 400, status)
	require.Equal(t, "tester_version_disabled", code)
}

func TestStrangersForceNothing(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v1", g.get("X-Tellergate-Version: v2"))
}

// pinUnder returns the pin of a key of the service counter.
func (g *gateway) pinUnder(attribute, value string) session.Pin {
	g.t.Helper()
	var found [1]session.Pin
	g.pins.Lookup([]session.Key{{Service: "counter", Attribute: attribute, Value: value}}, found[:], nil)
	return found[0]
}

func TestMovedSessionKeepsItsSubject(t *testing.T) {
	t.Parallel()
	document := twoVersions(application(t, "v1"), application(t, "v2"))
	g := start(t, settings(), document)
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=a", "X-Teller-Id: 7", otherBranch))
	before := g.pinUnder("session", "a")
	require.Equal(t, "9001/7", before.Subject)
	g.publish(document, map[string]rules.Override{"counter": {Version: "v2", Pinned: rules.PinnedMove}})
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a"), "a request that does not name the teller moves the session")
	moved := g.pinUnder("session", "a")
	require.Equal(t, "v2", moved.Version)
	require.Equal(t, "9001/7", moved.Subject, "it is still this teller's session")
	require.Equal(t, before.Branch, moved.Branch)
	require.True(t, before.Start.Equal(moved.Start))
	g.publish(document, nil)
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a", "X-Teller-Id: 7", otherBranch), "lifting it moves nobody back")
}

func TestAnotherTellerBeginsAnew(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	old := session.Pin{
		Version: "v1", Subject: "9001/7", Start: time.Now().Add(-9 * time.Hour), Renewed: time.Now(), Idle: 30 * time.Minute,
		End: time.Now().Add(time.Hour),
	}
	g.pins.Swap([]session.Key{{Service: "counter", Attribute: "session", Value: "a"}}, session.Pin{}, old, nil)
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a", "X-Teller-Id: 8", pilotBranch))
	pin := g.pinUnder("session", "a")
	require.Equal(t, "9001/8", pin.Subject)
	require.WithinDuration(t, time.Now(), pin.Start, time.Minute, "the former teller's hours are not hers")
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a", "X-Teller-Id: 8", otherBranch))
}

// TestAnswerInFlightUndoesNothing: while a pod works on a login, an operator moves or ends the session; the answer's
// Set-Cookie neither puts it back nor revives it.
func TestAnswerInFlightUndoesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		operate func(g *gateway, id string) (bool, error)
		want    string // version of the session's next request, by its new cookie
	}{
		"moved": {func(g *gateway, id string) (bool, error) { return g.pins.MoveID(id, "v2") }, "v2"},
		"ended": {func(g *gateway, id string) (bool, error) { return g.pins.EndID(id) }, "v1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived, go_ := make(chan struct{}), make(chan struct{})
			slow := func(version string) string {
				return address(pod(t, version, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/login" {
						arrived <- struct{}{}
						<-go_
						w.Header().Set("Set-Cookie", "JSESSIONID=new; Path=/")
					}
				}))
			}
			g := start(t, settings(), twoVersions(slow("v1"), slow("v2")))
			require.Equal(t, "v1", g.get(otherBranch, "X-Teller-Id: 7", "Cookie: JSESSIONID=old"))
			page, _, err := g.pins.Sessions(session.Filter{}, "", 10)
			require.NoError(t, err)
			require.Len(t, page, 1)
			answered := make(chan string)
			go func() { answered <- g.at("/login", otherBranch, "X-Teller-Id: 7", "Cookie: JSESSIONID=old") }()
			<-arrived
			operated, err := test.operate(g, page[0].ID)
			require.NoError(t, err)
			require.True(t, operated)
			close(go_)
			require.Equal(t, "v1", <-answered, "the request that was under way")
			require.Equal(t, test.want, g.get(otherBranch, "X-Teller-Id: 7", "Cookie: JSESSIONID=new"))
			require.Equal(t, test.want, g.get(otherBranch, "X-Teller-Id: 7"))
		})
	}
}

// TestLongSessionCookie: a cookie longer than any claim may be, such as a signed token, keeps its session all the same.
func TestLongSessionCookie(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	token := strings.Repeat("eyJhbGciOiJSUzI1NiJ9.", 100)
	require.Equal(t, "v2", g.at("/login?id="+token, pilotBranch))
	require.Equal(t, "v2", g.get(otherBranch, "Cookie: JSESSIONID="+token), "pinned by the answer that set it")
	require.Equal(t, "v1", g.get(otherBranch, "Cookie: JSESSIONID="+token+"x"), "another one")
}

// TestPinnedToDeadVersionIsTold: the first request that finds out gets the same answer as the later ones.
func TestPinnedToDeadVersionIsTold(t *testing.T) {
	t.Parallel()
	v2 := pod(t, "v2", func(http.ResponseWriter, *http.Request) {})
	g := start(t, settings(), twoVersions(application(t, "v1"), address(v2)))
	require.Equal(t, "v2", g.get(pilotBranch, "X-Teller-Id: 7"))
	v2.Close()
	for range 3 {
		status, code := g.code(ask{header: header(pilotBranch, "X-Teller-Id: 7")})
		require.Equal(t, "pinned_version_unavailable", code)
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
}

func TestNotReadyBeforeTheFirstRules(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	empty, err := rules.Compile(nil, rules.Inputs{Schema: rules.NewSchema(nil, nil, false)})
	require.NoError(t, err)
	require.NoError(t, g.Publish(empty, 0))
	answer, _ := g.do(ask{path: "/-/lb"})
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	_, code := g.code(ask{})
	require.Equal(t, "not_ready", code)
}
