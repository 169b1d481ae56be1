package admin

import (
	"context"
	"fmt"
	"net/http"

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
		Summary: "The drain ledger: who is still on what, oldest first", Errors: []int{http.StatusBadRequest},
	}, s.getSessions)
	register(s, huma.Operation{
		OperationID: "endSession", Method: http.MethodDelete, Path: path, Tags: []string{"sessions"},
		Summary: "End a session under all its keys; its next request is decided anew", Errors: []int{http.StatusNotFound},
	}, s.endSession)
	register(s, takes(huma.Operation{
		OperationID: "moveSession", Method: http.MethodPost, Path: path + "/move", Tags: []string{"sessions"},
		Summary:     "Put a session on another version from its next request on",
		Description: "A version that the session's service does not have ends the pin: the session is decided anew.",
		Errors:      []int{http.StatusNotFound, http.StatusServiceUnavailable},
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
		return nil, fault(http.StatusBadRequest, err.Error())
	}
	body := api.Sessions{Sessions: []api.Session{}, Next: next}
	for _, row := range page {
		body.Sessions = append(body.Sessions, sessionOf(row))
	}
	return &sessions{Body: body}, nil
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
	if !s.Ledger.EndID(in.ID) {
		return nil, noSession(in.ID)
	}
	return &Nothing{}, nil
}

func noSession(id string) *api.Error {
	return fault(http.StatusNotFound, fmt.Sprintf("there is no live session %q on this replica; %s lists them", id,
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
	if !takesSessions(current, in.Body.Version) {
		return nil, refusedFor(fmt.Sprintf("session %q cannot be moved", in.ID), "version",
			fmt.Sprintf("no service has a version %q that is not disabled", in.Body.Version),
			"name a version of the session's service; "+api.ServicesPath+" lists them")
	}
	if !s.Ledger.MoveID(in.ID, in.Body.Version) {
		return nil, noSession(in.ID)
	}
	return &Nothing{}, nil
}

// takesSessions reports whether some service has the version and sessions may be pinned to it.
func takesSessions(current *live.Generation, version string) bool {
	for i := range current.Rules.Len() {
		if v := current.Rules.Service(i).VersionNamed(version); v != nil && v.State() != rules.StateDisabled {
			return true
		}
	}
	return false
}
