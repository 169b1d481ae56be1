// Package upstream carries requests to pods: it picks an endpoint of a version, keeps connections to it, sends, reads
// the answer, and decides whether a failed attempt may be repeated.
//
// It is responsible for everything between "this version" and the bytes on a connection to a pod: least-loaded choice,
// pod stickiness, connection reuse, the retry rule, and the memory of which endpoints cannot be dialled. It does not
// choose versions, know sessions, or talk to clients. Its runtime state is kept per endpoint and outlives generations
// of rules.
package upstream

import (
	"context"
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
	ConnectTimeout  time.Duration
	ResponseTimeout time.Duration
	IdleTimeout     time.Duration
	PerEndpoint     int
}

// A Pool owns the runtime state of every endpoint: connections, load, usability. One Pool serves all generations.
type Pool struct{}

// NewPool returns a Pool that has opened nothing yet.
func NewPool(o Options) *Pool { panic("BUG: not written") }

// Run closes idle connections that are past their time and forgets endpoints that no retained group names any more,
// until ctx ends; then it closes every idle connection and returns ctx's error.
func (p *Pool) Run(ctx context.Context) error { panic("BUG: not written") }

// Group returns the balancing view of one version's pods. The same endpoint in two groups has one runtime state.
func (p *Pool) Group(pods *discovery.PodSet) *Group { panic("BUG: not written") }

// Retain tells the pool which groups the newest generation uses. Endpoints that are in none of them are forgotten once
// their requests have ended.
func (p *Pool) Retain(groups []*Group) { panic("BUG: not written") }

// A Group chooses among the endpoints of one PodSet.
type Group struct{}

// Usable reports whether some endpoint, active or draining, could be tried now. It allocates nothing.
func (g *Group) Usable() bool { panic("BUG: not written") }

// An EndpointStatus is what operators see of an endpoint.
type EndpointStatus struct {
	discovery.Endpoint
	Usable   bool // false while it cannot be dialled
	InFlight int  // requests at this endpoint now
	Idle     int  // unused connections kept
}

// Status returns the group's endpoints in the order of their addresses.
func (g *Group) Status() []EndpointStatus { panic("BUG: not written") }

// An Exchange is one request on its way. The caller fills the first part; Do fills the second. It may be reused after
// the response's body has been closed.
type Exchange struct {
	// Request is complete and canonical: Do writes it as it is. Its body may be a stream, which is read once.
	Request *fasthttp.Request
	// Response receives the answer: header first, body as a stream that gives the connection back when it is closed,
	// which fasthttp's server does after writing it. On an error of Do it is left reset.
	Response *fasthttp.Response
	// Prefer is the endpoint of the session's pin; the zero value prefers none.
	Prefer    netip.AddrPort
	PreferUID string
	// Pinned sessions may use draining endpoints.
	Pinned bool

	Endpoint discovery.Endpoint // that answered, or was tried last
	Attempts int                // endpoints tried, connections not made included
	Dialled  bool               // a new connection was made for the last attempt
	Connect  time.Duration      // spent getting a connection, all attempts
	Header   time.Duration      // from the last attempt's first byte out to the answer's complete header
}

// Do sends x.Request to an endpoint of the group and reads the header of the answer. It returns nil, or an error that
// matches one of this package's with errors.Is.
//
// A request is sent again only if no connection to the endpoint could be made, or if it went out on a reused
// connection that ended before the first byte of an answer and its method is GET, HEAD or OPTIONS without a body; at
// most once per endpoint, and never after a byte of a streamed body was read from the client.
func (g *Group) Do(x *Exchange) error { panic("BUG: not written") }
