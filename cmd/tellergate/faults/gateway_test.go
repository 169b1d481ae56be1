package faults

import (
	"bufio"
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
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tellergate-faults-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "tellergate")
		if out, err := exec.Command("go", "build", "-o", binary, "..").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// A gateway is one running program.
type gateway struct {
	t               *testing.T
	cmd             *exec.Cmd
	frontend, admin string
	dead            atomic.Bool
	exited          chan struct{}
}

// start starts a gateway whose sessions are in Redis; redis is part of its settings, in flow style.
func start(t *testing.T, redis string) *gateway {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("the same secret for every replica\n"), 0o600))
	text := fmt.Sprintf(`
frontends: [{name: counter, address: "127.0.0.1:0"}]
identity: {session: {cookie: JSESSIONID, header: X-Session-Id, claim: false}}
sessions: {store: redis, redis: {%s, secretFile: %s}}
rules: {path: %s}
admin: {address: "127.0.0.1:0"}
accessLog: {path: "off"}
shutdown: {delay: 0s}
`, redis, secret, filepath.Join(dir, "data"))
	file := filepath.Join(dir, "tellergate.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	g := &gateway{t: t, cmd: exec.Command(binary, "--settings", file), exited: make(chan struct{})}
	stderr, err := g.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, g.cmd.Start())
	up := make(chan struct{})
	go func() {
		defer close(g.exited)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Level, Msg, Address, Admin string }
			_ = json.Unmarshal(lines.Bytes(), &entry) // a line that is not JSON is shown below
			switch {
			case entry.Msg == "frontend listens":
				g.frontend = entry.Address
			case entry.Msg == "tellergate runs":
				g.admin = entry.Admin
				close(up)
			case entry.Level == "error" || entry.Level == "":
				fmt.Fprintln(os.Stderr, lines.Text())
			}
		}
		_ = g.cmd.Wait()
	}()
	t.Cleanup(g.kill)
	select {
	case <-up:
	case <-g.exited:
		t.Fatal("the program ended at once")
	case <-time.After(20 * time.Second):
		t.Fatal("the program did not start")
	}
	return g
}

// kill ends it as kill -9 does.
func (g *gateway) kill() {
	g.dead.Store(true)
	_ = g.cmd.Process.Kill()
	<-g.exited
}

// metric returns the value of a metric without labels.
func (g *gateway) metric(t *testing.T, name string) float64 {
	t.Helper()
	response, err := http.Get("http://" + g.admin + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func pod(t *testing.T, version string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, version)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
