package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/config"
)

// With -tls every frontend of this package's tests speaks TLS, and the same is expected of it.
var overTLS = flag.Bool("tls", false, "run all tests of the gateway over TLS")

// An authority signs the certificates of a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

var (
	testAuthority = sync.OnceValue(newAuthority)
	serials       atomic.Int64
)

func newAuthority() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	a.pool.AddCert(a.certificate)
	return a
}

// issue makes a certificate for 127.0.0.1 and these names, valid from and to so long from now.
func (a *authority) issue(from, to time.Duration, names ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: strings.Join(names, " ")},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to), DNSNames: names, IPAddresses: []net.IP{{127, 0, 0, 1}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// settingsOf is what a settings file with these certificates comes to.
func settingsOf(certificates ...tls.Certificate) *config.TLS {
	t := &config.TLS{Certificates: certificates, MinVersion: tls.VersionTLS12}
	hash := sha256.New()
	for _, c := range certificates {
		t.Files = append(t.Files, c.Leaf.Subject.CommonName+".pem")
		hash.Write(c.Certificate[0])
	}
	hash.Sum(t.Hash[:0])
	return t
}

var testCertificate = sync.OnceValue(func() tls.Certificate {
	return testAuthority().issue(-time.Hour, 24*time.Hour, "counter")
})

// secured returns the settings with TLS on every frontend.
func secured(s *config.Settings) *config.Settings {
	copied := *s
	copied.Frontends = slices.Clone(s.Frontends)
	for i := range copied.Frontends {
		if copied.Frontends[i].TLS == nil {
			copied.Frontends[i].TLS = settingsOf(testCertificate())
		}
	}
	return &copied
}

func trusting() *tls.Config {
	return &tls.Config{RootCAs: testAuthority().pool, ServerName: "127.0.0.1"}
}

// transport is an HTTP client's of its own that trusts the test's authority.
func transport(idle int) *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: idle, TLSClientConfig: trusting()}
}

// A rawConn is a connection of a test client, with or without TLS.
type rawConn interface {
	net.Conn
	CloseWrite() error
	SetLinger(int) error
}

// dial opens a connection to the gateway with this URL.
func dial(t testing.TB, at string) rawConn { return dialWith(t, at, trusting()) }

func dialWith(t testing.TB, at string, config *tls.Config) rawConn {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	c, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	if u.Scheme == "http" {
		return c.(*net.TCPConn)
	}
	return over(c, config)
}

// toTLS12 are the settings of a client that knows no newer version.
func toTLS12() *tls.Config {
	c := trusting()
	c.MaxVersion = tls.VersionTLS12
	return c
}

// A secureConn is a client's connection over TLS that knows how it has ended.
type secureConn struct {
	*tls.Conn
	tap *tap
}

// A tap remembers that the connection below ended: crypto/tls takes that for an end at the end of a record.
type tap struct {
	*net.TCPConn
	ended atomic.Bool
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.TCPConn.Read(p)
	if err != nil {
		t.ended.Store(true)
	}
	return n, err
}

func over(c net.Conn, config *tls.Config) *secureConn {
	below := &tap{TCPConn: c.(*net.TCPConn)}
	return &secureConn{tls.Client(below, config), below}
}

// told reports whether what was read ended with a close_notify and not just with the connection.
func (c *secureConn) told() bool { return !c.tap.ended.Load() }

func (c *secureConn) SetLinger(seconds int) error { return c.tap.SetLinger(seconds) }

func (c *secureConn) CloseWrite() error {
	if err := c.Conn.CloseWrite(); err != nil {
		return err
	}
	return c.tap.CloseWrite()
}

// readAll returns what comes up to the end, and whether that is one in TLS too; without TLS it always is.
func readAll(c net.Conn) (all string, told bool, err error) {
	b, err := io.ReadAll(c)
	if s, ok := c.(*secureConn); ok {
		return string(b), s.told(), err
	}
	return string(b), true, err
}

// reload is Reload as the tests are run.
func (g *gateway) reload(s *config.Settings) error {
	if *overTLS {
		s = secured(s)
	}
	return g.Reload(s)
}

// atPod is what a pod gets where it would get s from a plain frontend.
func (g *gateway) atPod(s string) string {
	if strings.HasPrefix(g.url, "https:") {
		return strings.ReplaceAll(s, "X-Forwarded-Proto: http\r\n", "X-Forwarded-Proto: https\r\n")
	}
	return s
}
