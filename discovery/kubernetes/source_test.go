package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"tellergate/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 10 * time.Second

// A fakeServer is a remote for what a real API server cannot be made to do at will: failures, pages, expiry.
type fakeServer struct {
	mu      sync.Mutex
	version int
	objects map[string]runtime.Object // by name
	fault   error                     // of every list and watch
	pages   int                       // lists come in pages of one object, and the one with this number fails; 0: none does
	lists   map[key]int
	watches map[*watch.FakeWatcher]key
	starts  int
	history []happened
}

// A happened is a change that watches from an older version are told.
type happened struct {
	version int
	selects string
	tell    func(*watch.FakeWatcher)
}

func newFakeServer() *fakeServer {
	return &fakeServer{objects: map[string]runtime.Object{}, lists: map[key]int{}, watches: map[*watch.FakeWatcher]key{}}
}

func (f *fakeServer) list(_ context.Context, k key, o metav1.ListOptions) (runtime.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil {
		return nil, f.fault
	}
	f.version++
	meta := metav1.ListMeta{ResourceVersion: fmt.Sprint(f.version)}
	if k.kind == kindPods {
		page := &metav1.PartialObjectMetadataList{ListMeta: meta}
		for _, object := range f.objects {
			if p, ok := object.(*metav1.PartialObjectMetadata); ok {
				page.Items = append(page.Items, *p)
			}
		}
		return page, nil
	}
	f.lists[k]++
	page := &discoveryv1.EndpointSliceList{ListMeta: meta}
	n, from := 0, 0
	_, _ = fmt.Sscan(o.Continue, &from)
	for _, name := range sorted(f.objects) {
		s, ok := f.objects[name].(*discoveryv1.EndpointSlice)
		if !ok || s.Labels[discoveryv1.LabelServiceName] != k.selects {
			continue
		}
		if n++; f.pages == 0 {
			page.Items = append(page.Items, *s)
		} else if n == from+1 {
			if n == f.pages {
				return nil, errors.New("the connection broke")
			}
			page.Items = append(page.Items, *s)
			page.Continue = fmt.Sprint(n)
		}
	}
	if n == from+1 {
		page.Continue = ""
	}
	return page, nil
}

func sorted(objects map[string]runtime.Object) (names []string) {
	for i := range 10 {
		if name := fmt.Sprint("s", i); objects[name] != nil {
			names = append(names, name)
		}
	}
	return names
}

func (f *fakeServer) watch(ctx context.Context, k key, o metav1.ListOptions) (watch.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil {
		return nil, f.fault
	}
	w := watch.NewFakeWithChanSize(100, false)
	f.watches[w] = k
	f.starts++
	from := 0
	_, _ = fmt.Sscan(o.ResourceVersion, &from)
	for _, h := range f.history {
		if h.version > from && h.selects == k.selects {
			h.tell(w)
		}
	}
	return w, nil
}

// set stores a slice of the service with ready pods at these last bytes, and tells the watches of its service.
func (f *fakeServer) set(name, service string, hosts ...int) {
	var endpoints []discoveryv1.Endpoint
	for _, h := range hosts {
		endpoints = append(endpoints, pod(fmt.Sprint("10.0.0.", h), fmt.Sprint("u", h)))
	}
	s := ipv4Slice(name, endpoints...)
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	s.ResourceVersion = fmt.Sprint(f.version)
	f.objects[name] = s
	f.tell(service, func(w *watch.FakeWatcher) { w.Modify(s) })
}

func (f *fakeServer) label(uid string, carries bool) {
	p := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "pod-" + uid, UID: types.UID(uid)}}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	p.ResourceVersion = fmt.Sprint(f.version)
	delete(f.objects, p.Name)
	if carries {
		f.objects[p.Name] = p
	}
	f.tell("version=v2", func(w *watch.FakeWatcher) {
		if carries {
			w.Add(p)
		} else {
			w.Delete(p)
		}
	})
}

func (f *fakeServer) tell(selects string, what func(*watch.FakeWatcher)) {
	f.history = append(f.history, happened{f.version, selects, what})
	for w, k := range f.watches {
		if k.selects == selects && !w.IsStopped() {
			what(w)
		}
	}
}

func (f *fakeServer) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	s := f.objects[name].(*discoveryv1.EndpointSlice).DeepCopy()
	s.ResourceVersion = fmt.Sprint(f.version)
	delete(f.objects, name)
	f.tell(s.Labels[discoveryv1.LabelServiceName], func(w *watch.FakeWatcher) { w.Delete(s) })
}

// forget removes an object behind everybody's back, as if its event had been lost with a watch.
func (f *fakeServer) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, name)
}

// expire ends every watch as an API server does that no longer remembers.
func (f *fakeServer) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := apierrors.NewResourceExpired("too old").Status()
	for w := range f.watches {
		if !w.IsStopped() {
			w.Error(&status)
		}
	}
}

func (f *fakeServer) failing(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = err
}

func (f *fakeServer) count() (lists, starts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.lists {
		lists += n
	}
	return lists, f.starts
}

// A rig is a running source over a fake server.
type rig struct {
	*Source
	t      *testing.T
	server *fakeServer
	stop   func()

	mu      sync.Mutex
	notices []string
}

func run(t *testing.T, server *fakeServer, o Options) *rig {
	r := &rig{t: t, server: server}
	if o.HoldEmpty == 0 {
		o.HoldEmpty = time.Hour
	}
	o.Notify = func(n Notice) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.notices = append(r.notices, n.Text)
	}
	r.Source = newSource(o, server, "https://cluster", func(context.Context, bool) error { return nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.ErrorIs(t, err, context.Canceled)
		case <-time.After(deadline):
			t.Error("Run did not end")
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *rig) told(part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(strings.Join(r.notices, "\n"), part)
}

func reference(service string) Reference {
	return Reference{Namespace: "bank", Service: service, Port: "http"}
}

func (r *rig) lease(refs ...Reference) (*Lease, []*discovery.PodSet) {
	r.t.Helper()
	l := r.Lease()
	var sets []*discovery.PodSet
	for _, ref := range refs {
		p, err := l.PodSet(ref)
		require.NoError(r.t, err)
		sets = append(sets, p)
	}
	return l, sets
}

// holds waits until the pod set has these last bytes.
func (r *rig) holds(p *discovery.PodSet, hosts ...int) {
	r.t.Helper()
	want := []string{}
	for _, h := range hosts {
		want = append(want, fmt.Sprintf("10.0.0.%d:8080 u%d  active", h, h))
	}
	require.Eventually(r.t, func() bool { return fmt.Sprint(show(p.Load())) == fmt.Sprint(want) }, deadline, time.Millisecond,
		"want %v", want)
}

func TestSourceFollows(t *testing.T) {
	server := newFakeServer()
	server.set("s1", "counter", 1, 2)
	server.set("s2", "loan", 9)
	r := run(t, server, Options{})
	_, sets := r.lease(reference("counter"), reference("loan"), reference("counter"))
	require.Same(t, sets[0], sets[2], "equal references share a pod set")
	r.holds(sets[0], 1, 2)
	r.holds(sets[1], 9)
	loan := sets[1].Load()
	for n := 3; n < 20; n++ {
		server.set("s3", "counter", n)
		r.holds(sets[0], 1, 2, n)
	}
	server.remove("s3")
	r.holds(sets[0], 1, 2)
	server.remove("s1")
	r.holds(sets[0])
	require.Equal(t, show(loan), show(sets[1].Load()))
	require.Zero(t, r.Status().Held, "a change is believed at once")
	require.Empty(t, r.Status().Missing)
}

// TestChangeRebuildsItsOwnPodSets: a removal joins the slices of the pod sets that use its service once, and looks at no
// other; an addition does so once more when it is due.
func TestChangeRebuildsItsOwnPodSets(t *testing.T) {
	server := newFakeServer()
	server.set("s0", "counter", 1)
	var refs []Reference
	for i := 1; i < 8; i++ {
		server.set(fmt.Sprint("s", i), fmt.Sprint("other-", i), 10+i)
		refs = append(refs, reference(fmt.Sprint("other-", i)))
	}
	r := run(t, server, Options{})
	_, others := r.lease(refs...)
	numbered := reference("counter")
	numbered.Port = "8080"
	_, sets := r.lease(reference("counter"), numbered)
	for i, p := range others {
		r.holds(p, 11+i)
	}
	r.holds(sets[1], 1)
	var kept []*discovery.EndpointSet
	for _, p := range others {
		kept = append(kept, p.Load())
	}
	before := r.Status()
	const changes = 10
	for n := range changes {
		server.set("s0", "counter", 100+n) // the former one is removed
		r.holds(sets[0], 100+n)
		r.holds(sets[1], 100+n)
	}
	after := r.Status()
	require.EqualValues(t, changes, after.Events-before.Events)
	require.EqualValues(t, 2*changes, after.Joins-before.Joins)
	require.EqualValues(t, 2*changes, after.Changes-before.Changes)
	for i, p := range others {
		require.Same(t, kept[i], p.Load())
	}
}

func TestLeases(t *testing.T) {
	server := newFakeServer()
	server.set("s1", "counter", 1)
	server.set("s2", "loan", 2)
	r := run(t, server, Options{})
	first, sets := r.lease(reference("counter"), reference("loan"))
	r.holds(sets[0], 1)
	r.holds(sets[1], 2)
	require.Eventually(t, func() bool { _, starts := server.count(); return starts == 2 }, deadline, time.Millisecond)

	second, again := r.lease(reference("counter"))
	first.Release()
	require.Same(t, sets[0], again[0])
	server.set("s1", "counter", 1, 3)
	r.holds(sets[0], 1, 3)
	server.set("s2", "loan", 4)
	r.holds(sets[1], 4) // still followed for a while

	third, back := r.lease(reference("loan"))
	require.Same(t, sets[1], back[0], "rules that are put back find the same handle")
	lists, starts := server.count()
	require.Equal(t, 2, lists, "nothing was listed anew")
	require.Equal(t, 2, starts, "no watch was begun anew")

	third.Release()
	r.Source.mu.Lock()
	for _, p := range r.Source.pods {
		if p.leases == 0 {
			p.released = time.Now().Add(-linger)
		}
	}
	r.Source.mu.Unlock()
	r.again()
	require.Eventually(t, func() bool { return r.Status().References == 1 }, deadline, time.Millisecond)
	require.Equal(t, 1, sets[1].Load().Len(), "the handle keeps what it had")
	second.Release()
}

func TestEmptyListIsHeld(t *testing.T) {
	server := newFakeServer()
	server.set("s1", "counter", 1)
	r := run(t, server, Options{HoldEmpty: 300 * time.Millisecond})
	_, sets := r.lease(reference("counter"))
	r.holds(sets[0], 1)
	server.forget("s1")
	begin := time.Now()
	server.expire()
	require.Eventually(t, func() bool { return r.Status().Held == 1 }, deadline, time.Millisecond)
	if time.Since(begin) < 200*time.Millisecond {
		require.Equal(t, 1, sets[0].Load().Len(), "it is not believed yet")
	}
	require.True(t, r.told("a list says that bank/counter:http has no pods any more"))
	r.holds(sets[0])
	require.GreaterOrEqual(t, time.Since(begin), 300*time.Millisecond)

	// A list that comes to its senses in time changes nothing but what is new.
	server.set("s1", "counter", 2)
	r.holds(sets[0], 2)
	server.forget("s1")
	server.expire()
	require.Eventually(t, func() bool { return r.Status().Held == 2 }, deadline, time.Millisecond)
	server.set("s4", "counter", 2, 3)
	r.holds(sets[0], 2, 3)
	require.Empty(t, r.Status().Notes)
}

func TestFailedAndPartialReadsChangeNothing(t *testing.T) {
	server := newFakeServer()
	server.set("s1", "counter", 1)
	server.set("s2", "counter", 2)
	server.set("s3", "counter", 3)
	r := run(t, server, Options{})
	_, sets := r.lease(reference("counter"))
	r.holds(sets[0], 1, 2, 3)
	kept := sets[0].Load()

	server.mu.Lock()
	server.pages = 3 // the third page fails
	server.mu.Unlock()
	server.expire()
	require.Eventually(t, func() bool { return r.Status().Stale == 1 && r.Status().Failures > 1 }, deadline, time.Millisecond)
	require.Same(t, kept, sets[0].Load(), "two pages of three are no list")
	require.True(t, r.told("cannot be reached"))

	server.mu.Lock()
	server.pages = 9 // pages of one object, none fails
	server.mu.Unlock()
	require.Eventually(t, func() bool { return r.Status().Stale == 0 }, deadline, time.Millisecond)
	require.Equal(t, show(kept), show(sets[0].Load()))

	for _, fault := range []error{
		apierrors.NewUnauthorized("expired"), apierrors.NewInternalError(errors.New("etcd")),
		apierrors.NewForbidden(discoveryv1.Resource("endpointslices"), "", errors.New("no")),
		&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests}},
	} {
		server.failing(fault)
		server.expire()
		require.Eventually(t, func() bool { return r.Status().Stale == 1 }, deadline, time.Millisecond)
		require.False(t, r.Status().StaleSince.IsZero())
		require.Contains(t, strings.Join(r.Status().Notes, "\n"), "stale: 1 of 1 pod sets")
		require.Equal(t, show(kept), show(sets[0].Load()))
		server.failing(nil)
		require.Eventually(t, func() bool { return r.Status().Stale == 0 }, deadline, time.Millisecond, "%v", fault)
	}
	require.True(t, r.told("deploy/kubernetes/rbac.yaml"))
	require.True(t, r.told("they may have expired"))
}

// TestRefusalsAfterAnOutage: an API server that comes back without the gateway's rights is not taken for one that is away.
func TestRefusalsAfterAnOutage(t *testing.T) {
	server := newFakeServer()
	server.set("s1", "counter", 1)
	r := run(t, server, Options{})
	r.gate.mu.Lock()
	r.gate.warming = 300 * time.Millisecond
	r.gate.mu.Unlock()
	_, sets := r.lease(reference("counter"))
	r.holds(sets[0], 1)
	server.failing(errors.New("connection refused"))
	server.expire()
	require.Eventually(t, func() bool { return r.told("cannot be reached") }, deadline, time.Millisecond)
	server.failing(apierrors.NewForbidden(discoveryv1.Resource("endpointslices"), "", errors.New("no")))
	require.Eventually(t, func() bool { return r.told("deploy/kubernetes/rbac.yaml") }, deadline, time.Millisecond)
	require.True(t, r.told("answers again"))
	require.Equal(t, 1, r.Status().Stale)
	require.Equal(t, 1, sets[0].Load().Len())
	server.failing(nil)
	require.Eventually(t, func() bool { return r.Status().Stale == 0 }, deadline, time.Millisecond)
}

func TestIntroduction(t *testing.T) {
	var r rig
	var asked atomic.Int64
	r.Source = newSource(Options{Notify: func(n Notice) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.notices = append(r.notices, n.Text)
	}}, newFakeServer(), "https://cluster", func(context.Context, bool) error {
		if asked.Add(1) < 3 {
			return errors.New("connection refused")
		}
		return nil
	})
	r.introduce(t.Context())
	require.EqualValues(t, 3, asked.Load())
	require.Equal(t, []string{
		"the API server at https://cluster could not be asked for EndpointSlices (discovery.k8s.io/v1); pods stay as they were last known, and this is tried again",
		"the API server at https://cluster cannot be reached; pods stay as they were last known",
		"the API server at https://cluster answers again",
		"pods are found through EndpointSlices (discovery.k8s.io/v1) of the API server at https://cluster",
	}, r.notices)
}

func TestPodLabels(t *testing.T) {
	server := newFakeServer()
	server.set("s1", "counter", 1, 2)
	server.label("u2", true)
	r := run(t, server, Options{})
	ref := reference("counter")
	ref.PodLabels = map[string]string{"version": "v2"}
	_, sets := r.lease(ref)
	r.holds(sets[0], 2)
	server.label("u1", true)
	r.holds(sets[0], 1, 2)
	server.label("u2", false)
	r.holds(sets[0], 1)
	_, err := r.Lease().PodSet(Reference{Namespace: "bank", Service: "counter", Port: "http", PodLabels: map[string]string{"a b": "c"}})
	require.ErrorContains(t, err, `"a b" cannot be the key of a pod label`)
}

func TestCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "pods.cache")
	server := newFakeServer()
	server.set("s1", "counter", 1, 2)
	r := run(t, server, Options{Cache: file})
	_, sets := r.lease(reference("counter"))
	r.holds(sets[0], 1, 2)
	r.stop()

	away := newFakeServer()
	away.failing(errors.New("connection refused"))
	r = run(t, away, Options{Cache: file})
	_, sets = r.lease(reference("counter"))
	require.Equal(t, 2, sets[0].Load().Len(), "at once")
	require.Empty(t, r.Status().Missing)
	require.Equal(t, 1, r.Status().Stale)
	_, others := r.lease(reference("unknown"))
	require.Zero(t, others[0].Load().Len())
	require.Contains(t, fmt.Sprint(r.Status().Missing), "the pods of bank/unknown:http have not been read yet")
	r.stop()

	good, err := os.ReadFile(file)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"damaged": strings.Replace(string(good), "10.0.0.1", "10.0.0.7", 1), "short": string(good[:len(good)-9]), "empty": "",
		"newer": strings.Replace(string(good), `"format":1`, `"format":2`, 1), "else": "hello",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		r = run(t, server, Options{Cache: file})
		require.True(t, r.told("are not used"), name)
		_, sets = r.lease(reference("counter"))
		r.holds(sets[0], 1, 2)
		r.stop()
	}
	require.NoError(t, os.WriteFile(file, good, 0o600))
	var told []string
	other := newSource(Options{Cache: file, Notify: func(n Notice) { told = append(told, n.Err.Error()) }}, away, "https://other", nil)
	require.Empty(t, other.cached)
	require.Equal(t, []string{"it is of the API server at https://cluster, and this one is at https://other"}, told)
}

func FuzzParseCache(f *testing.F) {
	text, err := cacheBody{Server: "https://cluster", Pods: map[string]cachedPodSet{"bank/counter:http": {{UID: "u"}}}}.text()
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte("{}\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		body, err := parseCache(text)
		if err != nil {
			return
		}
		for _, pods := range body.Pods {
			set := pods.set()
			for i := range set.Len() {
				require.True(t, set.At(i).Addr.IsValid() && set.At(i).Addr.Port() > 0)
			}
		}
	})
}
