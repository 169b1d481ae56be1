package proxy

import (
	"encoding/json"
	"strconv"

	"github.com/valyala/fasthttp"
)

// A refusal is an error that tellergate itself answers with. Code is stable and language-neutral; operators and
// channel applications branch on it.
type refusal struct {
	status  int
	code    string
	message string
	// closing: the client's connection is at an unknown place in a request body and cannot be used again.
	closing bool
}

var (
	badRequest = refusal{status: 400, code: "bad_request", closing: true,
		message: "The request is not valid HTTP/1.1."}
	claimDuplicated = refusal{status: 400, code: "claim_duplicated",
		message: "An identity attribute occurs twice in the request."}
	claimMalformed = refusal{status: 400, code: "claim_malformed",
		message: "An identity attribute is not valid text of at most 256 bytes."}
	testerVersionUnknown = refusal{status: 400, code: "tester_version_unknown",
		message: "The version asked for does not exist in this service."}
	testerVersionDisabled = refusal{status: 400, code: "tester_version_disabled",
		message: "The version asked for is disabled."}
	malformedHost = refusal{status: 400, code: "bad_request", closing: true,
		message: "The request does not have one well-formed Host header."}
	ambiguousPath = refusal{status: 400, code: "ambiguous_path",
		message: "The path means another service once its escapes and dot segments are resolved."}
	tlsRequired = refusal{status: 400, code: "tls_required", closing: true,
		message: "This port speaks TLS and the request came without: ask with https instead of http."}
	requestBody = refusal{status: 400, code: "request_body", closing: true,
		message: "The request body ended early or is not valid."}
	noService = refusal{status: 404, code: "no_service",
		message: "No service is configured for this host and path."}
	methodNotAllowed = refusal{status: 405, code: "method_not_allowed",
		message: "This frontend does not accept the request's method."}
	requestTimeout = refusal{status: 408, code: "request_timeout", closing: true,
		message: "The request did not arrive in time."}
	bodyTooLarge = refusal{status: 413, code: "body_too_large", closing: true,
		message: "The request body is larger than this frontend accepts."}
	expectationFailed = refusal{status: 417, code: "expectation_failed", closing: true,
		message: "The only expectation that can be met is 100-continue."}
	headerTooLarge = refusal{status: 431, code: "header_too_large", closing: true,
		message: "The request header is larger than this frontend accepts."}
	internalError = refusal{status: 500, code: "internal", closing: true,
		message: "The gateway failed; its operators can find the reason by the request id."}
	// clientGone is never read by anybody; it is there for the metrics and the access log.
	clientGone = refusal{status: 499, code: "client_gone", closing: true,
		message: "The client closed the connection before the answer came."}
	notImplemented = refusal{status: 501, code: "not_implemented", closing: true,
		message: "The gateway does not tunnel with CONNECT and knows no transfer coding but chunked."}
	versionNotSupported = refusal{status: 505, code: "version_not_supported", closing: true,
		message: "The gateway speaks HTTP/1.1 and HTTP/1.0."}
	upstreamConnect = refusal{status: 502, code: "upstream_connect",
		message: "No connection to the service could be made; the request was not executed."}
	upstreamReset = refusal{status: 502, code: "upstream_reset",
		message: "The service closed the connection before it answered; the request may have been executed."}
	upstreamInvalid = refusal{status: 502, code: "upstream_invalid",
		message: "The service's answer is not valid HTTP; the request may have been executed."}
	tooManyConnections = refusal{status: 503, code: "too_many_connections", closing: true,
		message: "The frontend, or this client's address, has all the connections that it may have."}
	notReady = refusal{status: 503, code: "not_ready",
		message: "The gateway has no rules yet; try again shortly."}
	noEndpoint = refusal{status: 503, code: "no_endpoint",
		message: "No pod of the service is available; the request was not executed."}
	pinnedVersionUnavailable = refusal{status: 503, code: "pinned_version_unavailable",
		message: "The version that this session works on is not available; the request was not executed."}
	upstreamTimeout = refusal{status: 504, code: "upstream_timeout",
		message: "The service did not answer in time; the request may have been executed."}
)

// refusals are all of them, for the metrics.
var refusals = []*refusal{
	&badRequest, &malformedHost, &ambiguousPath, &methodNotAllowed, &expectationFailed, &clientGone, &notImplemented,
	&versionNotSupported, &tooManyConnections, &tlsRequired, &claimDuplicated, &claimMalformed, &testerVersionUnknown, &testerVersionDisabled, &requestBody,
	&noService, &requestTimeout, &bodyTooLarge, &headerTooLarge, &internalError, &upstreamConnect, &upstreamReset,
	&upstreamInvalid, &notReady, &noEndpoint, &pinnedVersionUnavailable, &upstreamTimeout,
}

// allowed is what a 405 tells where no setting says which methods are.
var allowed = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// appendBody appends the JSON that tells of the refusal.
func (no *refusal) appendBody(dst, requestID []byte) []byte {
	// Three strings always encode.
	body, _ := json.Marshal(struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		RequestID string `json:"requestId"`
	}{no.code, no.message, string(requestID)})
	return append(append(dst, body...), '\n')
}

// answer is all of an answer to a client of which no request has been read.
func (no *refusal) answer() []byte {
	body := no.appendBody(nil, appendRequestID(nil))
	b := appendStatus(nil, no.status, nil)
	if no.status == 503 {
		b = append(b, "Retry-After: 1\r\n"...)
	}
	b = append(b, "Content-Type: application/json; charset=utf-8\r\nConnection: close\r\nContent-Length: "...)
	b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n\r\n"...)
	return append(b, body...)
}

// refuse answers with an error of ours. It reports whether the connection can carry another request.
func (r *request) refuse(no *refusal) (again bool) {
	if len(r.requestID) == 0 {
		r.requestID = appendRequestID(r.requestID)
	}
	r.keep(no.status, no)
	if no == &clientGone {
		return false
	}
	r.upload.answering()
	again = r.keepAlive && !no.closing && r.bodyTaken() && !r.p.draining.Load()
	b := appendStatus(r.out[:0], no.status, nil)
	if no.status == 503 {
		b = append(b, "Retry-After: 1\r\n"...)
	}
	if no.status == 405 {
		b = append(b, "Allow: "...)
		methods := allowed
		if len(r.front.methods) > 0 {
			methods = r.front.methods
		}
		for i, method := range methods {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(b, method...)
		}
		b = append(b, "\r\n"...)
	}
	body := no.appendBody(nil, r.requestID)
	return r.respond(b, body, again)
}

// respond sends an answer of ours of which b is the beginning of the header. It returns again, or false if the client
// could not be told.
func (r *request) respond(b, body []byte, again bool) bool {
	b = append(b, "Content-Type: application/json; charset=utf-8\r\nContent-Length: "...)
	b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
	b = append(r.appendConnection(b, again), "\r\n"...)
	if string(r.method) != "HEAD" {
		b = append(b, body...)
		r.bytesOut = int64(len(body))
	}
	r.out, r.begun = b, true
	r.whole = r.conn.answer(b) == nil
	return again && r.whole
}

// appendConnection says what becomes of the connection. Keeping it is what HTTP/1.1 does without a word.
func (r *request) appendConnection(b []byte, again bool) []byte {
	switch {
	case !again:
		return append(b, "Connection: close\r\n"...)
	case r.minor == 0:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// appendStatus appends a status line with the pod's reason phrase, or the usual one.
func appendStatus(b []byte, status int, reason []byte) []byte {
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	b = append(b, ' ')
	if len(reason) > 0 {
		b = append(b, reason...)
	} else {
		b = append(b, fasthttp.StatusMessage(status)...)
	}
	return append(b, "\r\n"...)
}

// ready reports whether rules have been applied. Revision 0 is the empty state of a new store: sending requests to a
// replica that has lost its disk would answer all of them 404.
func (r *request) ready() bool { return r.table != nil && r.table.revision > 0 }

// health is what the load balancer polls: whether to send requests here.
func (r *request) health() (again bool) {
	status, body := 200, "{\"status\":\"ok\"}\n"
	switch {
	case r.p.draining.Load():
		status, body = 503, "{\"status\":\"draining\"}\n"
	case !r.ready() || !r.p.ready():
		status, body = 503, "{\"status\":\"not ready\"}\n"
	}
	again = r.keepAlive && r.bodyTaken() && !r.p.draining.Load()
	return r.respond(appendStatus(r.out[:0], status, nil), []byte(body), again)
}
