package kubetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A kubelet stands in for the real one: it binds pods, runs each as a process, reports status and ends deletions.
type kubelet struct {
	c    *Cluster
	quit chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	pods   map[string]*podProcess // by UID; guarded by mu
	last   int                    // the last address given; guarded by mu
	abrupt bool                   // pods exit at once when they are deleted; guarded by mu
	over   map[string]bool        // apps whose test is over: their pods are killed when they are deleted; guarded by mu
}

type podProcess struct {
	namespace, name, uid, ip string
	cmd                      *exec.Cmd
	exited                   chan struct{}
	// Written by the kubelet's goroutine, or kill, with mu held.
	ready, terminated, killed bool
}

type podList struct {
	Items []struct {
		Metadata struct {
			Name, Namespace, UID string
			Labels               map[string]string
			DeletionTimestamp    string
		}
	}
}

func newKubelet(c *Cluster) *kubelet {
	k := &kubelet{c: c, quit: make(chan struct{}), pods: make(map[string]*podProcess),
		over: make(map[string]bool)}
	k.done.Go(func() {
		for {
			select {
			case <-k.quit:
				return
			case <-time.After(25 * time.Millisecond):
				k.look()
			}
		}
	})
	return k
}

func (k *kubelet) stop() {
	close(k.quit)
	k.done.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// look does what has become necessary. An API server that is away is tried again at the next look.
func (k *kubelet) look() {
	var list podList
	if k.c.call("GET", "/api/v1/namespaces/bank/pods", nil, &list) != nil {
		return
	}
	for _, item := range list.Items {
		k.mu.Lock()
		p := k.pods[item.Metadata.UID]
		if p == nil && item.Metadata.DeletionTimestamp == "" {
			p = k.run(item.Metadata.Namespace, item.Metadata.Name, item.Metadata.UID, item.Metadata.Labels["version"])
			k.pods[p.uid] = p
		}
		if p != nil && item.Metadata.DeletionTimestamp != "" && k.over[item.Metadata.Labels["app"]] {
			_ = p.cmd.Process.Kill()
		}
		k.mu.Unlock()
		switch {
		case item.Metadata.DeletionTimestamp != "":
			k.end(p, item.Metadata.Namespace, item.Metadata.Name)
		case !p.ready:
			k.report(p)
		}
	}
}

// run starts a pod's process on an address that no pod has had.
func (k *kubelet) run(namespace, name, uid, version string) *podProcess {
	k.last++
	p := &podProcess{namespace: namespace, name: name, uid: uid, exited: make(chan struct{}),
		ip: fmt.Sprintf("10.244.%d.%d", k.last/250, k.last%250+1)}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	p.cmd = exec.Command(self)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Env = append(os.Environ(), podVariable+"="+p.ip+":8080", "POD_NAME="+name, "POD_VERSION="+version,
		"POD_LEDGER="+k.c.path("ledger"), "GOMAXPROCS=1", "POD_ABRUPT="+map[bool]string{true: "1"}[k.abrupt])
	if err := p.cmd.Start(); err != nil {
		panic(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return p
}

// report binds a pod and says that it is ready, once it is.
func (k *kubelet) report(p *podProcess) {
	conn, err := net.DialTimeout("tcp", p.ip+":8080", time.Second)
	if err != nil {
		return
	}
	_ = conn.Close()
	path := "/api/v1/namespaces/" + p.namespace + "/pods/" + p.name
	// Bound already, if an earlier look came no further.
	_ = k.c.call("POST", path+"/binding", map[string]any{
		"metadata": map[string]any{"name": p.name}, "target": map[string]any{"kind": "Node", "name": "node-1"}}, nil)
	ready := k.c.call("PATCH", path+"/status", map[string]any{"status": map[string]any{
		"phase": "Running", "podIP": p.ip, "podIPs": []any{map[string]any{"ip": p.ip}},
		"conditions": []any{
			map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)},
			map[string]any{"type": "ContainersReady", "status": "True"}},
	}}, nil) == nil
	k.mu.Lock()
	p.ready = ready
	k.mu.Unlock()
}

// end asks a deleted pod's process to end, and ends the deletion once it has.
func (k *kubelet) end(p *podProcess, namespace, name string) {
	if p != nil {
		if !p.terminated {
			k.mu.Lock()
			p.terminated = true
			k.mu.Unlock()
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}
		select {
		case <-p.exited:
		default:
			return
		}
	}
	err := k.c.call("DELETE", "/api/v1/namespaces/"+namespace+"/pods/"+name+"?gracePeriodSeconds=0", nil, nil)
	if err == nil && p != nil {
		k.mu.Lock()
		delete(k.pods, p.uid)
		k.mu.Unlock()
	}
}

// kill ends one pod's process without notice and returns the pod's name.
func (k *kubelet) kill() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := make(map[string]*podProcess)
	var order []string
	for _, p := range k.pods {
		if p.ready && !p.terminated && !p.killed {
			names[p.name] = p
			order = append(order, p.name)
		}
	}
	slices.Sort(order)
	names[order[0]].killed = true
	_ = names[order[0]].cmd.Process.Kill()
	return order[0]
}

func (k *kubelet) setAbrupt(abrupt bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.abrupt = abrupt
}

// setOver says whether the test of an app is over: nobody waits for its pods to serve on then.
func (k *kubelet) setOver(app string, over bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over[app] = over
}

// leave tells one pod's process to end, without anybody having deleted the pod.
func (k *kubelet) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		if p.ready && !p.terminated {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			return
		}
	}
}
