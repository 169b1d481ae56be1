package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bin holds the real programs, built once.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "tellergate-bin-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(bin)
		build := exec.Command("go", "build", "-race", "-o", bin+"/", ".", "../../cmd/tellergate", "../../cmd/tgctl")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// TestTour walks every step that make run prints, against the real programs.
func TestTour(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "quickstart"),
		"--bin", bin, "--frontend", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--walk").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "steps show what they should")
}

func TestAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	out, err := exec.Command(filepath.Join(bin, "quickstart"),
		"--bin", bin, "--frontend", taken.Addr().String(), "--admin", "127.0.0.1:0").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "address already in use; stop what listens there, or choose another place: "+
		"make run ARGS='--frontend 127.0.0.1:0'")
}

// TestInterruptEndsEverything: after Ctrl-C nothing that was started is left, and the run's files are gone.
func TestInterruptEndsEverything(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(filepath.Join(bin, "quickstart"), "--bin", bin, "--frontend", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	buffer := make([]byte, 1<<16)
	_, err = stdout.Read(buffer) // the tour is printed once everything runs
	require.NoError(t, err)
	runs, err := filepath.Glob(filepath.Join(tmp, "*"))
	require.NoError(t, err)
	require.Len(t, runs, 1)

	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for {
			if _, err := stdout.Read(buffer); err != nil {
				return // end of file: no child holds it open any more
			}
		}
	}()
	select {
	case <-drained:
	case <-time.After(30 * time.Second):
		t.Fatal("it did not end")
	}
	require.NoError(t, cmd.Wait())
	runs, err = filepath.Glob(filepath.Join(tmp, "*"))
	require.NoError(t, err)
	require.Empty(t, runs)
}
