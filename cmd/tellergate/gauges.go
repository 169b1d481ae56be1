package main

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tellergate/discovery/kubernetes"
	"tellergate/internal/build"
	"tellergate/internal/live"
	"tellergate/internal/seen"
	"tellergate/session"
)

// gauges tell which revision runs. What requests do is measured in package proxy.
type gauges struct {
	applied, head, since, failing prometheus.Gauge
}

func newGauges(r prometheus.Registerer) *gauges {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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

// A sessionCollector counts sessions when somebody scrapes, so that no request pays for a gauge. Counting walks every pin:
// it is done again only when it has rested for countRest times as long as it took, and
// tellergate_sessions_counted_timestamp_seconds says when that was.
type sessionCollector struct {
	pins *session.Memory
	now  func() time.Time

	mu      sync.Mutex
	counts  []session.Count // guarded by mu, as what follows
	counted time.Time       // when the count began
	rest    time.Time       // until then it is good enough
}

const countRest = 50 // a million pins take a second or so: they are counted once a minute

// count returns the sessions by version and when they were counted.
func (c *sessionCollector) count(pins func() ([]session.Count, error)) ([]session.Count, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began := c.now(); !began.Before(c.rest) {
		counts, _ := pins() // memory always knows
		c.counts, c.counted = session.Together(counts), began
		ended := c.now()
		c.rest = ended.Add(countRest * ended.Sub(began))
	}
	return c.counts, c.counted
}

// Describe implements prometheus.Collector.
func (c *sessionCollector) Describe(out chan<- *prometheus.Desc) {
	out <- sessionsDesc
	out <- sessionsKnown
	out <- sessionsCounted
	out <- pinKeysDesc
	out <- pinEvictedDesc
}

// Collect implements prometheus.Collector.
func (c *sessionCollector) Collect(out chan<- prometheus.Metric) {
	counts, counted := c.count(c.pins.Counts)
	for _, n := range counts {
		out <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(n.Sessions), n.Service, n.Version)
	}
	out <- prometheus.MustNewConstMetric(sessionsKnown, prometheus.GaugeValue, 1)
	out <- prometheus.MustNewConstMetric(sessionsCounted, prometheus.GaugeValue, float64(counted.UnixMilli())/1000)
	kept, evicted := c.pins.Keys()
	out <- prometheus.MustNewConstMetric(pinKeysDesc, prometheus.GaugeValue, float64(kept))
	out <- prometheus.MustNewConstMetric(pinEvictedDesc, prometheus.CounterValue, float64(evicted))
}

var (
	seenHeld = prometheus.NewDesc("tellergate_seen_identities",
		"Identities served within the last day that are remembered for impacts; one of two services counts twice.", nil, nil)
	seenTooLong = prometheus.NewDesc("tellergate_seen_identities_too_long",
		"Of tellergate_seen_identities, those known by number only because their values are too long.", nil, nil)
)

// A seenCollector tells how many identities are remembered.
type seenCollector struct{ seen *seen.Sketch }

// Describe implements prometheus.Collector.
func (c seenCollector) Describe(out chan<- *prometheus.Desc) { out <- seenHeld; out <- seenTooLong }

// Collect implements prometheus.Collector.
func (c seenCollector) Collect(out chan<- prometheus.Metric) {
	held, long := c.seen.Len()
	out <- prometheus.MustNewConstMetric(seenHeld, prometheus.GaugeValue, float64(held))
	out <- prometheus.MustNewConstMetric(seenTooLong, prometheus.GaugeValue, float64(long))
}

// A kubernetesCollector tells how fresh the pods of Kubernetes are, when somebody scrapes.
type kubernetesCollector struct{ source *kubernetes.Source }

func kubernetesDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("tellergate_kubernetes_"+name, help, nil, nil)
}

var (
	kubeReferences = kubernetesDesc("references", "Services, ports and labels that rules name and that are followed.")
	kubeEndpoints  = kubernetesDesc("endpoints", "Endpoints in the pod sets of all references.")
	kubeUnknown    = kubernetesDesc("unknown", "References whose pods have never been read.")
	kubeStale      = kubernetesDesc("stale", "References whose changes do not arrive: their pods are the last known ones.")
	kubeStaleSince = kubernetesDesc("stale_since_timestamp_seconds", "Since when the longest stale one is; 0 if none is.")
	kubeTruncated  = kubernetesDesc("over_capacity", "Legacy Endpoints objects that do not name every pod of their service.")
	kubeRefused    = kubernetesDesc("refused", "Slices and addresses left out because they cannot be used, such as host names.")
	kubeEvents     = kubernetesDesc("events_total", "Changes received from the API server.")
	kubeLists      = kubernetesDesc("lists_total", "Whole lists read from the API server.")
	kubeFailures   = kubernetesDesc("failures_total", "Lists and watches that failed.")
	kubeHeld       = kubernetesDesc("held_total", "Lists that emptied a pod set and were held back for discovery.kubernetes.holdEmpty.")
	kubeChanges    = kubernetesDesc("changes_total", "Pod sets published.")
)

// Describe implements prometheus.Collector.
func (c kubernetesCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		kubeReferences, kubeEndpoints, kubeUnknown, kubeStale, kubeStaleSince, kubeTruncated, kubeRefused,
		kubeEvents, kubeLists, kubeFailures, kubeHeld, kubeChanges,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c kubernetesCollector) Collect(out chan<- prometheus.Metric) {
	s := c.source.Status()
	since := 0.0
	if !s.StaleSince.IsZero() {
		since = float64(s.StaleSince.UnixMilli()) / 1000
	}
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(kubeReferences, float64(s.References))
	gauge(kubeEndpoints, float64(s.Endpoints))
	gauge(kubeUnknown, float64(s.Unknown))
	gauge(kubeStale, float64(s.Stale))
	gauge(kubeStaleSince, since)
	gauge(kubeTruncated, float64(s.Truncated))
	gauge(kubeRefused, float64(s.Refused))
	counter(kubeEvents, s.Events)
	counter(kubeLists, s.Lists)
	counter(kubeFailures, s.Failures)
	counter(kubeHeld, s.Held)
	counter(kubeChanges, s.Changes)
}
