package proxy

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tellergate/rules"
)

// durationBounds are the upper bounds of the histogram of durations; slower requests are in none of them.
var durationBounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// codeClasses are the values of the label code, by status / 100.
var codeClasses = [...]string{1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}

// A tally counts the requests of one version and how long they took. Cores do not share what they write: each request
// object counts in a stripe of its own, and whoever reads adds the stripes up. It is safe for concurrent use.
type tally struct {
	stripes []stripe
}

type stripe struct {
	requests [len(codeClasses)][rules.Reasons]atomic.Uint64
	took     [len(durationBounds) + 1]atomic.Uint64 // by the first bound that is not exceeded
	sum      atomic.Int64                           // ns
	_        [128]byte
}

// observe counts one request. turn is any number that requests of one core have in common.
func (t *tally) observe(turn uint32, status int, reason rules.Reason, took time.Duration) {
	s := &t.stripes[turn%uint32(len(t.stripes))]
	s.requests[min(max(status/100, 1), len(codeClasses)-1)][reason].Add(1)
	i := 0
	for i < len(durationBounds) && took > durationBounds[i] {
		i++
	}
	s.took[i].Add(1)
	s.sum.Add(int64(took))
}

// tallies holds the tally of each version that there has been since the start: counters go on where a version comes back.
// It is the collector of their metrics.
type tallies struct {
	mu sync.Mutex
	of map[versionName]*tally // guarded by mu
}

type versionName struct{ service, version string }

// version returns the tally of one version.
func (all *tallies) version(service, version string) *tally {
	all.mu.Lock()
	defer all.mu.Unlock()
	name := versionName{service, version}
	t := all.of[name]
	if t == nil {
		t = &tally{stripes: make([]stripe, runtime.GOMAXPROCS(0))}
		all.of[name] = t
	}
	return t
}

// Served returns how many requests have been sent to a version and answered, or failed there, since the start.
func (p *Proxy) Served() uint64 {
	all := p.metrics.versions
	all.mu.Lock()
	defer all.mu.Unlock()
	n := uint64(0)
	for _, t := range all.of {
		for i := range t.stripes {
			for b := range t.stripes[i].took {
				n += t.stripes[i].took[b].Load()
			}
		}
	}
	return n
}

var (
	requestsDesc = prometheus.NewDesc("tellergate_requests_total",
		"Requests sent to a version, by class of the answer's status and by who decided.",
		[]string{"service", "version", "code", "reason"}, nil)
	durationDesc = prometheus.NewDesc("tellergate_request_duration_seconds",
		"Time from a request's header to the end of its answer.", []string{"service", "version"}, nil)
)

// Describe implements prometheus.Collector.
func (all *tallies) Describe(out chan<- *prometheus.Desc) { out <- requestsDesc; out <- durationDesc }

// Collect implements prometheus.Collector.
func (all *tallies) Collect(out chan<- prometheus.Metric) {
	all.mu.Lock()
	names := make([]versionName, 0, len(all.of))
	for name := range all.of {
		names = append(names, name)
	}
	all.mu.Unlock()
	slices.SortFunc(names, func(a, b versionName) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.version, b.version))
	})
	for _, name := range names {
		all.version(name.service, name.version).collect(out, name)
	}
}

func (t *tally) collect(out chan<- prometheus.Metric, name versionName) {
	for class := 1; class < len(codeClasses); class++ {
		for reason := range rules.Reasons {
			n := uint64(0)
			for i := range t.stripes {
				n += t.stripes[i].requests[class][reason].Load()
			}
			out <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(n),
				name.service, name.version, codeClasses[class], rules.Reason(reason).String())
		}
	}
	buckets, count, sum := make(map[float64]uint64, len(durationBounds)), uint64(0), int64(0)
	for b := range len(durationBounds) + 1 {
		for i := range t.stripes {
			count += t.stripes[i].took[b].Load()
		}
		if b < len(durationBounds) {
			buckets[durationBounds[b].Seconds()] = count
		}
	}
	for i := range t.stripes {
		sum += t.stripes[i].sum.Load()
	}
	out <- prometheus.MustNewConstHistogram(durationDesc, count, time.Duration(sum).Seconds(), buckets, name.service, name.version)
}
