package redistest

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// AwaitPrimary waits until one of the servers is a primary that takes writes.
func AwaitPrimary(t testing.TB, servers ...*Server) *Server {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, s := range servers {
			if role, err := s.ask("ROLE"); err == nil && strings.Contains(role, "\r\nmaster\r\n") {
				return s
			}
		}
	}
	t.Fatal("no replica has become the primary")
	return nil
}

// id is what the cluster calls a server.
func (s *Server) id() string {
	s.t.Helper()
	_, id, _ := strings.Cut(strings.TrimSpace(s.Ask("CLUSTER MYID")), "\r\n")
	return id
}

// ReplicaOf returns the replica of a primary of a cluster.
func ReplicaOf(t testing.TB, primary *Server, servers []*Server) *Server {
	t.Helper()
	id := primary.id()
	for line := range strings.Lines(primary.Ask("CLUSTER NODES")) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != id {
			continue
		}
		for _, s := range servers {
			if address, _, _ := strings.Cut(fields[1], "@"); address == s.Address {
				return s
			}
		}
	}
	t.Fatalf("%s has no replica", primary.Address)
	return nil
}

var movedSlot = regexp.MustCompile(`(?m)^Moving slot \d+ from .*: (\.+)`)

// Reshard moves slots with their keys from one primary of a cluster to another and returns how many keys that were.
func Reshard(t testing.TB, from, to *Server, slots int) (keys int) {
	t.Helper()
	out, err := exec.Command("redis-cli", "--cluster", "reshard", from.Address, "--cluster-from", from.id(),
		"--cluster-to", to.id(), "--cluster-slots", strconv.Itoa(slots), "--cluster-yes").CombinedOutput()
	if err != nil {
		t.Fatalf("moving slots: %v\n%s", err, out)
	}
	for _, m := range movedSlot.FindAllSubmatch(out, -1) {
		keys += len(m[1])
	}
	return keys
}

// Commands returns how many commands the server has executed since CONFIG RESETSTAT, as INFO commandstats counts them:
// those within scripts, of replication and of the clients' own too, all but the test's INFO and CONFIG.
func (s *Server) Commands() (n int) {
	s.t.Helper()
	for line := range strings.Lines(s.Ask("INFO commandstats")) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":calls=")
		if !ok || name == "cmdstat_info" || strings.HasPrefix(name, "cmdstat_config") {
			continue
		}
		calls := 0
		if _, err := fmt.Sscanf(rest, "%d,", &calls); err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		n += calls
	}
	return n
}
