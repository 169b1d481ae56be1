package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A contender is a proxy that is measured: its processes, alone on the proxy's core.
type contender struct {
	name   string
	target netip.AddrPort
	blind  bool       // it hands on bytes to one pod and knows nothing of versions and sessions
	dir    string     // its files
	log    string     // its access log, emptied before each run; empty: no file
	admin  string     // tellergate's admin address
	redis  *contender // that it needs, on the other core; nil: none

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	pids  []int
}

// launch starts the contender's program on a core and waits until its target accepts connections. A program that is
// given no target prints where it listens as its first line. After launch, whatever it returned, stop must be called.
func (c *contender) launch(core int, program string, args ...string) error {
	for _, name := range []string{"stdout", "stderr"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), nil, 0o600); err != nil {
			return err
		}
	}
	stdout, err := os.OpenFile(filepath.Join(c.dir, "stdout"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(filepath.Join(c.dir, "stderr"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer stderr.Close()
	c.cmd = exec.Command(program, args...)
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = c.dir, stdout, stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.start(core); err != nil {
		return fmt.Errorf("starting %s: %w", c.name, err)
	}
	return c.await()
}

// start starts the command with the core that its thread is restricted to, and that a child inherits. The thread is not
// used for anything else: it waits for the child, which is killed when it ends, and ends itself.
func (c *contender) start(core int) error {
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := pin(0, core)
		if err == nil {
			err = c.cmd.Start()
		}
		started <- err
		if err == nil {
			_ = c.cmd.Wait() // how it ended does not matter: it is told by what it answers
		}
		close(ended)
	}()
	err := <-started
	if err == nil {
		c.ended = ended
	}
	return err
}

// await waits until the contender accepts connections.
func (c *contender) await() error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if !c.target.IsValid() {
			text, err := os.ReadFile(filepath.Join(c.dir, "stdout"))
			if err != nil {
				return err
			}
			if line, _, whole := strings.Cut(string(text), "\n"); whole {
				if c.target, err = netip.ParseAddrPort(line); err != nil {
					return fmt.Errorf("%s prints %q, which is no address: %w", c.name, line, err)
				}
			}
		}
		if c.target.IsValid() {
			if conn, err := net.DialTimeout("tcp", c.target.String(), time.Second); err == nil {
				_ = conn.Close()
				break
			}
		}
		select {
		case <-c.ended:
			return fmt.Errorf("%s has ended:\n%s", c.name, c.complaints())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen after 30 s:\n%s", c.name, c.complaints())
		}
	}
	return nil
}

// count notes all processes of the contender as they are now. A master may accept connections before it has workers.
func (c *contender) count() (err error) {
	if c.cmd != nil {
		c.pids, err = family(c.cmd.Process.Pid)
	}
	return err
}

// all returns the contender's processes and those it needs.
func (c *contender) all() []int {
	all := slices.Clone(c.pids)
	if c.redis != nil {
		all = append(all, c.redis.pids...)
	}
	return all
}

// complaints is what the program wrote to stderr.
func (c *contender) complaints() string {
	text, err := os.ReadFile(filepath.Join(c.dir, "stderr"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

// stop ends the program, and the Redis it needs, and waits for them.
func (c *contender) stop() {
	if c.redis != nil {
		defer c.redis.stop()
	}
	if c.ended == nil {
		return
	}
	_ = c.cmd.Process.Signal(os.Interrupt) // it may have ended already
	_ = c.signal(syscall.SIGCONT)          // it may be frozen
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// signal sends a signal to all processes of the contender.
func (c *contender) signal(s syscall.Signal) (failed error) {
	for _, pid := range c.pids {
		if err := syscall.Kill(pid, s); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: kill: %w", c.name, err))
		}
	}
	return failed
}

// cpu is how long all processes of the contender have run.
func (c *contender) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range c.pids {
		t, err := cpuTime(pid)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", c.name, err)
		}
		sum += t
	}
	return sum, nil
}

// emptyLog truncates the access log; every contender appends to it.
func (c *contender) emptyLog() error {
	if c.log == "" {
		return nil
	}
	return os.Truncate(c.log, 0)
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}
