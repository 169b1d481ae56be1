package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"tellergate/admin/api"
	"tellergate/session"
)

func (s *Server) registerMoves() {
	register(s, huma.Operation{
		OperationID: "getMoves", Method: http.MethodGet, Path: api.MovesPath, Tags: []string{"sessions"},
		Summary: "What operators did to sessions: who, why, which and how many, the latest first",
		Errors:  []int{http.StatusServiceUnavailable},
	}, s.getMoves)
	register(s, s.signed(takes(huma.Operation{
		OperationID: "postMoves", Method: http.MethodPost, Path: api.MovesPath, Tags: []string{"sessions"},
		Summary: "Move or end the next sessions of a version; call again until it is finished",
		Description: "Each call takes the oldest sessions that are still on the version, at most limit. A reason is required. " +
			"With after and id of the answer a move goes on; one that was interrupted is begun again, and finds what is left.",
		Errors: []int{http.StatusServiceUnavailable, http.StatusUnprocessableEntity},
	}, api.MaxRequestBytes, nil)), s.postMoves)
}

type moves struct {
	Body api.Moves
}

func (s *Server) getMoves(context.Context, *Nothing) (*moves, error) {
	kept, err := s.Moves.Moves()
	if err != nil {
		return nil, ledgerFault(err)
	}
	body := api.Moves{Moves: []api.SessionMove{}}
	for _, m := range kept {
		body.Moves = append(body.Moves, api.SessionMove(m))
	}
	return &moves{Body: body}, nil
}

type postMovesInput struct {
	Body api.MovesRequest
}

type movesResult struct {
	Body api.MovesResult
}

func newMoveID() string { return strings.ToLower(rand.Text()[:16]) }

// movers is how many sessions are moved at once: each waits for its way to the store and back.
const movers = 8

func (s *Server) postMoves(ctx context.Context, in *postMovesInput) (*movesResult, error) {
	request := &in.Body
	filter, err := s.checkMoves(ctx, request)
	if err != nil {
		return nil, err
	}
	if request.DryRun {
		census, err := s.Fleet.Census(patience)
		if err != nil {
			return nil, ledgerFault(err)
		}
		n := 0
		for _, c := range selected(&census, &filter) {
			n += c.Sessions
		}
		if n == 0 {
			if err := s.checkFilter(&filter); err != nil {
				return nil, err
			}
		}
		return &movesResult{Body: api.MovesResult{Sessions: n, Total: n, Finished: n == 0}}, nil
	}
	page, next, err := s.Ledger.Sessions(filter, request.After, cmp.Or(request.Limit, 200))
	if err != nil {
		return nil, ledgerFault(err)
	}
	if len(page) == 0 && request.After == "" {
		if err := s.checkFilter(&filter); err != nil {
			return nil, err
		}
	}
	move, err := s.move(ctx, request)
	if err != nil {
		return nil, err
	}
	moved, failure := s.moveAll(page, request.To)
	move.Sessions += moved
	move.Last = time.Now().UTC()
	move.Finished = len(page) == 0 && request.After == "" && failure == nil
	if moved > 0 || request.ID != "" {
		s.note(move, zap.Int("now", moved))
	}
	if failure != nil {
		e := ledgerFault(failure)
		e.Detail = fmt.Sprintf("%d sessions were dealt with in this call, and then: %s", moved, e.Detail)
		return nil, e
	}
	return &movesResult{Body: api.MovesResult{
		ID: move.ID, Sessions: moved, Total: move.Sessions, Next: next, Finished: move.Finished,
	}}, nil
}

// checkMoves refuses a move whose selection or target makes no sense, and returns its filter.
func (s *Server) checkMoves(ctx context.Context, request *api.MovesRequest) (session.Filter, error) {
	none := session.Filter{}
	current, err := s.running()
	if err != nil {
		return none, err
	}
	const broken = "the sessions cannot be moved"
	if requestOf(ctx).reason == "" && !request.DryRun {
		return none, refusedFor(broken, "", "there is no reason", "say in "+api.ReasonHeader+" why, for those who read the trail")
	}
	service := serviceNamed(current, request.Service)
	if request.To != "" {
		if service == nil {
			return none, refusedFor(broken, "service", fmt.Sprintf("there is no service %q", request.Service), api.ServicesPath+" lists them")
		}
		if request.To == request.From {
			return none, refusedFor(broken, "to", fmt.Sprintf("the sessions are on %q already", request.From), "name another version")
		}
		if err := checkTarget(broken, "to", "service", service, request.To); err != nil {
			return none, err
		}
	}
	return s.filter(&SelectInput{Service: request.Service, Version: request.From, Branch: request.Branch, Under: request.Under})
}

// move returns the record of what the request goes on with, or a new one.
func (s *Server) move(ctx context.Context, request *api.MovesRequest) (session.Move, error) {
	r := requestOf(ctx)
	begun := session.Move{
		ID: newMoveID(), Author: r.author, Reason: r.reason, Service: request.Service, From: request.From, To: request.To,
		Branch: request.Branch, Under: request.Under, Began: time.Now().UTC(),
	}
	if request.ID == "" {
		return begun, nil
	}
	kept, err := s.Moves.Moves()
	if err != nil {
		return begun, ledgerFault(err)
	}
	i := slices.IndexFunc(kept, func(m session.Move) bool { return m.ID == request.ID })
	if i < 0 {
		return begun, nil // it has been forgotten, or nothing had been moved yet
	}
	m := kept[i]
	if m.Author != begun.Author || m.Reason != begun.Reason || m.Service != begun.Service || m.From != begun.From ||
		m.To != begun.To || m.Branch != begun.Branch || m.Under != begun.Under {
		return begun, refusedFor("the sessions cannot be moved", "id", fmt.Sprintf("%q is another move", request.ID),
			"leave it out to begin a new one")
	}
	return m, nil
}

// moveAll moves sessions, or ends them where to is empty. It returns how many were still there.
func (s *Server) moveAll(page []session.Session, to string) (moved int, failure error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for worker := range movers {
		all.Go(func() {
			for i := worker; i < len(page); i += movers {
				mu.Lock()
				stop := failure != nil
				mu.Unlock()
				if stop {
					return
				}
				there, err := false, error(nil)
				if to == "" {
					there, err = s.Ledger.EndID(page[i].ID)
				} else {
					there, err = s.Ledger.MoveID(page[i].ID, to)
				}
				mu.Lock()
				if there {
					moved++
				}
				if err != nil {
					failure = err
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return moved, failure
}

// note keeps and logs what an operator did to sessions.
func (s *Server) note(m session.Move, more ...zap.Field) {
	what := "sessions moved"
	if m.To == "" {
		what = "sessions ended"
	}
	s.Log.Info(what, append([]zap.Field{zap.String("author", m.Author), zap.String("reason", m.Reason), zap.String("move", m.ID),
		zap.String("service", m.Service), zap.String("from", m.From), zap.String("to", m.To), zap.String("branch", m.Branch),
		zap.String("under", m.Under), zap.Int("sessions", m.Sessions), zap.Bool("finished", m.Finished)}, more...)...)
	if err := s.Moves.NoteMove(m); err != nil {
		s.Log.Error("what was done to sessions could not be kept; it stands in this log", zap.String("move", m.ID), zap.Error(err))
	}
}
