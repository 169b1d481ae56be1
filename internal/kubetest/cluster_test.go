package kubetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	apiAddress   = "10.244.255.1"
	apiURL       = "https://" + apiAddress + ":6443"
	adminToken   = "admin-token"
	gatewayToken = "gateway-token"
	// gatewayAccount is who deploy/kubernetes/rbac.yaml gives the role to.
	gatewayAccount = "system:serviceaccount:tellergate:tellergate"
)

// A Cluster is etcd, an API server and the controllers that make Deployments, ReplicaSets, EndpointSlices and Endpoints
// work, and a stand-in for the kubelet.
type Cluster struct {
	dir         string
	etcd        *exec.Cmd
	api         *exec.Cmd
	controllers *exec.Cmd
	client      *http.Client
	kubelet     *kubelet
	key         *rsa.PrivateKey // signs the tokens of service accounts
}

func newCluster(dir string) (*Cluster, error) {
	c := &Cluster{dir: dir, client: &http.Client{
		Timeout: 30 * time.Second,
		// The API server makes its own certificate at start; the whole network is this process's own.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true},
	}}
	var err error
	if c.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(c.key)})
	tokens := fmt.Sprintf("%s,admin,1,system:masters\n%s,%s,2\n", adminToken, gatewayToken, gatewayAccount)
	for name, text := range map[string]string{
		"sa.key": string(pemKey), "tokens.csv": tokens,
		"admin.kubeconfig": c.kubeconfig(apiURL, "token: "+adminToken), "gateway.kubeconfig": c.kubeconfig(apiURL, "token: "+gatewayToken),
	} {
		if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) kubeconfig(server, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "%s", insecure-skip-tls-verify: true}}]
users: [{name: test, user: {%s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, server, user)
}

// launch starts a program whose output goes to a file of its name. It ends with this process.
func (c *Cluster) launch(program string, arguments ...string) (*exec.Cmd, error) {
	out, err := os.OpenFile(c.path(filepath.Base(program)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

func (c *Cluster) start() (err error) {
	if c.etcd, err = c.launch("etcd", "--data-dir", c.path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error"); err != nil {
		return err
	}
	if err := c.startAPI(); err != nil {
		return err
	}
	if err := c.startControllers(); err != nil {
		return err
	}
	for _, namespace := range []string{"bank", "other"} {
		c.must("POST", "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": namespace}}, nil)
	}
	c.must("POST", "/api/v1/nodes", map[string]any{"metadata": map[string]any{"name": "node-1", "labels": map[string]any{
		"topology.kubernetes.io/zone": "zone-a"}}}, nil)
	text, err := os.ReadFile("../../deploy/kubernetes/rbac.yaml")
	if err != nil {
		return err
	}
	for _, document := range strings.Split(string(text), "\n---\n") {
		if err := c.create(document); err != nil {
			return err
		}
	}
	c.kubelet = newKubelet(c)
	return nil
}

// create posts a document as `kubectl create` would.
func (c *Cluster) create(document string) error {
	for kind, path := range map[string]string{
		"Namespace": "/api/v1/namespaces", "ServiceAccount": "/api/v1/namespaces/tellergate/serviceaccounts",
		"Role":        "/apis/rbac.authorization.k8s.io/v1/namespaces/bank/roles",
		"RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/bank/rolebindings",
	} {
		if strings.Contains(document, "\nkind: "+kind+"\n") {
			return c.send("POST", path, "application/yaml", []byte(document), nil)
		}
	}
	return fmt.Errorf("no path for %s", document)
}

func (c *Cluster) startAPI() (err error) {
	if c.api, err = c.launch(filepath.Join(binaries(), "kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379", "--cert-dir", c.path("certs"), "--secure-port=6443",
		"--bind-address", apiAddress, "--advertise-address", apiAddress, "--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file", c.path("sa.key"),
		"--service-account-signing-key-file", c.path("sa.key"), "--token-auth-file", c.path("tokens.csv"),
		"--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount", "--profiling=false"); err != nil {
		return err
	}
	deadline := time.Now().Add(time.Minute)
	for {
		err := c.send("GET", "/readyz", "", nil, nil)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(c.path("kube-apiserver.log"))
			return fmt.Errorf("the API server did not become ready: %w\n%s", err, log[max(0, len(log)-4000):])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *Cluster) startControllers() (err error) {
	c.controllers, err = c.launch(filepath.Join(binaries(), "kube-controller-manager"),
		"--kubeconfig", c.path("admin.kubeconfig"),
		"--controllers=deployment-controller,replicaset-controller,endpointslice-controller,endpoints-controller",
		"--use-service-account-credentials=false", "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=500", "--kube-api-burst=500")
	return err
}

// restartControllers starts those anew that have seen an API server go away: they would try again after up to a minute.
func (c *Cluster) restartControllers() error {
	_ = c.controllers.Process.Kill()
	_ = c.controllers.Wait()
	return c.startControllers()
}

// killAPI ends the API server as a power failure would.
func (c *Cluster) killAPI() {
	_ = c.api.Process.Kill()
	_ = c.api.Wait()
}

func (c *Cluster) stop() {
	if c.kubelet != nil {
		c.kubelet.stop()
	}
	for _, cmd := range []*exec.Cmd{c.controllers, c.api, c.etcd} {
		if cmd != nil && cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}

// must calls the API server as its administrator.
func (c *Cluster) must(method, path string, body, answer any) {
	if err := c.call(method, path, body, answer); err != nil {
		panic(err)
	}
}

func (c *Cluster) call(method, path string, body, answer any) error {
	contentType := "application/json"
	if method == "PATCH" {
		contentType = "application/strategic-merge-patch+json"
	}
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return c.send(method, path, contentType, text, answer)
}

type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.text) }

func (c *Cluster) send(method, path, contentType string, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(context.Background(), method, apiURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %w", method, path, &statusError{response.StatusCode, string(text)})
	}
	if answer != nil {
		return json.Unmarshal(text, answer)
	}
	return nil
}
