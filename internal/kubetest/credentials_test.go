package kubetest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// leeway is how long after its expiry the API server still accepts a token, for clocks that differ.
const leeway = time.Minute

// token makes a token of the gateway's service account that the API server accepts for so long.
func (c *Cluster) token(t *testing.T, valid time.Duration) string {
	t.Helper()
	var account struct{ Metadata struct{ UID string } }
	c.must("GET", "/api/v1/namespaces/tellergate/serviceaccounts/tellergate", nil, &account)
	part := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	const issuer = "https://kubernetes.default.svc"
	now := time.Now()
	text := part(map[string]any{"alg": "RS256"}) + "." + part(map[string]any{
		"iss": issuer, "aud": []string{issuer}, "sub": gatewayAccount,
		"iat": now.Add(-2 * leeway).Unix(), "nbf": now.Add(-2 * leeway).Unix(), "exp": now.Add(valid - leeway).Unix(),
		"kubernetes.io": map[string]any{"namespace": "tellergate",
			"serviceaccount": map[string]any{"name": "tellergate", "uid": account.Metadata.UID}},
	})
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA256, sum[:])
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// accepts asks the API server whether it accepts a token.
func (c *Cluster) accepts(t *testing.T, token string) bool {
	t.Helper()
	request, err := http.NewRequest("GET", apiURL+slicesPath, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := c.client.Do(request)
	require.NoError(t, err)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		require.Equal(t, http.StatusOK, response.StatusCode)
		return true
	}
	return false
}

// swap replaces the content of a file as a secret's volume does: nobody sees a part of it.
func swap(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// TestTokenExpires: a token expires and is not renewed; the watches end; then the file holds another one.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	deploy(t, "token", 2)
	m := startMiddle(t)
	file := filepath.Join(t.TempDir(), "token")
	brief := cluster.token(t, 3*time.Second)
	swap(t, file, brief)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(config, []byte(cluster.kubeconfig(m.URL, "tokenFile: "+file)), 0o600))
	g := startGatewayWith(t, "kubeconfig: "+config+", ")
	g.rules(document("token", ""))
	active := func() int { return states(g.endpoints("v1"))["active"] }
	eventually(t, "two endpoints", func() bool { return active() == 2 })
	eventually(t, "the token expires", func() bool { return !cluster.accepts(t, brief) })
	l := startLoad(t, g, 2, nil)
	require.Equal(t, "0", g.metric("stale"), "a watch that has begun goes on")
	begin := time.Now()
	m.CloseClientConnections()
	eventually(t, "stale is said", func() bool { return g.metric("stale") == "1" && m.refused.Load() > 1 })
	since, err := g.number("stale_since_timestamp_seconds")
	require.NoError(t, err)
	require.InDelta(t, begin.Unix(), since, 30)
	require.Contains(t, g.logged(), "they may have expired")
	ready := g.readiness()
	require.True(t, ready.Ready)
	require.Contains(t, strings.Join(ready.Notes, "\n"), "stale: 1 of 1 pod sets")
	scale("token", 3)
	eventually(t, "a pod that the gateway cannot hear of", func() bool {
		var list podList
		cluster.must("GET", "/api/v1/namespaces/bank/pods?labelSelector=app=token", nil, &list)
		return len(list.Items) == 3
	})
	require.Equal(t, 2, active())
	swap(t, file, cluster.token(t, time.Hour))
	took := eventually(t, "three endpoints", func() bool { return active() == 3 && g.metric("stale") == "0" })
	require.Equal(t, "0", g.metric("stale_since_timestamp_seconds"))
	l.await(l.sent.Load() + 100)
	samples := l.end()
	failedGET, failedPOST, twice, faults := l.judge(samples)
	t.Logf("%d requests, %d GET and %d POST failed, %d executed twice %v; fresh %s after the token was renewed", len(samples),
		failedGET, failedPOST, twice, faults, took.Round(time.Millisecond))
	require.Zero(t, failedGET+failedPOST+twice)
}

// number returns the value of tellergate_kubernetes_NAME.
func (g *gateway) number(name string) (n float64, err error) {
	_, err = fmt.Sscan(g.metric(name), &n)
	return n, err
}

// TestInCluster: a gateway finds the API server as a pod does, by its environment and the files of its service account,
// and follows the token that is put in place of an expired one.
func TestInCluster(t *testing.T) {
	t.Parallel()
	const account = "/var/run/secrets/kubernetes.io/serviceaccount"
	// Only this process and its children see this: the mount namespace is their own.
	run, err := filepath.EvalSymlinks("/var/run")
	require.NoError(t, err)
	out, err := exec.Command("mount", "-t", "tmpfs", "tmpfs", run).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { _ = exec.Command("umount", run).Run() })
	require.NoError(t, os.MkdirAll(account, 0o755))
	brief := cluster.token(t, 3*time.Second)
	// As the kubelet lays it out: links into a folder that is replaced whole.
	project := func(version, token string) {
		t.Helper()
		ca, err := os.ReadFile(cluster.path("certs/apiserver.crt"))
		require.NoError(t, err)
		dir := filepath.Join(account, ".."+version)
		require.NoError(t, os.Mkdir(dir, 0o755))
		for name, text := range map[string]string{"token": token, "ca.crt": string(ca), "namespace": "tellergate"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
			if _, err := os.Lstat(filepath.Join(account, name)); err != nil {
				require.NoError(t, os.Symlink("..data/"+name, filepath.Join(account, name)))
			}
		}
		require.NoError(t, os.Symlink(".."+version, filepath.Join(account, "..data.new")))
		require.NoError(t, os.Rename(filepath.Join(account, "..data.new"), filepath.Join(account, "..data")))
	}
	project("first", brief)
	host, port, _ := strings.Cut(strings.TrimPrefix(apiURL, "https://"), ":")
	handmade(t, "inside", 2)
	handmade(t, "later", 3)
	g := startGatewayWith(t, "", "KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port)
	g.rules(document("inside", ""))
	eventually(t, "two endpoints", func() bool { return len(g.endpoints("v1")) == 2 })
	eventually(t, "the log says where the pods come from", func() bool { return strings.Contains(g.logged(), "of the API server at "+apiURL) })
	eventually(t, "the token expires", func() bool { return !cluster.accepts(t, brief) })
	project("second", cluster.token(t, time.Hour))
	g.rules(document("later", ""))
	eventually(t, "what is asked for now is answered by the new token's right", func() bool { return len(g.endpoints("v1")) == 3 })

	// Outside of a pod, the same settings are refused with a remedy.
	g.kill()
	g.environment = []string{"KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT="}
	text, err := g.command().CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(text), "name a kubeconfig file in discovery.kubernetes.kubeconfig")
}
