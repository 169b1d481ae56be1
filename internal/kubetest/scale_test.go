package kubetest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTenThousandEndpoints has 100 slices a second change among 10,000 endpoints in 200 services; the last state is what the
// gateway knows in the end. The long form holds what that costs to a bound.
func TestTenThousandEndpoints(t *testing.T) {
	const services, each = 200, 50
	seconds := choose(4, 20)
	var text strings.Builder
	text.WriteString("services:\n")
	for i := range services {
		name := fmt.Sprint("many-", i)
		slice(name, name, i, each)
		fmt.Fprintf(&text, "  - {name: %[1]s, match: {pathPrefix: /%[1]s}, default: v1, versions: [{name: v1, pods: "+
			"{kubernetes: {namespace: bank, service: %[1]s, port: http}}}]}\n", name)
	}
	t.Cleanup(func() {
		for i := range services {
			cluster.must("DELETE", slicesPath+"/many-"+fmt.Sprint(i), nil, nil)
		}
	})
	g := startGateway(t, "")
	before := g.resident()
	g.rules(text.String())
	eventually(t, "all endpoints", func() bool { return g.metric("endpoints") == strconv.Itoa(services*each) })
	begin, cpu, events := time.Now(), g.cpu(), g.metric("events_total")
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := w; n < seconds*100; n += 4 {
				time.Sleep(time.Until(begin.Add(time.Duration(n) * 10 * time.Millisecond)))
				name := fmt.Sprint("many-", n%services)
				slice(name, name, n%services, each-1-n/services%2)
			}
		})
	}
	writers.Wait()
	took, used := time.Since(begin), g.cpu()-cpu
	t.Logf("%d endpoints in %d services, changes received %s to %s in %s: %.1f %% of a core; resident %d MiB before the rules, %d MiB after",
		services*each, services, events, g.metric("events_total"), took.Round(time.Millisecond),
		100*used.Seconds()/took.Seconds(), before>>20, g.resident()>>20)
	left := each - 1 - (seconds*100-1)/services%2
	eventually(t, "the last state", func() bool { return g.metric("endpoints") == strconv.Itoa(services*left) })
	if long() {
		// The budget is 0.05; the bound leaves room for a machine that does other things as well.
		require.Less(t, used.Seconds()/took.Seconds(), 0.25)
	}
}

// cpu returns the processor time that the gateway has used; /proc counts it in hundredths of a second.
func (g *gateway) cpu() time.Duration {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	require.NoError(g.t, err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')'):]))
	user, err := strconv.Atoi(fields[12])
	require.NoError(g.t, err)
	system, err := strconv.Atoi(fields[13])
	require.NoError(g.t, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident returns the gateway's resident memory in bytes.
func (g *gateway) resident() int {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.cmd.Process.Pid))
	require.NoError(g.t, err)
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	require.NoError(g.t, err)
	return pages * os.Getpagesize()
}
