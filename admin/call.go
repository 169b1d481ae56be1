package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tellergate/admin/api"
	"tellergate/internal/block"
	"tellergate/rules"
)

// newAPI returns the huma API that the calls are registered with.
func newAPI(mux *http.ServeMux) huma.API {
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "tellergate admin API",
				Version: "1",
				Description: "Rules, lists and organisations with their history, the emergency lever, the drain ledger, " +
					"explanations. Every answer that is no success is an Error (RFC 9457).",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
			},
		},
		OpenAPIPath:                  api.OpenAPIPath,
		Formats:                      map[string]huma.Format{api.JSON: jsonFormat, "json": jsonFormat},
		DefaultFormat:                api.JSON,
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{withInstance},
	}
	return humago.New(mux, config)
}

// schemaName names a type in the OpenAPI document: as in Go, except where two packages have the same name.
func schemaName(t reflect.Type, hint string) string {
	if t == reflect.TypeFor[rules.Sessions]() || t == reflect.TypeFor[*rules.Sessions]() {
		return "ServiceSessions"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// jsonFormat is huma's own, except that it takes nothing but UTF-8: encoding/json would replace what is not.
var jsonFormat = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		if !utf8.Valid(data) {
			return errors.New("the body is not UTF-8; save it as UTF-8")
		}
		if checked, ok := v.(*any); ok && len(data) > longText && shape(data, checked) {
			return nil
		}
		return json.Unmarshal(data, v)
	},
}

// longText is how many bytes a text has that is longer than any bound.
const longText = 64 << 10

// shape sets v to what an object is validated by, which huma reads it for before it reads it as its type: another text
// stands for one of megabytes, of which only that it is long can matter. It reports whether data is such an object.
func shape(data []byte, v *any) bool {
	var members map[string]member
	if json.Unmarshal(data, &members) != nil || members == nil {
		return false
	}
	object := make(map[string]any, len(members))
	for name, m := range members {
		object[name] = m.value
	}
	*v = object
	return true
}

// A member is one of an object's.
type member struct{ value any }

// UnmarshalJSON implements json.Unmarshaler.
func (m *member) UnmarshalJSON(text []byte) error {
	if len(text) > 2*longText && text[0] == '"' {
		m.value = strings.Repeat("x", longText)
		return nil
	}
	return json.Unmarshal(text, &m.value)
}

// register adds one call; handle's errors become error documents.
func register[I, O any](s *Server, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.answerable(op.OperationID, err)
		}
		return out, nil
	})
}

// A request is what the headers of a call say beyond its typed input.
type request struct {
	contentType    string // of the body, without parameters; empty for a call without one
	charset        string // of the body; empty is UTF-8
	author, reason string
	parent         uint64 // of a conditional call: what If-Match names
	body           []byte // of a call that is read ahead; else nil
}

type requestKey struct{}

func requestOf(ctx context.Context) request {
	r, _ := ctx.Value(requestKey{}).(request)
	return r
}

// takes makes op refuse, before its body is read, every content type but these. Schemas may be nil.
func takes(op huma.Operation, maxBytes int64, schemas map[string]*huma.Schema) huma.Operation {
	op.MaxBodyBytes = maxBytes + 1 // huma refuses a body of exactly the bound
	op.BodyReadTimeout = 30 * time.Second
	if maxBytes > api.MaxRequestBytes {
		op.BodyReadTimeout = 2 * time.Minute
	}
	if schemas != nil {
		// The text is kept as it was sent, so the loader reads it: huma only describes it.
		op.SkipValidateBody = true
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
		for contentType, schema := range schemas {
			op.RequestBody.Content[contentType] = &huma.MediaType{Schema: schema}
		}
	} else {
		schemas = map[string]*huma.Schema{api.JSON: nil}
	}
	accepted := slices.Sorted(maps.Keys(schemas))
	op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType)
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		sent, charset, err := contentType(ctx.Header("Content-Type"))
		if err != nil || !slices.Contains(accepted, sent) {
			r, w := humago.Unwrap(ctx)
			refuse(w, r, fault(http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type %q is not taken here; send %s",
				ctx.Header("Content-Type"), strings.Join(accepted, " or "))))
			return
		}
		r := requestOf(ctx.Context())
		r.contentType, r.charset = sent, charset
		next(huma.WithValue(ctx, requestKey{}, r))
	})
	return op
}

// readsAhead makes op, which takes a RawBody, read a body whose length is known into memory of that length, piece by piece:
// huma's buffer grows by being copied, tens of milliseconds at a time where it holds megabytes. The handler keeps nothing of
// the body. It comes after what looks at headers.
func (s *Server) readsAhead(op huma.Operation) huma.Operation {
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		req, w := humago.Unwrap(ctx)
		if req.ContentLength <= 0 || req.ContentLength >= op.MaxBodyBytes {
			next(ctx)
			return
		}
		_ = ctx.SetReadDeadline(time.Now().Add(op.BodyReadTimeout)) // as huma does
		body := block.Scratch(int(req.ContentLength))
		for piece := range slices.Chunk(body, 16<<10) {
			if _, err := io.ReadFull(req.Body, piece); err != nil {
				status := http.StatusBadRequest
				if errors.Is(err, os.ErrDeadlineExceeded) {
					status = http.StatusRequestTimeout
				}
				refuse(w, req, fault(status, fmt.Sprintf("the body cannot be read: %s", err)))
				return
			}
			if s.Pause != nil {
				s.Pause()
			}
		}
		req.Body = io.NopCloser(bytes.NewReader(body[:1])) // huma refuses a body of nothing
		r := requestOf(ctx.Context())
		r.body = body
		next(huma.WithValue(ctx, requestKey{}, r))
		block.Release(body) // unless the handler has panicked
	})
	return op
}

// contentType returns a media type without its parameters, and the charset, which is UTF-8 unless it is CSV.
func contentType(header string) (media, charset string, err error) {
	media, parameters, err := mime.ParseMediaType(header)
	if err != nil {
		return "", "", err
	}
	charset = parameters["charset"]
	_, known, _ := rules.DecodeText(nil, charset)
	if !known || media != api.CSV && charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", "", fmt.Errorf("charset %q is not taken", charset)
	}
	return media, charset, nil
}

// decoded returns the body of a call in UTF-8.
func decoded(ctx context.Context, body []byte) ([]byte, error) {
	text, _, err := rules.DecodeText(body, requestOf(ctx).charset)
	return text, err
}

// authored makes op a change: its headers say who makes it and why.
func (s *Server) authored(op huma.Operation) huma.Operation {
	op = s.signed(op)
	op.Responses = map[string]*huma.Response{"202": {
		Description: "Stored, but this replica does not run it yet; the body is as with 200",
	}}
	return op
}

// signed makes op's headers say who makes a change and why.
func (s *Server) signed(op huma.Operation) huma.Operation {
	op.Parameters = append(op.Parameters,
		header(api.AuthorHeader, "who makes the change, at most 128 bytes; a claim until the API authenticates", false),
		header(api.ReasonHeader, "why, percent-encoded UTF-8, at most 1,000 bytes when decoded", false))
	op.Errors = append(op.Errors, http.StatusBadRequest)
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		r := requestOf(ctx.Context())
		var err error
		if r.author, err = claimed(ctx.Header(api.AuthorHeader), 128); err == nil {
			var decoded string
			if decoded, err = url.PathUnescape(ctx.Header(api.ReasonHeader)); err == nil {
				r.reason, err = claimed(decoded, 1000)
			}
		}
		if err != nil {
			req, w := humago.Unwrap(ctx)
			refuse(w, req, fault(http.StatusBadRequest, fmt.Sprintf("%s or %s cannot be read: %s",
				api.AuthorHeader, api.ReasonHeader, err)))
			return
		}
		if r.author == "" {
			r.author = "anonymous"
		}
		next(huma.WithValue(ctx, requestKey{}, r))
	})
	return op
}

// claimed returns a header's text, trimmed, or why it cannot be kept in the history.
func claimed(text string, maxBytes int) (string, error) {
	text = strings.TrimSpace(text)
	switch {
	case len(text) > maxBytes:
		return "", fmt.Errorf("it has %d bytes, more than %d", len(text), maxBytes)
	case !utf8.ValidString(text):
		return "", errors.New("it is not UTF-8")
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", errors.New("it holds a control character")
	}
	return text, nil
}

// conditional makes op an authored change against a named revision: 428 without If-Match, 412 where the head is
// another, both before the body is read. The store compares once more.
func (s *Server) conditional(op huma.Operation) huma.Operation {
	op.Parameters = append(op.Parameters,
		header(api.IfMatchHeader, `the ETag that was read: the head revision in quotes, for example "17"`, true))
	op.Errors = append(op.Errors, http.StatusPreconditionFailed, http.StatusPreconditionRequired)
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		req, w := humago.Unwrap(ctx)
		head, err := s.Store.Head(ctx.Context())
		if err != nil {
			refuse(w, req, asFault(s.answerable(op.OperationID, err)))
			return
		}
		parent, e := matched(req.Header.Values(api.IfMatchHeader), head.Seq)
		if e != nil {
			refuse(w, req, e)
			return
		}
		r := requestOf(ctx.Context())
		r.parent = parent
		next(huma.WithValue(ctx, requestKey{}, r))
	})
	return s.authored(op)
}

func asFault(err error) *api.Error {
	var e *api.Error
	if !errors.As(err, &e) {
		panic("BUG: answerable returned " + err.Error())
	}
	return e
}

// matched returns the revision that If-Match names, which is head, or why the change is refused.
func matched(values []string, head uint64) (uint64, *api.Error) {
	var e *api.Error
	switch {
	case len(values) == 0:
		e = fault(http.StatusPreconditionRequired, fmt.Sprintf("%s is missing: send the ETag of what you read and changed; "+
			"now it is %s", api.IfMatchHeader, api.ETag(head)))
	case len(values) > 1 || strings.TrimSpace(values[0]) == "*":
		e = fault(http.StatusPreconditionRequired, fmt.Sprintf("%s must name one revision, the ETag of what you read and "+
			"changed, not %q; now it is %s", api.IfMatchHeader, strings.Join(values, ", "), api.ETag(head)))
	case strings.TrimSpace(values[0]) != api.ETag(head):
		e = stale(values[0], head)
	default:
		return head, nil
	}
	e.Revision = &head
	return 0, e
}

// stale is the answer to a change made against another revision than head.
func stale(ifMatch string, head uint64) *api.Error {
	e := fault(http.StatusPreconditionFailed, fmt.Sprintf("%s is %s, but the head revision is %s: somebody was faster; "+
		"read again, look at the difference, and send the change against it; nothing was changed",
		api.IfMatchHeader, strings.TrimSpace(ifMatch), api.ETag(head)))
	e.Revision = &head
	return e
}

func header(name, description string, required bool) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: description, Required: required,
		Schema: &huma.Schema{Type: huma.TypeString}}
}

// answers declares the content types of op's success whose body the handler writes itself.
func answers(op huma.Operation, schemas map[string]*huma.Schema) huma.Operation {
	response := &huma.Response{Description: http.StatusText(http.StatusOK), Content: map[string]*huma.MediaType{}}
	for contentType, schema := range schemas {
		response.Content[contentType] = &huma.MediaType{Schema: schema}
	}
	op.Responses = map[string]*huma.Response{"200": response}
	op.Errors = append(op.Errors, http.StatusNotAcceptable)
	return op
}

// schemaOf returns the schema of a wire type for a body that huma does not read or write itself.
func schemaOf[T any](s *Server) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// text is the schema of a body that is not JSON.
func text(description string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: description}
}

// A written is an answer whose body is written piece by piece.
type written struct {
	ETag        string `header:"ETag"`
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        func(huma.Context)
}

// streamed answers what write writes. An error of write can only be the caller's going away: what is written is in
// memory.
func streamed(head uint64, contentType string, write func(io.Writer) error) *written {
	return &written{ETag: api.ETag(head), ContentType: contentType, Body: func(ctx huma.Context) {
		ctx.SetStatus(http.StatusOK)
		_ = write(ctx.BodyWriter())
	}}
}

// Accepting is the input of a call that answers in several content types.
type Accepting struct {
	Accept string `header:"Accept" hidden:"true"`
}

// accepted returns the first of offers unless Accept asks for another one; 406 if for none of them.
func (a Accepting) accepted(offers ...string) (string, error) {
	if strings.TrimSpace(a.Accept) == "" {
		return offers[0], nil
	}
	best, weight := "", 0.0
	for _, offer := range offers {
		if q := quality(a.Accept, offer); q > weight {
			best, weight = offer, q
		}
	}
	if best == "" {
		return "", fault(http.StatusNotAcceptable, fmt.Sprintf("Accept %q names nothing that this call answers: %s",
			a.Accept, strings.Join(offers, ", ")))
	}
	return best, nil
}
