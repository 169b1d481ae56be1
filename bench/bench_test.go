//go:build linux

package main

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/bench/load"
	"tellergate/bench/report"
)

// The harness must go on working while the gateway changes: this runs what `make bench` runs, with the contenders that
// every machine can build, for moments.
func TestContendersAnswerRight(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := &bench{options: options{rounds: 1, warm: 50 * time.Millisecond, window: 200 * time.Millisecond}, settled: 100 * time.Millisecond, dir: t.TempDir()}
	if runtime.NumCPU() > 1 {
		b.proxyCore = 1
	}
	t.Chdir("..")
	require.NoError(t, b.build(t.Context()))
	var err error
	b.loop, err = load.NewLoop(2)
	require.NoError(t, err)
	defer b.loop.Close()
	for _, o := range []scenario{
		{name: "small", contenders: []string{tellergate, naive, noProxy}, loads: allLoads},
		{name: "new-sessions", contenders: []string{tellergate}, loads: twoLoads},
		{name: "connect", contenders: []string{tellergate, naive}, loads: twoLoads},
		{name: "post", contenders: []string{tellergate}, loads: twoLoads},
		{name: "1m", contenders: []string{tellergate}, loads: twoLoads},
		{name: "swap", contenders: []string{withSwaps}, loads: twoLoads},
		{name: "pin-redis", contenders: []string{withRedis}, loads: twoLoads},
		{name: "idle", contenders: []string{tellergate, naive}, loads: []report.Load{report.Idle}},
		{name: "tls", contenders: []string{tellergate, naive}, loads: twoLoads},
		{name: "tls-16k", contenders: []string{tellergate, naive}, loads: twoLoads},
		{name: "tls-idle", contenders: []string{tellergate, naive}, loads: []report.Load{report.Idle}},
	} {
		s := *scenarioNamed(o.name)
		s.contenders, s.loads = o.contenders, o.loads
		s.rounds = 1
		if s.idle > 0 {
			s.idle = 100
		}
		result, err := b.scenario(t.Context(), &s)
		require.NoError(t, err)
		require.Len(t, result.Samples, len(s.contenders)*len(s.loads))
		for _, sample := range result.Samples {
			require.Zero(t, sample.Failed, "%s: %+v", s.name, sample)
			require.Zero(t, sample.Wrong, "%s: %+v", s.name, sample)
			require.Zero(t, sample.Wandered, "%s: %+v", s.name, sample)
			// How much is answered in moments, on a machine that runs other tests, is not asserted.
			require.GreaterOrEqual(t, sample.PerSecond, 0.0, "%s: %+v", s.name, sample)
			if sample.Contender != noProxy {
				require.Positive(t, sample.Memory, "%s: %+v", s.name, sample)
			}
		}
	}
}
