// Package report is what measurements come to: samples, whether each counts, medians and spreads of paired ratios, and
// the forms in which people read them.
//
// It is responsible for judging and printing. It measures nothing.
package report

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A Report is everything that was measured by one command.
type Report struct {
	At        time.Time         `json:"at"`
	Command   string            `json:"command"`
	Commit    string            `json:"commit"`
	Rounds    int               `json:"rounds"`
	Window    time.Duration     `json:"windowNanoseconds"`
	Machine   Machine           `json:"machine"`
	Versions  map[string]string `json:"versions"`
	Scenarios []Scenario        `json:"scenarios"`
}

// A Machine is where it was measured.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	Siblings  string `json:"proxyCoreSiblings"` // hardware threads of the proxy's core
	MemoryMiB int64  `json:"memoryMiB"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
	ProxyCore int    `json:"proxyCore"`
	LoadCore  int    `json:"loadCore"`
	First     bool   `json:"first"` // contenders, pods and generator ran in a real-time class where a rate was kept
}

// A Scenario is one kind of load on several contenders.
type Scenario struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	NotBuilt string   `json:"notBuilt,omitempty"` // what is missing in tellergate
	Note     string   `json:"note,omitempty"`     // what a reader has to know
	Rounds   int      `json:"rounds"`
	Subject  string   `json:"subject"` // the contender that the others are compared with
	Names    []string `json:"contenders"`
	Bytes    int      `json:"bytes"` // of payload per request
	// Disturbed: runs count although other programs took part of the cores. For development only.
	Disturbed bool     `json:"disturbed,omitempty"`
	Samples   []Sample `json:"samples"`
}

// A Load is how hard a contender was driven.
type Load string

// Every load is put on all contenders of a scenario before the next round.
const (
	Saturation Load = "saturation" // closed loop
	Half       Load = "half"       // open loop at 50 % of the lowest capacity of all contenders
	High       Load = "high"       // 80 %
	Idle       Load = "idle"       // connections that idle
)

// A Sample is one run. CPU and memory are those of all processes of the contender.
type Sample struct {
	Contender    string        `json:"contender"`
	Round        int           `json:"round"`
	Attempt      int           `json:"attempt"` // the how-manyth; those before were disturbed by other programs
	Load         Load          `json:"load"`
	Rate         float64       `json:"rate,omitempty"` // per second, as asked for
	PerSecond    float64       `json:"perSecond"`      // answers
	CPU          time.Duration `json:"cpuNanoseconds"` // per request
	LoadCPU      time.Duration `json:"loadCpuNanoseconds"`
	P50          time.Duration `json:"p50"`
	P99          time.Duration `json:"p99"`
	P999         time.Duration `json:"p999"`
	Late         time.Duration `json:"late"`      // by which 99 % of the requests left after they were due
	ProxyBusy    float64       `json:"proxyBusy"` // share of the proxy's core
	LoadBusy     float64       `json:"loadBusy"`
	ProxyForeign float64       `json:"proxyForeign"` // share of the proxy's core that others took
	LoadForeign  float64       `json:"loadForeign"`
	Stolen       float64       `json:"stolen"` // share of both cores that the hypervisor withheld
	Failed       int           `json:"failed"`
	Wrong        int           `json:"wrong"`
	Wandered     int           `json:"wandered"`
	Unstarted    int           `json:"unstarted"`
	Closed       int           `json:"closed"`        // connections that answers asked to close although the client wanted more
	Why          string        `json:"why,omitempty"` // the first failure
	Memory       int64         `json:"memory"`        // bytes
	PerIdle      float64       `json:"perIdle,omitempty"`
}

// Limits of what counts.
const (
	proxyFull    = 0.95 // a proxy that was this busy is what the measurement was limited by
	loadFree     = 0.85 // or else generator and pods must have been less busy than this
	foreignLimit = 0.05 // of either core may go to programs that do not belong to the measurement
	stolenLimit  = 0.05
	rateKept     = 0.98 // of the rate asked for must have been answered for CPU per request to be at that rate
)

// wrong says why a sample counts for nothing, or nothing.
func (s *Sample) wrong(disturbed bool) string {
	switch {
	case s.Failed > 0:
		return fmt.Sprintf("%d requests failed: %s", s.Failed, s.Why)
	case s.Wrong > 0:
		return fmt.Sprintf("%d answers from the wrong version", s.Wrong)
	case s.Wandered > 0:
		return fmt.Sprintf("%d requests left their session's pod", s.Wandered)
	case disturbed:
		return ""
	}
	return s.disturbance()
}

// WasDisturbed reports whether other programs took too much of a core.
func (s *Sample) WasDisturbed() bool { return s.disturbance() != "" }

// disturbance says what others took of the cores, or nothing where it was little.
func (s *Sample) disturbance() string {
	switch {
	case s.ProxyForeign > foreignLimit:
		return fmt.Sprintf("other programs took %.0f %% of the proxy's core", 100*s.ProxyForeign)
	case s.LoadForeign > foreignLimit:
		return fmt.Sprintf("other programs took %.0f %% of the other core", 100*s.LoadForeign)
	case s.Stolen > stolenLimit:
		return fmt.Sprintf("the hypervisor withheld %.0f %%", 100*s.Stolen)
	}
	return ""
}

// limited says why throughput and latency of a sample are not the proxy's, or nothing.
func (s *Sample) limited() string {
	if s.ProxyBusy >= proxyFull || s.LoadBusy < loadFree {
		return ""
	}
	return fmt.Sprintf("the proxy's core was %.0f %% busy, the one of generator and pods %.0f %%", 100*s.ProxyBusy, 100*s.LoadBusy)
}

// A Metric is a figure of a sample, with the load it is taken at and whether smaller is better.
type Metric struct {
	Name    string
	Title   string
	Load    Load
	Smaller bool
	Unit    string
	Scale   float64 // from the sample's unit to the printed one
	of      func(*Sample) float64
	invalid func(s *Sample, disturbed bool) string
}

func whole(s *Sample, disturbed bool) string {
	if why := s.wrong(disturbed); why != "" {
		return why
	}
	return s.limited()
}

func atRate(s *Sample, disturbed bool) string {
	if why := s.wrong(disturbed); why != "" {
		return why
	}
	if s.PerSecond < rateKept*s.Rate {
		return fmt.Sprintf("only %.0f of %.0f requests a second were answered", s.PerSecond, s.Rate)
	}
	return ""
}

// Metrics are all figures, in the order of the tables.
var Metrics = []Metric{
	{"cpu", "CPU per request at 50 %", Half, true, "µs", 1e-3, func(s *Sample) float64 { return float64(s.CPU) }, atRate},
	{"saturation", "requests/s at saturation", Saturation, false, "/s", 1, func(s *Sample) float64 { return s.PerSecond }, whole},
	{"p50half", "p50 at 50 %", Half, true, "µs", 1e-3, func(s *Sample) float64 { return float64(s.P50) }, whole},
	{"p99half", "p99 at 50 %", Half, true, "µs", 1e-3, func(s *Sample) float64 { return float64(s.P99) }, whole},
	{"p999half", "p99.9 at 50 %", Half, true, "µs", 1e-3, func(s *Sample) float64 { return float64(s.P999) }, whole},
	{"p50high", "p50 at 80 %", High, true, "µs", 1e-3, func(s *Sample) float64 { return float64(s.P50) }, whole},
	{"p99high", "p99 at 80 %", High, true, "µs", 1e-3, func(s *Sample) float64 { return float64(s.P99) }, whole},
	{"p999high", "p99.9 at 80 %", High, true, "µs", 1e-3, func(s *Sample) float64 { return float64(s.P999) }, whole},
	{"memory", "memory", Saturation, true, "MiB", 1.0 / (1 << 20), func(s *Sample) float64 { return float64(s.Memory) },
		func(*Sample, bool) string { return "" }},
	{"idle", "memory per idle connection", Idle, true, "KiB", 1.0 / (1 << 10), func(s *Sample) float64 { return s.PerIdle },
		func(s *Sample, _ bool) string {
			if s.Failed > 0 {
				return s.Why
			}
			return ""
		}},
}

// A Spread is what repeated measurements come to.
type Spread struct {
	Median, Low, High float64
	Count             int    // of measurements that count
	Why               string // where none does: the last reason
}

func spread(values []float64, why string) Spread {
	if len(values) == 0 {
		return Spread{Median: math.NaN(), Why: why}
	}
	slices.Sort(values)
	middle := len(values) / 2
	median := values[middle]
	if len(values)%2 == 0 {
		median = (values[middle-1] + values[middle]) / 2
	}
	return Spread{Median: median, Low: values[0], High: values[len(values)-1], Count: len(values)}
}

// notMeasured is the reason where no run was made.
const notMeasured = "not measured"

// Figure is a metric of a contender over all rounds.
func (s *Scenario) Figure(m Metric, contender string) Spread {
	var values []float64
	why := notMeasured
	for i := range s.Samples {
		sample := &s.Samples[i]
		if sample.Contender != contender || sample.Load != m.Load {
			continue
		}
		if invalid := m.invalid(sample, s.Disturbed); invalid != "" {
			why = invalid
			continue
		}
		values = append(values, m.of(sample)*m.Scale)
	}
	return spread(values, why)
}

// Ratio is the subject's figure divided by a contender's, round by round: what disturbs one of a pair disturbs the other.
func (s *Scenario) Ratio(m Metric, contender string) Spread {
	var values []float64
	why := notMeasured
	for i := range s.Samples {
		subject := &s.Samples[i]
		if subject.Contender != s.Subject || subject.Load != m.Load {
			continue
		}
		for j := range s.Samples {
			other := &s.Samples[j]
			if other.Contender != contender || other.Load != m.Load || other.Round != subject.Round {
				continue
			}
			if invalid := m.invalid(subject, s.Disturbed); invalid != "" {
				why = s.Subject + ": " + invalid
			} else if invalid := m.invalid(other, s.Disturbed); invalid != "" {
				why = contender + ": " + invalid
			} else if of := m.of(other); of > 0 {
				values = append(values, m.of(subject)/of)
			}
		}
	}
	return spread(values, why)
}

// Capacity is the lowest median of requests per second at saturation, whoever limited it: what every contender can do.
func (s *Scenario) Capacity() float64 {
	lowest := math.Inf(1)
	for _, name := range s.Names {
		var values []float64
		for i := range s.Samples {
			if s.Samples[i].Contender == name && s.Samples[i].Load == Saturation {
				values = append(values, s.Samples[i].PerSecond)
			}
		}
		if len(values) > 0 {
			lowest = min(lowest, spread(values, "").Median)
		}
	}
	return lowest
}
