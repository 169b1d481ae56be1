package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"tellergate/admin"
	"tellergate/config"
	"tellergate/internal/build"
	"tellergate/internal/content"
	"tellergate/internal/live"
	"tellergate/internal/memory"
	"tellergate/internal/pace"
	"tellergate/internal/seen"
	"tellergate/proxy"
	"tellergate/proxy/upstream"
	"tellergate/rules"
	"tellergate/store/file"
)

// A gateway is the composed process. Nothing runs before serve.
type gateway struct {
	settingsFile string
	settings     *config.Settings // replaced by reload; touched by the signal loop only
	log          *zap.Logger
	store        *file.Store
	pods         *podSource
	pool         *upstream.Pool
	proxy        *proxy.Proxy
	seen         *seen.Sketch
	loop         *live.Loop
	pacer        *pace.Pacer
	memory       *memory.Keeper
	admin        *admin.Server
	accessLog    *logFile                     // nil if it goes elsewhere
	alone        bool                         // sessions are kept in this process
	runSessions  func(context.Context) error  // nil: the pin store needs nothing to run
	redisSecrets atomic.Pointer[redisSecrets] // nil: sessions are kept in this process
	presence     presence
	started      time.Time
	closers      []io.Closer // in the order of opening
}

// run builds the gateway, serves until a signal ends it, and closes it.
func run(settingsFile string, settings *config.Settings, stdout, stderr io.Writer) (err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	g, err := compose(settingsFile, settings, stdout, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	return g.serve(signals)
}

// compose opens the store and binds every address, so that whatever is in the way is said before anything runs.
func compose(settingsFile string, settings *config.Settings, stdout, stderr io.Writer) (_ *gateway, err error) {
	log, err := newLog(settings.Log, stderr)
	if err != nil {
		return nil, err
	}
	g := &gateway{settingsFile: settingsFile, settings: settings, log: log, alone: settings.Sessions.Store == "memory",
		memory: memory.New(), started: time.Now()}
	g.pacer = pace.New(g.served)
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()

	accessLog, err := g.openAccessLog(settings.AccessLog, stdout, stderr)
	if err != nil {
		return nil, err
	}
	var recovery file.Recovery
	if g.store, recovery, err = file.Open(settings.Rules.Path); err != nil {
		return nil, fmt.Errorf("opening the revisions in %s: %w", settings.Rules.Path, err)
	}
	g.store.Pause = g.pacer.Yield
	g.closers = append(g.closers, g.store)
	if recovery != (file.Recovery{}) {
		log.Warn("the revision store was put in order after a crash; nothing that was acknowledged is lost",
			zap.Stringer("recovery", recovery))
	}

	if g.pods, err = newPodSource(settings.Discovery.Kubernetes, log); err != nil {
		return nil, err
	}

	metrics := prometheus.NewRegistry()
	schema := schemaOf(settings)
	pins, fleet, runSessions, err := g.openSessions(metrics)
	if err != nil {
		return nil, err
	}
	g.runSessions = runSessions
	g.pool = upstream.NewPool(upstream.Options{
		ConnectTimeout:  settings.Upstream.ConnectTimeout,
		ResponseTimeout: settings.Upstream.ResponseTimeout,
		IdleTimeout:     settings.Upstream.IdleTimeout,
		PerEndpoint:     settings.Upstream.PerEndpoint,
	})
	g.seen = seenBy(schema)
	g.proxy, err = proxy.New(proxy.Options{
		Settings: settings, Schema: schema, Pins: pins, Pool: g.pool, PodSet: g.pods.podSet,
		Seen:  g.seen,
		Ready: func() bool { return len(g.missing()) == 0 },
		Log:   log, Metrics: metrics, AccessLog: accessLog,
	})
	if err != nil {
		return nil, err
	}
	gauges := newGauges(metrics)
	metrics.MustRegister(seenCollector{g.seen})
	if g.pods.kubernetes != nil {
		metrics.MustRegister(kubernetesCollector{g.pods.kubernetes})
	}
	reader := content.NewReader(g.store, g.pacer.Yield)
	g.loop = live.New(g.store, reader, schema, g.publish)
	g.loop.Observe(func(s live.Status) {
		gauges.set(s)
		g.logStatus(s)
	})
	g.admin, err = admin.New(admin.Options{
		Address:  settings.Admin.Address,
		Schema:   schema,
		Defaults: defaultsOf(settings),
		Store:    g.store,
		Reader:   reader,
		Live:     g.loop,
		Pins:     pins,
		Ledger:   pins,
		Fleet:    fleet,
		Moves:    fleet,
		Pods:     pods{g.proxy},
		Seen:     g.seen,
		Pause:    g.pacer.Yield,
		Masked:   settings.AccessLog.Mask,
		Ready:    g.missing,
		Notes:    g.notes,
		Metrics:  promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics}),
		Log:      log,
		Replica:  hostname(),
	})
	if err != nil {
		return nil, err
	}
	if err := g.proxy.Listen(); err != nil {
		return nil, err
	}
	if err := g.admin.Listen(); err != nil {
		return nil, err
	}
	return g, nil
}

// serve runs every part until a signal or a failing part ends them: the frontends drain first, while everything they
// need and the admin API still run; then the rest.
func (g *gateway) serve(signals <-chan os.Signal) error {
	g.logStart()
	rest, endRest := context.WithCancel(context.Background())
	defer endRest()
	group, rest := errgroup.WithContext(rest)
	parts := []func(context.Context) error{g.pool.Run, g.pods.run, g.loop.Run, g.admin.Run, g.seen.Run, g.memory.Run}
	if g.runSessions != nil {
		parts = append(parts, g.runSessions)
	}
	for _, part := range parts {
		group.Go(func() error {
			if err := part(rest); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		defer endRest()
		return g.serveFrontends(rest, signals)
	})
	return group.Wait()
}

// serveFrontends serves until a signal says to stop or rest ends because a part failed, and then drains.
func (g *gateway) serveFrontends(rest context.Context, signals <-chan os.Signal) error {
	serving, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	done := make(chan error, 1)
	go func() { done <- g.proxy.Run(serving) }()
	for {
		select {
		case err := <-done:
			return err
		case <-rest.Done():
			stop(proxy.ErrStopNow)
			return <-done
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				g.reload()
			case syscall.SIGINT:
				g.log.Info("interrupted: finishing what is in flight; a second signal drops it")
				signal.Reset(syscall.SIGINT, syscall.SIGTERM)
				stop(proxy.ErrStopNow)
			default:
				g.log.Info("draining; a second signal drops what is in flight",
					zap.Duration("delay", g.settings.Shutdown.Delay), zap.Duration("grace", g.settings.Shutdown.Grace))
				signal.Reset(syscall.SIGINT, syscall.SIGTERM)
				stop(nil)
			}
		}
	}
}

// publish is the last step of every rule change.
func (g *gateway) publish(generation *live.Generation) error {
	err := g.pods.during(func() error { return g.proxy.Publish(generation.Rules, generation.Revision.Seq) })
	if err == nil {
		g.presence.note(generation)
		g.memory.Changed()
	}
	return err
}

// served returns how many requests there have been.
func (g *gateway) served() uint64 {
	if g.proxy == nil { // the gateway is being composed
		return 0
	}
	return g.proxy.Served()
}

// missing says what keeps the replica from being ready; nothing if it is.
func (g *gateway) missing() []string {
	status := g.loop.Status()
	switch {
	case status.Applied > 0:
		return g.pods.missing()
	case status.Failing != "":
		return []string{"the rules could not be applied: " + status.Failing}
	default:
		return []string{"there are no rules yet: apply a document with tgctl apply FILE"}
	}
}

// inProcess is said at the start and by /readyz, so that nobody scales out by surprise.
const inProcess = "sessions are kept in this process: run one replica only, and expect a restart to end every session"

// notes says what operators should know of a replica that is ready.
func (g *gateway) notes() []string {
	var notes []string
	if g.alone {
		notes = append(notes, inProcess)
	}
	return append(notes, g.pods.notes()...)
}

// close releases what compose opened, last first.
func (g *gateway) close() error {
	var errs []error
	for i := len(g.closers) - 1; i >= 0; i-- {
		errs = append(errs, g.closers[i].Close())
	}
	_ = g.log.Sync() // a terminal cannot be synced, and there is nobody left to tell
	return errors.Join(errs...)
}

func (g *gateway) logStart() {
	for name, address := range g.proxy.Addresses() {
		g.log.Info("frontend listens", zap.String("frontend", name), zap.Stringer("address", address))
	}
	g.log.Info("tellergate runs", zap.String("version", build.Version), zap.String("settings", name(g.settingsFile)),
		zap.Stringer("admin", g.admin.Addr()), zap.String("rules", g.settings.Rules.Path))
	if g.alone {
		g.log.Info(inProcess)
	} else {
		g.log.Info("sessions are kept in Redis", zap.String("mode", g.settings.Sessions.Redis.Mode),
			zap.Strings("addresses", g.settings.Sessions.Redis.Addresses))
	}
}

func (g *gateway) logStatus(s live.Status) {
	if s.Failing != "" {
		g.log.Error("a revision could not be applied; the last good one stays in force",
			zap.Uint64("applied", s.Applied), zap.Uint64("head", s.Head), zap.String("error", s.Failing))
		return
	}
	g.log.Info("rules applied", zap.Uint64("revision", s.Applied))
}

// openAccessLog returns where access log lines go, nil for nowhere.
func (g *gateway) openAccessLog(settings config.AccessLog, stdout, stderr io.Writer) (io.Writer, error) {
	switch settings.Path {
	case "off":
		return nil, nil
	case "stdout":
		return stdout, nil
	case "stderr":
		return stderr, nil
	}
	f, err := openLogFile(settings.Path)
	if err != nil {
		return nil, err
	}
	g.accessLog = f
	g.closers = append(g.closers, f)
	return f, nil
}

// newLog returns the operator's log: one JSON object a line.
func newLog(settings config.Log, w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(settings.Level)
	if err != nil {
		return nil, fmt.Errorf("setting log.level: %w", err)
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.TimeKey, encoder.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	encoder.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.Lock(zapcore.AddSync(w)), level)), nil
}

func hostname() string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "unnamed"
}

// schemaOf gives package rules the attributes that the settings declare.
func schemaOf(settings *config.Settings) *rules.Schema {
	attributes := make([]rules.Attribute, len(settings.Identity))
	for i, a := range settings.Identity {
		attributes[i] = rules.Attribute{Name: a.Name, Within: a.Within, Claim: a.Claim}
	}
	frontends := make([]string, len(settings.Frontends))
	for i, f := range settings.Frontends {
		frontends[i] = f.Name
	}
	kubernetes := settings.Discovery.Kubernetes
	schema := rules.NewSchema(attributes, frontends, kubernetes != nil)
	if kubernetes != nil {
		schema = schema.InNamespaces(kubernetes.Namespaces)
	}
	return schema
}

// seenBy returns what remembers who was served: the claims among the attributes, none of the handles.
func seenBy(schema *rules.Schema) *seen.Sketch {
	var claims []int
	for i := range schema.Len() {
		if schema.Attribute(i).Claim {
			claims = append(claims, i)
		}
	}
	return seen.New(schema.Len(), claims)
}

// defaultsOf returns the value of each attribute that has one where no source answers.
func defaultsOf(settings *config.Settings) map[string]string {
	defaults := map[string]string{}
	for _, a := range settings.Identity {
		if a.Default != "" {
			defaults[a.Name] = a.Default
		}
	}
	return defaults
}
