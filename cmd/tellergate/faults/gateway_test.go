package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
)

func TestMain(m *testing.M) { os.Exit(gatewaytest.Main(m)) }

// A gateway is one replica.
type gateway struct {
	*gatewaytest.Gateway
	dead atomic.Bool // the load balancer sends it nothing
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
