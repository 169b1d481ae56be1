package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/live"
	"tellergate/rules"
	"tellergate/session"
)

func (s *Server) registerSessions() {
	path := api.SessionsPath + "/{id}"
	register(s, huma.Operation{
		OperationID: "getSessions", Method: http.MethodGet, Path: api.SessionsPath, Tags: []string{"sessions"},
		Summary: "The drain ledger: who is still on what, oldest first", Errors: []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, s.getSessions)
	register(s, huma.Operation{
		OperationID: "endSession", Method: http.MethodDelete, Path: path, Tags: []string{"sessions"},
		Summary: "End a session under all its keys; its next request is decided anew", Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, s.endSession)
	register(s, takes(huma.Operation{
		OperationID: "moveSession", Method: http.MethodPost, Path: path + "/move", Tags: []string{"sessions"},
		Summary: "Put a session on another version from its next request on",
		Errors:  []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, api.MaxRequestBytes, nil), s.moveSession)
}

type getSessionsInput struct {
	Service string `query:"service" doc:"only of this service"`
	Version string `query:"version" doc:"only on this version"`
	Branch  string `query:"branch" doc:"only of this branch, as legalEntity/branch where it is declared so"`
	After   string `query:"after" doc:"next of the page before"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"how many at most"`
}

type sessions struct {
	Body api.Sessions
}

func (s *Server) getSessions(_ context.Context, in *getSessionsInput) (*sessions, error) {
	filter := session.Filter{Service: in.Service, Version: in.Version, Branch: in.Branch}
	page, next, err := s.Ledger.Sessions(filter, in.After, in.Limit)
	if err != nil {
		return nil, ledgerFault(err)
	}
	if len(page) == 0 && in.After == "" {
		if err := s.checkFilter(filter); err != nil {
			return nil, err
		}
	}
	body := api.Sessions{Sessions: []api.Session{}, Next: next}
	for _, row := range page {
		body.Sessions = append(body.Sessions, sessionOf(row))
	}
	return &sessions{Body: body}, nil
}

// checkFilter refuses a filter that selects nothing because it is misspelt: an empty answer reads as "drained".
func (s *Server) checkFilter(f session.Filter) error {
	current, err := s.running()
	if err != nil {
		return err
	}
	known := func(service, version string) bool {
		for i := range current.Rules.Len() {
			if c := current.Rules.Service(i); (service == "" || c.Name() == service) && (version == "" || c.VersionNamed(version) != nil) {
				return true
			}
		}
		counts, _ := s.Ledger.Counts() // what is not known now is not known here either
		return slices.ContainsFunc(counts, func(c session.Count) bool {
			return (service == "" || c.Service == service) && (version == "" || c.Version == version)
		})
	}
	const broken = "the sessions cannot be listed"
	if !known(f.Service, "") {
		return refusedFor(broken, "service", fmt.Sprintf("there is no service %q", f.Service), api.ServicesPath+" lists them")
	}
	if !known(f.Service, f.Version) {
		return refusedFor(broken, "version", fmt.Sprintf("there is no version %q", f.Version), api.ServicesPath+" lists them")
	}
	branch := s.Schema.Index(rules.AttributeBranch)
	if f.Branch != "" && branch >= 0 && s.Schema.Attribute(branch).Within != "" && !strings.Contains(f.Branch, "/") {
		return refusedFor(broken, "branch", fmt.Sprintf("%q is not a pair", f.Branch),
			fmt.Sprintf("write %s/%s, for example 9001/%s", s.Schema.Attribute(branch).Within, rules.AttributeBranch, f.Branch))
	}
	return nil
}

func sessionOf(row session.Session) api.Session {
	ends := row.Pin.Renewed.Add(row.Pin.Idle)
	if row.Pin.End.Before(ends) {
		ends = row.Pin.End
	}
	out := api.Session{
		ID: row.ID, Service: row.Service, Version: row.Pin.Version, Endpoint: row.Pin.Endpoint,
		Subject: row.Pin.Subject, Branch: row.Pin.Branch, Keys: []string{}, Revision: row.Pin.Revision,
		Start: row.Pin.Start, LastSeen: row.Pin.Renewed, Ends: ends, Latest: row.Pin.End,
	}
	for _, key := range row.Keys {
		out.Keys = append(out.Keys, key.Attribute)
	}
	return out
}

// SessionInput names a session.
type SessionInput struct {
	ID string `path:"id" doc:"as the drain ledger names it"`
}

func (s *Server) endSession(_ context.Context, in *SessionInput) (*Nothing, error) {
	if there, err := s.Ledger.EndID(in.ID); err != nil {
		return nil, ledgerFault(err)
	} else if !there {
		return nil, noSession(in.ID)
	}
	return &Nothing{}, nil
}

// ledgerFault tells an unreachable store from a question that makes no sense.
func ledgerFault(err error) *api.Error {
	if errors.Is(err, session.ErrUnknown) {
		return fault(http.StatusServiceUnavailable, err.Error())
	}
	return fault(http.StatusBadRequest, err.Error())
}

func noSession(id string) *api.Error {
	return fault(http.StatusNotFound, fmt.Sprintf("there is no live session %q; %s lists them", id,
		api.SessionsPath))
}

type moveInput struct {
	SessionInput
	Body api.MoveRequest
}

func (s *Server) moveSession(_ context.Context, in *moveInput) (*Nothing, error) {
	current, err := s.running()
	if err != nil {
		return nil, err
	}
	row, ok, err := s.Ledger.Session(in.ID)
	if err != nil {
		return nil, ledgerFault(err)
	}
	if !ok {
		return nil, noSession(in.ID)
	}
	broken := fmt.Sprintf("session %q cannot be moved", in.ID)
	service := serviceNamed(current, row.Service)
	switch {
	case service == nil:
		return nil, refusedFor(broken, "version", fmt.Sprintf("its service %q does not run any more", row.Service), "end the session")
	case service.VersionNamed(in.Body.Version) == nil:
		return nil, refusedFor(broken, "version", fmt.Sprintf("its service %q has no version %q", row.Service, in.Body.Version),
			"name one of its versions; "+api.ServicePath(row.Service)+" lists them")
	case service.VersionNamed(in.Body.Version).State() != rules.StateActive:
		return nil, refusedFor(broken, "version", fmt.Sprintf("version %q of service %q is %s", in.Body.Version, row.Service,
			service.VersionNamed(in.Body.Version).State()), "name an active version; "+api.ServicePath(row.Service)+" lists them")
	}
	if there, err := s.Ledger.MoveID(in.ID, in.Body.Version); err != nil {
		return nil, ledgerFault(err)
	} else if !there {
		return nil, noSession(in.ID)
	}
	return &Nothing{}, nil
}

// serviceNamed returns the running service with this name, or nil.
func serviceNamed(current *live.Generation, name string) *rules.CompiledService {
	for i := range current.Rules.Len() {
		if service := current.Rules.Service(i); service.Name() == name {
			return service
		}
	}
	return nil
}
