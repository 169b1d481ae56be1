package proxy

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the proxy's own. Nothing in them is labelled by an identity; everything a request touches is resolved
// before it comes.
type metrics struct {
	versions      *tallies
	refused       map[*refusal]prometheus.Counter
	disagreements map[string]prometheus.Counter // by attribute
	pinsWritten   prometheus.Counter
	pinsEnded     prometheus.Counter
	panics        prometheus.Counter
	abandoned     prometheus.Counter
	cut           prometheus.Counter
	acceptFailed  prometheus.Counter
	waited        waits
}

func newMetrics(p *Proxy, register prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		versions:      &tallies{of: make(map[versionName]*tally)},
		refused:       make(map[*refusal]prometheus.Counter, len(refusals)),
		disagreements: make(map[string]prometheus.Counter),
		pinsWritten: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tellergate_pins_written_total",
			Help: "Pins written because a session began, was decided anew or was moved.",
		}),
		pinsEnded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tellergate_pins_ended_total",
			Help: "Pins ended by a logout.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tellergate_panics_total",
			Help: "Requests that made the gateway panic. Each is a defect of tellergate.",
		}),
	}
	m.abandoned = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tellergate_abandoned_total",
		Help: "Requests ended at the pod because the client had gone away.",
	})
	m.cut = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tellergate_answers_cut_total",
		Help: "Answers that ended early because the pod's connection did, or took too long.",
	})
	m.acceptFailed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tellergate_accept_failures_total",
		Help: "Connections that could not be accepted for want of descriptors or memory.",
	})
	m.waited.histogram = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "tellergate_session_wait_seconds",
		Help: "How long requests that had to wait for the store of sessions waited for it, all their waits together; most " +
			"requests never do.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .015, .02, .025, .03, .05, .1, .25, .5, 1},
	})
	refusedTotal := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tellergate_refused_total",
		Help: "Requests that tellergate answered itself, by the code in the answer.",
	}, []string{"code"})
	for _, no := range refusals {
		m.refused[no] = refusedTotal.WithLabelValues(no.code)
	}
	disagreements := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tellergate_identity_disagreements_total",
		Help: "Requests whose claimed attribute differs from what the client's subnet says.",
	}, []string{"attribute"})
	for i := range p.schema.Len() {
		name := p.schema.Attribute(i).Name
		m.disagreements[name] = disagreements.WithLabelValues(name)
	}
	all := []prometheus.Collector{
		m.versions, m.pinsWritten, m.pinsEnded, m.panics, m.abandoned, m.cut, m.acceptFailed, refusedTotal, disagreements, endpoints{p},
		m.waited.histogram, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tellergate_session_wait_max_seconds",
			Help: "The longest that a request has waited for the store of sessions since the start.",
		}, func() float64 { return time.Duration(m.waited.longest.Load()).Seconds() }),
	}
	all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "tellergate_upstream_closed_idle_total",
		Help: "Idle connections that pods closed.",
	}, func() float64 { return float64(p.pool.Reuse().ClosedByPods) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "tellergate_upstream_reuse_avoided_total",
		Help: "Requests that cannot be sent twice and got a new connection, because their pod might have been about to " +
			"close the idle one.",
	}, func() float64 { return float64(p.pool.Reuse().Avoided) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "tellergate_upstream_repeated_total",
		Help: "Requests sent to a pod again, because the connection ended before an answer began.",
	}, func() float64 { return float64(p.pool.Repeats().Sent) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "tellergate_upstream_repeats_over_budget_total",
		Help: "Requests that could have been sent again and were answered 502, because too many of their version were being.",
	}, func() float64 { return float64(p.pool.Repeats().OverBudget) }))
	for _, f := range p.frontends {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "tellergate_frontend_connections",
			Help:        "Open client connections of a frontend.",
			ConstLabels: prometheus.Labels{"frontend": f.name},
		}, func() float64 { return float64(f.open()) }))
	}
	for _, f := range p.frontends {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "tellergate_frontend_tunnels",
			Help:        "Connections of a frontend that were upgraded, to WebSocket mostly.",
			ConstLabels: prometheus.Labels{"frontend": f.name},
		}, func() float64 { return float64(f.tunnels.Load()) }))
	}
	for _, f := range p.frontends {
		if err := f.countHandshakes(register); err != nil {
			return nil, err
		}
	}
	if access := p.access; access != nil {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "tellergate_accesslog_dropped_total",
			Help: "Access log lines lost because accessLog.buffer was full or the log could not be written.",
		}, func() float64 { return float64(access.dropped.Load()) }))
	}
	for _, c := range all {
		if err := register.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// waits are those of requests for the store of sessions, one for each request that waited.
type waits struct {
	histogram prometheus.Histogram
	longest   atomic.Int64 // ns
}

func (w *waits) observe(took time.Duration) {
	w.histogram.Observe(took.Seconds())
	for {
		longest := w.longest.Load()
		if int64(took) <= longest || w.longest.CompareAndSwap(longest, int64(took)) {
			return
		}
	}
}

// endpoints collects how many endpoints each version has, when it is asked.
type endpoints struct{ p *Proxy }

var endpointsDesc = prometheus.NewDesc("tellergate_endpoints",
	"Endpoints of a version by state; unusable ones cannot be dialled at the moment.", []string{"service", "version", "state"}, nil)

var patienceDesc = prometheus.NewDesc("tellergate_endpoint_patience_seconds",
	"How long the least patient endpoint of a version has been seen to leave an idle connection open; 0: unknown. A request that "+
		"cannot be sent twice takes a connection that has been idle for at most half of that.", []string{"service", "version"}, nil)

func (e endpoints) Describe(out chan<- *prometheus.Desc) { out <- endpointsDesc; out <- patienceDesc }

func (e endpoints) Collect(out chan<- prometheus.Metric) {
	t := e.p.table.Load()
	if t == nil {
		return
	}
	for i := range t.rules.Len() {
		service := t.rules.Service(i)
		for j := range service.Len() {
			states := map[string]int{"active": 0, "draining": 0, "unusable": 0}
			patience := time.Duration(0)
			for _, endpoint := range t.versions[i][j].group.Status() {
				if p := endpoint.Patience; p > 0 && (patience == 0 || p < patience) {
					patience = p
				}
				if endpoint.Usable {
					states[endpoint.State.String()]++
				} else {
					states["unusable"]++
				}
			}
			out <- prometheus.MustNewConstMetric(patienceDesc, prometheus.GaugeValue, patience.Seconds(),
				service.Name(), service.Version(j).Name())
			for state, count := range states {
				out <- prometheus.MustNewConstMetric(endpointsDesc, prometheus.GaugeValue, float64(count),
					service.Name(), service.Version(j).Name(), state)
			}
		}
	}
}

// A rareLog lets one message a second through.
type rareLog struct {
	last       atomic.Int64 // Unix seconds of the last one let through
	suppressed atomic.Uint64
}

// allow reports whether to log now, and how many were not logged since the last time.
func (l *rareLog) allow(now time.Time) (suppressed uint64, ok bool) {
	last, second := l.last.Load(), now.Unix()
	if second == last || !l.last.CompareAndSwap(last, second) {
		l.suppressed.Add(1)
		return 0, false
	}
	return l.suppressed.Swap(0), true
}
