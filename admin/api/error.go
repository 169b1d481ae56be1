package api

import (
	"strings"

	"tellergate/internal/problem"
)

// Codes of Error. They are stable; Title and Detail are for people and may change.
const (
	CodeBadRequest           = "bad_request"            // 400: the request cannot be understood
	CodeForbiddenOrigin      = "forbidden_origin"       // 403: sent by a web page that is not this machine's
	CodeNotFound             = "not_found"              // 404
	CodeMethodNotAllowed     = "method_not_allowed"     // 405
	CodeNotAcceptable        = "not_acceptable"         // 406
	CodeRequestTimeout       = "request_timeout"        // 408: the body came too slowly
	CodeStaleRevision        = "stale_revision"         // 412: If-Match is not the head; Revision and ETag tell which is
	CodeTooLarge             = "too_large"              // 413
	CodeUnsupportedMediaType = "unsupported_media_type" // 415
	CodeMisdirected          = "misdirected"            // 421: the Host is not a loopback address
	CodeInvalid              = "invalid"                // 422: understood and refused; Problems tells every fault
	CodeRevisionRequired     = "revision_required"      // 428: If-Match is missing
	CodeInternal             = "internal"               // 500
	CodeCounting             = "counting"               // 503: the sessions are being counted; ask again
	CodeSessionsUnknown      = "sessions_unknown"       // 503: the store of sessions does not answer; unknown is not zero
	CodeUnavailable          = "unavailable"            // 503: the store of rules or sessions does not answer
)

// An Error is the body of every answer that is not a success: an RFC 9457 problem document with every fault that was
// found. Nothing was changed where a write is answered by one.
type Error struct {
	Type     string `json:"type" doc:"urn:tellergate:error: and the code"`
	Title    string `json:"title" doc:"the status in words"`
	Status   int    `json:"status" doc:"the HTTP status"`
	Code     string `json:"code" doc:"stable and neutral of language"`
	Detail   string `json:"detail" doc:"what happened, in one or two sentences"`
	Instance string `json:"instance,omitempty" doc:"path of the request"`
	// Problems lists every fault of what was sent, in the order of its text.
	Problems []problem.Problem `json:"problems,omitempty" doc:"every fault of what was sent"`
	// Revision is the head revision, also in the ETag: where If-Match was stale or missing, or what was named is not there.
	Revision *uint64 `json:"revision,omitempty" doc:"the head revision, where If-Match was stale or missing or what was named is absent"`
}

// Error prints the detail and below it one problem a line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	for _, p := range e.Problems {
		b.WriteByte('\n')
		b.WriteString(p.String())
	}
	return b.String()
}

// GetStatus returns the HTTP status.
func (e *Error) GetStatus() int { return e.Status }

// ContentType returns the content type in which an Error is sent instead of ordinary.
func (e *Error) ContentType(ordinary string) string {
	if ordinary == JSON {
		return ProblemJSON
	}
	return ordinary
}
