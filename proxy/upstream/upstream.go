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
	"sync"
	"sync/atomic"
	"time"

	"tellergate/discovery"
	"tellergate/proxy/http1"
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
	// ErrCancelled: Cancel was called. The pod may have executed the request.
	ErrCancelled = errors.New("the exchange was cancelled")
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
	// Patience is how long the pod has been seen to leave an idle connection open; 0 if nothing is known.
	Patience time.Duration
}

// A Stream is a request body that is sent while it comes. Another goroutine than that of Do may call its methods, one
// at a time; Stop may be called beside them.
type Stream interface {
	// Wait returns when Read will not have to wait long, so that no buffer is held meanwhile.
	Wait() error
	// Read returns io.EOF at the end of the body and another error where it ends early.
	Read(p []byte) (int, error)
	// Trailer returns the field lines that follow a chunked body, each with its CRLF, once Read has returned io.EOF.
	Trailer() []byte
	// Stop makes calls that are waiting, and later ones, fail soon.
	Stop()
}

// An Answer is what a pod says before the body. Its fields are views of a buffer: they are valid until the body is read
// or the exchange is closed.
type Answer struct {
	Status int
	Reason []byte
	Fields []Field // all of them as they came, those of this hop and of the framing too
	Length int64   // of the body that follows; http1.Chunked, http1.UntilClose
}

// A Field is one header line; the name is as the pod wrote it.
type Field struct{ Name, Value []byte }

// An Exchange is one request on its way. The caller fills the first part; Do fills the second. After Do has returned
// nil, the caller reads the answer's body and then calls Close, once; after an error there is nothing to close. It may
// be used again after that. Only Cancel may be called by other goroutines.
type Exchange struct {
	Method string
	// Head is the request line and the header with its empty line, complete and canonical: Do sends it as it is. It says
	// how the body is framed: Content-Length for Body and for a Stream of known length, chunked for others.
	Head []byte
	// Body is a body that is there already; Stream one that is not, of Length bytes, or http1.Chunked.
	Body   []byte
	Stream Stream
	Length int64
	// Upgrade is the protocol that Head asks for, "" if none. The pod may then answer 101: see Tunnel.
	Upgrade string
	// Idempotent says that the pod knows a repetition when it sees one: the request may be sent again as a GET may.
	Idempotent bool
	// Interim is given each 1xx answer but 100 and 101; nil drops them. It must not call the exchange.
	Interim func(*Answer) error
	// Prefer is the endpoint of the session's pin; the zero value prefers none.
	Prefer    netip.AddrPort
	PreferUID string
	// Pinned sessions may use draining endpoints.
	Pinned bool

	Answer   Answer
	Endpoint discovery.Endpoint // that answered, or was tried last
	Attempts int                // tries: connections not made and a repeated sending included
	Dialled  bool               // a new connection was made for the last attempt
	Connect  time.Duration      // spent getting a connection, all attempts
	Header   time.Duration      // from the last attempt's first byte out to the answer's complete header
	Answered time.Time          // when Do, which returned nil, had the answer's header

	body      http1.Body
	header    []byte // buffer that the answer's fields are views of, where it is not the connection's
	keep      bool   // the connection can be used again once the body has been read
	out       []byte
	repeating bool // part of the budget is held
	upload    upload
	cancelled atomic.Bool

	mu   sync.Mutex
	conn *conn // guarded by mu against Cancel; written by the goroutine of Do only
}
