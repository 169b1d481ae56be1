package proxy

import (
	"encoding/json"

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
	requestBody = refusal{status: 400, code: "request_body", closing: true,
		message: "The request body ended early or is not valid."}
	noService = refusal{status: 404, code: "no_service",
		message: "No service is configured for this host and path."}
	requestTimeout = refusal{status: 408, code: "request_timeout", closing: true,
		message: "The request did not arrive in time."}
	bodyTooLarge = refusal{status: 413, code: "body_too_large", closing: true,
		message: "The request body is larger than this frontend accepts."}
	headerTooLarge = refusal{status: 431, code: "header_too_large", closing: true,
		message: "The request header is larger than this frontend accepts."}
	internalError = refusal{status: 500, code: "internal", closing: true,
		message: "The gateway failed; its operators can find the reason by the request id."}
	upstreamConnect = refusal{status: 502, code: "upstream_connect",
		message: "No connection to the service could be made; the request was not executed."}
	upstreamReset = refusal{status: 502, code: "upstream_reset",
		message: "The service closed the connection before it answered; the request may have been executed."}
	upstreamInvalid = refusal{status: 502, code: "upstream_invalid",
		message: "The service's answer is not valid HTTP; the request may have been executed."}
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
	&badRequest, &claimDuplicated, &claimMalformed, &testerVersionUnknown, &testerVersionDisabled, &requestBody,
	&noService, &requestTimeout, &bodyTooLarge, &headerTooLarge, &internalError, &upstreamConnect, &upstreamReset,
	&upstreamInvalid, &notReady, &noEndpoint, &pinnedVersionUnavailable, &upstreamTimeout,
}

// write makes the answer out of a refusal. Whatever ctx.Response held is gone.
func (no *refusal) write(ctx *fasthttp.RequestCtx, requestID []byte) {
	ctx.Response.ResetBody()
	ctx.Response.SetStatusCode(no.status)
	ctx.Response.Header.SetContentType("application/json; charset=utf-8")
	if no.status == fasthttp.StatusServiceUnavailable {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
	}
	if no.closing {
		ctx.SetConnectionClose()
	}
	// Three strings always encode.
	body, _ := json.Marshal(struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		RequestID string `json:"requestId"`
	}{no.code, no.message, string(requestID)})
	ctx.Response.SetBodyRaw(append(body, '\n'))
}
