package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"tellergate/admin/api"
	"tellergate/internal/live"
	"tellergate/internal/problem"
	"tellergate/rules"
	"tellergate/session"
)

func (s *Server) registerSessions() {
	path := api.SessionsPath + "/{id}"
	register(s, huma.Operation{
		OperationID: "getSessions", Method: http.MethodGet, Path: api.SessionsPath, Tags: []string{"sessions"},
		Summary: "The drain ledger: who is still on what, oldest first",
		Description: "The first page takes a count of all sessions, or one that is a few seconds old; later ones go on in it. " +
			"While it takes longer than some seconds the answer is 503 with code counting: ask again.",
		Errors: []int{http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.getSessions)
	register(s, huma.Operation{
		OperationID: "getSessionCounts", Method: http.MethodGet, Path: api.SessionCountsPath, Tags: []string{"sessions"},
		Summary: "How many sessions are on which version, of which branch, oldest first",
		Errors:  []int{http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.getSessionCounts)
	register(s, s.signed(huma.Operation{
		OperationID: "endSession", Method: http.MethodDelete, Path: path, Tags: []string{"sessions"},
		Summary: "End a session under all its keys; its next request is decided anew", Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}), s.endSession)
	register(s, s.signed(takes(huma.Operation{
		OperationID: "moveSession", Method: http.MethodPost, Path: path + "/move", Tags: []string{"sessions"},
		Summary: "Put a session on another version from its next request on",
		Errors:  []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, api.MaxRequestBytes, nil)), s.moveSession)
}

// SelectInput selects sessions.
type SelectInput struct {
	Service string `query:"service" doc:"only of this service"`
	Version string `query:"version" doc:"only on this version"`
	Branch  string `query:"branch" doc:"only of this branch, as legalEntity/branch where it is declared so"`
	Under   string `query:"under" doc:"only of this branch and all beneath it in its organisation"`
}

type getSessionsInput struct {
	SelectInput
	OlderThan string `query:"olderThan" doc:"only sessions that began longer ago than this, such as 2h30m"`
	After     string `query:"after" doc:"next of the page before"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"how many at most"`
}

type sessions struct {
	Body api.Sessions
}

func (s *Server) getSessions(_ context.Context, in *getSessionsInput) (*sessions, error) {
	filter, err := s.filter(&in.SelectInput)
	if err != nil {
		return nil, err
	}
	if in.OlderThan != "" {
		age, err := time.ParseDuration(in.OlderThan)
		if err != nil || age <= 0 {
			return nil, notFor(notListed, "olderThan", fmt.Sprintf("%q is not a duration", in.OlderThan), "write one such as 90m or 2h30m")
		}
		filter.Before = time.Now().Add(-age)
	}
	page, next, err := s.Ledger.Sessions(filter, in.After, in.Limit)
	if err != nil {
		return nil, ledgerFault(err)
	}
	if len(page) == 0 && in.After == "" {
		if err := s.checkFilter(&filter); err != nil {
			return nil, err
		}
	}
	body := api.Sessions{Sessions: []api.Session{}, Next: next}
	for _, row := range page {
		body.Sessions = append(body.Sessions, sessionOf(row))
	}
	return &sessions{Body: body}, nil
}

type getSessionCountsInput struct {
	SelectInput
	By string `query:"by" enum:"version,branch" default:"version" doc:"branch: each branch of a version by itself"`
}

type sessionCounts struct {
	Body api.SessionCounts
}

func (s *Server) getSessionCounts(_ context.Context, in *getSessionCountsInput) (*sessionCounts, error) {
	filter, err := s.filter(&in.SelectInput)
	if err != nil {
		return nil, err
	}
	census, err := s.Fleet.Census(patience)
	if err != nil {
		return nil, ledgerFault(err)
	}
	counts := selected(&census, &filter)
	if len(counts) == 0 {
		if err := s.checkFilter(&filter); err != nil {
			return nil, err
		}
	}
	if in.By != "branch" {
		counts = session.Together(counts)
	}
	slices.SortStableFunc(counts, func(a, b session.Count) int { return a.Oldest.Compare(b.Oldest) })
	body := api.SessionCounts{Counted: census.Ended.UTC(), Counts: []api.SessionCount{}}
	for _, c := range counts {
		body.Counts = append(body.Counts, api.SessionCount{
			Service: c.Service, Version: c.Version, Branch: c.Branch, Sessions: c.Sessions, Oldest: c.Oldest.UTC(),
		})
	}
	return &sessionCounts{Body: body}, nil
}

// patience is how long an answer waits for a count.
const patience = 20 * time.Second

// selected returns the counts of a census that a filter without an age selects.
func selected(census *session.Census, filter *session.Filter) []session.Count {
	return slices.DeleteFunc(slices.Clone(census.Counts), func(c session.Count) bool {
		return !filter.Selects(c.Service, c.Version, c.Branch, c.Oldest)
	})
}

const notListed = "the sessions cannot be selected"

// notFor is invalid with a single problem, for a question.
func notFor(detail, path, message, remedy string) *api.Error {
	return invalid(detail, problem.List{{Path: path, Message: message, Remedy: remedy}})
}

// filter turns a selection into a filter; a branch that cannot be what is meant is refused.
func (s *Server) filter(in *SelectInput) (session.Filter, error) {
	filter := session.Filter{Service: in.Service, Version: in.Version, Branch: in.Branch}
	if in.Under == "" {
		return filter, nil
	}
	entity, code, err := s.branchPair("under", in.Under)
	if err != nil {
		return filter, err
	}
	current, err := s.running()
	if err != nil {
		return filter, err
	}
	organisation := current.State.Organisations[entity]
	if organisation == nil {
		return filter, notFor(notListed, "under", fmt.Sprintf("there is no organisation of %q", entity), api.OrganisationsPath+" lists them")
	}
	if !organisation.Contains(code) {
		return filter, notFor(notListed, "under", fmt.Sprintf("the organisation of %q has no branch %q", entity, code),
			api.OrganisationPath(entity)+" lists them")
	}
	filter.Branches = make(map[string]struct{})
	for _, b := range organisation.Branches() {
		if organisation.Under(b.Code, code) {
			filter.Branches[entity+"/"+b.Code] = struct{}{}
		}
	}
	return filter, nil
}

// branchPair takes a branch apart, which must be a pair.
func (s *Server) branchPair(query, branch string) (outer, code string, err error) {
	within := "legalEntity"
	if i := s.Schema.Index(rules.AttributeBranch); i >= 0 {
		within = cmp.Or(s.Schema.Attribute(i).Within, within)
	}
	outer, code, ok := strings.Cut(branch, "/")
	if !ok || outer == "" || code == "" {
		return "", "", notFor(notListed, query, fmt.Sprintf("%q is not a pair", branch),
			fmt.Sprintf("write %s/%s, for example 9001/%s", within, rules.AttributeBranch, cmp.Or(strings.Trim(branch, "/"), "3201")))
	}
	return outer, code, nil
}

// checkFilter refuses a filter that selects nothing because it is misspelt: an empty answer reads as "drained".
func (s *Server) checkFilter(f *session.Filter) error {
	current, err := s.running()
	if err != nil {
		return err
	}
	census, err := s.Fleet.Census(patience)
	if err != nil {
		return ledgerFault(err)
	}
	known := func(service, version string) bool {
		for i := range current.Rules.Len() {
			if c := current.Rules.Service(i); (service == "" || c.Name() == service) && (version == "" || c.VersionNamed(version) != nil) {
				return true
			}
		}
		return slices.ContainsFunc(census.Counts, func(c session.Count) bool {
			return (service == "" || c.Service == service) && (version == "" || c.Version == version)
		})
	}
	if !known(f.Service, "") {
		return notFor(notListed, "service", fmt.Sprintf("there is no service %q", f.Service), api.ServicesPath+" lists them")
	}
	if !known(f.Service, f.Version) {
		return notFor(notListed, "version", fmt.Sprintf("there is no version %q", f.Version), api.ServicesPath+" lists them")
	}
	branch := s.Schema.Index(rules.AttributeBranch)
	if f.Branch == "" || branch < 0 || s.Schema.Attribute(branch).Within == "" {
		return nil
	}
	entity, code, err := s.branchPair("branch", f.Branch)
	if err != nil {
		return err
	}
	// Where an organisation says which branches there are, another is a misspelling, unless somebody works there.
	if o := current.State.Organisations[entity]; o != nil && !o.Contains(code) &&
		!slices.ContainsFunc(census.Counts, func(c session.Count) bool { return c.Branch == f.Branch }) {
		return notFor(notListed, "branch", fmt.Sprintf("the organisation of %q has no branch %q", entity, code),
			api.OrganisationPath(entity)+" lists them")
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

func (s *Server) endSession(ctx context.Context, in *SessionInput) (*Nothing, error) {
	row, ok, err := s.Ledger.Session(in.ID)
	if err != nil {
		return nil, ledgerFault(err)
	}
	if !ok {
		return nil, noSession(in.ID)
	}
	if there, err := s.Ledger.EndID(in.ID); err != nil {
		return nil, ledgerFault(err)
	} else if !there {
		return nil, noSession(in.ID)
	}
	s.noteOne(ctx, &row, "")
	return &Nothing{}, nil
}

// noteOne keeps and logs what was done to one session.
func (s *Server) noteOne(ctx context.Context, row *session.Session, to string) {
	now := time.Now().UTC()
	r := requestOf(ctx)
	s.note(session.Move{
		ID: newMoveID(), Author: r.author, Reason: r.reason, Service: row.Service, From: row.Pin.Version, To: to,
		Branch: row.Pin.Branch, Began: now, Last: now, Sessions: 1, Finished: true,
	}, zap.String("session", row.ID))
}

// ledgerFault tells an unreachable store, and one that is still being counted, from a question that makes no sense.
func ledgerFault(err error) *api.Error {
	var counting *session.Counting
	switch {
	case errors.As(err, &counting):
		return faultCoded(http.StatusServiceUnavailable, api.CodeCounting, counting.Error())
	case errors.Is(err, session.ErrUnknown):
		return faultCoded(http.StatusServiceUnavailable, api.CodeSessionsUnknown, err.Error())
	}
	return fault(http.StatusBadRequest, err.Error())
}

// faultCoded is fault with a code that is not the status's own.
func faultCoded(status int, code, detail string) *api.Error {
	e := fault(status, detail)
	e.Type, e.Code = "urn:tellergate:error:"+code, code
	return e
}

func noSession(id string) *api.Error {
	return fault(http.StatusNotFound, fmt.Sprintf("there is no live session %q; %s lists them", id,
		api.SessionsPath))
}

type moveInput struct {
	SessionInput
	Body api.MoveRequest
}

func (s *Server) moveSession(ctx context.Context, in *moveInput) (*Nothing, error) {
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
	if service == nil {
		return nil, refusedFor(broken, "version", fmt.Sprintf("its service %q does not run any more", row.Service), "end the session")
	}
	if err := checkTarget(broken, "version", "its service", service, in.Body.Version); err != nil {
		return nil, err
	}
	if there, err := s.Ledger.MoveID(in.ID, in.Body.Version); err != nil {
		return nil, ledgerFault(err)
	} else if !there {
		return nil, noSession(in.ID)
	}
	s.noteOne(ctx, &row, in.Body.Version)
	return &Nothing{}, nil
}

// checkTarget refuses a version that no session can be moved to. whose is what the service is called in the message.
func checkTarget(broken, path, whose string, service *rules.CompiledService, version string) error {
	remedy := api.ServicePath(service.Name()) + " lists them"
	v := service.VersionNamed(version)
	if v == nil {
		return refusedFor(broken, path, fmt.Sprintf("%s %q has no version %q", whose, service.Name(), version),
			"name one of its versions; "+remedy)
	}
	if v.State() != rules.StateActive {
		return refusedFor(broken, path, fmt.Sprintf("version %q of service %q is %s", version, service.Name(), v.State()),
			"name an active version; "+remedy)
	}
	return nil
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
