package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
)

// writePair writes a certificate and its key as NAME.pem and NAME.key.
func writePair(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(file, kind string, der []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write(name+".pem", "CERTIFICATE", certificate)
	write(name+".key", "PRIVATE KEY", private)
}

// withTLS loads settings of which this is the tls of the only frontend.
func withTLS(t *testing.T, dir, text string) (*Settings, error) {
	t.Helper()
	file := filepath.Join(dir, "tellergate.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`frontends: [{name: a, address: "127.0.0.1:0", tls: `+text+`}]`), 0o600))
	return Load(file)
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		writePair(t, dir, name)
	}
	load := func(text string) *Settings {
		s, err := withTLS(t, dir, text)
		require.NoError(t, err)
		return s
	}
	s := load("{certificate: one.pem, key: one.key}")
	got := s.Frontends[0].TLS
	require.Len(t, got.Certificates, 1)
	require.Equal(t, []string{"one"}, got.Certificates[0].Leaf.DNSNames)
	require.Equal(t, []string{"one.pem"}, got.Files)
	require.Nil(t, got.ClientCAs)
	require.Equal(t, uint16(tls.VersionTLS12), got.MinVersion)

	full := `{certificate: one.pem, key: one.key, minVersion: "1.3", clientCA: two.pem, others: [{certificate: two.pem, key: ` +
		filepath.Join(dir, "two.key") + `}]}`
	all := load(full).Frontends[0].TLS
	require.Len(t, all.Certificates, 2)
	require.Equal(t, []string{"one.pem", "two.pem"}, all.Files)
	require.NotNil(t, all.ClientCAs)
	require.Equal(t, uint16(tls.VersionTLS13), all.MinVersion)

	require.Equal(t, got.Hash, load("{key: one.key, certificate: one.pem}").Frontends[0].TLS.Hash, "nothing is different")
	for _, other := range []string{
		"{certificate: two.pem, key: two.key}", `{certificate: one.pem, key: one.key, minVersion: "1.3"}`,
		"{certificate: one.pem, key: one.key, clientCA: one.pem}",
		"{certificate: one.pem, key: one.key, others: [{certificate: two.pem, key: two.key}]}",
	} {
		require.NotEqual(t, got.Hash, load(other).Frontends[0].TLS.Hash, other)
	}
	writePair(t, dir, "one")
	renewed := load("{certificate: one.pem, key: one.key}")
	require.NotEqual(t, got.Hash, renewed.Frontends[0].TLS.Hash, "the files hold something else")
	require.Empty(t, NeedsRestart(s, renewed))
	plain, err := Load("")
	require.NoError(t, err)
	require.Nil(t, plain.Frontends[0].TLS)
	renewed.Frontends[0].TLS = nil
	require.ErrorContains(t, NeedsRestart(s, renewed), "frontends[a].tls: it runs with true and the settings say false; restart")
}

func TestTLSFaults(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		writePair(t, dir, name)
	}
	key, err := os.ReadFile(filepath.Join(dir, "one.key"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"empty": "", "text": "no PEM",
		"locked.key": strings.ReplaceAll(string(key), "PRIVATE", "ENCRYPTED PRIVATE"),
		"broken.pem": "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n",
		"broken.key": "-----BEGIN PRIVATE KEY-----\nMTIz\n-----END PRIVATE KEY-----\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	const at = "frontends[a].tls"
	for text, want := range map[string]string{
		"{}": at + ".certificate: no file is named; name a PEM file with the certificate and then those that lead to its root\n" +
			at + ".key: no file is named; name a PEM file with the private key of the certificate",
		"{certificate: one.pem, key: no.key}": at + ".key: the file cannot be read: stat DIR/no.key: no such file or directory; " +
			"name a PEM file with the private key of the certificate, relative to the settings file",
		"{certificate: /dev/zero, key: one.key}": at + ".certificate: the file cannot be read: /dev/zero is not a regular file; " +
			"name a PEM file with the certificate and then those that lead to its root, relative to the settings file",
		"{certificate: one.pem, key: two.key}": at + ".key: the key is not that of the certificate; " +
			"name the two files that belong together; the certificate itself comes first in its file",
		"{certificate: one.key, key: one.pem}": at + ".certificate: the file holds a key and no certificate; the two files may have been swapped",
		"{certificate: one.pem, key: two.pem}": at + ".key: the file holds a certificate and no key; the two files may have been swapped",
		"{certificate: empty, key: one.key}": at + ".certificate: the file holds no certificate in PEM; " +
			"write -----BEGIN CERTIFICATE----- and so on",
		"{certificate: one.pem, key: text}": at + ".key: the file holds no private key in PEM; write -----BEGIN PRIVATE KEY----- and so on",
		"{certificate: one.pem, key: locked.key}": at + ".key: the key is encrypted; write it without a passphrase " +
			"(openssl pkey -in KEY) and let only tellergate read the file",
		"{certificate: broken.pem, key: one.key}": at + ".certificate: the certificate cannot be read: x509: malformed certificate; " +
			"write an X.509 certificate in PEM",
		"{certificate: one.pem, key: broken.key}":                 at + ".key: the key cannot be read: failed to parse private key; write an RSA, ECDSA or Ed25519 key",
		"{certificate: one.pem, key: one.key, clientCA: one.key}": at + ".clientCA: one.key holds no certificate; name a PEM file of certificates",
		`{certificate: one.pem, key: one.key, minVersion: "1.1"}`: at + `.minVersion: there is no version "1.1"; write "1.2" or "1.3"`,
		"{certificate: one.pem, key: one.key, others: [{key: two.key}]}": at + ".others[0].certificate: no file is named; " +
			"name a PEM file with the certificate and then those that lead to its root",
		"{certificate: one.pem, key: one.key, ca: x}": at + ".ca: the key ca is not known here; known keys are certificate, clientCA, key, minVersion, others",
	} {
		_, err := withTLS(t, dir, text)
		var list problem.List
		require.ErrorAs(t, err, &list, text)
		var got []string
		for _, p := range list {
			p.Line, p.Column = 0, 0
			got = append(got, strings.ReplaceAll(fmt.Sprint(p), dir, "DIR"))
		}
		assert.Equal(t, want, strings.Join(got, "\n"), text)
	}
}
