package admin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/problem"
	"tellergate/rules"
)

func (s *Server) registerMentions() {
	register(s, huma.Operation{
		OperationID: "getMentions", Method: http.MethodGet, Path: api.MentionsPath, Tags: []string{"rules"},
		Summary: "Which rules mention a branch, a teller, a legal entity or a list",
		Description: "A rule mentions a value where one of its tests by is, in, inList, under, prefix or matches holds for " +
			"it, whatever else the rule demands.",
		Errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.getMentions)
}

type mentionsInput struct {
	Branch      string `query:"branch" doc:"as legalEntity/branch"`
	Teller      string `query:"teller" doc:"as legalEntity/teller"`
	LegalEntity string `query:"legalEntity"`
	List        string `query:"list" doc:"name of a list"`
	Limit       int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
}

type mentions struct {
	ETag string `header:"ETag"`
	Body api.Mentions
}

func (s *Server) getMentions(ctx context.Context, in *mentionsInput) (*mentions, error) {
	asked := map[string]string{"branch": in.Branch, "teller": in.Teller, "legalEntity": in.LegalEntity, "list": in.List}
	maps.DeleteFunc(asked, func(_, value string) bool { return value == "" })
	if len(asked) != 1 {
		return nil, invalid("it is not clear what is asked for", problem.List{{
			Message: fmt.Sprintf("%d of branch, teller, legalEntity and list are given", len(asked)),
			Remedy:  "give one, for example ?branch=9001/3201",
		}})
	}
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	body := api.Mentions{Revision: head.Seq}
	if in.List != "" {
		if state.Lists[in.List] == nil {
			return nil, absent(head.Seq, "list", in.List, slices.Sorted(maps.Keys(state.Lists)))
		}
		body.Mentions = rules.MentionsOfList(state.Document, in.List)
	} else if err := s.mentionsOf(asked, state.Inputs(s.Schema), state.Document, &body); err != nil {
		return nil, err
	}
	if more := len(body.Mentions) - in.Limit; more > 0 {
		body.Mentions, body.More = body.Mentions[:in.Limit], more
	}
	return &mentions{ETag: api.ETag(head.Seq), Body: body}, nil
}

// mentionsOf answers for the value of an attribute, the only one in asked.
func (s *Server) mentionsOf(asked map[string]string, in rules.Inputs, d *rules.Document, body *api.Mentions) error {
	for attribute, raw := range asked {
		if s.Schema.Index(attribute) < 0 {
			return invalid("nothing can mention it", problem.List{{Path: attribute,
				Message: fmt.Sprintf("%q is not a declared attribute", attribute),
				Remedy:  "declared are " + strings.Join(s.attributes(), ", ")}})
		}
		value, bad := s.Schema.Clean(attribute, raw)
		if bad != nil {
			bad.Path = attribute
			return invalid("nothing can mention it", problem.List{*bad})
		}
		body.Mentions = rules.MentionsOf(d, in, attribute, value)
		for _, name := range slices.Sorted(maps.Keys(in.Lists)) {
			if list := in.Lists[name]; list.Attribute() == attribute && list.Contains(value) {
				body.Lists = append(body.Lists, name)
			}
		}
	}
	return nil
}
