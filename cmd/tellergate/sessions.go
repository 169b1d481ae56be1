package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"tellergate/admin"
	"tellergate/config"
	"tellergate/proxy"
	"tellergate/session"
	"tellergate/session/redis"
)

// Sessions is what the gateway asks of a pin store: what the proxy and the admin API ask of it.
type sessions interface {
	proxy.Pins
	admin.Pins
	admin.Ledger
}

// A fleet is what is known of all sessions and of the replicas that share them.
type fleet interface {
	admin.Fleet
	admin.Moves
}

// redisSecrets is what the settings only name: it stands in files and the environment. It is read at the start and at
// every reload, and new connections use what was read last.
type redisSecrets struct {
	password string
	tls      *tls.Config // nil: none
}

func readRedisSecrets(settings *config.SessionsRedis) (*redisSecrets, error) {
	password, err := redisPassword(settings)
	if err != nil {
		return nil, err
	}
	encryption, err := redisTLS(&settings.TLS)
	if err != nil {
		return nil, err
	}
	return &redisSecrets{password: password, tls: encryption}, nil
}

func redisPassword(settings *config.SessionsRedis) (string, error) {
	switch {
	case settings.PasswordFile != "":
		text, err := os.ReadFile(settings.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("reading the password of Redis (setting sessions.redis.passwordFile): %w", err)
		}
		return string(bytes.TrimRight(text, "\r\n")), nil
	case settings.PasswordEnv != "":
		value, there := os.LookupEnv(settings.PasswordEnv)
		if !there {
			return "", fmt.Errorf("the environment has no %s (setting sessions.redis.passwordEnv): set it, or leave the setting out",
				settings.PasswordEnv)
		}
		return value, nil
	}
	return "", nil
}

// redisTLS returns how connections are encrypted, nil for not at all.
func redisTLS(settings *config.RedisTLS) (*tls.Config, error) {
	if !settings.Enabled {
		return nil, nil
	}
	encryption := &tls.Config{ServerName: settings.ServerName, MinVersion: tls.VersionTLS12}
	if settings.CA != "" {
		pem, err := os.ReadFile(settings.CA)
		if err != nil {
			return nil, fmt.Errorf("reading the authorities of Redis (setting sessions.redis.tls.ca): %w", err)
		}
		encryption.RootCAs = x509.NewCertPool()
		if !encryption.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the file %s of setting sessions.redis.tls.ca holds no certificate in PEM", settings.CA)
		}
	}
	if settings.Certificate != "" {
		certificate, err := tls.LoadX509KeyPair(settings.Certificate, settings.Key)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate for Redis (settings sessions.redis.tls.certificate and key): %w", err)
		}
		encryption.Certificates = []tls.Certificate{certificate}
	}
	return encryption, nil
}

// openSessions returns the pin store that the settings name, what is known of it and its replicas, and what must run for
// it, nil if nothing.
func (g *gateway) openSessions(metrics prometheus.Registerer) (sessions, fleet, func(context.Context) error, error) {
	settings := &g.settings.Sessions
	if settings.Store == "memory" {
		pins := session.NewMemory(settings.Memory.Entries, nil)
		metrics.MustRegister(&sessionCollector{pins: pins, now: time.Now})
		return pins, session.NewAlone(pins, g.self), nil, nil
	}
	options, err := g.redisOptions(&settings.Redis)
	if err != nil {
		return nil, nil, nil, err
	}
	pins, err := redis.New(options)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("opening the sessions in Redis: %w", err)
	}
	metrics.MustRegister(&redisCollector{pins: pins})
	return pins, pins, pins.Run, nil
}

// censusReuse is how old a count may be that answers an operator: each reads every pin.
const censusReuse = 10 * time.Second

func (g *gateway) redisOptions(settings *config.SessionsRedis) (redis.Options, error) {
	options := redis.Options{
		Mode: redis.Mode(settings.Mode), Addresses: settings.Addresses, Master: settings.Master, Database: settings.Database,
		Connections: settings.Connections, DialTimeout: settings.DialTimeout, Timeout: settings.Timeout,
		Budget: settings.Budget, Entries: settings.Entries, Failures: settings.Failures, Probe: settings.Probe,
		Freshness: settings.Freshness, Self: g.self, Reuse: censusReuse,
		Warn: func(text string) { g.log.Warn(text, zap.String("part", "sessions")) },
	}
	secret, err := os.ReadFile(settings.SecretFile)
	if err != nil {
		return options, fmt.Errorf("reading the deployment secret (setting sessions.redis.secretFile): %w", err)
	}
	options.Secret = bytes.TrimSpace(secret)
	secrets, err := readRedisSecrets(settings)
	if err != nil {
		return options, err
	}
	g.redisSecrets.Store(secrets)
	if settings.TLS.Enabled {
		options.TLS = func() *tls.Config { return g.redisSecrets.Load().tls }
	}
	if settings.PasswordFile != "" || settings.PasswordEnv != "" {
		user := settings.User
		options.Credentials = func() (string, string) { return user, g.redisSecrets.Load().password }
	}
	return options, nil
}

type redisCollector struct{ pins *redis.Store }

// A redisMetric is one figure of redis.Stats.
type redisMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(redis.Stats) float64
}

func redisMetricOf(name, help string, kind prometheus.ValueType, of func(redis.Stats) float64) redisMetric {
	return redisMetric{prometheus.NewDesc("tellergate_redis_"+name, help, nil, nil), kind, of}
}

var redisMetrics = []redisMetric{
	redisMetricOf("copies", "Pin keys that this replica has copies of.", prometheus.GaugeValue,
		func(s redis.Stats) float64 { return float64(s.Copies) }),
	redisMetricOf("copies_evicted_total", "Copies that fell because of sessions.redis.entries; they are read again.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Evicted) }),
	redisMetricOf("copies_found_total", "Keys that a copy answered.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Found) }),
	redisMetricOf("copies_stale_total", "Copies that were read again because they were stale.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Stale) }),
	redisMetricOf("copies_refreshed_total", "Copies that were read again in the background before they were stale.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Refreshed) }),
	redisMetricOf("asked_total", "Claims and reads of keys without a copy.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Asked) }),
	redisMetricOf("commands_total", "Commands for pins sent to Redis.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Commands) }),
	redisMetricOf("failures_total", "Asks that Redis answered with an error or not at all.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Failures) }),
	redisMetricOf("late_total", "Requests that went on without Redis after waiting for the budget.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Late) }),
	redisMetricOf("skipped_total", "Asks that were not sent because Redis does not answer.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Skipped) }),
	redisMetricOf("damaged_total", "Values that could not be read and were taken for absent.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Damaged) }),
	redisMetricOf("adopted_total", "Sessions decided here without Redis that another replica had decided first.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Adopted) }),
	redisMetricOf("reasserted_total", "Copies written again after Redis came back.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Reasserted) }),
	redisMetricOf("writes_dropped_total", "Background writes that found no room; their copies are written later.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Lost) }),
	redisMetricOf("moves_heard_total", "Changes of sessions heard from other replicas.", prometheus.CounterValue,
		func(s redis.Stats) float64 { return float64(s.Moves) }),
	redisMetricOf("copies_learnt_total", "Pin keys that other replicas told of before a request for them came here.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Learnt) }),
	redisMetricOf("unannounced_total", "Sessions that the other replicas were not told of; they ask Redis.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Unannounced) }),
	redisMetricOf("writes_pending", "Changes of sessions that wait to be written; those of a replica that dies are lost.",
		prometheus.GaugeValue, func(s redis.Stats) float64 { return float64(s.Pending) }),
	redisMetricOf("subscription_lapses_total", "Times the subscription was lost and all copies became stale.",
		prometheus.CounterValue, func(s redis.Stats) float64 { return float64(s.Lapses) }),
	redisMetricOf("degraded_since_timestamp_seconds", "Since when requests do without Redis; 0: they do not.",
		prometheus.GaugeValue, func(s redis.Stats) float64 {
			if s.Degraded.IsZero() {
				return 0
			}
			return float64(s.Degraded.UnixMilli()) / 1000
		}),
	redisMetricOf("clock_offset_seconds", "How far Redis's clock is ahead of this machine's.", prometheus.GaugeValue,
		func(s redis.Stats) float64 { return s.Offset.Seconds() }),
}

var (
	sessionsCounted = prometheus.NewDesc("tellergate_sessions_counted_timestamp_seconds",
		"When the sessions were counted last, which is done while somebody asks or a version drains; 0: they are not known now.",
		nil, nil)
	sessionsKnown = prometheus.NewDesc("tellergate_sessions_known",
		"1 if tellergate_sessions is there and is not older than five minutes, else 0: unknown is not zero.", nil, nil)
)

// countAge is how old a count may be that is exported.
const countAge = 5 * time.Minute

func (c *redisCollector) Describe(out chan<- *prometheus.Desc) {
	out <- sessionsDesc
	out <- sessionsCounted
	out <- sessionsKnown
	for _, m := range redisMetrics {
		out <- m.desc
	}
}

func (c *redisCollector) Collect(out chan<- prometheus.Metric) {
	known, counted := 0.0, 0.0
	if census, ok := c.pins.Known(countAge); ok {
		known, counted = 1, float64(census.Ended.UnixMilli())/1000
		for _, n := range session.Together(census.Counts) {
			out <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(n.Sessions), n.Service, n.Version)
		}
	}
	out <- prometheus.MustNewConstMetric(sessionsKnown, prometheus.GaugeValue, known)
	out <- prometheus.MustNewConstMetric(sessionsCounted, prometheus.GaugeValue, counted)
	stats := c.pins.Stats()
	for _, m := range redisMetrics {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(stats))
	}
}
