package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/problem"
	"tellergate/rules"
)

func (s *Server) registerImpact() {
	register(s, takes(huma.Operation{
		OperationID: "impact", Method: http.MethodPost, Path: api.ImpactPath, Tags: []string{"rules"},
		Summary: "Who of a population would get another version, and by which rule",
		Description: "Both sides are decided for every identity as for a new session, with every version usable. A side is a " +
			"revision with all its parts, or a document with the lists, organisations and overrides of the head.",
		Errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, api.MaxListBytes+2*api.MaxDocumentBytes, nil), s.impact)
}

type impactInput struct {
	Body api.ImpactRequest
}

type impacted struct {
	Body api.ImpactResult
}

func (s *Server) impact(ctx context.Context, in *impactInput) (*impacted, error) {
	request := api.ExplainRequest{Frontend: in.Body.Frontend, Host: in.Body.Host, Path: in.Body.Path,
		Method: in.Body.Method, Source: in.Body.Source, Headers: in.Body.Headers}
	query, problems := s.query(&request)
	if len(problems) > 0 {
		return nil, invalid("the impact cannot be computed", problems)
	}
	if in.Body.Seen && in.Body.Population != "" {
		return nil, invalid("the impact cannot be computed", problem.List{{Path: "seen",
			Message: "both a population and those seen are asked for", Remedy: "leave one away"}})
	}
	result := api.ImpactResult{}
	before, err := s.side(ctx, "before", in.Body.Before, &result.Before)
	if err != nil {
		return nil, err
	}
	after, err := s.side(ctx, "after", in.Body.After, &result.After)
	if err != nil {
		return nil, err
	}
	people := rules.Population{Text: in.Body.Population, Schema: s.Schema, Defaults: s.Defaults}
	if in.Body.Seen {
		people.Seen, people.Masked = s.Seen.All(), s.Masked
		held, long := s.Seen.Len()
		result.Seen = &api.SeenPopulation{Replica: s.Replica, Held: held, Capacity: s.Seen.Capacity(), TooLong: long}
	}
	impact, err := rules.ImpactOf(before, after, people, *query, in.Body.Service)
	if err != nil {
		return nil, invalid("the impact cannot be computed", err)
	}
	result.Impact = *impact
	return &impacted{Body: result}, nil
}

// side compiles one side of a comparison and notes the revision that it is of.
func (s *Server) side(ctx context.Context, name string, side api.ImpactSide, revision *uint64) (*rules.RuleSet, error) {
	if side.Revision != nil && side.Document != "" {
		return nil, invalid("the impact cannot be computed", problem.List{{Path: name,
			Message: "it is both a revision and a document", Remedy: "leave one away"}})
	}
	if side.Revision == nil {
		if side.Document != "" {
			g, err := s.generation(ctx, side.Document)
			*revision = g.revision
			return g.rules, err
		}
		head, state, err := s.head(ctx)
		if err != nil {
			return nil, err
		}
		*revision = head.Seq
		return state.Compile(s.Schema)
	}
	*revision = *side.Revision
	r, _, err := s.revision(ctx, *side.Revision)
	if err != nil {
		return nil, err
	}
	state, err := s.state(ctx, r)
	if err != nil {
		return nil, err
	}
	set, err := state.Compile(s.Schema)
	if err != nil {
		return nil, invalid(fmt.Sprintf("revision %d does not compile here", r.Seq), err)
	}
	return set, nil
}
