package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/cmd/tellergate/gatewaytest"
)

// openssl runs the tool that operators make certificates with.
func openssl(t *testing.T, arguments ...string) {
	t.Helper()
	out, err := exec.Command("openssl", arguments...).CombinedOutput()
	require.NoError(t, err, "openssl %s: %s", strings.Join(arguments, " "), out)
}

// issue writes dir/counter.pem and dir/counter.key, signed by dir/ca.pem, which is made where it is missing.
func issue(t *testing.T, dir, commonName string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	if _, err := os.Stat(in("ca.pem")); err != nil {
		openssl(t, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
			"-subj", "/CN=test authority", "-keyout", in("ca.key"), "-out", in("ca.pem"))
	}
	require.NoError(t, os.WriteFile(in("names"), []byte("subjectAltName=IP:127.0.0.1"), 0o600))
	openssl(t, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN="+commonName,
		"-keyout", in("counter.key"), "-out", in("request"))
	openssl(t, "x509", "-req", "-in", in("request"), "-CA", in("ca.pem"), "-CAkey", in("ca.key"), "-CAcreateserial",
		"-days", "20", "-extfile", in("names"), "-out", in("counter.pem"))
}

// secureSettings are settings with TLS on the frontend, with a certificate in dir.
func secureSettings(t *testing.T, dir string) string {
	t.Helper()
	issue(t, dir, "first")
	return strings.Replace(settings(dir, ""), "    address: 127.0.0.1:0\n",
		"    address: 127.0.0.1:0\n    tls: {certificate: counter.pem, key: counter.key}\n", 1)
}

// curl returns what curl prints.
func curl(t *testing.T, arguments ...string) string {
	t.Helper()
	var failure bytes.Buffer
	cmd := exec.Command("curl", append([]string{"-sS", "--max-time", "20"}, arguments...)...)
	cmd.Stderr = &failure
	out, err := cmd.Output()
	require.NoError(t, err, "curl %s: %s", strings.Join(arguments, " "), failure.String())
	return string(out)
}

func TestTLSThroughTheBinary(t *testing.T) {
	v1 := servePods(t, "v1", 1)
	dir := t.TempDir()
	r := start(t, dir, secureSettings(t, dir))
	r.PutRules(splitDocument(v1, v1, 0, ""))
	url, ca := "https://"+r.Frontend, filepath.Join(dir, "ca.pem")

	require.Equal(t, "v1", curl(t, "--cacert", ca, url))
	require.Equal(t, "v1 1 v1 0 ", curl(t, "--cacert", ca, "--tls-max", "1.2", "-w", " %{num_connects} ", url+"/a", url+"/b"),
		"two requests on one connection")
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, bytes.Repeat([]byte("0123456789abcdef"), 5<<16), 0o600))
	require.Equal(t, "v1", curl(t, "--cacert", ca, "-H", "Expect: 100-continue", "--data-binary", "@"+large, url))
	require.Contains(t, curl(t, "http://"+r.Frontend), `"code":"tls_required"`)
	require.ErrorContains(t, exec.Command("curl", "-sS", url).Run(), "exit status 60", "curl does not trust this authority")
	failures := `tellergate_tls_handshake_failures_total{frontend="counter",reason="%s"}`
	require.Equal(t, 1.0, r.Metric(fmt.Sprintf(failures, "plain_http")))
	require.Eventually(t, func() bool { return r.Metric(fmt.Sprintf(failures, "refused_by_client")) == 1 }, patience, 5e6, "%s", r.Log())
	require.Equal(t, 2.0, r.Metric(`tellergate_tls_handshakes_total{frontend="counter",resumed="false",version="1.3"}`))
	require.Equal(t, 1.0, r.Metric(`tellergate_tls_handshakes_total{frontend="counter",resumed="false",version="1.2"}`))
	r.Terminate(syscall.SIGTERM)
}

// A certificate is replaced by writing the files and sending SIGHUP. One that cannot be used changes nothing.
func TestCertificateRotation(t *testing.T) {
	v1 := servePods(t, "v1", 1)
	dir := t.TempDir()
	r := start(t, dir, secureSettings(t, dir))
	r.PutRules(splitDocument(v1, v1, 0, ""))
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(authority))
	client := func() *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: patience}
	}
	shown := func(c *http.Client) string {
		response, err := c.Get("https://" + r.Frontend + "/")
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, "v1", string(body))
		return response.TLS.PeerCertificates[0].Subject.CommonName
	}
	hangUp := func(logged string) {
		before := strings.Count(r.Log(), logged)
		require.NoError(t, r.Command.Process.Signal(syscall.SIGHUP))
		require.Eventually(t, func() bool { return strings.Count(r.Log(), logged) > before }, patience, 5e6, "%s", logged)
	}
	open := client()
	require.Equal(t, "first", shown(open))
	issue(t, dir, "second")
	require.Equal(t, "first", shown(client()), "nothing is read until it is said")
	hangUp("settings reloaded")
	require.Contains(t, r.Log(), "new connections get this certificate")
	require.Equal(t, "second", shown(client()))
	require.Equal(t, "first", shown(open), "open connections go on")

	key, err := os.ReadFile(filepath.Join(dir, "counter.key"))
	require.NoError(t, err)
	issue(t, dir, "third")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "counter.key"), key, 0o600))
	hangUp("frontends[counter].tls.key: the key is not that of the certificate")
	require.Equal(t, "second", shown(client()))
	require.NotContains(t, r.Log(), "PRIVATE")

	cmd := exec.Command(gatewaytest.Binary, "--settings", filepath.Join(dir, "tellergate.yaml"))
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), "tellergate.yaml:5:42: frontends[counter].tls.key: the key is not that of the certificate")
}

// A client of another library may change its keys at any time and ask us to change ours.
func TestKeyUpdateOfAnotherLibrary(t *testing.T) {
	v1 := servePods(t, "v1", 1)
	dir := t.TempDir()
	r := start(t, dir, secureSettings(t, dir))
	r.PutRules(splitDocument(v1, v1, 0, ""))
	cmd := exec.Command("openssl", "s_client", "-connect", r.Frontend, "-CAfile", filepath.Join(dir, "ca.pem"), "-verify_return_error")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for n := range 4 {
		_, err := io.WriteString(in, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return said.count("\r\n\r\nv1") == n+1 }, patience, 5e6, "%s", &said)
		_, err = io.WriteString(in, "K\n")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return said.count("KEYUPDATE") == n+1 }, patience, 5e6, "%s", &said)
	}
}

// output is what a process has said so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) count(text string) int { return strings.Count(o.String(), text) }
