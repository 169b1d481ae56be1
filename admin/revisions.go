package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/internal/problem"
	"tellergate/store"
)

func (s *Server) registerRevisions() {
	path := api.RevisionsPath + "/{seq}"
	register(s, huma.Operation{
		OperationID: "getRevisions", Method: http.MethodGet, Path: api.RevisionsPath, Tags: []string{"history"},
		Summary: "The history, newest first",
	}, s.getRevisions)
	register(s, huma.Operation{
		OperationID: "getRevision", Method: http.MethodGet, Path: path, Tags: []string{"history"},
		Summary: "One revision", Errors: []int{http.StatusNotFound},
	}, s.getRevision)
	register(s, huma.Operation{
		OperationID: "diffRevisions", Method: http.MethodGet, Path: path + "/diff", Tags: []string{"history"},
		Summary: "What leads from one revision to another", Errors: []int{http.StatusNotFound},
	}, s.diffRevisions)
	register(s, s.conditional(takes(huma.Operation{
		OperationID: "restoreRevision", Method: http.MethodPost, Path: path + "/restore", Tags: []string{"history"},
		Summary:     "Make parts again as they were: a new revision",
		Description: "Without parts the rules alone are restored; lists, organisations and overrides only by name.",
		Errors:      []int{http.StatusNotFound},
	}, api.MaxRequestBytes, nil)), s.restoreRevision)
}

type getRevisionsInput struct {
	Before uint64 `query:"before" doc:"only revisions below this number"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"how many at most"`
}

type revisions struct {
	ETag string `header:"ETag"`
	Body api.Revisions
}

func (s *Server) getRevisions(ctx context.Context, in *getRevisionsInput) (*revisions, error) {
	head, err := s.Store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the head revision: %w", err)
	}
	// One more than asked for is the parent of the last, and tells whether there is a next page.
	found, err := s.Store.Revisions(ctx, in.Before, in.Limit+1)
	if err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	body := api.Revisions{Head: head.Seq, Revisions: []api.Revision{}}
	for i, revision := range found {
		if i == in.Limit {
			body.Next = found[i-1].Seq
			break
		}
		var parent store.Revision
		if i+1 < len(found) {
			parent = found[i+1]
		}
		body.Revisions = append(body.Revisions, revisionOf(revision, parent))
	}
	return &revisions{ETag: api.ETag(head.Seq), Body: body}, nil
}

func revisionOf(r, parent store.Revision) api.Revision {
	out := api.Revision{
		Seq: r.Seq, Parent: r.Parent, Author: r.Author, Reason: r.Reason, At: r.At, Hash: r.Hash.String(),
		Changed: differing(parent, r), Parts: make(map[string]string, len(r.Parts)),
	}
	for part, digest := range r.Parts {
		out.Parts[part] = digest.String()
	}
	return out
}

// differing returns the parts that are not the same in a and b: the rules first, then by name.
func differing(a, b store.Revision) []string {
	parts := []string{}
	for part, digest := range b.Parts {
		if before, ok := a.Parts[part]; !ok || before != digest {
			parts = append(parts, part)
		}
	}
	for part := range a.Parts {
		if _, ok := b.Parts[part]; !ok {
			parts = append(parts, part)
		}
	}
	slices.SortFunc(parts, compareParts)
	return parts
}

// compareParts puts the rules before everything else.
func compareParts(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == content.RulesPart:
		return -1
	case b == content.RulesPart:
		return 1
	}
	return strings.Compare(a, b)
}

// RevisionInput names a revision.
type RevisionInput struct {
	Seq uint64 `path:"seq" doc:"number of the revision"`
}

type oneRevision struct {
	ETag string `header:"ETag"`
	Body api.Revision
}

func (s *Server) getRevision(ctx context.Context, in *RevisionInput) (*oneRevision, error) {
	revision, head, err := s.revision(ctx, in.Seq)
	if err != nil {
		return nil, err
	}
	var parent store.Revision
	if revision.Seq > 0 {
		if parent, _, err = s.revision(ctx, revision.Parent); err != nil {
			return nil, err
		}
	}
	return &oneRevision{ETag: api.ETag(head), Body: revisionOf(revision, parent)}, nil
}

// revision returns a stored revision, 404 if there is none, and the number of the head.
func (s *Server) revision(ctx context.Context, seq uint64) (store.Revision, uint64, error) {
	head, err := s.Store.Head(ctx)
	if err != nil {
		return store.Revision{}, 0, fmt.Errorf("reading the head revision: %w", err)
	}
	revision, err := s.Store.Revision(ctx, seq)
	if errors.Is(err, store.ErrNotFound) {
		e := fault(http.StatusNotFound, fmt.Sprintf("there is no revision %d; the latest is %d",
			seq, head.Seq))
		e.Revision = &head.Seq
		return store.Revision{}, 0, e
	}
	if err != nil {
		return store.Revision{}, 0, fmt.Errorf("reading revision %d: %w", seq, err)
	}
	return revision, head.Seq, nil
}

type diffInput struct {
	RevisionInput
	To string `query:"to" pattern:"^[0-9]{1,19}$" doc:"the other revision; absent: the head"`
}

type diff struct {
	ETag string `header:"ETag"`
	Body api.Diff
}

func (s *Server) diffRevisions(ctx context.Context, in *diffInput) (*diff, error) {
	from, head, err := s.revision(ctx, in.Seq)
	if err != nil {
		return nil, err
	}
	target := head
	if in.To != "" {
		if _, err := fmt.Sscan(in.To, &target); err != nil {
			return nil, fault(http.StatusBadRequest, fmt.Sprintf("to=%s is not the number of a revision", in.To))
		}
	}
	to, _, err := s.revision(ctx, target)
	if err != nil {
		return nil, err
	}
	before, err := s.state(ctx, from)
	if err != nil {
		return nil, err
	}
	after, err := s.state(ctx, to)
	if err != nil {
		return nil, err
	}
	return &diff{ETag: api.ETag(head), Body: api.Diff{
		From: from.Seq, To: to.Seq, Parts: diffParts(s.Pause, differing(from, to), before, after),
	}}, nil
}

type restoreInput struct {
	RevisionInput
	Body api.RestoreRequest
}

type restored struct {
	Status int
	ETag   string `header:"ETag"`
	Body   api.RestoreResult
}

func (s *Server) restoreRevision(ctx context.Context, in *restoreInput) (*restored, error) {
	old, _, err := s.revision(ctx, in.Seq)
	if err != nil {
		return nil, err
	}
	then, err := s.state(ctx, old)
	if err != nil {
		return nil, err
	}
	parts := in.Body.Parts
	if len(parts) == 0 {
		parts = []string{content.RulesPart}
	}
	out, err := s.change(ctx, func(head store.Revision, draft *content.State) (edit, error) {
		if problems := restorable(parts, old, head); len(problems) > 0 {
			return edit{}, refused(fmt.Sprintf("revision %d cannot be restored as asked", old.Seq), problems)
		}
		return s.editRestore(ctx, draft, parts, old, then)
	})
	if err != nil {
		return nil, err
	}
	return &restored{Status: out.Status, ETag: out.ETag,
		Body: api.RestoreResult{WriteResult: out.Body, Restored: old.Seq}}, nil
}

// restorable returns what is wrong with the parts that a restore names.
func restorable(parts []string, old, head store.Revision) problem.List {
	var problems problem.List
	for i, part := range parts {
		_, then := old.Parts[part]
		_, now := head.Parts[part]
		path := fmt.Sprintf("parts[%d]", i)
		switch {
		case slices.Contains(parts[:i], part):
			problems = append(problems, problem.Problem{Path: path, Message: fmt.Sprintf("%q is named twice", part),
				Remedy: "name each part once"})
		case part == content.RulesPart && !then:
			problems = append(problems, problem.Problem{Path: path,
				Message: fmt.Sprintf("revision %d has no rules: restoring them would leave no service at all", old.Seq),
				Remedy:  "choose another revision, or put a document without services if that is what you want"})
		case !then && !now:
			problems = append(problems, problem.Problem{Path: path,
				Message: fmt.Sprintf("%q is neither in revision %d nor in the head", part, old.Seq),
				Remedy:  "name one of " + strings.Join(slices.Sorted(maps.Keys(old.Parts)), ", ")})
		}
	}
	return problems
}

// editRestore puts parts of then, the state at old, into draft; what did not exist then is removed.
func (s *Server) editRestore(ctx context.Context, draft *content.State, parts []string, old store.Revision,
	then *content.State) (edit, error) {
	e := edit{
		set:    make(map[string][]byte),
		broken: fmt.Sprintf("the parts of revision %d do not compile with what stands beside them now", old.Seq),
	}
	for _, part := range parts {
		digest, ok := old.Parts[part]
		if ok {
			text, err := s.Store.Content(ctx, digest)
			if err != nil {
				return edit{}, fmt.Errorf("reading %s of revision %d: %w", part, old.Seq, err)
			}
			e.set[part] = text
		} else {
			e.remove = append(e.remove, part)
		}
		kind, name, known := content.ParsePart(part)
		if !known {
			return edit{}, fmt.Errorf("part %q of revision %d was written by another version of the program", part, old.Seq)
		}
		switch kind {
		case content.Rules:
			draft.Document, draft.Text = then.Document, then.Text
		case content.List:
			take(draft.Lists, then.Lists, name)
		case content.Organisation:
			take(draft.Organisations, then.Organisations, name)
		case content.Override:
			take(draft.Overrides, then.Overrides, name)
		}
	}
	return e, nil
}

// take makes to[name] as it is in from, absent if it is absent there.
func take[V any](to, from map[string]V, name string) {
	if v, ok := from[name]; ok {
		to[name] = v
	} else {
		delete(to, name)
	}
}
