package main

import (
	"bufio"
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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is the real program, built once with the race detector: a race in it ends it with exit code 66.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tellergate-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "tellergate")
		if out, err := exec.Command("go", "build", "-race", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds every wait for a condition; a healthy machine needs a fraction of it.
const patience = 20 * time.Second

// A running is one tellergate process under test.
type running struct {
	t               *testing.T
	cmd             *exec.Cmd
	frontend, admin string // host:port
	exited          chan struct{}

	mu   sync.Mutex
	logs []string
}

// settings returns a settings file with free ports, everything of this run below dir, and extra lines appended.
func settings(dir, extra string) string {
	return fmt.Sprintf(`
frontends:
  - name: counter
    address: 127.0.0.1:0
    trust: {identity: [127.0.0.0/8]}
identity:
  legalEntity: {header: X-Legal-Entity, default: "9001"}
  branch: {header: X-Branch-Id, within: legalEntity}
  teller: {header: X-Teller-Id, within: legalEntity}
  session: {cookie: JSESSIONID, header: X-Session-Id, claim: false}
testers: {from: [127.0.0.0/8]}
rules: {path: %s}
admin: {address: "127.0.0.1:0"}
accessLog: {path: %s}
shutdown: {delay: 300ms, grace: 10s}
%s`, filepath.Join(dir, "data"), filepath.Join(dir, "access.log"), extra)
}

// start runs the program with a settings text and waits until it serves.
func start(t *testing.T, dir, text string) *running {
	t.Helper()
	file := filepath.Join(dir, "tellergate.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	r := &running{t: t, cmd: exec.Command(binary, "--settings", file), exited: make(chan struct{})}
	stderr, err := r.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	up := make(chan struct{})
	go func() {
		defer close(r.exited)
		var once sync.Once
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, Frontend, Address, Admin string }
			_ = json.Unmarshal(lines.Bytes(), &entry) // a line that is not JSON is kept all the same
			r.mu.Lock()
			r.logs = append(r.logs, lines.Text())
			switch entry.Msg {
			case "frontend listens":
				r.frontend = entry.Address
			case "tellergate runs":
				r.admin = entry.Admin
				once.Do(func() { close(up) })
			}
			r.mu.Unlock()
		}
		_ = r.cmd.Wait()
	}()
	t.Cleanup(r.kill)
	select {
	case <-up:
	case <-r.exited:
		t.Fatalf("the program ended at once:\n%s", r.log())
	case <-time.After(patience):
		t.Fatalf("the program did not start:\n%s", r.log())
	}
	return r
}

// log returns everything the program wrote to stderr.
func (r *running) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.logs, "\n")
}

// kill ends the program as a power failure would.
func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	<-r.exited
	if strings.Contains(r.log(), "DATA RACE") {
		r.t.Errorf("the program has a data race:\n%s", r.log())
	}
}

// terminate ends the program as an orchestrator would, and requires that it ends well.
func (r *running) terminate(signal syscall.Signal) {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(signal))
	select {
	case <-r.exited:
	case <-time.After(patience):
		r.t.Fatalf("the program did not end:\n%s", r.log())
	}
	require.Zero(r.t, r.cmd.ProcessState.ExitCode(), "exit code; log:\n%s", r.log())
}

// call sends one request to the admin API. body may be nil. headers come in pairs.
func (r *running) call(method, path, contentType string, body []byte, headers ...string) (*http.Response, []byte) {
	r.t.Helper()
	request, err := http.NewRequest(method, "http://"+r.admin+path, bytes.NewReader(body))
	require.NoError(r.t, err)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(r.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return response, answer
}

// put writes a part through the admin API on top of the head revision and requires that it is accepted.
func (r *running) put(path, contentType, body string) {
	r.t.Helper()
	head, _ := r.call(http.MethodGet, "/api/v1/rules", "", nil)
	response, answer := r.call(http.MethodPut, path, contentType, []byte(body), "If-Match", head.Header.Get("ETag"))
	require.Less(r.t, response.StatusCode, 300, "PUT %s: %s", path, answer)
}

// putRules writes a rule document.
func (r *running) putRules(document string) {
	r.t.Helper()
	r.put("/api/v1/rules", "application/yaml", document)
}

// A versionPods is a set of demonstration pods of one version, in the test's process.
type versionPods struct {
	version   string
	addresses []string
	requests  atomic.Int64
}

// servePods starts n pods that answer with their version. An X-Set-Session request header makes them set the cookie.
func servePods(t *testing.T, version string, n int) *versionPods {
	t.Helper()
	p := &versionPods{version: version}
	for i := range n {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			p.requests.Add(1)
			_, _ = io.Copy(io.Discard, q.Body)
			if value := q.Header.Get("X-Set-Session"); value != "" {
				http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: value})
			}
			w.Header().Set("X-Pod", fmt.Sprintf("%s-%d", version, i))
			w.Header().Set("X-Seen-Cookie", q.Header.Get("Cookie"))
			w.Header().Set("X-Seen-Teller", q.Header.Get("X-Teller-Id"))
			_, _ = io.WriteString(w, version)
		}))
		t.Cleanup(server.Close)
		p.addresses = append(p.addresses, server.Listener.Addr().String())
	}
	return p
}

// static prints the pods as a document's static pod set.
func (p *versionPods) static() string {
	return `{static: ["` + strings.Join(p.addresses, `", "`) + `"]}`
}

// get sends one channel request and returns the version that answered. headers come in pairs.
func (r *running) get(client *http.Client, path string, headers ...string) string {
	r.t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+r.frontend+path, nil)
	require.NoError(r.t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	require.NoError(r.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	require.Equal(r.t, http.StatusOK, response.StatusCode, "%s", body)
	return string(body)
}

// newClient returns a client with connections of its own.
func newClient(t *testing.T, perHost int) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: perHost, MaxConnsPerHost: perHost}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}
