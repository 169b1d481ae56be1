package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"tellergate/cmd/tellergate/gatewaytest"
)

// A replica that runs out of descriptors goes on with the connections that it has, waits longer and longer before it tries
// to accept again, counts and logs that, and takes new ones as soon as it can.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	pods := gatewaytest.ServePods(t, "v1", 1)
	dir := t.TempDir()
	g := gatewaytest.Start(t, dir, gatewaytest.Settings(dir, ""))
	g.PutRules("services:\n  - {name: counter, match: {frontends: [counter]}, default: v1, versions: [{name: v1, pods: " + pods.Static() + "}]}\n")
	client := gatewaytest.NewClient(t, 1)
	g.Get(client, "/")
	const failures = "tellergate_accept_failures_total"
	require.Zero(t, g.Metric(failures))

	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(g.Command.Process.Pid), "fd"))
	require.NoError(t, err)
	few := uint64(len(open) + 10)
	require.NoError(t, unix.Prlimit(g.Command.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: few}, nil))
	var idle []net.Conn
	for range 40 {
		c, err := net.Dial("tcp", g.Frontend)
		require.NoError(t, err)
		idle = append(idle, c)
		t.Cleanup(func() { c.Close() })
	}
	wait := func(what string, condition func() bool) {
		t.Helper()
		require.Eventually(t, condition, gatewaytest.Patience, 10*time.Millisecond, what)
	}
	wait("accepting fails", func() bool { return g.Metric(failures) > 0 })
	began, first := time.Now(), g.Metric(failures)
	served := 0
	wait("it fails eight times more", func() bool {
		g.Get(client, "/") // on connections that are there
		served++
		return g.Metric(failures) >= first+8
	})
	require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond, "eight failures in less time are a busy loop")
	require.Positive(t, served)
	require.Contains(t, g.Log(), "connections cannot be accepted at the moment; raise the limit of open files")

	for _, c := range idle {
		require.NoError(t, c.Close())
	}
	for i := range 3 {
		g.Get(gatewaytest.NewClient(t, 1), "/", "X-Request-Id", fmt.Sprint("new-", i))
	}
	rest := g.Metric(failures)
	g.Get(gatewaytest.NewClient(t, 1), "/")
	require.Equal(t, rest, g.Metric(failures), "what was accepted at once is no failure")
	require.Equal(t, http.StatusOK, func() int { r, _ := g.Do(client, "/-/lb"); return r.StatusCode }())
}
