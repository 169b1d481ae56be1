package kubetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience bounds every wait for a condition.
const patience = 90 * time.Second

// A gateway is one real tellergate process, under the role of deploy/kubernetes/rbac.yaml.
type gateway struct {
	t               *testing.T
	dir, kubernetes string // kubernetes: what the settings say beside the cache, "key: value, "
	environment     []string
	cmd             *exec.Cmd
	frontend, admin string
	exited          chan struct{}

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

// sources looks at every source file of the module, so that go test does not take a result from its cache that an
// older gateway gave.
var sources = sync.OnceValue(func() error {
	return filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".go") || entry.Name() == "go.mod") {
			_, err = os.Stat(path)
		}
		return err
	})
})

// startGateway starts one with an empty store, which knows the API server from a kubeconfig.
func startGateway(t *testing.T, kubernetes string) *gateway {
	t.Helper()
	return startGatewayWith(t, "kubeconfig: "+cluster.path("gateway.kubeconfig")+", "+kubernetes)
}

func startGatewayWith(t *testing.T, kubernetes string, environment ...string) *gateway {
	t.Helper()
	require.NoError(t, sources())
	g := &gateway{t: t, dir: t.TempDir(), kubernetes: kubernetes, environment: environment}
	g.start()
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			g.mu.Lock()
			defer g.mu.Unlock()
			text := g.log.String()
			t.Logf("the gateway's log:\n%s", text[max(0, len(text)-8000):])
		}
	})
	return g
}

// command writes the settings and returns what runs the gateway with them.
func (g *gateway) command() *exec.Cmd {
	g.t.Helper()
	settings := fmt.Sprintf(`
frontends: [{name: counter, address: "127.0.0.1:0", trust: {identity: [127.0.0.0/8]}}]
identity:
  teller: {header: X-Teller-Id}
  session: {header: X-Session-Id, claim: false}
rules: {path: %[1]s/data}
discovery: {kubernetes: {%[2]scache: %[1]s/pods.cache}}
admin: {address: "127.0.0.1:0"}
accessLog: {path: "off"}
shutdown: {delay: 0s, grace: 5s}
`, g.dir, g.kubernetes)
	file := filepath.Join(g.dir, "tellergate.yaml")
	require.NoError(g.t, os.WriteFile(file, []byte(settings), 0o600))
	cmd := exec.Command(gatewayBinary, "--settings", file)
	cmd.Env = append(os.Environ(), g.environment...)
	return cmd
}

func (g *gateway) start() {
	g.t.Helper()
	g.cmd, g.exited = g.command(), make(chan struct{})
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := g.cmd.StderrPipe()
	require.NoError(g.t, err)
	require.NoError(g.t, g.cmd.Start())
	up, exited, cmd := make(chan struct{}), g.exited, g.cmd
	go func() {
		defer close(exited)
		var once sync.Once
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, Address, Admin string }
			_ = json.Unmarshal(lines.Bytes(), &entry)
			g.mu.Lock()
			g.log.WriteString(lines.Text() + "\n")
			switch entry.Msg {
			case "frontend listens":
				g.frontend = entry.Address
			case "tellergate runs":
				g.admin = entry.Admin
				once.Do(func() { close(up) })
			}
			g.mu.Unlock()
		}
		_ = cmd.Wait()
	}()
	select {
	case <-up:
	case <-exited:
		g.t.Fatalf("the gateway ended at once:\n%s", g.logged())
	case <-time.After(patience):
		g.t.Fatalf("the gateway did not start:\n%s", g.logged())
	}
}

func (g *gateway) logged() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.log.String()
}

func (g *gateway) kill() {
	_ = g.cmd.Process.Kill()
	<-g.exited
}

// rules applies a document on top of what there is.
func (g *gateway) rules(document string) {
	g.t.Helper()
	head, err := http.Get("http://" + g.admin + "/api/v1/rules")
	require.NoError(g.t, err)
	_ = head.Body.Close()
	request, err := http.NewRequest("PUT", "http://"+g.admin+"/api/v1/rules", strings.NewReader(document))
	require.NoError(g.t, err)
	request.Header.Set("Content-Type", "application/yaml")
	request.Header.Set("If-Match", head.Header.Get("ETag"))
	answer, err := http.DefaultClient.Do(request)
	require.NoError(g.t, err)
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	require.Less(g.t, answer.StatusCode, 300, "%s", text)
}

// An endpoint is what GET /services tells of one.
type endpoint struct{ Address, UID, Zone, State string }

// endpoints returns those of a version of the service counter.
func (g *gateway) endpoints(version string) []endpoint {
	g.t.Helper()
	var service struct {
		Versions []struct {
			Name      string
			Endpoints []endpoint
		}
	}
	g.get("/api/v1/services/counter", &service)
	for _, v := range service.Versions {
		if v.Name == version {
			return v.Endpoints
		}
	}
	g.t.Fatalf("there is no version %s in %+v", version, service)
	return nil
}

func (g *gateway) get(path string, answer any) int {
	g.t.Helper()
	response, err := http.Get("http://" + g.admin + path)
	require.NoError(g.t, err)
	defer response.Body.Close()
	if answer != nil {
		require.NoError(g.t, json.NewDecoder(response.Body).Decode(answer))
	}
	return response.StatusCode
}

type readiness struct {
	Ready          bool
	Missing, Notes []string
}

func (g *gateway) readiness() (r readiness) {
	g.t.Helper()
	g.get("/readyz", &r)
	return r
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !condition() {
		if time.Since(begin) > patience {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begin)
}

// cached returns how many endpoints of a service the gateway has on disk.
func (g *gateway) cached(service string) int {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "pods.cache"))
	if err != nil {
		return 0
	}
	_, text, _ = bytes.Cut(text, []byte("\n"))
	var body struct {
		Pods map[string][]json.RawMessage
	}
	require.NoError(g.t, json.Unmarshal(text, &body))
	return len(body.Pods["bank/"+service+":http"])
}

// states counts endpoints by state.
func states(endpoints []endpoint) map[string]int {
	n := map[string]int{}
	for _, e := range endpoints {
		n[e.State]++
	}
	return n
}

// readAll returns the body of an answer and closes it.
func readAll(response *http.Response) string {
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
