package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/rules"
	"tellergate/store"
)

const documentText = "the rule document as a person writes it, comments and all"

func (s *Server) registerRules() {
	documents := map[string]*huma.Schema{api.JSON: schemaOf[rules.Document](s), api.YAML: text(documentText)}
	register(s, answers(huma.Operation{
		OperationID: "getRules", Method: http.MethodGet, Path: api.RulesPath, Tags: []string{"rules"},
		Summary: "The rule document of the head revision: parsed as JSON, or as it was written as YAML",
	}, documents), s.getRules)
	register(s, s.conditional(takes(huma.Operation{
		OperationID: "putRules", Method: http.MethodPut, Path: api.RulesPath, Tags: []string{"rules"},
		Summary: "Replace the rule document",
		Description: "The document is compiled with every list, organisation and override before anything is stored, " +
			"and kept as it was sent.",
	}, api.MaxDocumentBytes, documents)), s.putRules)
	register(s, takes(huma.Operation{
		OperationID: "checkRules", Method: http.MethodPost, Path: api.RulesCheckPath, Tags: []string{"rules"},
		Summary: "Check a rule document without storing it: problems, warnings and what would change",
	}, api.MaxDocumentBytes, documents), s.checkRules)
}

func (s *Server) getRules(ctx context.Context, in *Accepting) (*written, error) {
	form, err := in.accepted(api.JSON, api.YAML)
	if err != nil {
		return nil, err
	}
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	if form == api.YAML {
		text := state.Text
		if text == nil || isJSON(text) {
			text = state.Document.Print()
		}
		return streamed(head.Seq, form, func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		}), nil
	}
	return streamed(head.Seq, form, func(w io.Writer) error {
		return jsonFormat.Marshal(w, state.Document)
	}), nil
}

// isJSON tells a document that was sent as JSON from one in YAML's block style.
func isJSON(text []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) }

// DocumentInput is a rule document as it was sent.
type DocumentInput struct {
	RawBody []byte `contentType:"application/yaml"`
}

func (s *Server) putRules(ctx context.Context, in *DocumentInput) (*changed, error) {
	document, err := rules.Parse(in.RawBody)
	if err != nil {
		return nil, refused("the rule document cannot be read", err)
	}
	return s.change(ctx, func(_ store.Revision, draft *content.State) (edit, error) {
		draft.Document, draft.Text = document, bytes.Clone(in.RawBody) // huma takes the body back after the call
		return edit{
			set:    map[string][]byte{content.RulesPart: draft.Text},
			broken: "the rule document does not compile",
		}, nil
	})
}

type checked struct {
	ETag string `header:"ETag"`
	Body api.CheckResult
}

func (s *Server) checkRules(ctx context.Context, in *DocumentInput) (*checked, error) {
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	result := api.CheckResult{Revision: head.Seq}
	draft := state.Clone()
	if document, err := rules.Parse(in.RawBody); err != nil {
		result.Problems = listed(err)
	} else {
		draft.Document, draft.Text = document, in.RawBody
		compiled, err := draft.Compile(s.Schema)
		if err != nil {
			result.Problems = listed(err)
		} else {
			result.Warnings = compiled.Warnings()
			result.Valid = true
			result.Analysis = rules.Analyse(document, draft.Inputs(s.Schema), compiled)
			if !bytes.Equal(state.Text, draft.Text) {
				result.Changes = diffParts(s.Pause, []string{content.RulesPart}, state, draft)
			}
		}
	}
	return &checked{ETag: api.ETag(head.Seq), Body: result}, nil
}
