package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
	"tellergate/cmd/tellergate/gatewaytest"
	"tellergate/session/redis/redistest"
)

// A fleet is two gateways that share Redis, their pods, and an operator at the first.
type drainFleet struct {
	t        *testing.T
	gateways []*gatewaytest.Gateway
	client   *http.Client
	tgctl    string
	held     chan struct{} // a pod of v1 answers /slow once release has closed it
	release  func()
}

// freshly is the freshness period of these gateways: production has a minute, and no setting under a second.
const freshly = 6 * time.Second

func newDrainFleet(t *testing.T, sessions func(secret string) string, n int) *drainFleet {
	t.Helper()
	f := &drainFleet{t: t, client: newClient(t, 8), tgctl: filepath.Join(t.TempDir(), "tgctl"), held: make(chan struct{})}
	f.release = sync.OnceFunc(func() { close(f.held) })
	out, err := exec.Command("go", "build", "-o", f.tgctl, "tellergate/cmd/tgctl").CombinedOutput()
	require.NoError(t, err, "%s", out)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("the same secret for every replica\n"), 0o600))
	v1 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			<-f.held
		}
		if q.URL.Path == "/end" {
			w.Header().Set("X-Session-End", "1")
		}
		_, _ = io.WriteString(w, "v1")
	}))
	t.Cleanup(v1.Close)
	t.Cleanup(f.release)
	v2 := servePods(t, "v2", 1)
	for range n {
		dir := t.TempDir()
		g := start(t, dir, settings(dir, sessions(secret)))
		g.PutRules(fmt.Sprintf(`# 柜面
services:
  - name: counter
    default: v2
    versions:
      - name: v1 # goes tonight
        pods: {static: [%q]}
      - {name: v2, pods: %s}
    sessions: {key: [session]}
    rules:
      - {name: old, priority: 1, when: {attribute: branch, is: "9001/3201"}, then: {version: v1}}
`, v1.Listener.Addr(), v2.Static()))
		f.gateways = append(f.gateways, g)
	}
	return f
}

// get sends a request of a session through a gateway and returns the version that answered.
func (f *drainFleet) get(gateway int, path, session string) string {
	f.t.Helper()
	return f.gateways[gateway].Get(f.client, path, "X-Session-Id", session, "X-Branch-Id", "3201")
}

// run runs tgctl against a gateway and returns its exit code and what it said.
func (f *drainFleet) run(gateway int, args ...string) (int, string) {
	f.t.Helper()
	cmd := f.command(gateway, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(f.t, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (f *drainFleet) command(gateway int, args ...string) *exec.Cmd {
	cmd := exec.Command(f.tgctl, args...)
	cmd.Env = append(os.Environ(), "TGCTL_SERVER="+f.gateways[gateway].Admin, "TGCTL_AUTHOR=wang")
	return cmd
}

// drain asks how far counter v1 is.
func (f *drainFleet) drain() api.Drain {
	f.t.Helper()
	answer, body := f.gateways[0].Call(http.MethodGet, api.DrainPath("counter", "v1"), "", nil)
	require.Equal(f.t, http.StatusOK, answer.StatusCode, "%s", body)
	var d api.Drain
	require.NoError(f.t, json.Unmarshal(body, &d))
	return d
}

// waitsFor waits until one of the reasons why v1 may not go contains text. Never, until then, may it be safe.
func (f *drainFleet) waitsFor(text string) {
	f.t.Helper()
	var d api.Drain
	require.Eventually(f.t, func() bool {
		d = f.drain()
		require.False(f.t, d.Safe, "safe while it should wait for: %s", text)
		return strings.Contains(strings.Join(append(d.Waiting, d.Unknown), "\n"), text)
	}, 2*patience, 50*time.Millisecond, "never: %s", text)
}

func inRedis(mode string, addresses ...string) func(string) string {
	return func(secret string) string {
		return fmt.Sprintf("sessions: {store: redis, redis: {mode: %s, addresses: [%s], secretFile: %s, freshness: %s, budget: 500ms, probe: 50ms}}",
			mode, `"`+strings.Join(addresses, `", "`)+`"`, secret, freshly)
	}
}

// TestDrain is an operator's evening: v1 is drained on two gateways, and nothing that could hide a session lets it count
// as safe to retire before the last session has ended.
func TestDrain(t *testing.T) {
	t.Parallel()
	server := redistest.Single(t)
	f := newDrainFleet(t, inRedis("single", server.Address), 2)
	for _, s := range []string{"a", "b", "c"} {
		require.Equal(t, "v1", f.get(0, "/", s))
	}
	code, out := f.run(0, "version", "drain", "counter", "v1", "--reason", "v2 is everywhere")
	require.Zero(t, code, out)
	require.Contains(t, out, "state: draining}")
	_, text := f.gateways[0].Call(http.MethodGet, "/api/v1/rules", "", nil, "Accept", "application/yaml")
	require.Contains(t, string(text), "# 柜面\n", "comments stay")
	require.Contains(t, string(text), "      - name: v1 # goes tonight\n        state: draining\n")
	_, history := f.run(0, "history")
	require.Regexp(t, `wang +rules +v2 is everywhere`, history)

	f.waitsFor("version v1 is active on replica")
	code, out = f.run(1, "version", "drain", "counter", "v1")
	require.Zero(t, code, out)
	f.waitsFor("that copies of sessions may be old")
	require.Equal(t, "v1", f.get(1, "/", "a"), "nobody leaves at draining")
	require.Equal(t, "v2", f.get(1, "/", "new"))
	f.waitsFor("3 sessions are live on v1")
	require.Equal(t, "v1", f.get(0, "/end", "b"))
	f.waitsFor("2 sessions are live on v1")

	// A request that is under way may still begin a session.
	slow := make(chan string, 1)
	go func() { // it takes as long as all that follows until the release
		slow <- f.gateways[1].Get(&http.Client{Transport: f.client.Transport}, "/slow", "X-Session-Id", "a", "X-Branch-Id", "3201")
	}()
	f.waitsFor("request is in flight to v1")

	// Redis away is unknown, never zero, and after it has come back empty the sessions that replicas know are in it again.
	server.Kill()
	f.waitsFor("unknown: the sessions are not known now")
	code, out = f.run(0, "sessions")
	require.Equal(t, 7, code, out)
	require.Contains(t, out, "unknown is not zero")
	code, out = f.run(0, "version", "drain", "counter", "v1", "--wait", "--within", "1s")
	require.Equal(t, 7, code, out)
	require.Eventually(t, func() bool { return f.gateways[0].Metric("tellergate_sessions_known") == 0 }, patience, 50*time.Millisecond,
		"the last count stands until one has failed, or the breaker is open")
	_, out = f.run(0, "services")
	require.Regexp(t, `counter +v1 +draining +1/1 +\?`, out)
	server.Start()
	f.waitsFor("2 sessions are live on v1")
	f.waitsFor("request is in flight to v1") // the other gateway has told the new Redis that it is there

	// A gateway that hangs is late: nobody knows what it holds.
	require.NoError(t, f.gateways[1].Command.Process.Signal(syscall.SIGSTOP))
	f.waitsFor("what it does is unknown")
	require.NoError(t, f.gateways[1].Command.Process.Signal(syscall.SIGCONT))
	f.release()
	require.Equal(t, "v1", <-slow)

	// Somebody waits, is interrupted, and waits again.
	wait := f.command(0, "version", "drain", "counter", "v1", "--wait", "--within", "2m")
	var said bytes.Buffer
	stderr, err := wait.StderrPipe()
	require.NoError(t, err)
	wait.Stdout = &said
	require.NoError(t, wait.Start())
	first := make([]byte, 64)
	n, err := stderr.Read(first)
	require.NoError(t, err)
	require.Contains(t, string(first[:n]), "drains already")
	require.NoError(t, wait.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(stderr)
	require.NoError(t, err)
	require.Error(t, wait.Wait())
	require.Equal(t, 130, wait.ProcessState.ExitCode())
	require.Contains(t, string(rest), "the drain of counter v1 goes on")
	require.Empty(t, said.String())

	require.Equal(t, "v1", f.get(1, "/end", "a"))
	code, out = f.run(0, "sessions", "move", "--service", "counter", "--from", "v1", "--to", "v2", "--branch", "9001/3201", "--reason", "last")
	require.Zero(t, code, out)
	require.Contains(t, out, "1 session moved")
	code, out = f.run(0, "version", "drain", "counter", "v1", "--wait", "--within", "2m")
	require.Zero(t, code, out)
	require.Contains(t, out, "counter v1 is safe to retire: 2 replicas, nobody left at the last 2 counts")
	answer, body := f.gateways[1].Do(f.client, "/", "X-Session-Id", "c", "X-Branch-Id", "3201")
	require.Equal(t, "v2", body)
	require.Equal(t, "version", answer.Header.Get("X-Session-Moved"))
	_, out = f.run(1, "sessions", "moves")
	require.Regexp(t, `wang +counter +v1 +v2 +9001/3201 +1 +finished +last`, out)
	require.EqualValues(t, 1, f.gateways[0].Metric("tellergate_sessions_known"))
}

func TestDrainOnACluster(t *testing.T) {
	t.Parallel()
	var addresses []string
	for _, s := range redistest.Cluster(t) {
		addresses = append(addresses, s.Address)
	}
	f := newDrainFleet(t, inRedis("cluster", addresses...), 2)
	for i := range 40 {
		require.Equal(t, "v1", f.get(i%2, "/", fmt.Sprint(i)))
	}
	for i := range f.gateways {
		code, out := f.run(i, "version", "drain", "counter", "v1")
		require.Zero(t, code, out)
	}
	f.waitsFor("40 sessions are live on v1")
	code, out := f.run(1, "sessions", "end", "--service", "counter", "--from", "v1", "--reason", "closing time")
	require.Zero(t, code, out)
	require.Contains(t, out, "40 sessions ended")
	code, out = f.run(0, "version", "drain", "counter", "v1", "--wait", "--within", "2m")
	require.Zero(t, code, out)
	require.Contains(t, out, "safe to retire")
	require.Equal(t, "v2", f.get(0, "/", "7"))
}

func TestDrainInProcess(t *testing.T) {
	t.Parallel()
	f := newDrainFleet(t, func(string) string { return "" }, 1)
	require.Equal(t, "v1", f.get(0, "/", "a"))
	code, out := f.run(0, "version", "drain", "counter", "v1", "--wait", "--within", "3s", "-o", "json")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, `"1 session is live on v1"`)
	code, out = f.run(0, "version", "disable", "counter", "v1")
	require.Equal(t, 2, code, out)
	require.Contains(t, out, "1 live session of counter v1 will be decided anew")
	require.Equal(t, "v1", f.get(0, "/end", "a"))
	code, out = f.run(0, "version", "drain", "counter", "v1", "--wait", "--within", "1m")
	require.Zero(t, code, out)
	require.Contains(t, out, "safe to retire: 1 replica")
	code, out = f.run(0, "version", "enable", "counter", "v1", "--reason", "back")
	require.Zero(t, code, out)
	require.Equal(t, "v1", f.get(0, "/", "b"))
}
