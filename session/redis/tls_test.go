package redis

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/redis/redistest"
)

func encryption(t *testing.T, authority, certificate, key string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(authority)
	require.NoError(t, err)
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	require.True(t, config.RootCAs.AppendCertsFromPEM(pem))
	if certificate != "" {
		own, err := tls.LoadX509KeyPair(certificate, key)
		require.NoError(t, err)
		config.Certificates = []tls.Certificate{own}
	}
	return config
}

func TestTLS(t *testing.T) {
	server := redistest.TLS(t)
	stranger, strangersCertificate, strangersKey := redistest.Stranger(t)
	tests := []struct {
		name   string
		config *tls.Config
		fails  string // "" if it does not
	}{
		{"both know each other", encryption(t, server.Authority, server.Certificate, server.Key), ""},
		{"no certificate is shown", encryption(t, server.Authority, "", ""), "certificate required"},
		{"a certificate of another authority", encryption(t, server.Authority, strangersCertificate, strangersKey), "unknown (certificate )?authority"},
		{"a server of another authority", encryption(t, stranger, server.Certificate, server.Key), "signed by unknown authority"},
		{"no encryption", nil, "EOF|reset"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Mode: Single, Addresses: []string{server.Secure}, Timeout: 2 * time.Second, Budget: 2 * time.Second}
			if test.config != nil {
				o.TLS = func() *tls.Config { return test.config }
			}
			s := run(t, o)
			k := []session.Key{key(string(rune('a' + i)))}
			require.Equal(t, "v1", s.Claim(k, pinned("v1"), nil).Version, "in any case the request goes on")
			if test.fails == "" {
				require.Zero(t, s.Stats().Failures, s.Stats().LastError)
				require.Contains(t, server.Ask("GET "+s.codec.name(k[0])), `"version":"v1"`)
				return
			}
			why := regexp.MustCompile(test.fails)
			require.Eventually(t, func() bool { // sometimes the connection is reset before the reason arrives
				s.Claim([]session.Key{key(rand.Text())}, pinned("v1"), nil)
				return why.MatchString(s.Stats().LastError)
			}, testBudget, 10*time.Millisecond, test.fails)
			require.NotZero(t, s.Stats().Failures)
			require.Equal(t, "$-1\r\n", server.Ask("GET "+s.codec.name(k[0])))
		})
	}
}
