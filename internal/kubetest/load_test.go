package kubetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A load is requests, every other one a POST with a serial number of its own, until it is ended.
type load struct {
	t       *testing.T
	g       *gateway
	workers sync.WaitGroup
	quit    chan struct{}
	sent    atomic.Int64

	mu      sync.Mutex
	samples []sample // guarded by mu
	ledger  int64    // size of the pods' ledger at the beginning
}

type sample struct {
	at     time.Time // begin
	took   time.Duration
	post   bool
	serial string
	fault  string // empty: 200
	pod    string
}

var serials atomic.Int64

// startLoad starts workers that send as fast as the answers come; header is added to every request of worker i.
func startLoad(t *testing.T, g *gateway, workers int, header func(i int) (name, value string)) *load {
	l := &load{t: t, g: g, quit: make(chan struct{})}
	if info, err := os.Stat(cluster.path("ledger")); err == nil {
		l.ledger = info.Size()
	}
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	client := &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(transport.CloseIdleConnections)
	for i := range workers {
		l.workers.Go(func() {
			var mine []sample
			defer func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.samples = append(l.samples, mine...)
			}()
			for n := 0; ; n++ {
				select {
				case <-l.quit:
					return
				default:
				}
				s := sample{post: n%2 == 1}
				method, body := http.MethodGet, io.Reader(nil)
				if s.post {
					method, body = http.MethodPost, bytes.NewReader([]byte("amount=100"))
					s.serial = fmt.Sprint(serials.Add(1))
				}
				request, err := http.NewRequest(method, "http://"+g.frontend+"/transfer", body)
				if err != nil {
					panic(err)
				}
				if s.post {
					request.Header.Set("X-Serial", s.serial)
					// The test's own client must not send a POST again.
					request.GetBody = nil
				}
				if header != nil {
					request.Header.Set(header(i))
				}
				s.at = time.Now()
				response, err := client.Do(request)
				if err != nil {
					s.fault = err.Error()
				} else {
					text, err := io.ReadAll(response.Body)
					_ = response.Body.Close()
					s.pod = response.Header.Get("X-Pod")
					if err != nil {
						s.fault = err.Error()
					} else if response.StatusCode != http.StatusOK {
						s.fault = fmt.Sprintf("%d %s", response.StatusCode, text)
					}
				}
				s.took = time.Since(s.at)
				mine = append(mine, s)
				l.sent.Add(1)
			}
		})
	}
	return l
}

// await waits until n requests have been answered since the load began.
func (l *load) await(n int64) {
	l.t.Helper()
	for begin := time.Now(); l.sent.Load() < n; {
		if time.Since(begin) > 10*time.Minute {
			l.t.Fatalf("%d of %d requests after ten minutes", l.sent.Load(), n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// end stops the load and returns every request, in the order of their beginning.
func (l *load) end() []sample {
	close(l.quit)
	l.workers.Wait()
	slices.SortFunc(l.samples, func(a, b sample) int { return a.at.Compare(b.at) })
	return l.samples
}

// executed returns how often the pods executed each POST since the load began.
func (l *load) executed() map[string]int {
	f, err := os.Open(cluster.path("ledger"))
	require.NoError(l.t, err)
	defer f.Close()
	_, err = f.Seek(l.ledger, io.SeekStart)
	require.NoError(l.t, err)
	times := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		times[lines.Text()]++
	}
	return times
}

// judge counts what went wrong. Every POST that was answered with success was executed exactly once.
func (l *load) judge(samples []sample) (failedGET, failedPOST, twice int, faults map[string]int) {
	l.t.Helper()
	executed, lost := l.executed(), 0
	faults = map[string]int{}
	for _, s := range samples {
		if s.fault != "" {
			faults[requestID.ReplaceAllString(s.fault, "…")]++
			if s.post {
				failedPOST++
			} else {
				failedGET++
			}
		} else if s.post && executed[s.serial] == 0 {
			lost++
		}
	}
	for _, n := range executed {
		if n > 1 {
			twice++
		}
	}
	require.Zero(l.t, lost, "POSTs answered with success that no pod executed")
	return failedGET, failedPOST, twice, faults
}

// p99 returns the 99th percentile of the durations of requests that began in [from, to).
func p99(samples []sample, from, to time.Time) time.Duration {
	var took []time.Duration
	for _, s := range samples {
		if !s.at.Before(from) && s.at.Before(to) {
			took = append(took, s.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}
