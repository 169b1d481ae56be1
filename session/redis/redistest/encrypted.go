package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Encrypted server speaks TLS on a second address, to clients that show a certificate of its authority. The first
// address stays plain, for the test's own words with the server.
type Encrypted struct {
	*Server
	Secure                      string // host:port
	Authority, Certificate, Key string // PEM files of the authority and of a client
}

// TLS starts an encrypted server.
func TLS(t testing.TB) *Encrypted {
	t.Helper()
	a := newAuthority(t)
	certificate, key := a.issue(t, "server")
	port := freePort(t)
	e := &Encrypted{
		Server: start(t, "redis-server", "--save", "", "--appendonly", "no", "--tls-port", fmt.Sprint(port),
			"--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", a.file),
		Secure: fmt.Sprintf("127.0.0.1:%d", port), Authority: a.file,
	}
	e.Certificate, e.Key = a.issue(t, "client")
	return e
}

// Stranger returns the files of an authority that this server does not know, and of a client that it certified.
func Stranger(t testing.TB) (authority, certificate, key string) {
	t.Helper()
	a := newAuthority(t)
	certificate, key = a.issue(t, "client")
	return a.file, certificate, key
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	dir, file   string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: rand.Text()}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a.key = newKey(t)
	a.file = a.write(t, "authority.pem", "CERTIFICATE", a.sign(t, a.certificate, a.key))
	return a
}

// issue writes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t testing.TB, name string) (certificate, key string) {
	t.Helper()
	k := newKey(t)
	der := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, k)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, name+".pem", "CERTIFICATE", der), a.write(t, name+".key", "PRIVATE KEY", private)
}

func (a *authority) sign(t testing.TB, certificate *x509.Certificate, of *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, a.certificate, of.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (a *authority) write(t testing.TB, name, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
