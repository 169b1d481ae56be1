package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
)

// splitDocument splits the service counter by teller, with weight basis points to v2. sessions may be empty.
func splitDocument(v1, v2 *gatewaytest.Pods, weight int, sessions string) string {
	return fmt.Sprintf(`
services:
  - name: counter
    match: {frontends: [counter]}
    default: v1
    versions:
      - {name: v1, pods: %s}
      - {name: v2, pods: %s}
    %s
    rules:
      - name: canary
        priority: 100
        then: {split: [{version: v1, weight: %d}, {version: v2, weight: %d}], by: [teller], salt: e2e}
`, v1.Static(), v2.Static(), sessions, 10000-weight, weight)
}

const pinned = `sessions: {key: [session, teller], subject: teller}`

// versions asks once for each of n tellers and returns who answered.
func versions(r *gatewaytest.Gateway, client *http.Client, n int) []string {
	out := make([]string, n)
	for i := range n {
		out[i] = r.Get(client, "/", "X-Branch-Id", "0001", "X-Teller-Id", fmt.Sprintf("%05d", i))
	}
	return out
}

func count(values []string, want string) (n int) {
	for _, v := range values {
		if v == want {
			n++
		}
	}
	return n
}

func TestSplitOfThousandTellersWithoutPins(t *testing.T) {
	v1, v2 := servePods(t, "v1", 2), servePods(t, "v2", 1)
	r := start(t, t.TempDir(), settings(t.TempDir(), ""))
	client := newClient(t, 8)

	r.PutRules(splitDocument(v1, v2, 3000, ""))
	at30 := versions(r, client, 1000)
	// 300 ± 4 standard deviations of a binomial with n = 1000, p = 0.3.
	assert.InDelta(t, 300, count(at30, "v2"), 58)
	assert.Equal(t, at30, versions(r, client, 1000), "the same teller gets the same version")

	r.PutRules(splitDocument(v1, v2, 5000, ""))
	at50 := versions(r, client, 1000)
	moved := 0
	for i := range at30 {
		if at30[i] == "v2" {
			require.Equal(t, "v2", at50[i], "teller %d went back from v2 to v1", i)
		} else if at50[i] == "v2" {
			moved++
		}
	}
	assert.InDelta(t, 200, moved, 51, "four standard deviations around 200")
	t.Logf("30 %%: %d of 1000 on v2; 30 → 50 %%: %d moved from v1 to v2, none back", count(at30, "v2"), moved)
}

func TestSplitOfThousandTellersWithPins(t *testing.T) {
	v1, v2 := servePods(t, "v1", 2), servePods(t, "v2", 1)
	r := start(t, t.TempDir(), settings(t.TempDir(), ""))
	client := newClient(t, 8)

	r.PutRules(splitDocument(v1, v2, 3000, pinned))
	at30 := versions(r, client, 1000)
	r.PutRules(splitDocument(v1, v2, 5000, pinned))
	both := versions(r, client, 2000)
	assert.Equal(t, at30, both[:1000], "nobody who had a session moved")
	assert.InDelta(t, 500, count(both[1000:], "v2"), 64, "new tellers follow the new weight")
}

func TestSessionContractThroughTheBinary(t *testing.T) {
	v1, v2 := servePods(t, "v1", 1), servePods(t, "v2", 1)
	r := start(t, t.TempDir(), settings(t.TempDir(), ""))
	client := newClient(t, 2)
	document := func(teller string) string {
		return fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: %s}
      - {name: v2, pods: %s}
    sessions: {key: [session, teller], subject: teller, end: {paths: [/logout]}}
    rules:
      - name: one-teller
        priority: 1
        when: {attribute: teller, is: %q}
        then: {version: v2}
`, v1.Static(), v2.Static(), teller)
	}
	r.PutRules(document("9001/0001"))

	// An anonymous login page sets the cookie; the session is provisional until the teller is known.
	require.Equal(t, "v1", r.Get(client, "/login", "X-Set-Session", "s1"))
	require.Equal(t, "v2", r.Get(client, "/", "Cookie", "JSESSIONID=s1", "X-Teller-Id", "0001"), "decided once more with its subject")
	r.PutRules(document("9001/0002"))
	require.Equal(t, "v2", r.Get(client, "/", "Cookie", "JSESSIONID=s1", "X-Teller-Id", "0001"), "then fixed")
	require.Equal(t, "v2", r.Get(client, "/", "Cookie", "JSESSIONID=s1"), "by the cookie alone, too")

	// A session id renewed at login keeps the version, even without the teller.
	require.Equal(t, "v2", r.Get(client, "/login", "Cookie", "JSESSIONID=s1", "X-Set-Session", "s2"))
	require.Equal(t, "v2", r.Get(client, "/", "Cookie", "JSESSIONID=s2"))

	// Another teller at the same terminal is another subject.
	r.PutRules(document("9001/nobody"))
	require.Equal(t, "v1", r.Get(client, "/", "Cookie", "JSESSIONID=s2", "X-Teller-Id", "0003"))
	require.Equal(t, "v2", r.Get(client, "/", "X-Teller-Id", "0001"), "the first teller's own session goes on")

	// Logout ends it.
	require.Equal(t, "v2", r.Get(client, "/logout", "X-Teller-Id", "0001"))
	require.Equal(t, "v1", r.Get(client, "/", "X-Teller-Id", "0001"))
}

// TestRuleChangeUnderLoad: no request fails, every unpinned request sent after the acknowledgement of a change obeys
// it, and every pinned one keeps its version.
func TestRuleChangeUnderLoad(t *testing.T) {
	const enough = 50_000
	v1, v2 := servePods(t, "v1", 2), servePods(t, "v2", 2)
	r := start(t, t.TempDir(), settings(t.TempDir(), ""))
	// Requests below /free belong to a service without sessions, the rest to one with.
	document := func(to string) string {
		return fmt.Sprintf(`
services:
  - name: free
    match: {pathPrefix: /free}
    default: %[3]s
    versions:
      - {name: v1, pods: %[1]s}
      - {name: v2, pods: %[2]s}
  - name: counter
    default: %[3]s
    versions:
      - {name: v1, pods: %[1]s}
      - {name: v2, pods: %[2]s}
    sessions: {key: [teller]}
`, v1.Static(), v2.Static(), to)
	}
	r.PutRules(document("v1"))

	// A change in flight may be seen or not; acknowledged is what every later request must obey. Both are bumped by
	// the writer: sent before the write, acknowledged after its answer. Odd changes go to v2.
	var sent, acknowledged, done, wrong, failed atomic.Int64
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			client := newClient(t, 1)
			first := ""
			teller := strconv.Itoa(w)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				path := "/free"
				if w%2 == 1 {
					path = "/"
				}
				before := acknowledged.Load()
				request, _ := http.NewRequest(http.MethodGet, "http://"+r.Frontend+path, nil)
				request.Header.Set("X-Teller-Id", teller)
				response, err := client.Do(request)
				if err != nil {
					failed.Add(1)
					continue
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				after := sent.Load()
				got := string(body)
				if err != nil || response.StatusCode != http.StatusOK {
					failed.Add(1)
					continue
				}
				done.Add(1)
				if path == "/" {
					if first == "" {
						first = got
					}
					if got != first {
						wrong.Add(1)
					}
					continue
				}
				// With no change between before and after there is one right answer.
				if before == after && got != []string{"v1", "v2"}[before%2] {
					wrong.Add(1)
				}
			}
		})
	}
	deadline := time.Now().Add(4 * time.Minute)
	changes := 0
	for done.Load() < enough && time.Now().Before(deadline) {
		changes++
		sent.Add(1)
		r.PutRules(document([]string{"v1", "v2"}[changes%2]))
		acknowledged.Add(1)
	}
	close(stop)
	workers.Wait()
	assert.GreaterOrEqual(t, done.Load(), int64(enough))
	assert.Zero(t, failed.Load(), "failed requests")
	assert.Zero(t, wrong.Load(), "requests that did not obey the acknowledged rules, or left their version")
	assert.Greater(t, changes, 10)
	t.Logf("%d requests, %d rule changes, %d failed, %d wrong", done.Load(), changes, failed.Load(), wrong.Load())
}

func TestSessionCookieFromUntrustedAddressReachesThePodUntouched(t *testing.T) {
	v1 := servePods(t, "v1", 1)
	dir := t.TempDir()
	r := start(t, dir, strings.Replace(settings(dir, ""), "trust: {identity: [127.0.0.0/8]}", "trust: {}", 1))
	r.PutRules(fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions: [{name: v1, pods: %s}]
    sessions: {key: [session]}
`, v1.Static()))
	const cookie = `other=1; JSESSIONID="aB%2F+é==.node-1"; last=x`
	request, err := http.NewRequest(http.MethodGet, "http://"+r.Frontend+"/", nil)
	require.NoError(t, err)
	request.Header.Set("Cookie", cookie)
	request.Header.Set("X-Teller-Id", "0001")
	response, err := newClient(t, 1).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, cookie, response.Header.Get("X-Seen-Cookie"))
	assert.Empty(t, response.Header.Get("X-Seen-Teller"), "the claim of an untrusted address")
}

func TestRevisionsSurviveKill(t *testing.T) {
	v1, v2 := servePods(t, "v1", 1), servePods(t, "v2", 1)
	dir := t.TempDir()
	r := start(t, dir, settings(dir, ""))
	client := newClient(t, 1)
	r.PutRules(splitDocument(v1, v2, 0, ""))
	r.PutRules(splitDocument(v1, v2, 10000, ""))
	require.Equal(t, "v2", r.Get(client, "/", "X-Teller-Id", "1"))
	r.Kill()

	r = start(t, dir, settings(dir, ""))
	require.Eventually(t, func() bool {
		response, body := r.Call(http.MethodGet, "/readyz", "", nil)
		assert.Contains(t, string(body), "run one replica only")
		return response.StatusCode == http.StatusOK
	}, patience, 10*time.Millisecond)
	require.Equal(t, "v2", r.Get(newClient(t, 1), "/", "X-Teller-Id", "1"))
	_, body := r.Call(http.MethodGet, "/api/v1/revisions", "", nil)
	require.Contains(t, string(body), `"seq":2`)
}

func TestSecondProcessOnTheSameDataIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, settings(dir, ""))
	second := t.TempDir()
	file := filepath.Join(second, "tellergate.yaml")
	require.NoError(t, os.WriteFile(file, []byte(settings(dir, "")), 0o600))
	out, err := exec.Command(gatewaytest.Binary, "--settings", file).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "has it open")
}

func TestFrontendAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "tellergate.yaml")
	text := strings.Replace(settings(dir, ""), "address: 127.0.0.1:0", "address: "+taken.Addr().String(), 1)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	cmd := exec.Command(gatewaytest.Binary, "--settings", file)
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, exitFailed, cmd.ProcessState.ExitCode())
	assert.Contains(t, string(out), taken.Addr().String())
	assert.Contains(t, string(out), "counter")
}

func TestBadSettingsAreAllNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tellergate.yaml")
	require.NoError(t, os.WriteFile(file, []byte("frontends:\n  - {name: a, address: nowhere}\nadmim: {}\n"), 0o600))
	cmd := exec.Command(gatewaytest.Binary, "--settings", file)
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
	assert.Contains(t, string(out), file+":2:")
	assert.Contains(t, string(out), file+":3:1: admim")
}

func TestReload(t *testing.T) {
	v1 := servePods(t, "v1", 1)
	dir := t.TempDir()
	text := settings(dir, "")
	r := start(t, dir, text)
	r.PutRules(splitDocument(v1, v1, 0, ""))
	file := filepath.Join(dir, "tellergate.yaml")
	teller := func() string {
		request, err := http.NewRequest(http.MethodGet, "http://"+r.Frontend+"/", nil)
		require.NoError(t, err)
		request.Header.Set("X-Teller-Id", "0001")
		response, err := newClient(t, 1).Do(request)
		require.NoError(t, err)
		response.Body.Close()
		return response.Header.Get("X-Seen-Teller")
	}
	hangUp := func(text, logged string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		before := strings.Count(r.Log(), logged)
		require.NoError(t, r.Command.Process.Signal(syscall.SIGHUP))
		require.Eventually(t, func() bool { return strings.Count(r.Log(), logged) > before }, patience, 5*time.Millisecond, "%s", logged)
	}
	require.Equal(t, "0001", teller())
	hangUp("frontends: [", "not reloaded")
	require.Equal(t, "0001", teller(), "a bad file changes nothing")
	hangUp(strings.Replace(text, "rules: {path: ", "rules: {path: /nowhere", 1), "not reloaded")
	require.Equal(t, "0001", teller(), "a change that needs a restart changes nothing")
	rotated := filepath.Join(dir, "access.log.1")
	require.NoError(t, os.Rename(filepath.Join(dir, "access.log"), rotated))
	hangUp(strings.Replace(text, "trust: {identity: [127.0.0.0/8]}", "trust: {}", 1), "settings reloaded")
	require.Empty(t, teller(), "nobody is trusted any more")
	lines := func(file string) int {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return strings.Count(string(text), "\n")
	}
	require.Eventually(t, func() bool {
		return lines(filepath.Join(dir, "access.log")) > 0 && lines(filepath.Join(dir, "access.log"))+lines(rotated) == 4
	}, patience, 5*time.Millisecond, "the request that came since is in the new access log, and none is lost")
}

func TestTerminationLosesNoRequest(t *testing.T) {
	v1 := servePods(t, "v1", 2)
	dir := t.TempDir()
	r := start(t, dir, settings(dir, ""))
	r.PutRules(splitDocument(v1, v1, 0, ""))
	health := func() int {
		response, err := http.Get("http://" + r.Frontend + "/-/lb")
		if err != nil {
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, health())

	// The workers are the load balancer: they send until the health path turns 503, then no more.
	var done, failed atomic.Int64
	var leaving atomic.Bool
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			client := newClient(t, 1)
			for !leaving.Load() {
				response, err := client.Get("http://" + r.Frontend + "/")
				if err != nil {
					failed.Add(1)
					continue
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK {
					failed.Add(1)
				}
				done.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return done.Load() > 500 }, patience, time.Millisecond)
	require.NoError(t, r.Command.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return health() == http.StatusServiceUnavailable }, patience, time.Millisecond)
	leaving.Store(true)
	workers.Wait()
	<-r.Exited
	assert.Zero(t, r.Command.ProcessState.ExitCode(), "%s", r.Log())
	assert.Zero(t, failed.Load(), "failed requests of %d", done.Load())

	// Every request is in the access log.
	text, err := os.ReadFile(filepath.Join(dir, "access.log"))
	require.NoError(t, err)
	logged := int64(0)
	for line := range strings.Lines(string(text)) {
		var entry struct{ Service, Path string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), "%s", line)
		if entry.Service == "counter" {
			logged++
		}
	}
	assert.Equal(t, done.Load(), logged)
}

func TestInterruptDoesNotWaitForTheLoadBalancer(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir, strings.Replace(settings(dir, ""), "delay: 300ms", "delay: 1h", 1))
	r.Terminate(syscall.SIGINT)
}

// TestExplainReadsPathsAsTheDataPlaneDoes: what explain says of a path is what happens to a request with that path.
func TestExplainReadsPathsAsTheDataPlaneDoes(t *testing.T) {
	v1, v2 := servePods(t, "v1", 1), servePods(t, "v2", 1)
	r := start(t, t.TempDir(), settings(t.TempDir(), ""))
	r.PutRules(fmt.Sprintf(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: %s}
      - {name: v2, pods: %s}
    rules:
      - {name: eod, priority: 1, when: {any: [{path: {prefix: /teller/eod}}, {path: {is: /a/}}]}, then: {version: v2}}
`, v1.Static(), v2.Static()))
	for _, path := range []string{
		"/", "/teller/eod", "/teller/eodx", "/teller/eod/", "/teller//eod", "/teller/./eod/x", "/teller/x/../eod", "/teller/%65od",
		"/teller/eod?x=/a", "/x/../teller/eod", "/teller%2feod", "/Teller/eod", "/teller/eod/..", "/a", "/a/", "/a/.", "/a/b/..", "/a/b/%2e%2e", "/a/b/../", "/..", "/teller/eod/../../teller/eod/%E7%BD%91",
	} {
		connection, err := net.Dial("tcp", r.Frontend)
		require.NoError(t, err)
		_, err = fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		require.NoError(t, err)
		answer, err := io.ReadAll(connection)
		connection.Close()
		require.NoError(t, err)
		body, err := json.Marshal(map[string]string{"path": path})
		require.NoError(t, err)
		_, explained := r.Call(http.MethodPost, "/api/v1/explain", "application/json", body)
		var said struct{ Version string }
		require.NoError(t, json.Unmarshal(explained, &said), "%s", explained)
		status, _, _ := strings.Cut(string(answer), "\r\n")
		if strings.Contains(status, " 200 ") {
			assert.True(t, strings.HasSuffix(string(answer), said.Version), "%s: explain says %q, the request got %q", path, said.Version, answer)
		} else {
			assert.Contains(t, status, " 400 ", "%s", path)
		}
	}
}
