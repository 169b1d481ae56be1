package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A process is one child. Its owner calls stop exactly once.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended; err is set before
	err   error
}

// start runs a program with its output in the given files. The child gets a process group of its own, so that Ctrl-C
// reaches only us and we end the children in order; and it is killed if we are.
func start(name string, stdout, stderr *os.File, dir, program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop interrupts the child and waits for it; after limit it is killed, which is an error.
func (p *process) stop(limit time.Duration) error {
	_ = p.cmd.Process.Signal(os.Interrupt) // fails only if it has ended, which the next lines find
	select {
	case <-p.ended:
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %s and was killed", p.name, limit)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return fmt.Errorf("%s ended with %s", p.name, exit)
	}
	return p.err
}
