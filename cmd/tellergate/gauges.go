package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tellergate/internal/build"
	"tellergate/internal/live"
	"tellergate/session"
)

// gauges tell which revision runs. What requests do is measured in package proxy.
type gauges struct {
	applied, head, since, failing prometheus.Gauge
}

func newGauges(r prometheus.Registerer, pins *session.Memory) *gauges {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(&sessionCollector{pins: pins})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tellergate_build_info", Help: "Always 1; the label tells which build runs.",
	}, []string{"version"})
	info.WithLabelValues(build.Version).Set(1)
	r.MustRegister(info)
	return &gauges{
		applied: gauge("tellergate_revision_applied", "Revision of the rules that runs on this replica."),
		head:    gauge("tellergate_revision_head", "Latest revision that this replica has seen in the store."),
		since:   gauge("tellergate_revision_applied_timestamp_seconds", "When the running revision was applied: the last success."),
		failing: gauge("tellergate_revision_failing", "1 while the head revision cannot be applied here, else 0."),
	}
}

func (g *gauges) set(s live.Status) {
	g.applied.Set(float64(s.Applied))
	g.head.Set(float64(s.Head))
	if !s.Since.IsZero() {
		g.since.Set(float64(s.Since.UnixMilli()) / 1000)
	}
	failing := 0.0
	if s.Failing != "" {
		failing = 1
	}
	g.failing.Set(failing)
}

var (
	sessionsDesc = prometheus.NewDesc("tellergate_sessions", "Live sessions pinned to a version.",
		[]string{"service", "version"}, nil)
	pinKeysDesc    = prometheus.NewDesc("tellergate_pin_keys", "Pin keys kept in process.", nil, nil)
	pinEvictedDesc = prometheus.NewDesc("tellergate_pin_keys_evicted_total",
		"Pin keys that fell because sessions.memory.entries was reached; their sessions may change version.", nil, nil)
)

// A sessionCollector counts sessions when somebody scrapes, so that no request pays for a gauge.
type sessionCollector struct{ pins *session.Memory }

// Describe implements prometheus.Collector.
func (c *sessionCollector) Describe(out chan<- *prometheus.Desc) {
	out <- sessionsDesc
	out <- pinKeysDesc
	out <- pinEvictedDesc
}

// Collect implements prometheus.Collector.
func (c *sessionCollector) Collect(out chan<- prometheus.Metric) {
	for _, n := range c.pins.Counts() {
		out <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(n.Sessions), n.Service, n.Version)
	}
	kept, evicted := c.pins.Keys()
	out <- prometheus.MustNewConstMetric(pinKeysDesc, prometheus.GaugeValue, float64(kept))
	out <- prometheus.MustNewConstMetric(pinEvictedDesc, prometheus.CounterValue, float64(evicted))
}
