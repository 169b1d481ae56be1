package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"tellergate/admin/api"
	"tellergate/internal/problem"
)

// codes gives the faults that the HTTP layer finds by itself their stable code.
var codes = map[int]string{
	http.StatusBadRequest:            api.CodeBadRequest,
	http.StatusForbidden:             api.CodeForbiddenOrigin,
	http.StatusNotFound:              api.CodeNotFound,
	http.StatusMethodNotAllowed:      api.CodeMethodNotAllowed,
	http.StatusNotAcceptable:         api.CodeNotAcceptable,
	http.StatusRequestTimeout:        api.CodeRequestTimeout,
	http.StatusPreconditionFailed:    api.CodeStaleRevision,
	http.StatusRequestEntityTooLarge: api.CodeTooLarge,
	http.StatusUnsupportedMediaType:  api.CodeUnsupportedMediaType,
	http.StatusMisdirectedRequest:    api.CodeMisdirected,
	http.StatusUnprocessableEntity:   api.CodeInvalid,
	http.StatusPreconditionRequired:  api.CodeRevisionRequired,
	http.StatusServiceUnavailable:    api.CodeUnavailable,
}

// huma is settled through variables of its own: how it builds the faults that it finds itself and describes errors, and
// that an array is an array and never null. This package is its only importer.
func init() {
	huma.DefaultArrayNullable = false
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, details ...error) huma.StatusError {
		if status == http.StatusRequestEntityTooLarge {
			return fault(status, fmt.Sprintf("the body has more than %d bytes, the most that this call takes",
				ctx.Operation().MaxBodyBytes-1))
		}
		return huma.NewError(status, message, details...)
	}
	huma.NewError = func(status int, message string, details ...error) huma.StatusError {
		if status < http.StatusInternalServerError {
			return fault(status, "the request is not as the API describes it: "+message, problemsOf(details)...)
		}
		return fault(status, strings.Join(append([]string{message}, texts(details)...), ": "))
	}
}

// fault returns the error document for status.
func fault(status int, detail string, problems ...problem.Problem) *api.Error {
	code, ok := codes[status]
	if !ok {
		code = api.CodeInternal
	}
	return &api.Error{
		Type:     "urn:tellergate:error:" + code,
		Title:    http.StatusText(status),
		Status:   status,
		Code:     code,
		Detail:   detail,
		Problems: problems,
	}
}

// invalid is the answer to something understood and refused.
func invalid(detail string, err error) *api.Error {
	return fault(http.StatusUnprocessableEntity, detail, listed(err)...)
}

// refused is invalid for a change.
func refused(detail string, err error) *api.Error {
	return invalid(detail+"; nothing was changed", err)
}

// refusedFor is refused with a single problem.
func refusedFor(detail, path, message, remedy string) *api.Error {
	return refused(detail, problem.List{{Path: path, Message: message, Remedy: remedy}})
}

// listed returns the problems that err is made of.
func listed(err error) problem.List {
	var list problem.List
	if errors.As(err, &list) {
		return list
	}
	return problem.List{{Message: err.Error()}}
}

// problemsOf turns what huma found into problems; its locations begin with where in the request, "body.".
func problemsOf(details []error) []problem.Problem {
	problems := make([]problem.Problem, 0, len(details))
	for _, detail := range details {
		var d *huma.ErrorDetail
		if !errors.As(detail, &d) {
			problems = append(problems, problem.Problem{Message: detail.Error()})
			continue
		}
		path := strings.TrimPrefix(strings.TrimPrefix(d.Location, "body"), ".")
		problems = append(problems, problem.Problem{Path: path, Message: d.Message})
	}
	return problems
}

func texts(errs []error) []string {
	all := make([]string, len(errs))
	for i, err := range errs {
		all[i] = err.Error()
	}
	return all
}

// answerable turns err, whatever a handler returned, into what the caller gets. What is not an api.Error is our fault
// and logged here, once.
func (s *Server) answerable(operation string, err error) error {
	var known *api.Error
	if !errors.As(err, &known) {
		if errors.Is(err, context.Canceled) {
			return fault(http.StatusServiceUnavailable, "the call was given up before it was done")
		}
		s.Log.Error("admin call failed", zap.String("operation", operation), zap.Error(err))
		known = fault(http.StatusInternalServerError, fmt.Sprintf("the replica failed at it: %s", err))
	}
	if known.Revision != nil {
		return huma.ErrorWithHeaders(known, http.Header{api.ETagHeader: {api.ETag(*known.Revision)}})
	}
	return known
}

// refuse writes an error document outside of huma's handlers.
func refuse(w http.ResponseWriter, r *http.Request, e *api.Error) {
	e.Instance = r.URL.Path
	if e.Revision != nil {
		w.Header().Set(api.ETagHeader, api.ETag(*e.Revision))
	}
	w.Header().Set("Content-Type", api.ProblemJSON)
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e) // a caller that has gone away is no fault of ours
}

// withInstance puts the request's path into error documents.
func withInstance(ctx huma.Context, _ string, body any) (any, error) {
	if e, ok := body.(*api.Error); ok {
		url := ctx.URL()
		e.Instance = url.Path
	}
	return body, nil
}
