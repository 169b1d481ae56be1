package admin

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"

	"tellergate/admin/api"
)

// Handler returns everything the listener serves, guards included.
//
// Until the API authenticates, being on loopback is all that protects it, and a browser on this machine is on loopback
// too. So every request must name a loopback Host (a web site that rebinds its own name to 127.0.0.1 does not), must
// not come from a web page of elsewhere (Origin, Sec-Fetch-Site), and writes must have a content type that a browser
// sends across origins only after asking, which is never answered.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recovered(w, r)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if e := guard(r); e != nil {
			refuse(w, r, e)
			return
		}
		s.route(w, r)
	})
}

// recovered answers 500 where serving panicked. Deferred.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.Log.Error("admin call panicked", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
	refuse(w, r, fault(http.StatusInternalServerError, "the replica failed at it; its log says where"))
}

// guard returns why a request is not served, or nil.
func guard(r *http.Request) *api.Error {
	if !isLoopback(r.Host) {
		return fault(http.StatusMisdirectedRequest, fmt.Sprintf("Host %q is not a loopback address: the admin API does "+
			"not authenticate yet and answers only as 127.0.0.1, [::1] or localhost", r.Host))
	}
	for _, origin := range r.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || !isLoopback(u.Host) {
			return fault(http.StatusForbidden, fmt.Sprintf("the request comes from a web page of %q, and only pages of "+
				"this machine may use the admin API", origin))
		}
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
		return nil
	default:
		return fault(http.StatusForbidden, fmt.Sprintf("the request comes from a web page of elsewhere "+
			"(Sec-Fetch-Site: %s), and only pages of this machine may use the admin API", site))
	}
}

// isLoopback reports whether host, with or without a port, names this machine whatever a resolver says.
func isLoopback(host string) bool {
	if host == "" {
		return false
	}
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host != host {
		return false
	}
	name := u.Hostname()
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

// route serves what the mux knows; the rest gets error documents instead of plain text.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	handler, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	refusal := &refusal{header: make(http.Header)}
	handler.ServeHTTP(refusal, r)
	if refusal.status == http.StatusMethodNotAllowed {
		allowed := refusal.header.Get("Allow")
		w.Header().Set("Allow", allowed)
		refuse(w, r, fault(http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %s", r.URL.Path, allowed, r.Method)))
		return
	}
	refuse(w, r, fault(http.StatusNotFound, fmt.Sprintf("there is no call %s; %s.json lists what there is",
		r.URL.Path, api.OpenAPIPath)))
}

// A refusal takes the mux's own answer to a request that it has no handler for.
type refusal struct {
	header http.Header
	status int
}

func (r *refusal) Header() http.Header         { return r.header }
func (r *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (r *refusal) WriteHeader(status int)      { r.status = status }
