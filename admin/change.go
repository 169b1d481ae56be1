package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/internal/problem"
	"tellergate/store"
)

// An edit is what one call does to a state: the parts it writes and removes, which it has already put into the draft.
type edit struct {
	set      map[string][]byte
	remove   []string
	warnings problem.List
	// duplicates and idle are as in api.WriteResult.
	duplicates, idle int
	// broken says what the caller did where the draft does not compile, remedy what to do about each problem instead of
	// what Compile advises; empty leaves that.
	broken, remedy string
}

// parts returns the names of the parts that the edit touches, in ascending order.
func (e *edit) parts() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name := range maps.Keys(e.set) {
			if !yield(name) {
				return
			}
		}
		for _, name := range e.remove {
			if !yield(name) {
				return
			}
		}
	})
}

// A drafting puts a change into draft, a clone of the state at head, and says what it touched.
type drafting func(head store.Revision, draft *content.State) (edit, error)

// A changed is the answer to a change.
type changed struct {
	Status int
	ETag   string `header:"ETag"`
	Body   api.WriteResult
}

// head returns the latest revision and its meaning.
func (s *Server) head(ctx context.Context) (store.Revision, *content.State, error) {
	head, err := s.Store.Head(ctx)
	if err != nil {
		return store.Revision{}, nil, fmt.Errorf("reading the head revision: %w", err)
	}
	state, err := s.state(ctx, head)
	return head, state, err
}

// state returns what a revision means; what runs here already is not read again.
func (s *Server) state(ctx context.Context, revision store.Revision) (*content.State, error) {
	if current := s.Live.Current(); current != nil && current.Revision.Seq == revision.Seq {
		return current.State, nil
	}
	state, err := s.Reader.Read(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("reading revision %d: %w", revision.Seq, err)
	}
	return state, nil
}

// overrideAttempts bounds the compare-and-append loop of calls that need no If-Match.
const overrideAttempts = 50

// changeNow makes a change against whatever the head is.
func (s *Server) changeNow(ctx context.Context, draft drafting) (*changed, error) {
	for range overrideAttempts {
		head, state, err := s.head(ctx)
		if err != nil {
			return nil, err
		}
		out, err := s.changeFrom(ctx, head, state, draft)
		if !errors.Is(err, store.ErrConflict) {
			return out, err
		}
	}
	return nil, fault(http.StatusServiceUnavailable, fmt.Sprintf("%d other changes were faster; nothing was changed; "+
		"send it again", overrideAttempts))
}

// change makes a change against the revision that the call's If-Match names.
func (s *Server) change(ctx context.Context, draft drafting) (*changed, error) {
	parent := requestOf(ctx).parent
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	if head.Seq != parent {
		return nil, stale(api.ETag(parent), head.Seq)
	}
	out, err := s.changeFrom(ctx, head, state, draft)
	if errors.Is(err, store.ErrConflict) {
		if head, err = s.Store.Head(ctx); err != nil {
			return nil, fmt.Errorf("reading the head revision: %w", err)
		}
		return nil, stale(api.ETag(parent), head.Seq)
	}
	return out, err
}

// changeFrom is the one way into the store: draft, compile the whole state, append, wait until this replica runs it.
func (s *Server) changeFrom(ctx context.Context, head store.Revision, state *content.State,
	draft drafting) (*changed, error) {
	next := state.Clone()
	e, err := draft(head, next)
	if err != nil {
		return nil, err
	}
	compiled, err := next.Compile(s.Schema)
	if err != nil {
		return nil, refused(e.broken, advised(err, e.remedy))
	}
	r := requestOf(ctx)
	revision, err := s.Store.Append(ctx, store.Change{
		Parent: head.Seq, Author: r.author, Reason: r.reason, Set: e.set, Delete: e.remove,
		Digested: func(part string, digest store.Digest) {
			if kind, name, ok := content.ParsePart(part); ok && kind == content.List {
				s.Reader.OfferList(digest, next.Lists[name])
			}
		},
	})
	if err != nil {
		if errors.Is(err, store.ErrConflict) {
			return nil, err
		}
		return nil, fmt.Errorf("appending the change to revision %d: %w", head.Seq, err)
	}
	result := api.WriteResult{
		Revision:   revision.Seq,
		Changed:    revision.Seq != head.Seq,
		Duplicates: e.duplicates,
		Idle:       e.idle,
		Warnings:   slices.Concat(e.warnings, s.news(&e, head, compiled.Warnings())),
	}
	if result.Changed {
		result.Changes = diffParts(s.Pause, e.parts(), state, next)
		s.Log.Info("revision appended", zap.Uint64("revision", revision.Seq), zap.String("author", revision.Author),
			zap.String("reason", revision.Reason), zap.Strings("parts", e.parts()))
	}
	status := s.applied(ctx, &result)
	return &changed{Status: status, ETag: api.ETag(revision.Seq), Body: result}, nil
}

// news leaves of a state's warnings those that the edit may have caused: all if it wrote the rules, else those that do
// not hold at head already. Somebody who pulls an override at 2 a.m. is not told of a list that nobody uses.
func (s *Server) news(e *edit, head store.Revision, warnings problem.List) problem.List {
	current := s.Live.Current()
	if _, rewritten := e.set[content.RulesPart]; rewritten || current == nil || current.Revision.Seq != head.Seq {
		return warnings
	}
	known := current.Rules.Warnings()
	return slices.DeleteFunc(slices.Clone(warnings), func(w problem.Problem) bool { return slices.Contains(known, w) })
}

// advised returns the problems of err with another remedy, unless that is empty.
func advised(err error, remedy string) error {
	problems := slices.Clone(listed(err))
	for i := range problems {
		if remedy != "" {
			problems[i].Remedy = remedy
		}
	}
	return problems
}

// applied waits until this replica runs result's revision and returns the status of the answer.
func (s *Server) applied(ctx context.Context, result *api.WriteResult) int {
	ctx, cancel := context.WithTimeout(ctx, s.ApplyTimeout)
	defer cancel()
	err := s.Live.WaitApplied(ctx, result.Revision)
	switch {
	case err == nil:
		result.Applied = true
		return http.StatusOK
	case errors.Is(err, context.DeadlineExceeded):
		result.NotApplied = fmt.Sprintf("revision %d is stored, but this replica did not run it within %s; /readyz and "+
			"/api/v1/replicas tell what it runs", result.Revision, s.ApplyTimeout)
	default:
		result.NotApplied = fmt.Sprintf("revision %d is stored, but this replica does not run it: %s", result.Revision, err)
	}
	return http.StatusAccepted
}
