package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/build"
)

func (s *Server) registerReplicas() {
	register(s, huma.Operation{
		OperationID: "getReplicas", Method: http.MethodGet, Path: api.ReplicasPath, Tags: []string{"replicas"},
		Summary: "Which replica runs which revision, since when",
	}, s.getReplicas)
}

type replicas struct {
	Body api.Replicas
}

func (s *Server) getReplicas(context.Context, *Nothing) (*replicas, error) {
	status := s.Live.Status()
	return &replicas{Body: api.Replicas{Replicas: []api.Replica{{
		Name: s.Replica, Version: build.Version, Revision: status.Applied, Since: status.Since, Head: status.Head,
		Failing: status.Failing, FailingAt: status.FailingAt,
	}}}}, nil
}

// registerPlain adds what is served outside the API: health, metrics, profiles.
func (s *Server) registerPlain() {
	s.mux.HandleFunc("GET "+api.HealthPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	s.mux.HandleFunc("GET "+api.ReadyPath, s.ready)
	s.mux.Handle("GET "+api.MetricsPath, s.Metrics)
	s.mux.HandleFunc("GET "+api.ProfilingPath, pprof.Index)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"profile", pprof.Profile)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"symbol", pprof.Symbol)
	s.mux.HandleFunc("GET "+api.ProfilingPath+"trace", pprof.Trace)
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	missing := s.Ready()
	w.Header().Set("Content-Type", api.JSON)
	if len(missing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	body := api.Readiness{Ready: len(missing) == 0, Missing: missing}
	if s.Notes != nil {
		body.Notes = s.Notes()
	}
	_ = json.NewEncoder(w).Encode(body) // a caller that has gone away is no fault of ours
}
