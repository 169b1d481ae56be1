// Package gatewaytest runs the real program for tests: it builds it once, starts it as a process on free ports, speaks
// to its frontend and its admin API, and serves pods for it. It is responsible for the end of every process it starts,
// and knows the gateway as a program only.
package gatewaytest

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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Binary is the program under test, once Main has built it.
var Binary string

// Main builds the program with these flags of go build, runs the tests and returns their exit code. TestMain calls it.
// A program built with -race ends with exit code 66 when it races.
func Main(m *testing.M, flags ...string) int {
	dir, err := os.MkdirTemp("", "tellergate-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	Binary = filepath.Join(dir, "tellergate")
	args := append(append([]string{"build"}, flags...), "-o", Binary, "tellergate/cmd/tellergate")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Patience bounds every wait for a condition; a healthy machine needs a fraction of it.
const Patience = 20 * time.Second

// A Gateway is one tellergate process under test.
type Gateway struct {
	Command         *exec.Cmd
	Frontend, Admin string        // host:port
	Exited          chan struct{} // closed once the process has ended and its log is complete

	t    *testing.T
	mu   sync.Mutex
	logs []string // guarded by mu
}

// Settings returns a settings file with free ports, everything of this run below dir, and extra lines appended.
func Settings(dir, extra string) string {
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

// Start runs the program with a settings text, which it writes to tellergate.yaml in dir, and waits until it serves. env
// is added to the test's environment, as KEY=value. The process is killed when the test ends.
func Start(t *testing.T, dir, text string, env ...string) *Gateway {
	t.Helper()
	file := filepath.Join(dir, "tellergate.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	g := &Gateway{t: t, Command: exec.Command(Binary, "--settings", file), Exited: make(chan struct{})}
	g.Command.Env = append(os.Environ(), env...)
	stderr, err := g.Command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, g.Command.Start())
	up := make(chan struct{})
	go func() {
		defer close(g.Exited)
		var once sync.Once
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, Frontend, Address, Admin string }
			_ = json.Unmarshal(lines.Bytes(), &entry) // a line that is not JSON is kept all the same
			g.mu.Lock()
			g.logs = append(g.logs, lines.Text())
			switch entry.Msg {
			case "frontend listens":
				g.Frontend = entry.Address
			case "tellergate runs":
				g.Admin = entry.Admin
				once.Do(func() { close(up) })
			}
			g.mu.Unlock()
		}
		_ = g.Command.Wait()
	}()
	t.Cleanup(g.Kill)
	select {
	case <-up:
	case <-g.Exited:
		t.Fatalf("the program ended at once:\n%s", g.Log())
	case <-time.After(Patience):
		t.Fatalf("the program did not start:\n%s", g.Log())
	}
	return g
}

// Log returns everything the program wrote to stderr.
func (g *Gateway) Log() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.logs, "\n")
}

// Kill ends the program as a power failure would.
func (g *Gateway) Kill() {
	_ = g.Command.Process.Kill()
	<-g.Exited
	if strings.Contains(g.Log(), "DATA RACE") {
		g.t.Errorf("the program has a data race:\n%s", g.Log())
	}
}

// Terminate ends the program as an orchestrator would, and requires that it ends well.
func (g *Gateway) Terminate(signal syscall.Signal) {
	g.t.Helper()
	require.NoError(g.t, g.Command.Process.Signal(signal))
	select {
	case <-g.Exited:
	case <-time.After(Patience):
		g.t.Fatalf("the program did not end:\n%s", g.Log())
	}
	require.Zero(g.t, g.Command.ProcessState.ExitCode(), "exit code; log:\n%s", g.Log())
}

// Call sends one request to the admin API. body may be nil. headers come in pairs.
func (g *Gateway) Call(method, path, contentType string, body []byte, headers ...string) (*http.Response, []byte) {
	g.t.Helper()
	request, err := http.NewRequest(method, "http://"+g.Admin+path, bytes.NewReader(body))
	require.NoError(g.t, err)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(g.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(g.t, err)
	return response, answer
}

// Put writes a part through the admin API on top of the head revision and requires that it is accepted.
func (g *Gateway) Put(path, contentType, body string) {
	g.t.Helper()
	head, _ := g.Call(http.MethodGet, "/api/v1/rules", "", nil)
	response, answer := g.Call(http.MethodPut, path, contentType, []byte(body), "If-Match", head.Header.Get("ETag"))
	require.Less(g.t, response.StatusCode, 300, "PUT %s: %s", path, answer)
}

// PutRules writes a rule document.
func (g *Gateway) PutRules(document string) {
	g.t.Helper()
	g.Put("/api/v1/rules", "application/yaml", document)
}

// Metric returns the value of a metric, named with its labels as the program prints them. There must be one.
func (g *Gateway) Metric(name string) float64 {
	g.t.Helper()
	_, text := g.Call(http.MethodGet, "/metrics", "", nil)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(g.t, err)
			return n
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return 0
}

// Do sends one channel request and returns the answer, its body read, and the body. headers come in pairs.
func (g *Gateway) Do(client *http.Client, path string, headers ...string) (*http.Response, string) {
	g.t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+g.Frontend+path, nil)
	require.NoError(g.t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	require.NoError(g.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(g.t, err)
	return response, string(body)
}

// Get sends one channel request, requires that a pod answered, and returns its version. headers come in pairs.
func (g *Gateway) Get(client *http.Client, path string, headers ...string) string {
	g.t.Helper()
	response, body := g.Do(client, path, headers...)
	require.Equal(g.t, http.StatusOK, response.StatusCode, "%s", body)
	return body
}

// Pods are demonstration pods of one version, in the test's process.
type Pods struct {
	Version   string
	Addresses []string
	Requests  atomic.Int64
}

// ServePods starts n pods that answer with their version. Of a request's header X-Set-Session makes them set the
// session's cookie, X-Drop-Session take it away, and X-End-Session answer X-Session-End.
func ServePods(t *testing.T, version string, n int) *Pods {
	t.Helper()
	p := &Pods{Version: version}
	for i := range n {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			p.Requests.Add(1)
			_, _ = io.Copy(io.Discard, q.Body)
			if value := q.Header.Get("X-Set-Session"); value != "" {
				http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: value})
			}
			if q.Header.Get("X-Drop-Session") != "" {
				http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", MaxAge: -1})
			}
			if q.Header.Get("X-End-Session") != "" {
				w.Header().Set("X-Session-End", "1")
			}
			w.Header().Set("X-Pod", fmt.Sprintf("%s-%d", version, i))
			w.Header().Set("X-Seen-Cookie", q.Header.Get("Cookie"))
			w.Header().Set("X-Seen-Teller", q.Header.Get("X-Teller-Id"))
			_, _ = io.WriteString(w, version)
		}))
		t.Cleanup(server.Close)
		p.Addresses = append(p.Addresses, server.Listener.Addr().String())
	}
	return p
}

// Static prints the pods as a document's static pod set.
func (p *Pods) Static() string {
	return `{static: ["` + strings.Join(p.Addresses, `", "`) + `"]}`
}

// NewClient returns a client with connections of its own.
func NewClient(t *testing.T, perHost int) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: perHost, MaxConnsPerHost: perHost}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: Patience}
}
