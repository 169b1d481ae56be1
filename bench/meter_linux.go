package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"tellergate/bench/load"
	"tellergate/bench/report"
)

// A meter reads the clocks of cores and processes at both ends of a window.
type meter struct {
	at         time.Time
	swaps      *swapping // while it is measured; nil: none
	cores      map[int]coreTime
	proxy, own time.Duration // CPU time: of the contender, and of generator, pods, Redis and who replaces its list

	took                 time.Duration
	proxyCore, loadCore  coreTime // in the window
	proxyTaken, ownTaken time.Duration
	err                  error
}

func (m *meter) read(c *contender) (cores map[int]coreTime, proxy, own time.Duration) {
	cores, err := readCores()
	proxy, errProxy := c.cpu()
	own, errOwn := cpuTime(os.Getpid())
	if c.redis != nil {
		redis, err := c.redis.cpu()
		own, errOwn = own+redis, errors.Join(errOwn, err)
	}
	if m.swaps != nil && m.swaps.pid != 0 {
		swaps, err := cpuTime(m.swaps.pid)
		own, errOwn = own+swaps, errors.Join(errOwn, err)
	}
	m.err = errors.Join(m.err, err, errProxy, errOwn)
	return cores, proxy, own
}

func (m *meter) begin(_ *bench, c *contender) {
	m.at = time.Now()
	m.cores, m.proxy, m.own = m.read(c)
}

func (m *meter) end(b *bench, c *contender) {
	m.took = time.Since(m.at)
	cores, proxy, own := m.read(c)
	m.proxyTaken, m.ownTaken = proxy-m.proxy, own-m.own
	m.proxyCore = cores[b.proxyCore].since(m.cores[b.proxyCore])
	m.loadCore = cores[b.loadCore].since(m.cores[b.loadCore])
}

// since is what a core has done since an earlier reading.
func (t coreTime) since(earlier coreTime) coreTime {
	return coreTime{t.busy - earlier.busy, t.all - earlier.all, t.stolen - earlier.stolen}
}

// into fills in a sample.
func (m *meter) into(s *report.Sample, r *load.Result) {
	s.PerSecond = float64(r.Answered) / r.Window.Seconds()
	if r.Answered > 0 {
		s.CPU = m.proxyTaken / time.Duration(r.Answered)
		s.LoadCPU = m.ownTaken / time.Duration(r.Answered)
	}
	s.P50, s.P99, s.P999 = r.Latency.Quantile(0.5), r.Latency.Quantile(0.99), r.Latency.Quantile(0.999)
	s.Late = r.Late.Quantile(0.99)
	s.Failed, s.Wrong, s.Wandered, s.Unstarted, s.Closed = r.Failed, r.Wrong, r.Wandered, r.Unstarted, r.Closed
	if r.Why != nil {
		s.Why = r.Why.Error()
	}
	share := func(part, whole time.Duration) float64 { return float64(part) / float64(max(whole, 1)) }
	s.ProxyBusy, s.LoadBusy = share(m.proxyCore.busy, m.proxyCore.all), share(m.loadCore.busy, m.loadCore.all)
	s.ProxyForeign = max(s.ProxyBusy-share(m.proxyTaken, m.took), 0)
	s.LoadForeign = max(s.LoadBusy-share(m.ownTaken, m.took), 0)
	s.Stolen = share(m.proxyCore.stolen+m.loadCore.stolen, m.proxyCore.all+m.loadCore.all)
}

// A swapping replaces a tellergate's rules or its list again and again, each time by another text; nil replaces nothing.
type swapping struct {
	quit chan struct{}
	done chan error
	pid  int // of the process that does it; 0: this one
}

// beginSwaps begins to replace what the contender's name says.
func (b *bench) beginSwaps(c *contender) (*swapping, error) {
	switch c.name {
	case withSwaps:
		return c.swap(), nil
	case withListSwaps:
		return c.swapList(b.self)
	}
	return nil, nil
}

// swap begins to replace the rules ten times a second.
func (c *contender) swap() *swapping {
	s := &swapping{quit: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for mark := 1; ; mark++ {
			select {
			case <-s.quit:
				s.done <- nil
				return
			case <-tick.C:
				if err := c.putRules(mark); err != nil {
					s.done <- fmt.Errorf("replacing the rules: %w", err)
					return
				}
			}
		}
	}()
	return s
}

// stop ends it and says whether every replacement was taken.
func (s *swapping) stop() error {
	if s == nil {
		return nil
	}
	close(s.quit)
	return <-s.done
}

// withoutRedis returns how many requests have gone on without Redis since the contender was started: nothing is measured
// where there are any.
func (c *contender) withoutRedis() (n int, err error) {
	if c.redis == nil {
		return 0, nil
	}
	answer, err := http.Get(c.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	found := 0
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name != "tellergate_redis_late_total" && name != "tellergate_redis_skipped_total" {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		found++
		n += int(v)
	}
	if err := lines.Err(); err != nil || found != 2 {
		return 0, errors.Join(err, fmt.Errorf("tellergate's metrics do not tell who went on without Redis"))
	}
	return n, nil
}
