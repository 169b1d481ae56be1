package socket_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/proxy/socket"
)

func serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// dribbling writes byte by byte, each in a segment of its own, so that records come in pieces.
type dribbling struct{ *net.TCPConn }

func (d dribbling) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.TCPConn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// tlsPair returns the server's side over our calls and a client of crypto/tls that writes as wrap says.
func tlsPair(t *testing.T, version uint16, wrap func(*net.TCPConn) net.Conn) (*socket.TLS, *socket.Conn, *tls.Conn, *net.TCPConn) {
	t.Helper()
	below, there := pair(t)
	client := tls.Client(wrap(there), &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	here := new(socket.TLS)
	here.Init(below, serverConfig(t))
	var shaking sync.WaitGroup
	shaking.Go(func() {
		if err := client.Handshake(); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, here.Handshake())
	shaking.Wait()
	return here, below, client, there
}

func whole(c *net.TCPConn) net.Conn { return c }

func TestTLSBothWaysAtOnce(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			here, _, client, _ := tlsPair(t, version, whole)
			sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
			var both sync.WaitGroup
			for _, c := range []interface {
				io.ReadWriter
				CloseWrite() error
			}{here, client} {
				both.Go(func() {
					if _, err := c.Write(sent); err != nil {
						t.Error(err)
					}
					if err := c.CloseWrite(); err != nil {
						t.Error(err)
					}
				})
				both.Go(func() {
					got, err := io.ReadAll(c)
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("got %d bytes: %v", len(got), err)
					}
				})
			}
			both.Wait()
		})
	}
}

// Records that come in pieces are put together, however often one asks in between, and what Look has taken is not lost.
func TestTLSInPieces(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			here, below, client, _ := tlsPair(t, version, func(c *net.TCPConn) net.Conn { return dribbling{c} })
			sent := []byte("some bytes that come in several records, each of which comes in pieces")
			var writing sync.WaitGroup
			writing.Go(func() {
				for at := 0; at < len(sent); at += 7 {
					if _, err := client.Write(sent[at:min(at+7, len(sent))]); err != nil {
						t.Error(err)
					}
				}
				_ = client.CloseWrite()
			})
			var got []byte
			for looks, ended := 0, false; !ended; looks++ {
				require.NoError(t, below.Raw().Read(func(fd uintptr) bool {
					if looks%3 == 0 {
						if _, err := here.Look(fd); err == syscall.EAGAIN {
							return false
						}
					}
					b := make([]byte, 1+looks%4)
					n, err := here.Receive(fd, b)
					if err == syscall.EAGAIN {
						return false
					}
					require.NoError(t, err)
					got, ended = append(got, b[:n]...), n == 0
					return true
				}))
			}
			require.Equal(t, string(sent), string(got))
			writing.Wait()
		})
	}
}

func TestTLSDeadlines(t *testing.T) {
	here, _, client, _ := tlsPair(t, tls.VersionTLS13, whole)
	require.NoError(t, here.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err := here.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, here.SetReadDeadline(time.Time{}))
	_, err = client.Write([]byte("x"))
	require.NoError(t, err)
	n, err := here.Read(make([]byte, 10))
	require.NoError(t, err, "a deadline passes")
	require.Equal(t, 1, n)

	require.Zero(t, here.Stalled())
	stalled := make(chan struct{})
	go func() {
		defer close(stalled)
		for here.Stalled() == 0 {
			time.Sleep(time.Millisecond)
		}
		_ = here.SetDeadline(time.Unix(1, 0))
	}()
	_, err = here.Write(make([]byte, 64<<20))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	<-stalled
	require.Zero(t, here.Stalled())
	here.Finish() // does nothing: no one may take what has come for all
	_ = here.Close()
	_, err = io.Copy(io.Discard, client)
	require.Error(t, err)
}

// Finish does not wait for a client that does not read.
func TestTLSFinishDoesNotWait(t *testing.T) {
	here, below, client, _ := tlsPair(t, tls.VersionTLS13, whole)
	require.NoError(t, below.Raw().Control(func(fd uintptr) {
		for {
			if _, err := socket.Send(fd, make([]byte, 1<<20)); err == syscall.EAGAIN { // no TLS, but nobody reads it
				return
			}
		}
	}))
	here.Finish()
	require.NoError(t, here.Close())
	require.NoError(t, client.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := io.Copy(io.Discard, client)
	require.Error(t, err)
}

func TestTLSEnded(t *testing.T) {
	for version, number := range versions {
		for name, test := range map[string]struct {
			leave func(*tls.Conn, *net.TCPConn)
			ended bool
		}{
			"still there":          {func(*tls.Conn, *net.TCPConn) {}, false},
			"only in TLS":          {func(c *tls.Conn, _ *net.TCPConn) { _ = c.CloseWrite() }, false},
			"in order":             {func(c *tls.Conn, _ *net.TCPConn) { _ = c.Close() }, true},
			"below":                {func(_ *tls.Conn, c *net.TCPConn) { _ = c.Close() }, true},
			"reset":                {func(_ *tls.Conn, c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }, true},
			"after more to read":   {func(c *tls.Conn, _ *net.TCPConn) { _, _ = c.Write([]byte("GET / HTTP/1.1")); _ = c.Close() }, false},
			"reset after the same": {func(c *tls.Conn, t *net.TCPConn) { _, _ = c.Write([]byte("GET")); _ = t.SetLinger(0); _ = t.Close() }, true},
		} {
			t.Run(name+", "+version, func(t *testing.T) {
				here, below, client, tcp := tlsPair(t, number, whole)
				test.leave(client, tcp)
				ended := func() (ended bool) {
					require.NoError(t, below.Raw().Control(func(fd uintptr) { ended = here.Ended(fd) }))
					return ended
				}
				if test.ended {
					require.Eventually(t, ended, 5*time.Second, time.Millisecond)
				} else {
					for range 20 {
						require.False(t, ended())
						time.Sleep(time.Millisecond) // what the client did arrives meanwhile
					}
				}
			})
		}
	}
}
