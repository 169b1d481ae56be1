//go:build linux

package main

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseCores(t *testing.T) {
	t.Parallel()
	got, err := parseCores("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 100 10 50 1000 7 1 2 3 0 0\ncpu11 1 1 1 1 1 1 1 1 0 0\nintr 1 2\n")
	require.NoError(t, err)
	const tick = 10 * time.Millisecond
	require.Equal(t, map[int]coreTime{
		0:  {busy: 163 * tick, all: 1173 * tick, stolen: 3 * tick},
		11: {busy: 5 * tick, all: 8 * tick, stolen: tick},
	}, got)
	_, err = parseCores("cpu0 a b c d e f g h\n")
	require.Error(t, err)
}

func TestParseParent(t *testing.T) {
	t.Parallel()
	got, err := parseParent("42 (a b) S 9) S 7 42 42 0 -1\n")
	require.NoError(t, err)
	require.Equal(t, 7, got)
	_, err = parseParent("")
	require.Error(t, err)
}

func TestParsePSS(t *testing.T) {
	t.Parallel()
	got, err := parsePSS("55d-7ff ---p 00000000 00:00 0 [rollup]\nRss:  5000 kB\nPss:     1234 kB\nPss_Anon: 3 kB\n")
	require.NoError(t, err)
	require.EqualValues(t, 1234<<10, got)
	_, err = parsePSS("Rss: 1 kB\n")
	require.Error(t, err)
}

func TestCPUTimeIsUserPlusSystem(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	for begin := time.Now(); time.Since(begin) < 200*time.Millisecond; {
	}
	after, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, after-before, 20*time.Millisecond)
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	require.InDelta(t, float64(usage.Utime.Nano()+usage.Stime.Nano()), float64(after), float64(50*time.Millisecond))
}

func TestFamily(t *testing.T) {
	t.Parallel()
	got, err := family(os.Getppid())
	require.NoError(t, err)
	require.Contains(t, got, os.Getpid())
}
