// Package proxy is the data plane: frontends, and the life of a request from its first byte to the access log.
//
// It is responsible for its clients' connections and for every byte on them: limits, trust, identity, matching to a service, asking package rules
// for a decision and package session for pins, forwarding through proxy/upstream, and the metrics and log line that
// tell of it. It does not decide, find pods, or know the admin API.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"tellergate/config"
	"tellergate/discovery"
	"tellergate/proxy/upstream"
	"tellergate/rules"
	"tellergate/session"
)

// Seen remembers who was served; a seen.Sketch is one. What it is given is borrowed for the call and may be views of
// request buffers.
type Seen interface {
	Note(service string, attributes []string, at time.Time)
}

// Pins is where sessions are kept; session.Memory is one. The keys are borrowed for the call and may be views of
// request buffers.
type Pins interface {
	Lookup(keys []session.Key, out []session.Pin, wait *session.Wait)
	// Peek knows also what Lookup leaves to Claim: a session that this replica has not seen yet. It renews nothing.
	Peek(keys []session.Key, out []session.Pin, wait *session.Wait)
	Claim(keys []session.Key, pin session.Pin, wait *session.Wait) session.Pin
	Swap(keys []session.Key, was, pin session.Pin, wait *session.Wait) bool // the zero was: whatever was there
	End(keys []session.Key) int
}

// Options is what a Proxy is made of. All fields but AccessLog, Ready and Now are required.
type Options struct {
	Settings *config.Settings
	Schema   *rules.Schema
	Pins     Pins
	Pool     *upstream.Pool
	// PodSet binds a version to the live handle of its pods; it is called when a rule set is published.
	PodSet    func(*rules.CompiledVersion) (*discovery.PodSet, error)
	Log       *zap.Logger
	Metrics   prometheus.Registerer
	AccessLog io.Writer        // nil: no access log
	Seen      Seen             // nil: nobody remembers who was served
	Ready     func() bool      // whether health may answer 200, once there are rules; nil: it may
	Now       func() time.Time // nil: time.Now
}

// A Proxy serves every frontend of the replica. Its life: New, Listen, Publish as often as rules change, Run once.
type Proxy struct {
	schema  *rules.Schema
	pins    Pins
	seen    Seen // may be nil
	pool    *upstream.Pool
	podSet  func(*rules.CompiledVersion) (*discovery.PodSet, error)
	log     *zap.Logger
	now     func() time.Time // nil: the clock
	ready   func() bool
	metrics *metrics
	access  *accessLog // nil: off

	shutdown  config.Shutdown
	frontends []*frontend
	requests  sync.Pool     // of *request
	turn      atomic.Uint32 // of request objects; tally says what for

	terms    atomic.Pointer[terms] // what Reload replaces
	table    atomic.Pointer[Table] // what Publish replaces; nil until the first one
	draining atomic.Bool           // shutting down: health answers 503, connections are asked to close

	publishing sync.Mutex // serialises Publish and guards groups
	groups     map[*discovery.PodSet]*upstream.Group

	disagreed, acceptFailed, handshakeFailed rareLog
	abandonUnsafe                            bool // a client that goes away ends its request at the pod, whatever the method
}

// New returns a Proxy that has opened and started nothing.
func New(o Options) (*Proxy, error) {
	p := &Proxy{
		schema:   o.Schema,
		pins:     o.Pins,
		seen:     o.Seen,
		pool:     o.Pool,
		podSet:   o.PodSet,
		log:      o.Log,
		now:      o.Now,
		shutdown: o.Settings.Shutdown,

		abandonUnsafe: o.Settings.Upstream.AbandonUnsafe,
		groups:        make(map[*discovery.PodSet]*upstream.Group),
	}
	if p.ready = o.Ready; p.ready == nil {
		p.ready = func() bool { return true }
	}
	terms, err := newTerms(o.Settings, o.Schema)
	if err != nil {
		return nil, err
	}
	p.terms.Store(terms)
	for i := range o.Settings.Frontends {
		p.frontends = append(p.frontends, newFrontend(p, i, &o.Settings.Frontends[i]))
	}
	if o.AccessLog != nil {
		p.access = newAccessLog(o.AccessLog, o.Settings.AccessLog.Buffer)
	}
	p.metrics, err = newMetrics(p, o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("cannot register the metrics of the proxy: %w", err)
	}
	p.requests.New = func() any { return newRequest(p) }
	return p, nil
}

// clock is the time that requests are told, of which real is what the clock said.
func (p *Proxy) clock(real time.Time) time.Time {
	if p.now != nil {
		return p.now()
	}
	return real
}

// Listen binds every frontend. On an error nothing stays bound.
func (p *Proxy) Listen() error {
	for i, f := range p.frontends {
		if err := f.listen(); err != nil {
			for _, bound := range p.frontends[:i] {
				_ = bound.socket.Close()
			}
			return err
		}
	}
	return nil
}

// Addresses returns where each frontend listens, port 0 resolved. It is meaningful after Listen.
func (p *Proxy) Addresses() map[string]netip.AddrPort {
	addresses := make(map[string]netip.AddrPort, len(p.frontends))
	for _, f := range p.frontends {
		addresses[f.name] = f.bound
	}
	return addresses
}

// Reload applies what may change without a restart: trust, testers, identity sources and subnets, masks, the limits of
// bodies and header counts, and for new connections the certificates of frontends. Whoever calls it has made sure that nothing else changed. On an error nothing has.
func (p *Proxy) Reload(settings *config.Settings) error {
	terms, err := newTerms(settings, p.schema)
	if err != nil {
		return err
	}
	if len(terms.frontends) != len(p.frontends) {
		return fmt.Errorf("the settings have %d frontends and %d are running: restart to change them",
			len(terms.frontends), len(p.frontends))
	}
	for i, f := range p.frontends {
		if next := &settings.Frontends[i]; (next.TLS != nil) != (f.tls.Load() != nil) {
			return fmt.Errorf("the settings begin or end TLS on frontend %q: restart to change that", f.name)
		}
	}
	p.terms.Store(terms)
	for i, f := range p.frontends {
		f.secure(newFrontendTLS(settings.Frontends[i].TLS))
	}
	return nil
}

// ErrStopNow is the cause with which Run's context is cancelled where no load balancer needs to be given time.
var ErrStopNow = errors.New("stop without waiting for the load balancer")

// Run serves until ctx ends and then shuts down without losing a request: health answers 503 and every answer asks
// the client to close while everything is still served, for Settings.Shutdown.Delay; then the listeners close and what
// is in flight has Settings.Shutdown.Grace to end. It returns nil after such an end.
func (p *Proxy) Run(ctx context.Context) error {
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		p.access.run()
	}()
	group, failed := errgroup.WithContext(context.Background())
	for _, f := range p.frontends {
		group.Go(f.run)
	}
	select {
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), ErrStopNow) {
			p.drain(failed)
		}
	case <-failed.Done():
	}
	served := make(chan struct{})
	var err error
	go func() {
		defer close(served)
		err = group.Wait()
	}()
	p.stop(served)
	<-served
	p.access.close()
	<-writing
	return err
}

// drain is the time in which load balancers learn that this replica is going.
func (p *Proxy) drain(failed context.Context) {
	p.draining.Store(true)
	delay := time.NewTimer(p.shutdown.Delay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-failed.Done():
	}
}

// stop closes the sockets and waits for requests in flight, at most shutdown.grace; then it ends them. Tunnels are told
// shutdown.tunnelNotice before that.
func (p *Proxy) stop(served <-chan struct{}) {
	p.draining.Store(true)
	for _, f := range p.frontends {
		f.stop()
	}
	end := time.Now().Add(p.shutdown.Grace)
	if notice := min(p.shutdown.TunnelNotice, p.shutdown.Grace); notice > 0 {
		if !waitUntil(end.Add(-notice), served) {
			return
		}
		for _, f := range p.frontends {
			f.notify(end)
		}
	}
	if !waitUntil(end, served) {
		return
	}
	for _, f := range p.frontends {
		p.log.Warn("requests were still in flight when shutdown.grace was over; they are ended",
			zap.String("frontend", f.name), zap.Duration("grace", p.shutdown.Grace), zap.Int("connections", f.open()),
			zap.Int64("tunnels", f.tunnels.Load()))
		f.abort()
	}
}

// waitUntil reports whether the moment came before served was closed.
func waitUntil(moment time.Time, served <-chan struct{}) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-served:
		return false
	case <-timer.C:
		return true
	}
}
