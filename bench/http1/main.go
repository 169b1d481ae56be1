// Command http1 measures what the data plane promises about memory, hostile clients and pods that close idle
// connections: it starts the tellergate binary it is given, pods, and HAProxy where a comparison is asked for, and prints
// one line for each goal. It exits with 1 if one is missed.
//
//	go run ./bench/http1 -bin bin/tellergate
//	go run ./bench/http1 -only stale
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	bin := flag.String("bin", "bin/tellergate", "the binary to measure")
	only := flag.String("only", "large,uploads,slow,stale", "the parts to measure")
	flag.Parse()
	if err := run(*bin, strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A bench is the processes and pods of one run.
type bench struct {
	dir            string
	gateway, proxy *exec.Cmd // tellergate and HAProxy
	front, haproxy string
	pod, stale     string
	stalled        chan struct{} // closed: the pod reads on
	missed         bool

	mu       sync.Mutex
	executed map[string]int // by request id, at the idle-closing pod
}

func run(bin string, parts []string) error {
	dir, err := os.MkdirTemp("", "http1")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, stalled: make(chan struct{}), executed: make(map[string]int)}
	defer b.stop()
	if err := b.start(bin); err != nil {
		return err
	}
	steps := map[string]func() error{
		"large": b.largeBodies, "uploads": b.stalledUploads, "slow": b.slowHeaders, "stale": b.staleConnections,
	}
	for _, part := range parts {
		step, ok := steps[part]
		if !ok {
			return fmt.Errorf("-only names %q; the parts are large, uploads, slow, stale", part)
		}
		if err := step(); err != nil {
			return err
		}
	}
	if b.missed {
		return errors.New("a goal was missed")
	}
	return nil
}

func (b *bench) tell(ok bool, format string, args ...any) {
	verdict := "holds "
	if !ok {
		verdict, b.missed = "MISSED", true
	}
	fmt.Println(verdict, fmt.Sprintf(format, args...))
}

func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (b *bench) start(bin string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.pod = l.Addr().String()
	go http.Serve(l, http.HandlerFunc(b.serve))
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	b.stale = l.Addr().String()
	go b.serveStale(l)

	b.front, b.haproxy = freeAddress(), freeAddress()
	admin := freeAddress()
	settings := fmt.Sprintf(`
frontends: [{name: counter, address: %q}]
rules: {path: %q}
admin: {address: %q}
accessLog: {path: "off"}
shutdown: {delay: 0s}
`, b.front, filepath.Join(b.dir, "data"), admin)
	path := filepath.Join(b.dir, "tellergate.yaml")
	if err := os.WriteFile(path, []byte(settings), 0o600); err != nil {
		return err
	}
	b.gateway = exec.Command(bin, "--settings", path)
	if err := b.gateway.Start(); err != nil {
		return err
	}
	document := fmt.Sprintf(`
services:
  - {name: counter, match: {hosts: [counter]}, default: v1, versions: [{name: v1, pods: {static: [%q]}}]}
  - {name: stale, match: {hosts: [stale]}, default: v1, versions: [{name: v1, pods: {static: [%q]}}]}
`, b.pod, b.stale)
	if err := publish(admin, document); err != nil {
		return err
	}
	haproxy := fmt.Sprintf(`
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 2s
frontend f
  bind %s
  default_backend b
backend b
  server p %s
`, b.haproxy, b.stale)
	path = filepath.Join(b.dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(haproxy), 0o600); err != nil {
		return err
	}
	b.proxy = exec.Command("haproxy", "-f", path, "-q")
	if err := b.proxy.Start(); err != nil {
		return fmt.Errorf("HAProxy is compared with and has to be installed: %w", err)
	}
	return eventually(func() bool {
		for _, address := range []string{b.front, b.haproxy} {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	})
}

func publish(admin, document string) error {
	var last error
	err := eventually(func() bool {
		request, _ := http.NewRequest(http.MethodPut, "http://"+admin+"/api/v1/rules", strings.NewReader(document))
		request.Header.Set("Content-Type", "application/yaml")
		request.Header.Set("If-Match", `"0"`)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			last = err
			return false
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(answer.Body)
			last = fmt.Errorf("the rules were not accepted: %s %s", answer.Status, text)
			return false
		}
		return true
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

func eventually(condition func() bool) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if condition() {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("what was waited for did not come within 20s")
		}
	}
}

func (b *bench) stop() {
	for _, c := range []*exec.Cmd{b.gateway, b.proxy} {
		if c != nil && c.Process != nil {
			c.Process.Kill()
			c.Wait()
		}
	}
}

// memory returns the resident memory of tellergate, now or at its highest since forget, in MB.
func (b *bench) memory(key string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.gateway.Process.Pid))
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, key+":"); found {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kb) / 1024
		}
	}
	panic("no " + key)
}

func (b *bench) forget() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", b.gateway.Process.Pid), []byte("5"), 0)
}

func (b *bench) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/big":
		n, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.CopyN(w, zeros{}, n)
	case "/stall":
		<-b.stalled
	default:
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (b *bench) request(method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://"+b.front+path, body)
	if err != nil {
		return nil, err
	}
	r.Host = "counter"
	return http.DefaultClient.Do(r)
}

func (b *bench) largeBodies() error {
	const size = 1 << 30
	for _, direction := range []string{"down", "up", "up in chunks"} {
		b.forget()
		var answer *http.Response
		var err error
		began, n := time.Now(), int64(0)
		if direction == "down" {
			if answer, err = b.request("GET", "/big?n="+strconv.Itoa(size), nil); err != nil {
				return err
			}
			n, err = io.Copy(io.Discard, answer.Body)
		} else {
			r, _ := http.NewRequest("POST", "http://"+b.front+"/", io.LimitReader(zeros{}, size))
			r.Host = "counter"
			if direction == "up" {
				r.ContentLength = size
			}
			if answer, err = http.DefaultClient.Do(r); err != nil {
				return err
			}
			text, _ := io.ReadAll(answer.Body)
			n, _ = strconv.ParseInt(string(text), 10, 64)
		}
		answer.Body.Close()
		high := b.memory("VmHWM")
		b.tell(err == nil && n == size && high <= 32, "1 GiB %s: %d bytes in %.1f s, at most %.1f MB resident (goal 32)",
			direction, n, time.Since(began).Seconds(), high)
	}
	return nil
}

// givenBack is how long memory may take to be given back once nothing happens any more.
const givenBack = 90 * time.Second

func (b *bench) stalledUploads() error {
	const uploads, size = 64, 4 << 20
	before := b.memory("RssAnon") // without the pages of the program itself, which stay once they were needed
	start := b.memory("VmRSS")
	var clients []net.Conn
	for range uploads {
		c, err := net.Dial("tcp", b.front)
		if err != nil {
			return err
		}
		clients = append(clients, c)
		go func() {
			fmt.Fprintf(c, "POST /stall HTTP/1.1\r\nHost: counter\r\nContent-Length: %d\r\n\r\n", size)
			c.Write(make([]byte, size)) // until nobody takes any more
		}()
	}
	time.Sleep(3 * time.Second)
	grown, during := b.memory("VmRSS")-start, b.memory("RssAnon")
	for _, c := range clients {
		c.Close()
	}
	close(b.stalled)
	ended := time.Now()
	after := b.memory("RssAnon")
	for after > before+1 && time.Since(ended) < givenBack {
		time.Sleep(time.Second)
		after = b.memory("RssAnon")
	}
	b.tell(grown <= 10 && after <= before+1,
		"64 stalled 4 MB uploads: %.1f MB more resident; %.1f MB of its own before, %.1f MB during, %.1f MB %.0f s afterwards "+
			"(goal: at most 10 more, given back within %s)",
		grown, before, during, after, time.Since(ended).Seconds(), givenBack)
	return nil
}

func (b *bench) slowHeaders() error {
	const slow, probes = 3000, 1000
	before := b.memory("VmRSS")
	answers := make(chan string, slow)
	for range slow {
		c, err := net.Dial("tcp", b.front)
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			go func() {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: counter\r\nX-Slow: ")
				for range 30 {
					time.Sleep(time.Second)
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
				}
			}()
			line, _ := bufio.NewReader(c).ReadString('\n')
			answers <- strings.TrimSpace(line)
		}()
	}
	during := b.memory("VmRSS")
	good, took := 0, make([]time.Duration, 0, probes)
	for range probes {
		began := time.Now()
		answer, err := b.request("GET", "/", nil)
		if err != nil {
			continue
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode == 200 {
			good++
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	timeouts := 0
	for range slow {
		if <-answers == "HTTP/1.1 408 Request Timeout" {
			timeouts++
		}
	}
	b.tell(good == probes, "%d of %d probes answered beside %d slow headers, 99%% of them within %s; %d of these got 408; %.1f KB each",
		good, probes, slow, took[len(took)*99/100].Round(10*time.Microsecond), timeouts, (during-before)*1024/slow)
	return nil
}

const staleAfter = 20 * time.Millisecond

// serveStale is a pod that closes connections that were idle for a while, and counts what it executes. The limit is on
// idle connections: a new one has time for its first request, as with every server in use.
func (b *bench) serveStale(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for {
				request, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				io.Copy(io.Discard, request.Body)
				b.mu.Lock()
				b.executed[request.Header.Get("X-Id")]++
				b.mu.Unlock()
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				c.SetReadDeadline(time.Now().Add(staleAfter))
			}
		}()
	}
}

func (b *bench) staleConnections() error {
	var all sync.WaitGroup
	type tally struct{ gets, posts, failedGets, failedPosts, twice atomic.Int64 }
	tallies := map[string]*tally{"tellergate": {}, "HAProxy": {}}
	for name, address := range map[string]string{"tellergate": b.front, "HAProxy": b.haproxy} {
		t := tallies[name]
		transport := &http.Transport{MaxIdleConnsPerHost: 16}
		for client := range 8 {
			all.Go(func() {
				for n := range 1000 {
					method, body := "GET", io.Reader(nil)
					if n%2 == 1 {
						method, body = "POST", bytes.NewReader([]byte("body"))
					}
					id := fmt.Sprintf("%s-%d-%d", name, client, n)
					r, _ := http.NewRequest(method, "http://"+address+"/", body)
					r.Host = "stale"
					r.Header.Set("X-Id", id)
					answer, err := transport.RoundTrip(r)
					failed := err != nil
					if err == nil {
						io.Copy(io.Discard, answer.Body)
						answer.Body.Close()
						failed = answer.StatusCode != 200
					}
					if method == "GET" {
						t.gets.Add(1)
						if failed {
							t.failedGets.Add(1)
						}
					} else {
						t.posts.Add(1)
						if failed {
							t.failedPosts.Add(1)
						}
						b.mu.Lock()
						if b.executed[id] > 1 {
							t.twice.Add(1)
						}
						b.mu.Unlock()
					}
					time.Sleep(staleAfter - 8*time.Millisecond + rand.N(12*time.Millisecond))
				}
			})
		}
	}
	all.Wait()
	for name, t := range tallies {
		fmt.Printf("       pods that close after %s idle, %s: %d of %d GETs and %d of %d POSTs failed, %d POSTs executed twice\n", staleAfter,
			name, t.failedGets.Load(), t.gets.Load(), t.failedPosts.Load(), t.posts.Load(), t.twice.Load())
	}
	ours, theirs := tallies["tellergate"], tallies["HAProxy"]
	b.tell(ours.failedGets.Load() == 0 && ours.failedPosts.Load() <= theirs.failedPosts.Load() && ours.twice.Load() == 0,
		"stale connections: no GET fails, no more POSTs than with HAProxy, none twice")
	return nil
}
