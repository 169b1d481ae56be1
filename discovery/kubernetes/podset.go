package kubernetes

import (
	"context"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"tellergate/discovery"
)

// A podSet is a reference and what is known of it. Everything in it is guarded by the Source's mu; handle is read by
// everybody.
type podSet struct {
	ref    Reference
	port   portChoice
	handle *discovery.PodSet
	from   *collection // slices or Endpoints
	pods   *collection // the pods with the reference's labels; nil: all

	leases   int
	released time.Time // when leases became 0

	added    time.Time // since when the set is wanted
	known    bool      // the set has been read, by this process or by the one that wrote the cache
	cachedAt time.Time // of a set that is still the cache's; zero once the API server has confirmed it
	changed  time.Time // when the set was last published
	due      time.Time // when additions are to be published; zero: none wait
	held     time.Time // until when an empty list is not believed; zero: none is held
	portless bool      // some slice has pods and not the port
}

// next returns when the pod set wants to be considered again, zero for never.
func (p *podSet) next() time.Time {
	if p.due.IsZero() || !p.held.IsZero() && p.held.Before(p.due) {
		return p.held
	}
	return p.due
}

// A collection is what a follower feeds, compacted. Everything in it is guarded by the Source's mu.
type collection struct {
	key  key
	uses map[*podSet]struct{}
	end  context.CancelFunc // ends its follower; nil: not started

	synced bool                // a whole list has been read
	slices map[string]content  // by object name
	pods   map[string]struct{} // UIDs
	broken time.Time           // since when changes do not arrive; zero: they do
	why    string              // why not
	told   bool                // operators have read why not
}

// A content is one EndpointSlice, or one Endpoints object.
type content struct {
	slices    []*slice
	faults    []string
	truncated bool
}

// add begins to follow a reference. s.mu is held.
func (s *Source) add(name string, ref Reference) *podSet {
	ref.PodLabels = maps.Clone(ref.PodLabels)
	p := &podSet{ref: ref, port: choosePort(ref.Port), handle: discovery.NewPodSet(nil), added: time.Now()}
	if cached, ok := s.cached[name]; ok {
		p.handle.Store(cached.set())
		p.known, p.cachedAt = true, s.cachedAt
	}
	of := kindSlices
	if s.options.Legacy {
		of = kindEndpoints
	}
	p.from = s.collect(key{of, ref.Namespace, ref.Service}, p)
	if len(ref.PodLabels) > 0 {
		p.pods = s.collect(key{kindPods, ref.Namespace, ref.selector()}, p)
	}
	s.pods[name] = p
	s.consider(p, causeList, time.Now()) // its collections may be known already
	return p
}

// collect returns the collection with that key, used by p. s.mu is held.
func (s *Source) collect(k key, p *podSet) *collection {
	c := s.collections[k]
	if c == nil {
		c = &collection{key: k, uses: make(map[*podSet]struct{}), slices: make(map[string]content), pods: make(map[string]struct{})}
		s.collections[k] = c
	}
	c.uses[p] = struct{}{}
	return c
}

// drop ends what only p used. Its handle stays as it is. s.mu is held.
func (s *Source) drop(name string, p *podSet) {
	delete(s.pods, name)
	for _, c := range []*collection{p.from, p.pods} {
		if c == nil {
			continue
		}
		delete(c.uses, p)
		if len(c.uses) == 0 {
			if c.end != nil {
				c.end()
			}
			delete(s.collections, c.key)
		}
	}
	s.dirty = true
}

// A cause is why a pod set is looked at.
type cause uint8

const (
	causeChange cause = iota // the API server told of a change
	causeList                // a list was read
	causeTime                // something became due
)

// consider publishes what the collections of p say now, if that may be. s.mu is held.
func (s *Source) consider(p *podSet, why cause, now time.Time) {
	if !p.from.synced || p.pods != nil && !p.pods.synced {
		return
	}
	var admit func(string) bool
	if p.pods != nil {
		admit = func(uid string) bool { _, ok := p.pods.pods[uid]; return ok }
	}
	var all []*slice
	for _, c := range p.from.slices {
		all = append(all, c.slices...)
	}
	s.counts.Joins++
	next, portless := endpointsOf(all, p.port, admit)
	p.portless = portless
	was := p.handle.Load()
	if same(was, next) {
		s.settle(p)
		return
	}
	if next.Len() == 0 {
		if why == causeList && p.held.IsZero() {
			p.held, p.due = now.Add(s.options.HoldEmpty), time.Time{}
			s.counts.Held++
			s.options.Notify(Notice{Text: "a list says that " + p.ref.String() + " has no pods any more; this is believed after " +
				s.options.HoldEmpty.String() + " (discovery.kubernetes.holdEmpty), until then the last known ones stay"})
			s.again()
		}
		if now.Before(p.held) {
			return
		}
	}
	if p.known && !loses(was, next) {
		if p.due.IsZero() {
			p.due = p.changed.Add(batch)
		}
		if now.Before(p.due) {
			s.again()
			return
		}
	}
	p.handle.Store(next)
	p.changed = now
	s.counts.Changes++
	s.dirty = true
	s.settle(p)
}

// settle notes that p's set is what the API server says. s.mu is held.
func (s *Source) settle(p *podSet) {
	p.due, p.held = time.Time{}, time.Time{}
	if !p.known || !p.cachedAt.IsZero() {
		s.dirty = true
	}
	p.known, p.cachedAt = true, time.Time{}
}

func same(a, b *discovery.EndpointSet) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if a.At(i) != b.At(i) {
			return false
		}
	}
	return true
}

// loses reports whether some endpoint of was is less in next: gone, another pod, or draining where it was active.
func loses(was, next *discovery.EndpointSet) bool {
	j := 0
	for i := range was.Len() {
		e := was.At(i)
		for j < next.Len() && next.At(j).Addr.Compare(e.Addr) < 0 {
			j++
		}
		if j == next.Len() {
			return true
		}
		if n := next.At(j); n.Addr != e.Addr || n.UID != e.UID || n.State > e.State {
			return true
		}
	}
	return false
}

// A feed gives a collection what its follower learns.
type feed struct {
	source *Source
	c      *collection
}

// replace implements sink.
func (f *feed) replace(items []runtime.Object) {
	s, c := f.source, f.c
	s.mu.Lock()
	defer s.mu.Unlock()
	c.slices, c.pods = make(map[string]content, len(items)), make(map[string]struct{}, len(items))
	for _, item := range items {
		s.put(c, item)
	}
	c.synced = true
	s.counts.Lists++
	s.changed(c, causeList)
}

// apply implements sink.
func (f *feed) apply(event watch.EventType, item runtime.Object) {
	s, c := f.source, f.c
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Events++
	if event != watch.Deleted {
		if s.put(c, item) {
			s.changed(c, causeChange)
		}
		return
	}
	if m, ok := item.(metav1.Object); ok {
		delete(c.slices, m.GetName())
		delete(c.pods, string(m.GetUID()))
		s.changed(c, causeChange)
	}
}

// put keeps what matters of an object and reports whether it could matter to anybody. s.mu is held.
func (s *Source) put(c *collection, item runtime.Object) (changed bool) {
	var now content
	switch item := item.(type) {
	case *discoveryv1.EndpointSlice:
		one, faults := fromEndpointSlice(item)
		now = content{slices: []*slice{one}, faults: faults}
		s.replaceContent(c, item.Name, now)
	case *legacyEndpoints:
		now.slices, now.truncated, now.faults = fromEndpoints(item)
		s.replaceContent(c, item.Name, now)
	case metav1.Object: // the metadata of a pod
		uid := string(item.GetUID())
		_, known := c.pods[uid]
		c.pods[uid] = struct{}{}
		return !known
	}
	return true
}

// replaceContent keeps an object's content and tells of faults that it did not have before. s.mu is held.
func (s *Source) replaceContent(c *collection, name string, now content) {
	was := c.slices[name]
	c.slices[name] = now
	for _, fault := range now.faults {
		if !slices.Contains(was.faults, fault) {
			s.options.Notify(Notice{Text: "part of service " + c.key.namespace + "/" + c.key.selects + " is left out: " + fault})
		}
	}
	if now.truncated && !was.truncated {
		s.options.Notify(Notice{Text: c.key.String() + " do not name every pod of the service (annotation " + overCapacity +
			"): use EndpointSlices, which have no such limit"})
	}
}

// changed looks at every pod set that uses c. s.mu is held.
func (s *Source) changed(c *collection, why cause) {
	now := time.Now()
	for p := range c.uses {
		s.consider(p, why, now)
	}
}

// current implements sink.
func (f *feed) current(err error) {
	s, c := f.source, f.c
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		if c.told {
			s.options.Notify(Notice{Text: "the " + c.key.String() + " are up to date again"})
		}
		c.broken, c.why, c.told = time.Time{}, "", false
		return
	}
	s.counts.Failures++
	if c.broken.IsZero() {
		c.broken = time.Now()
	}
	why := err.Error()
	again := c.told && why == c.why
	c.why = why
	// Of what concerns the whole API server the gate tells, once for all; one that just starts answers all sorts of things.
	if !transportFault(err) && !s.gate.isClosed() && !again {
		c.told = true
		s.options.Notify(Notice{explain(c.key, err), err})
	}
}
