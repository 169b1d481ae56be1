package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
	"tellergate/session/redis/redistest"
)

// withRedis adds sessions in Redis to the settings of a gateway. redis is in flow style.
func withRedis(t *testing.T, redis string) string {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("the same secret for every replica\n"), 0o600))
	return fmt.Sprintf("sessions: {store: redis, redis: {%s, secretFile: %s}}\n", redis, secret)
}

// The session contract across two replicas: whatever one of them is told holds at the other. What is shown is not speed,
// so that Redis may take longer to answer than in production.
func TestSessionContractAcrossTwoGateways(t *testing.T) {
	server := redistest.Single(t)
	redis := withRedis(t, fmt.Sprintf("addresses: [%q], budget: 900ms", server.Address))
	a, b := start(t, t.TempDir(), settings(t.TempDir(), redis)), start(t, t.TempDir(), settings(t.TempDir(), redis))
	v1, v2 := servePods(t, "v1", 1), servePods(t, "v2", 1)
	client := newClient(t, 2)
	// rules sends one teller to v2 and everybody else to a default.
	rules := func(standard, teller string) {
		t.Helper()
		for _, g := range []*gatewaytest.Gateway{a, b} {
			g.PutRules(fmt.Sprintf(`
services:
  - name: counter
    default: %s
    versions:
      - {name: v1, pods: %s}
      - {name: v2, pods: %s}
    sessions: {key: [session, teller], subject: teller, end: {paths: [/logout]}}
    rules:
      - name: one-teller
        priority: 1
        when: {attribute: teller, is: %q}
        then: {version: v2}
`, standard, v1.Static(), v2.Static(), teller))
		}
	}
	// A replica hears of what another did within milliseconds; both must come to it, and stay.
	both := func(version, why string, headers ...string) {
		t.Helper()
		for _, g := range []*gatewaytest.Gateway{b, a} {
			require.Eventually(t, func() bool { return g.Get(client, "/", headers...) == version }, patience, time.Millisecond, "%s", why)
			require.Equal(t, version, g.Get(client, "/", headers...), "%s", why)
		}
	}
	require.Eventually(t, func() bool { return strings.Contains(server.Ask("PUBSUB NUMSUB tellergate:pins"), ":2\r\n") }, patience, time.Millisecond)

	for i, pair := range [][2]*gatewaytest.Gateway{{a, b}, {b, a}} {
		one, other := pair[0], pair[1]
		id := func(name string) string { return fmt.Sprintf("%s-%d", name, i) }
		cookie := func(name string) string { return "JSESSIONID=" + id(name) }
		first, second := fmt.Sprintf("00%d1", i), fmt.Sprintf("00%d2", i)

		// Anonymous, then a cookie, then a teller: provisional until the teller is known, decided once more, then fixed.
		rules("v1", "9001/"+first)
		require.Equal(t, "v1", one.Get(client, "/login", "X-Set-Session", id("login")))
		both("v1", "the cookie that an answer set begins the session", "Cookie", cookie("login"))
		require.Equal(t, "v2", other.Get(client, "/", "Cookie", cookie("login"), "X-Teller-Id", first))
		rules("v1", "9001/nobody")
		both("v2", "fixed", "Cookie", cookie("login"), "X-Teller-Id", first)
		both("v2", "by the cookie alone, too", "Cookie", cookie("login"))
		both("v2", "by the teller alone, too", "X-Teller-Id", first)

		// A session id renewed at login keeps the version, at the other replica from the next request on.
		require.Equal(t, "v2", one.Get(client, "/login", "Cookie", cookie("login"), "X-Set-Session", id("renewed")))
		require.Equal(t, "v2", other.Get(client, "/", "Cookie", cookie("renewed")), "the first request under the new id")
		both("v2", "renewed", "Cookie", cookie("renewed"))

		// Another teller on the same cookie is another session; the first teller's own goes on.
		require.Equal(t, "v1", other.Get(client, "/", "Cookie", cookie("renewed"), "X-Teller-Id", second))
		both("v1", "the terminal is the second teller's now", "Cookie", cookie("renewed"))
		both("v2", "the first teller's session goes on", "X-Teller-Id", first)
		both("v1", "and so does the second's", "X-Teller-Id", second)

		// Logout, in three ways.
		for j, way := range [][]string{{"/logout"}, {"/", "X-End-Session", "1"}, {"/", "X-Drop-Session", "1"}} {
			name := fmt.Sprintf("logout-%d-%d", i, j)
			teller := []string{"Cookie", "JSESSIONID=" + name, "X-Teller-Id", name}
			rules("v1", "9001/nobody")
			both("v1", way[0], teller...)
			rules("v2", "9001/nobody")
			both("v1", way[0], teller...)
			response, body := one.Do(client, way[0], append(way[1:], teller...)...)
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, "v1", body, "the last request of the session")
			require.Equal(t, "v2", one.Get(client, "/", teller...), "%v: what follows is a new session", way)
			both("v2", strings.Join(way, " "), teller...)
			both("v2", strings.Join(way, " "), "X-Teller-Id", name)
		}
	}
	for _, g := range []*gatewaytest.Gateway{a, b} {
		require.Zero(t, g.Metric("tellergate_redis_late_total"))
		require.Zero(t, g.Metric("tellergate_redis_degraded_since_timestamp_seconds"))
		g.Terminate(syscall.SIGTERM)
	}
}

// TLS with a certificate on both sides, an ACL user with the rights that the manual says, and a password that is rotated
// without a restart.
func TestRedisByTLSAsAUserWhosePasswordIsRotated(t *testing.T) {
	server := redistest.TLS(t)
	manual, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, rights, _ := strings.Cut(string(manual), "ACL SETUSER tellergate ")
	rights, _, found := strings.Cut(rights, "`")
	require.True(t, found, "docs/operations.md says how the user is made")
	rights = strings.Join(strings.Fields(strings.Replace(rights, ">PASSWORD", ">first", 1)), " ")
	require.Contains(t, server.Ask("ACL SETUSER tellergate "+rights), "OK", rights)

	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte("first\n"), 0o600))
	common := fmt.Sprintf("addresses: [%q], user: tellergate, budget: 900ms, probe: 50ms, "+
		"tls: {enabled: true, ca: %s, certificate: %s, key: %s}", server.Secure, server.Authority, server.Certificate, server.Key)
	a := start(t, dir, settings(dir, withRedis(t, common+", passwordFile: "+password)))
	b := start(t, t.TempDir(), settings(t.TempDir(), withRedis(t, common+", passwordEnv: REDIS_PASSWORD")), "REDIS_PASSWORD=first")
	v1, v2 := servePods(t, "v1", 1), servePods(t, "v2", 1)
	rules := func(version string) {
		for _, g := range []*gatewaytest.Gateway{a, b} {
			g.PutRules(fmt.Sprintf("services:\n  - name: counter\n    default: %s\n    versions:\n      - {name: v1, pods: %s}\n"+
				"      - {name: v2, pods: %s}\n    sessions: {key: [session], end: {paths: [/logout]}}\n", version, v1.Static(), v2.Static()))
		}
	}
	client := newClient(t, 2)
	rules("v1")
	require.Equal(t, "v1", a.Get(client, "/", "X-Session-Id", "one"))
	rules("v2")
	require.Equal(t, "v1", b.Get(client, "/", "X-Session-Id", "one"), "both see the same Redis")
	require.Equal(t, "v1", a.Get(client, "/logout", "X-Session-Id", "one"))
	require.Eventually(t, func() bool { return b.Get(client, "/", "X-Session-Id", "one") == "v2" }, patience, time.Millisecond,
		"the end is published")
	_, sessions := a.Call(http.MethodGet, "/api/v1/sessions?service=counter", "", nil)
	require.Contains(t, string(sessions), `"version":"v2"`, "the ledger is read")
	require.NotContains(t, server.Ask("ACL LOG"), "tellergate:", "nothing was refused")
	require.Contains(t, server.Ask("ACL LOG"), "*0", "nothing was refused")

	// The password is rotated, and every connection with the old one cut.
	require.Contains(t, server.Ask("ACL SETUSER tellergate resetpass >second"), "OK")
	server.Ask("CLIENT KILL USER tellergate")
	degraded := func() bool { return a.Metric("tellergate_redis_degraded_since_timestamp_seconds") != 0 }
	for i := 0; !degraded(); i++ {
		require.Less(t, i, 1000)
		require.Equal(t, "v2", a.Get(client, "/", "X-Session-Id", fmt.Sprint("meanwhile-", i)), "requests go on")
	}
	require.Equal(t, "v2", a.Get(client, "/", "X-Session-Id", "one"))
	require.Eventually(t, func() bool { return strings.Contains(a.Log(), "WRONGPASS") }, patience, 10*time.Millisecond, "the log says why")

	require.NoError(t, os.Remove(password))
	require.NoError(t, a.Command.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(a.Log(), "sessions.redis.passwordFile") }, patience, 10*time.Millisecond,
		"a reload without the file changes nothing and says so")
	require.NoError(t, os.WriteFile(password, []byte("second\n"), 0o600))
	require.NoError(t, a.Command.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return !degraded() }, patience, 10*time.Millisecond, "new connections use the new password")
	require.Eventually(t, func() bool {
		_, sessions := a.Call(http.MethodGet, "/api/v1/sessions?service=counter", "", nil)
		return strings.Contains(string(sessions), `"version":"v2"`)
	}, patience, 10*time.Millisecond)
	a.Terminate(syscall.SIGTERM)
	b.Terminate(syscall.SIGTERM)
}
