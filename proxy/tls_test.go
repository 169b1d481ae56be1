package proxy

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/config"
)

// versionsOfTLS are clients of each version.
var versionsOfTLS = map[string]func() *tls.Config{"TLS 1.2": toTLS12, "TLS 1.3": trusting}

// TestTablesOverTLS runs what is about bodies and the ends of answers over both versions of TLS; with -tls the other
// tables are run so, too.
func TestTablesOverTLS(t *testing.T) {
	t.Parallel()
	for name, client := range versionsOfTLS {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runTable(t, secured(settings()), client(), "q", bodies())
			runTable(t, secured(settings()), client(), "a", answerBodies())
		})
	}
}

// failures returns how often handshakes of the test's frontend have failed for this reason.
func (g *gateway) failures(reason string) float64 {
	return g.metric("tellergate_tls_handshake_failures_total", "counter", reason)
}

// awaitFailure waits for a handshake to have failed for this reason.
func (g *gateway) awaitFailure(reason string) {
	g.t.Helper()
	require.Eventually(g.t, func() bool { return g.failures(reason) == 1 }, patience, time.Millisecond, reason)
	for _, other := range handshakeReasons {
		require.True(g.t, other == reason || g.failures(other) == 0, other)
	}
}

// dialTCP opens a connection to the gateway without TLS.
func (g *gateway) dialTCP() *net.TCPConn {
	g.t.Helper()
	c := dial(g.t, strings.Replace(g.url, "https", "http", 1))
	require.NoError(g.t, c.SetDeadline(time.Now().Add(patience)))
	g.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func TestPodsAreToldOfTLS(t *testing.T) {
	t.Parallel()
	pod := record(t, plainAnswer)
	g := start(t, secured(settings()), oneVersion(pod.listener.Addr().String()))
	g.raw("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n")
	require.Equal(t, "https", lineOf(t, pod.next(t), "X-Forwarded-Proto"))

	pod = record(t, plainAnswer)
	s := secured(settings())
	s.Frontends[0].Trust.Forwarded = loopback
	g = start(t, s, oneVersion(pod.listener.Addr().String()))
	g.raw("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n")
	require.Equal(t, "http", lineOf(t, pod.next(t), "X-Forwarded-Proto"), "a trusted peer says how it was asked")
}

// Large bodies pass both ways at once, unharmed, in records of every size.
func TestBodiesOverTLS(t *testing.T) {
	t.Parallel()
	const size = 9<<20 + 12345
	sum := func(r io.Reader) string {
		h := sha256.New()
		n, _ := io.Copy(h, r)
		return fmt.Sprint(n, " ", hex.EncodeToString(h.Sum(nil)))
	}
	want := sum(&pattern{n: size})
	for name, client := range versionsOfTLS {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, secured(settings()), oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "POST" {
					io.WriteString(w, sum(r.Body))
					return
				}
				io.Copy(w, &pattern{n: size})
			}))))
			http1 := &http.Transport{TLSClientConfig: client()}
			defer http1.CloseIdleConnections()
			for range 2 { // on one connection
				_, told := g.do(ask{method: "POST", body: &pattern{n: size}, client: &http.Client{Transport: http1}})
				require.Equal(t, want, told)
				answer, err := (&http.Client{Transport: http1}).Get(g.url)
				require.NoError(t, err)
				require.Equal(t, want, sum(answer.Body))
				answer.Body.Close()
			}
			version := "1.3"
			if name == "TLS 1.2" {
				version = "1.2"
			}
			require.Equal(t, 1.0, g.metric("tellergate_tls_handshakes_total", "counter", "false", version))
		})
	}
}

// A client that goes away ends its request, in whichever way it goes; one that says only in TLS that it will send nothing
// more still waits for its answer.
func TestClientGoneOverTLS(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		leave func(*testing.T, *secureConn)
		stays bool
	}{
		"in order":       {func(t *testing.T, c *secureConn) { require.NoError(t, c.Close()) }, false},
		"without a word": {func(t *testing.T, c *secureConn) { require.NoError(t, c.tap.TCPConn.Close()) }, false},
		"by a reset": {func(t *testing.T, c *secureConn) {
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.tap.TCPConn.Close())
		}, false},
		"only in TLS": {func(t *testing.T, c *secureConn) { require.NoError(t, c.Conn.CloseWrite()) }, true},
	} {
		for version, client := range versionsOfTLS {
			t.Run(name+", "+version, func(t *testing.T) {
				t.Parallel()
				started, ended := make(chan struct{}), make(chan bool, 1)
				g := start(t, secured(settings()), oneVersion(upgrading(t, "", func(c net.Conn, r *bufio.Reader, _ string) {
					close(started)
					wait := patience
					if test.stays {
						wait = 1500 * time.Millisecond
					}
					c.SetReadDeadline(time.Now().Add(wait))
					_, err := r.ReadByte()
					ended <- err == io.EOF
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				})))
				g.client = client()
				c := g.dialRaw().(*secureConn)
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				<-started
				test.leave(t, c)
				require.Equal(t, !test.stays, <-ended)
				if test.stays {
					all, _, err := readAll(c)
					require.NoError(t, err)
					require.True(t, strings.HasSuffix(all, "\r\n\r\nok"), "%q", all)
					return
				}
				require.Eventually(t, func() bool { return g.metric("tellergate_abandoned_total") == 1 }, patience, time.Millisecond)
			})
		}
	}
}

// A handshake has limits.headerTimeout, and while it lasts the connection counts.
func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]string{"nothing": "", "half a record": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := secured(settings())
			s.Frontends[0].Limits.HeaderTimeout = 300 * time.Millisecond
			s.Frontends[0].Limits.Connections = 1
			g := start(t, s, oneVersion(dead(t)))
			began := time.Now()
			c := g.dialTCP()
			_, err := io.WriteString(c, sent)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return g.metric("tellergate_frontend_connections", "counter") == 1 }, patience, time.Millisecond)
			second := g.dialRaw()
			io.WriteString(second, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			all, told, err := readAll(second)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(all, "HTTP/1.1 503 "), "%q", all)
			require.Contains(t, all, "too_many_connections")
			require.True(t, told)
			_, err = io.ReadAll(c)
			require.NoError(t, err)
			require.GreaterOrEqual(t, time.Since(began), 290*time.Millisecond)
			g.awaitFailure(tooSlow)
			require.Eventually(t, func() bool { return g.metric("tellergate_frontend_connections", "counter") == 0 }, patience, time.Millisecond)
		})
	}
}

func TestPlainHTTPToTLS(t *testing.T) {
	t.Parallel()
	g := start(t, secured(settings()), oneVersion(dead(t)))
	c := g.dialTCP()
	_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000))
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 400, answer.StatusCode)
	require.True(t, answer.Close)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `{"code":"tls_required","message":"This port speaks TLS and the request came without: `+
		`ask with https instead of http.","requestId":"`)
	g.awaitFailure(plainHTTP)
	require.Equal(t, 1.0, g.metric("tellergate_refused_total", "tls_required"))
}

// Every way in which a handshake fails is counted as what it is, and the client is told where it can be.
func TestHandshakeFailures(t *testing.T) {
	t.Parallel()
	stranger := newAuthority()
	bare := func(sent string, end func(*net.TCPConn) error) func(*testing.T, *gateway) error {
		return func(t *testing.T, g *gateway) error {
			c := g.dialTCP()
			_, err := io.WriteString(c, sent)
			require.NoError(t, err)
			require.NoError(t, end(c))
			_, err = io.ReadAll(c)
			return err
		}
	}
	client := func(set func(*tls.Config)) func(*testing.T, *gateway) error {
		return func(t *testing.T, g *gateway) error {
			config := trusting()
			set(config)
			g.client = config
			c := g.dialRaw().(*secureConn)
			if err := c.Handshake(); err != nil {
				return err
			}
			_, err := io.ReadAll(c) // in TLS 1.3 a client finds only now that its certificate was refused
			return err
		}
	}
	mutual := func(s *config.TLS) { s.ClientCAs = testAuthority().pool }
	for name, test := range map[string]struct {
		ask    func(*testing.T, *gateway) error
		set    func(*config.TLS)
		reason string
		err    string
	}{
		"closed at once":   {bare("", (*net.TCPConn).CloseWrite), nil, closedEarly, ""},
		"closed amid":      {bare("\x16\x03\x01\x02\x00\x01", (*net.TCPConn).CloseWrite), nil, closedEarly, ""},
		"another protocol": {bare("\x00\x00\x00\x2f\xffSMB", func(*net.TCPConn) error { return nil }), nil, notTLS, ""},
		"an old version": {client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }),
			func(s *config.TLS) { s.MinVersion = tls.VersionTLS13 }, noVersion, "protocol version not supported"},
		"no common cipher": {client(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}), nil, noCipher, "handshake failure"},
		"HTTP/2 only":    {client(func(c *tls.Config) { c.NextProtos = []string{"h2"} }), nil, noProtocol, "no application protocol"},
		"does not trust": {client(func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }), nil, refusedByClient, "unknown authority"},
		"no certificate": {client(func(*tls.Config) {}), mutual, clientCertificate, "certificate required"},
		"a stranger's certificate": {client(func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				pair := stranger.issue(-time.Hour, time.Hour, "stranger")
				return &pair, nil
			}
		}), mutual, clientCertificate, "unknown certificate authority"},
		"an expired certificate": {client(func(c *tls.Config) {
			c.Certificates = []tls.Certificate{testAuthority().issue(-time.Hour, -time.Minute, "old")}
		}), mutual, clientCertificate, "expired certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := secured(settings())
			if test.set != nil {
				test.set(s.Frontends[0].TLS)
			}
			g := start(t, s, oneVersion(dead(t)))
			err := test.ask(t, g)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
			}
			g.awaitFailure(test.reason)
			logged := g.logs.FilterMessage("a TLS handshake failed").Len()
			require.Equal(t, test.reason != closedEarly, logged == 1, "probes of load balancers are not logged")
		})
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	s := secured(settings())
	s.Frontends[0].TLS.ClientCAs = testAuthority().pool
	g := start(t, s, oneVersion(application(t, "v1")))
	g.client = trusting()
	g.client.Certificates = []tls.Certificate{testAuthority().issue(-time.Hour, time.Hour, "terminal")}
	require.True(t, strings.HasSuffix(g.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "\r\n\r\nv1"))
}

// Names choose certificates; who asks for another name, or none, gets the first.
func TestServerNames(t *testing.T) {
	t.Parallel()
	a := testAuthority()
	s := secured(settings())
	s.Frontends[0].TLS = settingsOf(a.issue(-time.Hour, time.Hour, "first"), a.issue(-time.Hour, time.Hour, "second.example", "*.third.example"))
	g := start(t, s, oneVersion(dead(t)))
	for asked, want := range map[string]string{
		"": "first", "elsewhere.example": "first", "first": "first", "second.example": "second.example", "x.third.example": "second.example",
	} {
		g.client = &tls.Config{ServerName: asked, InsecureSkipVerify: true}
		c := g.dialRaw().(*secureConn)
		require.NoError(t, c.Handshake())
		require.Equal(t, want, c.ConnectionState().PeerCertificates[0].DNSNames[0], asked)
		require.Empty(t, c.ConnectionState().NegotiatedProtocol)
	}
	g.client = &tls.Config{NextProtos: []string{"h2", "http/1.1"}, InsecureSkipVerify: true}
	c := g.dialRaw().(*secureConn)
	require.NoError(t, c.Handshake())
	require.Equal(t, "http/1.1", c.ConnectionState().NegotiatedProtocol)
}

// A reload gives new connections the new certificate and leaves open ones alone; where nothing has changed, clients resume
// their sessions.
func TestReloadOfCertificates(t *testing.T) {
	t.Parallel()
	a := testAuthority()
	with := func(certificates ...tls.Certificate) *config.Settings {
		s := secured(settings())
		s.Frontends[0].TLS = settingsOf(certificates...)
		return s
	}
	old := a.issue(-time.Hour, time.Hour, "old")
	g := start(t, with(old), oneVersion(application(t, "v1")))
	g.client = trusting()
	g.client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	asked := func(c net.Conn) tls.ConnectionState {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Equal(t, "v1", string(body))
		return c.(*secureConn).ConnectionState()
	}
	kept := g.dialRaw()
	require.False(t, asked(kept).DidResume)
	require.True(t, asked(g.dialRaw()).DidResume)
	require.NoError(t, g.Reload(with(old)))
	require.True(t, asked(g.dialRaw()).DidResume, "nothing has changed")
	require.Equal(t, float64(old.Leaf.NotAfter.Unix()),
		g.metric("tellergate_tls_certificate_not_after_timestamp_seconds", "old.pem", "counter"))

	renewed := a.issue(-time.Hour, 2*time.Hour, "renewed")
	require.NoError(t, g.Reload(with(renewed)))
	state := asked(g.dialRaw())
	require.False(t, state.DidResume)
	require.Equal(t, renewed.Certificate[0], state.PeerCertificates[0].Raw)
	require.Equal(t, old.Certificate[0], asked(kept).PeerCertificates[0].Raw, "open connections go on")
	require.Equal(t, 1, g.logs.FilterMessage("new connections get this certificate").Len())
	require.Equal(t, float64(renewed.Leaf.NotAfter.Unix()),
		g.metric("tellergate_tls_certificate_not_after_timestamp_seconds", "renewed.pem", "counter"))

	plain := settings()
	require.ErrorContains(t, g.Reload(plain), `the settings begin or end TLS on frontend "counter": restart`)
	require.False(t, asked(g.dialRaw()).PeerCertificates == nil)
}

func TestExpiredCertificatesAreWarnedOf(t *testing.T) {
	t.Parallel()
	a := testAuthority()
	s := secured(settings())
	s.Frontends[0].TLS = settingsOf(a.issue(-2*time.Hour, -time.Hour, "expired"), a.issue(time.Hour, 2*time.Hour, "early"),
		a.issue(-time.Hour, time.Hour, "valid"))
	g := start(t, s, oneVersion(dead(t)))
	require.Equal(t, 1, g.logs.FilterMessageSnippet("has expired").Len())
	require.Equal(t, 1, g.logs.FilterMessageSnippet("is not valid yet").Len())
	require.Equal(t, 2, g.logs.FilterMessageSnippet("certificate").Len())
}

// Shutdown tells idle clients in TLS that nothing follows, and ends handshakes that are under way.
func TestShutdownOverTLS(t *testing.T) {
	t.Parallel()
	s := secured(settings())
	s.Shutdown.Grace = time.Minute
	g := start(t, s, oneVersion(application(t, "v1")))
	idle := g.dialRaw().(*secureConn)
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, err := idle.Read(make([]byte, 1000))
	require.NoError(t, err)
	silent := g.dialTCP()
	require.Eventually(t, func() bool { return g.metric("tellergate_frontend_connections", "counter") == 2 }, patience, time.Millisecond)
	stopSoon(t, g)
	_, told, err := readAll(idle)
	require.NoError(t, err)
	require.True(t, told)
	_, err = io.ReadAll(silent)
	require.NoError(t, err)
}

// Upgraded connections end side by side in TLS as without, and both ends hear of it.
func TestTunnelOverTLS(t *testing.T) {
	t.Parallel()
	for name, client := range versionsOfTLS {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, secured(settings()), oneVersion(upgrading(t, switching, func(c net.Conn, r *bufio.Reader, _ string) {
				n, _ := io.Copy(io.Discard, r) // the client's end comes first
				fmt.Fprintf(c, "%d bytes", n)
			})))
			g.client = client()
			c := g.dialRaw().(*secureConn)
			_, err := io.WriteString(c, handshake+"12345")
			require.NoError(t, err)
			_, err = io.Copy(c, &pattern{n: 1 << 20})
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			all, told, err := readAll(c)
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(all, fmt.Sprintf("\r\n\r\n%d bytes", 1<<20+5)), "%q", all)
			require.True(t, told)
		})
	}
}
