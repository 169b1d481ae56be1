package kubetest

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A middle is a way from a gateway to the real API server that can be cut, and on which requests can be interrupted.
type middle struct {
	*httptest.Server
	breaks  atomic.Pointer[func(*http.Request) bool] // whether a request is broken off; nil: none is
	refused atomic.Int64                             // answers 401
}

func startMiddle(t *testing.T) *middle {
	t.Helper()
	target, err := url.Parse(apiURL)
	require.NoError(t, err)
	m := new(middle)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, // as Cluster's own client
		},
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode == http.StatusUnauthorized {
				m.refused.Add(1)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if breaks := m.breaks.Load(); breaks != nil && (*breaks)(q) {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, q)
	}))
	m.EnableHTTP2 = true
	m.StartTLS()
	t.Cleanup(func() {
		m.CloseClientConnections()
		m.Close()
	})
	return m
}
