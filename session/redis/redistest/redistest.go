// Package redistest starts real Redis servers on loopback for tests: one, three watched by sentinels, or a cluster of
// six. It is responsible for their ports, directories and end. Without the programs a test is skipped, except in CI.
package redistest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Server is one redis-server or redis-sentinel.
type Server struct {
	t       testing.TB
	Address string
	program string
	args    []string
	dir     string
	cmd     *exec.Cmd
}

const patience = 30 * time.Second

// Single starts one empty server without persistence.
func Single(t testing.TB) *Server {
	return start(t, "redis-server", "--save", "", "--appendonly", "no")
}

// Sentinels starts a primary, two replicas and three sentinels that call them "pins". It returns the sentinels'
// addresses and the servers, the primary first.
func Sentinels(t testing.TB) (addresses []string, servers []*Server) {
	primary := Single(t)
	servers = append(servers, primary)
	host, port, _ := net.SplitHostPort(primary.Address)
	for range 2 {
		servers = append(servers, start(t, "redis-server", "--save", "", "--appendonly", "no", "--replicaof", host, port,
			"--repl-diskless-sync-delay", "0"))
	}
	for _, s := range servers[1:] {
		s.await("INFO replication", "master_link_status:up")
	}
	for range 3 {
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor pins %s %s 2\nsentinel down-after-milliseconds pins 1000\n"+
			"sentinel failover-timeout pins 3000\n", host, port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, start(t, "redis-sentinel", file).Address)
	}
	for _, a := range addresses {
		s := &Server{t: t, Address: a}
		s.await("SENTINEL CKQUORUM pins", "OK 3 usable")
		s.await("SENTINEL MASTER pins", "num-slaves\r\n$1\r\n2")
	}
	return addresses, servers
}

// Cluster starts three primaries with a replica each.
func Cluster(t testing.TB) []*Server {
	var servers []*Server
	var addresses []string
	for range 6 {
		s := start(t, "redis-server", "--save", "", "--appendonly", "no", "--cluster-enabled", "yes",
			"--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
		servers, addresses = append(servers, s), append(addresses, s.Address)
	}
	args := append(append([]string{"--cluster", "create"}, addresses...), "--cluster-replicas", "1", "--cluster-yes")
	if out, err := exec.Command("redis-cli", args...).CombinedOutput(); err != nil {
		t.Fatalf("making a cluster: %v\n%s", err, out)
	}
	for _, s := range servers {
		s.await("CLUSTER INFO", "cluster_state:ok")
		s.await("CLUSTER INFO", "cluster_known_nodes:6")
	}
	return servers
}

func start(t testing.TB, program string, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: make deps installs it", program)
		}
		t.Skipf("%s is missing: make deps installs it", program)
	}
	s := &Server{t: t, program: program, args: args, dir: t.TempDir()}
	for attempt := 0; ; attempt++ {
		s.Address = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		if s.run() {
			break
		}
		if attempt == 5 {
			t.Fatalf("%s does not start", program)
		}
	}
	t.Cleanup(s.Kill)
	return s
}

// freePort takes a port below those that the system gives to clients, with room for the cluster's bus above it.
func freePort(t testing.TB) int {
	for range 100 {
		port := 12000 + int(time.Now().UnixNano()/1000)%9000
		first, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+10000))
		_ = first.Close()
		if err != nil {
			continue
		}
		_ = second.Close()
		return port
	}
	t.Fatal("no port is free")
	return 0
}

func (s *Server) run() bool {
	_, port, _ := net.SplitHostPort(s.Address)
	s.cmd = exec.Command(s.program, append(append([]string{}, s.args...), "--port", port, "--bind", "127.0.0.1",
		"--dir", s.dir, "--daemonize", "no")...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-exited:
			return false
		case <-time.After(10 * time.Millisecond):
		}
		if answer, err := s.ask("PING"); err == nil && strings.Contains(answer, "PONG") {
			return true
		}
	}
	return false
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return
		}
	}
}

// Start starts a killed server again, at the same address and empty.
func (s *Server) Start() {
	s.t.Helper()
	if !s.run() {
		s.t.Fatalf("%s does not start again on %s", s.program, s.Address)
	}
}

// Stop stops the process as a hanging machine would, Continue goes on.
func (s *Server) Stop() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue goes on after Stop.
func (s *Server) Continue() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Ask sends an inline command and returns the reply as it is on the wire.
func (s *Server) Ask(command string) string {
	s.t.Helper()
	answer, err := s.ask(command)
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	return answer
}

func (s *Server) ask(command string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	return readReply(bufio.NewReader(conn))
}

// readReply reads one reply of RESP 2.
func readReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil || line == "" {
		return line, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$':
		for n += 2; n > 1; {
			rest := make([]byte, n)
			read, err := in.Read(rest)
			if err != nil {
				return line, err
			}
			line += string(rest[:read])
			if n -= read; n == 0 {
				break
			}
		}
	case '*':
		for range n {
			part, err := readReply(in)
			if err != nil {
				return line, err
			}
			line += part
		}
	}
	return line, nil
}

func (s *Server) await(command, want string) {
	s.t.Helper()
	answer := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		answer, _ = s.ask(command)
		if strings.Contains(answer, want) {
			return
		}
	}
	s.t.Fatalf("%s on %s does not come to %q; last answer: %s", command, s.Address, want, answer)
}
