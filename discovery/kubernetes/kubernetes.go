// Package kubernetes finds pods through the API server of a Kubernetes cluster: a version names a Service, and its
// endpoints are what the EndpointSlices of that Service (or, by setting, its legacy Endpoints) say, narrowed to pods
// that carry some labels if the version asks for that.
//
// It is responsible for watching exactly what rules name, for translating it, and for holding on to what it knows:
// nothing that fails, is read in part or is out of date ever empties a pod set, and what was known survives a restart
// on disk. It does not connect to pods or judge their health. It is the only importer of client-go.
package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// A Reference is how a version names its pods. Two references that are equal share one pod set.
type Reference struct {
	Namespace string
	Service   string
	Port      string            // the port's name in the Service, or the number that the pods listen on
	PodLabels map[string]string // pods must carry all of them; none: every pod of the Service
}

// selector prints the labels in the order of their keys; equal labels print equally.
func (r Reference) selector() string {
	return labels.SelectorFromValidatedSet(r.PodLabels).String()
}

// String names the reference in messages and in the cache.
func (r Reference) String() string {
	text := r.Namespace + "/" + r.Service + ":" + r.Port
	if len(r.PodLabels) > 0 {
		text += "{" + r.selector() + "}"
	}
	return text
}

// check reports what the API server would not understand.
func (r Reference) check() error {
	for _, name := range slices.Sorted(maps.Keys(r.PodLabels)) {
		if faults := validation.IsQualifiedName(name); len(faults) > 0 {
			return fmt.Errorf("%q cannot be the key of a pod label: %s", name, strings.Join(faults, "; "))
		}
		if faults := validation.IsValidLabelValue(r.PodLabels[name]); len(faults) > 0 {
			return fmt.Errorf("%q cannot be the value of the pod label %s: %s", r.PodLabels[name], name, strings.Join(faults, "; "))
		}
	}
	return nil
}

// A Notice is what operators should read. Err is nil where the news is good.
type Notice struct {
	Text string
	Err  error
}

// Options is what a Source is made of. Every field but Kubeconfig, Legacy, Cache and Notify has to be set.
type Options struct {
	// Kubeconfig is a file; empty: the service account of the pod that this process runs in.
	Kubeconfig string
	// Legacy finds pods through v1 Endpoints instead of EndpointSlices.
	Legacy bool
	// HoldEmpty is how long a list that turns a non-empty pod set empty is not believed.
	HoldEmpty time.Duration
	// Cache is the file that keeps the last state; empty: none.
	Cache string
	// UserAgent names this program to the API server.
	UserAgent string
	// Notify is called with what operators should read. It must return soon.
	Notify func(Notice)
}

const (
	// batch is the least time between two additions to one pod set. Removals do not wait.
	batch = 20 * time.Millisecond
	// linger is how long a reference that nothing names any more is still followed: requests of the former generation
	// may be under way, and rules that are put back find their pods as fresh as before.
	linger = time.Minute
	// cacheEvery is the least time between two writes of the cache.
	cacheEvery = 2 * time.Second
)

// A Source finds pods. Its life: New, Run once, and Leases as rules change, before and during Run. It is safe for
// concurrent use.
type Source struct {
	options Options
	from    remote
	server  string // the API server's address, to tell the cache of one cluster from another's
	check   func(context.Context, bool) error
	gate    *gate
	wake    chan struct{} // of capacity 1: Run should look again

	mu          sync.Mutex
	pods        map[string]*podSet      // by Reference.String; guarded by mu, like everything beneath
	collections map[key]*collection     // what is followed
	cached      map[string]cachedPodSet // of the last process, not yet asked for
	cachedAt    time.Time               // when the cache was written
	dirty       bool                    // something changed since the cache was last written
	written     time.Time               // when the cache was last written
	counts      Counts
}

// New reads the credentials and the cache. It opens no connection and starts nothing. An error means that the settings
// cannot work; an API server that cannot be reached is none.
func New(o Options) (*Source, error) {
	c, err := newClient(o.Kubeconfig, o.UserAgent)
	if err != nil {
		return nil, err
	}
	return newSource(o, c, c.host, c.check), nil
}

func newSource(o Options, from remote, server string, check func(context.Context, bool) error) *Source {
	if o.Notify == nil {
		o.Notify = func(Notice) {}
	}
	s := &Source{
		options: o, from: from, server: server, check: check, wake: make(chan struct{}, 1),
		pods: make(map[string]*podSet), collections: make(map[key]*collection),
	}
	s.gate = newGate(s.reachable)
	s.readCache()
	return s
}

// Run follows what leases name until ctx ends, writes the cache a last time and returns ctx's error.
func (s *Source) Run(ctx context.Context) error {
	var followers sync.WaitGroup
	followers.Go(func() { s.introduce(ctx) })
	for {
		next := s.step(ctx, time.Now(), &followers)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			followers.Wait()
			s.writeCache(time.Now())
			return ctx.Err()
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// introduce tells whether the API server serves what the settings say pods are found through.
func (s *Source) introduce(ctx context.Context) {
	what := "EndpointSlices (discovery.k8s.io/v1)"
	if s.options.Legacy {
		what = "legacy Endpoints (v1), which know no draining pods"
	}
	for first := true; s.gate.enter(ctx) == nil; first = false {
		opening := s.gate.opening()
		err := s.check(ctx, s.options.Legacy)
		switch {
		case ctx.Err() != nil:
			s.gate.abandoned()
			return
		case err == nil:
			s.gate.succeeded()
			s.options.Notify(Notice{Text: "pods are found through " + what + " of the API server at " + s.server})
			return
		case first:
			s.options.Notify(Notice{"the API server at " + s.server + " could not be asked for " + what +
				"; pods stay as they were last known, and this is tried again", err})
		}
		if !s.gate.failed(err) {
			await(ctx, opening, longestPause)
		}
	}
}

// reachable is told by the gate.
func (s *Source) reachable(reachable bool, err error) {
	if reachable {
		s.options.Notify(Notice{Text: "the API server at " + s.server + " answers again"})
		return
	}
	s.options.Notify(Notice{"the API server at " + s.server + " cannot be reached; pods stay as they were last known", err})
}

// step starts and ends what has to be, publishes what is due, and returns how long nothing else is.
func (s *Source) step(ctx context.Context, now time.Time, followers *sync.WaitGroup) time.Duration {
	s.mu.Lock()
	next := time.Hour
	until := func(t time.Time) {
		if !t.IsZero() {
			next = min(next, max(t.Sub(now), 0))
		}
	}
	for name, p := range s.pods {
		if p.leases == 0 && !now.Before(p.released.Add(linger)) {
			s.drop(name, p)
			continue
		}
		if p.leases == 0 {
			until(p.released.Add(linger))
		}
		if due := p.next(); !due.IsZero() && !now.Before(due) {
			s.consider(p, causeTime, now)
		}
		until(p.next())
	}
	for _, c := range s.collections {
		if c.end == nil {
			running, end := context.WithCancel(ctx)
			c.end = end
			f := follower{key: c.key, from: s.from, to: &feed{s, c}, gate: s.gate}
			followers.Go(func() { f.run(running) })
		}
	}
	write := false
	if s.dirty && s.options.Cache != "" {
		write = !now.Before(s.written.Add(cacheEvery))
		if !write {
			until(s.written.Add(cacheEvery))
		}
	}
	s.mu.Unlock()
	if write {
		s.writeCache(now)
	}
	return next
}

// again has Run look at what is due.
func (s *Source) again() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
