package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"tellergate/bench/load"
	"tellergate/bench/report"
)

// A meter reads the clocks of cores and processes at both ends of a window.
type meter struct {
	at         time.Time
	cores      map[int]coreTime
	proxy, own time.Duration // CPU time: of the contender, and of generator and pods

	took                 time.Duration
	proxyCore, loadCore  coreTime // in the window
	proxyTaken, ownTaken time.Duration
	err                  error
}

func (m *meter) read(c *contender) (cores map[int]coreTime, proxy, own time.Duration) {
	cores, err := readCores()
	proxy, errProxy := c.cpu()
	own, errOwn := cpuTime(os.Getpid())
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

// A swapping replaces a tellergate's rules again and again, each time by another text.
type swapping struct {
	quit chan struct{}
	done chan error
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
	close(s.quit)
	return <-s.done
}
