package kubetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Environment variables by which this test binary calls itself.
const (
	insideVariable = "TELLERGATE_KUBETEST_INSIDE" // set within the network namespace
	podVariable    = "TELLERGATE_KUBETEST_POD"    // set in a process that plays a pod
)

// version is that of the API server that `make kube` builds.
const version = "v1.35.0"

// podIPv6 is the one IPv6 address that a pod may have.
const podIPv6 = "fd00:244::7"

var (
	gatewayBinary string
	cluster       *Cluster
)

// TestMain runs everything in a network namespace of this process, so that pods have addresses like 10.244.0.7 and no
// packet leaves the machine, and in a mount namespace, so that the files of a pod's service account can be where a pod has
// them. The namespaces end with the process.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(podVariable) != "":
		servePod()
	case os.Getenv(insideVariable) != "":
		os.Exit(inside(m))
	}
	if why := impossible(); why != "" {
		if os.Getenv("CI") == "true" {
			fmt.Fprintln(os.Stderr, "kubetest:", why)
			os.Exit(1)
		}
		fmt.Println("kubetest: not run:", why)
		os.Exit(0)
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubetest:", err)
		os.Exit(1)
	}
	unshare, _ := exec.LookPath("unshare") // impossible has found it
	arguments := append([]string{"unshare", namespaces(), self}, os.Args[1:]...)
	err = syscall.Exec(unshare, arguments, append(os.Environ(), insideVariable+"=1"))
	fmt.Fprintln(os.Stderr, "kubetest: unshare:", err)
	os.Exit(1)
}

// impossible says what keeps the tests from running here, nothing if they can.
func impossible() string {
	for _, program := range []string{"etcd", "ip", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is not installed: make deps"
		}
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager"} {
		if _, err := os.Stat(filepath.Join(binaries(), name)); err != nil {
			return name + " has not been built: make kube"
		}
	}
	if out, err := exec.Command("unshare", namespaces(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Sprintf("no network and mount namespaces can be made here: %v %s", err, out)
	}
	return ""
}

// namespaces is what unshare is told: a network and mounts of one's own, and for others than root a user namespace in which
// they may have those.
func namespaces() string {
	if os.Getuid() != 0 {
		return "-rnm"
	}
	return "-nm"
}

// binaries is the folder that `make kube` builds into.
func binaries() string {
	cache := os.Getenv("TELLERGATE_CACHE")
	if cache == "" {
		home, _ := os.UserHomeDir()
		cache = filepath.Join(home, ".cache", "tellergate")
	}
	return filepath.Join(cache, "kube-"+version)
}

func inside(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "kubetest:", err)
		return 1
	}
	for _, arguments := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", apiAddress + "/32", "dev", "lo"},
		{"route", "add", "local", "10.244.0.0/16", "dev", "lo"}, // every pod address is this machine's
	} {
		if out, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
			return fail(fmt.Errorf("ip %v: %w: %s", arguments, err, out))
		}
	}
	// For TestIPv6, which says so where the machine has none.
	_ = exec.Command("ip", "-6", "addr", "add", podIPv6+"/128", "dev", "lo", "nodad").Run()
	dir, err := os.MkdirTemp("", "tellergate-kubetest-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	gatewayBinary = filepath.Join(dir, "tellergate")
	if out, err := exec.Command("go", "build", "-o", gatewayBinary, "tellergate/cmd/tellergate").CombinedOutput(); err != nil {
		return fail(fmt.Errorf("building the gateway: %w: %s", err, out))
	}
	if cluster, err = newCluster(dir); err != nil {
		return fail(err)
	}
	defer cluster.stop()
	if err := cluster.start(); err != nil {
		return fail(err)
	}
	return m.Run()
}
