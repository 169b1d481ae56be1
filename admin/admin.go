// Package admin serves the admin API: rules, lists and organisations with their history, the emergency lever, the
// drain ledger, explanations, and beside them health, metrics and profiles.
//
// It is responsible for what is asked of a change before it reaches the store: who may send it (until authentication
// exists: programs of this machine, never a web page), against which revision, and that the whole state still compiles
// with it. It does not apply revisions (internal/live does), decide requests or know pods: cmd hands it what it needs
// through the interfaces below.
package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/internal/live"
	"tellergate/rules"
	"tellergate/session"
	"tellergate/store"
)

// Revisions is the history of what operators decided; a store.Store is one.
type Revisions interface {
	Head(ctx context.Context) (store.Revision, error)
	Revision(ctx context.Context, seq uint64) (store.Revision, error)
	Revisions(ctx context.Context, before uint64, limit int) ([]store.Revision, error)
	Content(ctx context.Context, digest store.Digest) ([]byte, error)
	Append(ctx context.Context, change store.Change) (store.Revision, error)
}

// States gives a revision its meaning; a content.Reader does.
type States interface {
	Read(ctx context.Context, revision store.Revision) (*content.State, error)
	// OfferList tells what a content means that is about to be stored.
	OfferList(digest store.Digest, list *rules.List)
}

// Live is what this replica runs; a live.Loop knows.
type Live interface {
	Current() *live.Generation
	Status() live.Status
	WaitApplied(ctx context.Context, seq uint64) error
}

// Pins looks at pins without renewing them.
type Pins interface {
	Peek(keys []session.Key, out []session.Pin, wait *session.Wait)
}

// Ledger is who is still on what. A session.ErrUnknown says that nothing is known now, never that there is none.
type Ledger interface {
	Sessions(filter session.Filter, after string, limit int) (page []session.Session, next string, err error)
	Session(id string) (row session.Session, there bool, err error)
	EndID(id string) (bool, error)
	MoveID(id, version string) (bool, error)
}

// Fleet is what is known of all replicas that share the sessions, and of all sessions together. Its errors are
// session.ErrUnknown, among them session.Counting.
type Fleet interface {
	// Census counts all sessions; a count that is some seconds old will do. It waits for at most patience.
	Census(patience time.Duration) (session.Census, error)
	// Watch keeps the counting going for some seconds and tells what is known.
	Watch() session.Watch
	Registry() (session.Registry, error)
	// Forget takes a replica out of the registry; one that lives comes back.
	Forget(id string) (bool, error)
}

// Moves keeps what operators did to many sessions at once.
type Moves interface {
	NoteMove(m session.Move) error
	Moves() ([]session.Move, error)
}

// Seen is whom this replica has served lately; a seen.Sketch knows.
type Seen interface {
	// All yields each with the service it asked for and its attributes by index, valid until the next.
	All() iter.Seq2[string, []string]
	// Len returns how many are held, and how many of them All leaves out because their values are too long.
	Len() (held, long int)
	Capacity() int
}

// Pods tells the endpoints of a version that runs, in the order of their addresses; none for what does not run.
type Pods interface {
	Endpoints(service, version string) []api.Endpoint
}

// Options is what a Server is made of. Every field must be set, except those that say otherwise.
type Options struct {
	// Address to listen on; loopback only until the API authenticates. Port 0 takes a free one.
	Address netip.AddrPort
	// Replica names this replica towards operators.
	Replica string

	Schema *rules.Schema
	// Defaults is the value of each attribute that has one in the settings: explain applies it as the data plane does to
	// a request. It may be nil.
	Defaults map[string]string

	Store  Revisions
	Reader States
	Live   Live
	Pins   Pins
	Ledger Ledger
	Fleet  Fleet
	Moves  Moves
	Pods   Pods
	Seen   Seen
	// Masked names attributes whose values are not shown whole where operators have not asked about somebody by name.
	Masked []string

	// Ready says what keeps the replica from being ready, one sentence each; none means ready.
	Ready func() []string
	// Notes says what operators should know even so, one sentence each; nil: nothing.
	Notes func() []string
	// Metrics serves /metrics.
	Metrics http.Handler
	Log     *zap.Logger

	// Pause is called between pieces of long work; nil: never.
	Pause rules.Pause

	// ApplyTimeout bounds how long the answer to a change waits for this replica to run it; 0 is 10 s.
	ApplyTimeout time.Duration
}

// A Server is the admin API on its own listener. It is created by New, bound by Listen and serves in Run.
type Server struct {
	Options
	api      huma.API
	mux      *http.ServeMux
	listener net.Listener
}

// New returns a server that has not opened anything yet.
func New(o Options) (*Server, error) {
	if !o.Address.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("the admin API cannot listen on %s: it does not authenticate yet and so binds to loopback "+
			"only; set admin.address to 127.0.0.1:%d or [::1]:%d", o.Address, o.Address.Port(), o.Address.Port())
	}
	if o.ApplyTimeout == 0 {
		o.ApplyTimeout = 10 * time.Second
	}
	s := &Server{Options: o, mux: http.NewServeMux()}
	s.api = newAPI(s.mux)
	s.registerRules()
	s.registerLists()
	s.registerOrganisations()
	s.registerRevisions()
	s.registerExplain()
	s.registerMentions()
	s.registerImpact()
	s.registerServices()
	s.registerVersions()
	s.registerSessions()
	s.registerMoves()
	s.registerReplicas()
	s.registerPlain()
	return s, nil
}

// Listen binds the address. It is called once, before Run, so that an address in use is known at start.
func (s *Server) Listen() error {
	listener, err := net.Listen("tcp", s.Address.String())
	if err != nil {
		return fmt.Errorf("the admin API cannot listen on %s: %w; free the address or set admin.address", s.Address, err)
	}
	s.listener = listener
	return nil
}

// Addr returns the bound address; it must not be called before Listen.
func (s *Server) Addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

// Timeouts of the listener. There is none on writing: profiles and large lists take their time.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
)

// Run serves until ctx ends, then lets calls in flight finish for at most 5 s and closes the listener. It returns nil
// after such an end, or what made serving impossible.
func (s *Server) Run(ctx context.Context) error {
	errorLog, err := zap.NewStdLogAt(s.Log, zap.WarnLevel)
	if err != nil {
		return fmt.Errorf("log of the admin listener: %w", err)
	}
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          errorLog,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("the admin API stopped serving: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		err = errors.Join(err, server.Close())
		s.Log.Warn("admin calls were cut off at shutdown", zap.Error(err))
	}
	<-served
	return nil
}
