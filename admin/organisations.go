package admin

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/rules"
	"tellergate/store"
)

func (s *Server) registerOrganisations() {
	forms := map[string]*huma.Schema{
		api.JSON: schemaOf[api.Organisation](s),
		api.CSV:  text("lines code,parent[,name]; a header line with these words is allowed"),
	}
	path := api.OrganisationsPath + "/{legalEntity}"
	register(s, huma.Operation{
		OperationID: "getOrganisations", Method: http.MethodGet, Path: api.OrganisationsPath, Tags: []string{"organisations"},
		Summary: "Every organisation of the head revision, without the branches",
	}, s.getOrganisations)
	register(s, answers(huma.Operation{
		OperationID: "getOrganisation", Method: http.MethodGet, Path: path, Tags: []string{"organisations"},
		Summary: "The branches of a legal entity, in ascending order of code", Errors: []int{http.StatusNotFound},
	}, forms), s.getOrganisation)
	register(s, s.conditional(takes(huma.Operation{
		OperationID: "putOrganisation", Method: http.MethodPut, Path: path, Tags: []string{"organisations"},
		Summary: "Create or replace the organisation of a legal entity",
	}, api.MaxOrganisationBytes, forms)), s.putOrganisation)
	register(s, s.conditional(huma.Operation{
		OperationID: "deleteOrganisation", Method: http.MethodDelete, Path: path, Tags: []string{"organisations"},
		Summary: "Delete an organisation that no rule uses", Errors: []int{http.StatusNotFound},
	}), s.deleteOrganisation)
}

type organisations struct {
	ETag string `header:"ETag"`
	Body api.Organisations
}

func (s *Server) getOrganisations(ctx context.Context, _ *Nothing) (*organisations, error) {
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	body := api.Organisations{Revision: head.Seq, Organisations: []api.OrganisationInfo{}}
	used := usesOf(state.Document)
	for _, entity := range slices.Sorted(maps.Keys(state.Organisations)) {
		body.Organisations = append(body.Organisations, api.OrganisationInfo{
			LegalEntity: entity, Branches: state.Organisations[entity].Len(), UsedBy: used.organisation(entity),
		})
	}
	return &organisations{ETag: api.ETag(head.Seq), Body: body}, nil
}

// OrganisationInput names an organisation.
type OrganisationInput struct {
	LegalEntity string `path:"legalEntity" doc:"whose branches these are"`
}

type getOrganisationInput struct {
	OrganisationInput
	Accepting
}

func (s *Server) getOrganisation(ctx context.Context, in *getOrganisationInput) (*written, error) {
	form, err := in.accepted(api.JSON, api.CSV)
	if err != nil {
		return nil, err
	}
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	organisation, ok := state.Organisations[in.LegalEntity]
	if !ok {
		return nil, absent(head.Seq, "organisation", in.LegalEntity, slices.Sorted(maps.Keys(state.Organisations)))
	}
	return streamed(head.Seq, form, func(w io.Writer) error {
		if form == api.CSV {
			return organisation.WriteCSV(w)
		}
		_, err := organisation.WriteTo(w)
		return err
	}), nil
}

type putOrganisationInput struct {
	OrganisationInput
	RawBody []byte `contentType:"text/csv"`
}

func (s *Server) putOrganisation(ctx context.Context, in *putOrganisationInput) (*changed, error) {
	if err := s.checkName("legal entity", in.LegalEntity); err != nil {
		return nil, err
	}
	var (
		organisation *rules.Organisation
		duplicates   int
		text         []byte
		err          error
	)
	if requestOf(ctx).contentType == api.CSV {
		if text, err = decoded(ctx, in.RawBody); err == nil {
			organisation, duplicates, err = rules.ParseOrganisationCSV(text)
		}
	} else {
		organisation, err = rules.ParseOrganisation(in.RawBody)
	}
	if err != nil {
		return nil, refused(fmt.Sprintf("the organisation of %q cannot be read", in.LegalEntity), err)
	}
	return s.change(ctx, func(_ store.Revision, draft *content.State) (edit, error) {
		draft.Organisations[in.LegalEntity] = organisation
		return edit{
			set:      map[string][]byte{content.OrganisationPart(in.LegalEntity): content.EncodeOrganisation(organisation)},
			warnings: merged(duplicates), duplicates: duplicates,
			broken: fmt.Sprintf("the rules do not compile with this organisation of %q", in.LegalEntity),
		}, nil
	})
}

func (s *Server) deleteOrganisation(ctx context.Context, in *OrganisationInput) (*changed, error) {
	return s.change(ctx, func(head store.Revision, draft *content.State) (edit, error) {
		if _, ok := draft.Organisations[in.LegalEntity]; !ok {
			return edit{}, absent(head.Seq, "organisation", in.LegalEntity, slices.Sorted(maps.Keys(draft.Organisations)))
		}
		delete(draft.Organisations, in.LegalEntity)
		return edit{
			remove: []string{content.OrganisationPart(in.LegalEntity)},
			broken: fmt.Sprintf("the organisation of %q is still used by %s", in.LegalEntity,
				strings.Join(usesOf(draft.Document).organisation(in.LegalEntity), ", ")),
			remedy: "take it out of the rule first",
		}, nil
	})
}
