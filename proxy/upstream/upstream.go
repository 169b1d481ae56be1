// Package upstream carries requests to pods: it picks an endpoint of a version, keeps connections to it, sends, reads
// the answer, and decides whether a failed attempt may be repeated.
//
// It is responsible for everything between "this version" and the bytes on a connection to a pod: least-loaded choice,
// pod stickiness, connection reuse, the retry rule, and the memory of which endpoints cannot be dialled. It does not
// choose versions, know sessions, or talk to clients. Its runtime state is kept per endpoint and outlives generations
// of rules.
package upstream

import (
	"errors"
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"

	"tellergate/discovery"
)

// Errors of Do. Each says what the pod may have seen; all but ErrClientBody are the pods' fault.
var (
	// ErrNoEndpoint: the version has no endpoint that could be tried.
	ErrNoEndpoint = errors.New("no usable endpoint")
	// ErrBusy: every connection to the endpoints tried was in use and none became free in time; no pod has seen anything.
	ErrBusy = errors.New("all connections to the pod are in use")
	// ErrNotConnected: no connection could be made to any endpoint tried; no pod has seen anything.
	ErrNotConnected = errors.New("no endpoint could be dialled")
	// ErrTimeout: the request was sent and no answer's header came in time. The pod may have executed it.
	ErrTimeout = errors.New("the pod did not answer in time")
	// ErrReset: the connection ended after the request may have left and before the answer's header was complete.
	ErrReset = errors.New("the pod closed the connection before answering")
	// ErrBadResponse: what came was not HTTP.
	ErrBadResponse = errors.New("the pod's answer is not valid HTTP")
	// ErrClientBody: the client's request body failed while it was being forwarded.
	ErrClientBody = errors.New("the request body ended early")
)

// Options are the bounds of a Pool; see config.Upstream for their defaults and meaning.
type Options struct {
	ConnectTimeout time.Duration
	// ResponseTimeout bounds the wait for the answer's header, and each wait for more of its body.
	ResponseTimeout time.Duration
	IdleTimeout     time.Duration
	// PerEndpoint bounds the connections to one endpoint, used and unused ones together.
	PerEndpoint int
}

// An EndpointStatus is what operators see of an endpoint.
type EndpointStatus struct {
	discovery.Endpoint
	Usable   bool // false while it cannot be dialled
	InFlight int  // requests at this endpoint now
	Idle     int  // unused connections kept
}

// An Exchange is one request on its way. The caller fills the first part; Do fills the second. It may be reused after
// the response's body has been closed.
type Exchange struct {
	// Request is complete and canonical: Do writes it as it is, names and target as they stand, and adds nothing but the
	// framing of the body where the header does not already say it. Its body may be a stream, which is read once.
	Request *fasthttp.Request
	// Response receives the answer: header first, body as a stream that gives the connection back when it is closed,
	// which fasthttp's server does after writing it; a small body that has come already is copied instead. Framing and
	// "Connection: close" are of this hop only and are settled here; other hop-by-hop headers are the caller's to
	// remove. On an error of Do the header and body are left empty.
	Response *fasthttp.Response
	// Prefer is the endpoint of the session's pin; the zero value prefers none.
	Prefer    netip.AddrPort
	PreferUID string
	// Pinned sessions may use draining endpoints.
	Pinned bool

	Endpoint discovery.Endpoint // that answered, or was tried last
	Attempts int                // tries: connections not made and a repeated sending included
	Dialled  bool               // a new connection was made for the last attempt
	Connect  time.Duration      // spent getting a connection, all attempts
	Header   time.Duration      // from the last attempt's first byte out to the answer's complete header
}
