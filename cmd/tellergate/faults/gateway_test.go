package faults

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
)

func TestMain(m *testing.M) { os.Exit(gatewaytest.Main(m)) }

// A form says how much of it is done.
type form struct {
	sessions      int
	rate          int // requests a second through both gateways together
	before, after time.Duration
	long          bool
}

// theForm is the short one unless TELLERGATE_LONG is set. In the short form two tests run side by side.
func theForm(t *testing.T) form {
	if os.Getenv("TELLERGATE_LONG") != "" {
		return form{sessions: 2000, rate: 1000, before: 5 * time.Second, after: 10 * time.Second, long: true}
	}
	t.Parallel()
	return form{sessions: 200, rate: 250, before: 300 * time.Millisecond, after: time.Second}
}

// outage is how long something is away: in the long form as long as it says.
func (f form) outage(long time.Duration) time.Duration {
	if f.long {
		return long
	}
	return 2 * time.Second
}

// A gateway is one replica.
type gateway struct {
	*gatewaytest.Gateway
	dead atomic.Bool  // the load balancer sends it nothing
	sent atomic.Int64 // requests of pinned sessions
}

// start starts a gateway whose sessions are in Redis; redis is part of its settings, in flow style.
func start(t *testing.T, redis string) *gateway {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("the same secret for every replica\n"), 0o600))
	return &gateway{Gateway: gatewaytest.Start(t, dir, fmt.Sprintf(`
frontends: [{name: counter, address: "127.0.0.1:0"}]
identity: {session: {cookie: JSESSIONID, header: X-Session-Id, claim: false}}
sessions: {store: redis, redis: {%s, secretFile: %s}}
rules: {path: %s}
admin: {address: "127.0.0.1:0"}
accessLog: {path: "off"}
shutdown: {delay: 0s}
`, redis, secret, filepath.Join(dir, "data")))}
}

// kill ends it as kill -9 does.
func (g *gateway) kill() {
	g.dead.Store(true)
	g.Kill()
}

// connections counts the sockets that the process has towards a port.
func (g *gateway) connections(t *testing.T, port string) (n int) {
	t.Helper()
	var number int
	_, err := fmt.Sscan(port, &number)
	require.NoError(t, err)
	proc := fmt.Sprintf("/proc/%d", g.Command.Process.Pid)
	entries, err := os.ReadDir(proc + "/fd")
	require.NoError(t, err)
	own := make(map[string]bool)
	for _, e := range entries {
		if target, err := os.Readlink(proc + "/fd/" + e.Name()); err == nil { // else it is closed by now
			own[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	table, err := os.Open(proc + "/net/tcp")
	require.NoError(t, err)
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", number)) && own[fields[9]] {
			n++
		}
	}
	return n
}

// recovered waits until every gateway that lives asks Redis.
func (s *setup) recovered() {
	s.t.Helper()
	for _, g := range s.gateways {
		if !g.dead.Load() {
			require.Eventually(s.t, func() bool { return g.Metric("tellergate_redis_degraded_since_timestamp_seconds") == 0 },
				30*time.Second, 20*time.Millisecond, "Redis is back")
		}
	}
}
