package proxy

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"tellergate/config"
)

// A frontend is one fixed listen address with the server behind it.
type frontend struct {
	p          *Proxy
	index      int // in the settings
	name       string
	address    netip.AddrPort
	healthPath string
	bodyIdle   time.Duration // a body may pause this long
	server     *fasthttp.Server

	socket net.Listener
	bound  netip.AddrPort
}

func newFrontend(p *Proxy, index int, settings *config.Frontend) *frontend {
	f := &frontend{
		p: p, index: index, name: settings.Name, address: settings.Address, healthPath: settings.Health.Path,
		bodyIdle: settings.Limits.IdleTimeout,
	}
	limits := settings.Limits
	f.server = &fasthttp.Server{
		Handler:        f.handle,
		ErrorHandler:   f.unreadable,
		HeaderReceived: f.headerReceived,
		ExpectHandler:  f.expects,
		Logger:         quietLogger{p.log.Named("http").With(zap.String("frontend", settings.Name))},

		ReadBufferSize: limits.HeaderBytes,
		ReadTimeout:    limits.HeaderTimeout,
		IdleTimeout:    limits.IdleTimeout,
		Concurrency:    limits.Connections,
		MaxConnsPerIP:  limits.PerSource,

		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		CloseOnShutdown:              true,
		SecureErrorLogMessage:        true,
		NoDefaultServerHeader:        true,
		NoDefaultDate:                true,
		NoDefaultContentType:         true,
	}
	return f
}

// listen binds the address.
func (f *frontend) listen() error {
	socket, err := net.Listen("tcp", f.address.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("frontend %q cannot listen on %s: the address is in use by another program; stop that program, "+
			"or give frontends[%s].address another port: %w", f.name, f.address, f.name, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("frontend %q cannot listen on %s: this machine does not have that address; give "+
			"frontends[%s].address one of its own: %w", f.name, f.address, f.name, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("frontend %q cannot listen on %s: ports below 1024 need a permission; grant CAP_NET_BIND_SERVICE "+
			"or give frontends[%s].address a higher port: %w", f.name, f.address, f.name, err)
	case err != nil:
		return fmt.Errorf("frontend %q cannot listen on %s: %w", f.name, f.address, err)
	}
	f.socket = socket
	f.bound = socket.Addr().(*net.TCPAddr).AddrPort()
	f.bound = netip.AddrPortFrom(f.bound.Addr().Unmap(), f.bound.Port())
	return nil
}

// run serves until the server is shut down.
func (f *frontend) run() error {
	if err := f.server.Serve(f.socket); err != nil {
		return fmt.Errorf("frontend %q stopped accepting on %s: %w", f.name, f.bound, err)
	}
	return nil
}

// headerReceived gives a body its own deadline, which upload then moves on while bytes come, in place of the header's.
// fasthttp's own body limit only says how much of a body it reads ahead; ours is upload's.
func (f *frontend) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	config := fasthttp.RequestConfig{MaxRequestBodySize: math.MaxInt}
	if length := h.ContentLength(); length > 0 || length == -1 {
		config.ReadTimeout = f.bodyIdle
	}
	return config
}

// expects answers Expect: 100-continue before the body is sent.
func (f *frontend) expects(ctx *fasthttp.RequestCtx) int {
	limit := f.p.terms.Load().frontends[f.index].bodyBytes
	if limit > 0 && int64(ctx.Request.Header.ContentLength()) > limit {
		f.p.metrics.refused[&bodyTooLarge].Inc()
		return fasthttp.StatusRequestEntityTooLarge
	}
	return fasthttp.StatusContinue
}

// unreadable answers what never became a request.
func (f *frontend) unreadable(ctx *fasthttp.RequestCtx, err error) {
	no := &badRequest
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		no = &headerTooLarge
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		no = &bodyTooLarge
	case errors.As(err, &timeout) && timeout.Timeout():
		no = &requestTimeout
	}
	f.p.metrics.refused[no].Inc()
	no.write(ctx, appendRequestID(nil))
}

// health is what the load balancer polls: whether to send requests here.
func (f *frontend) health(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("application/json; charset=utf-8")
	switch {
	case f.p.draining.Load():
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
		ctx.SetBodyString("{\"status\":\"draining\"}\n")
	case f.p.table.Load() == nil:
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
		ctx.SetBodyString("{\"status\":\"not ready\"}\n")
	default:
		ctx.SetBodyString("{\"status\":\"ok\"}\n")
	}
}

// quietLogger is where fasthttp's own complaints go: they concern single connections, mostly hostile ones.
type quietLogger struct{ log *zap.Logger }

func (l quietLogger) Printf(format string, args ...any) {
	l.log.Debug(strings.TrimSpace(fmt.Sprintf(format, args...)))
}
