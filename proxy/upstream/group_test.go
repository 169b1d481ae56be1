package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/discovery"
)

func endpointAt(addr string, uid string, state discovery.State) discovery.Endpoint {
	return discovery.Endpoint{Addr: netip.MustParseAddrPort(addr), UID: uid, State: state}
}

const (
	a1, a2, a3 = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
	d1, d2     = "10.0.0.8:80", "10.0.0.9:80"
)

func TestChoice(t *testing.T) {
	t.Parallel()
	active := func(addr string) discovery.Endpoint { return endpointAt(addr, "u", discovery.Active) }
	draining := func(addr string) discovery.Endpoint { return endpointAt(addr, "u", discovery.Draining) }
	pinned := func(addr, uid string) *Exchange {
		return &Exchange{Prefer: netip.MustParseAddrPort(addr), PreferUID: uid, Pinned: true}
	}
	all := []discovery.Endpoint{active(a1), active(a2), draining(d1)}
	tests := []struct {
		name   string
		set    []discovery.Endpoint
		x      *Exchange
		load   map[string]int64
		down   []string
		leaves []string // presumed to be leaving
		later  time.Duration
		chosen []string // every endpoint that is chosen at first over many requests
	}{
		{name: "none"},
		{name: "one", set: []discovery.Endpoint{active(a1)}, chosen: []string{a1}},
		{name: "active before draining", set: all, chosen: []string{a1, a2}},
		{name: "less loaded", set: all, load: map[string]int64{a1: 3, a2: 2}, chosen: []string{a2}},
		{name: "never the most loaded of three", set: []discovery.Endpoint{active(a1), active(a2), active(a3)},
			load: map[string]int64{a3: 1}, chosen: []string{a1, a2}},
		{name: "not one that cannot be dialled", set: all, load: map[string]int64{a2: 9}, down: []string{a1},
			chosen: []string{a2}},
		{name: "draining when no active one can be tried", set: all, down: []string{a1, a2}, chosen: []string{d1}},
		{name: "draining when there is no active one", set: []discovery.Endpoint{draining(d1), draining(d2)},
			chosen: []string{d1, d2}},
		{name: "all down", set: all, down: []string{a1, a2, d1}},
		{name: "pinned", set: all, x: pinned(a2, "u"), load: map[string]int64{a2: 9}, chosen: []string{a2}},
		{name: "pinned to a draining one", set: all, x: pinned(d1, "u"), chosen: []string{d1}},
		{name: "draining one preferred without a pin", set: all,
			x: &Exchange{Prefer: netip.MustParseAddrPort(d1), PreferUID: "u"}, chosen: []string{a1, a2}},
		{name: "pinned to a pod that is gone, its address used again", set: all,
			x: pinned(a1, "old"), load: map[string]int64{a1: 1}, chosen: []string{a2}},
		{name: "pinned to one that cannot be dialled", set: all, x: pinned(a1, "u"), down: []string{a1}, chosen: []string{a2}},
		{name: "not one that leaves", set: all, load: map[string]int64{a2: 9}, leaves: []string{a1}, chosen: []string{a2}},
		{name: "all leave", set: all, leaves: []string{a1, a2}, chosen: []string{a1, a2}},
		{name: "one that leaves before a draining one", set: all, leaves: []string{a1}, down: []string{a2}, chosen: []string{a1}},
		{name: "pinned to one that leaves", set: all, x: pinned(a1, "u"), leaves: []string{a1}, chosen: []string{a1}},
		{name: "pinned to one that is about to end", set: all, x: pinned(a1, "u"), leaves: []string{a1}, later: sessionsStay + time.Second,
			chosen: []string{a2}},
		{name: "pinned to one that is about to end, and nobody to take over", set: all, x: pinned(a1, "u"), leaves: []string{a1, a2},
			later: sessionsStay + time.Second, chosen: []string{a1}},
		{name: "one that leaves preferred without a pin", set: all, leaves: []string{a1},
			x: &Exchange{Prefer: netip.MustParseAddrPort(a1), PreferUID: "u"}, chosen: []string{a2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := NewPool(testOptions()).Group(discovery.NewPodSet(discovery.NewEndpointSet(tt.set)))
			v := g.current()
			for i, e := range v.states {
				e.inFlight.Store(tt.load[e.address])
				for _, down := range tt.down {
					if e.address == down {
						e.unreachable(time.Now())
					}
				}
				if slices.Contains(tt.leaves, e.address) {
					e.heard(200, false, true, false)
					e.heard(200, false, false, false)
					e.heard(200, false, false, false)
				}
				require.Equal(t, v.set.At(i).Addr.String(), e.address)
			}
			require.Equal(t, len(tt.chosen) > 0, g.Usable())
			chosen := make(map[string]bool)
			for range 200 {
				c := choice{view: v}
				now := time.Now().Add(tt.later).UnixNano()
				i := -1
				if tt.x != nil {
					i = c.preferred(tt.x, now)
				}
				if i < 0 {
					i = c.next(g.random, now)
				}
				if i >= 0 {
					chosen[v.states[i].address] = true
				}
			}
			require.Len(t, chosen, len(tt.chosen))
			for _, addr := range tt.chosen {
				require.Contains(t, chosen, addr)
			}
		})
	}
}

// One request tries each endpoint once and three at most.
func TestChoiceEnds(t *testing.T) {
	t.Parallel()
	for n := range 11 {
		var set []discovery.Endpoint
		for i := range n {
			set = append(set, endpointAt(fmt.Sprintf("10.0.0.%d:80", i+1), "", discovery.Active))
		}
		g := NewPool(testOptions()).Group(discovery.NewPodSet(discovery.NewEndpointSet(set)))
		c := choice{view: g.current()}
		seen := make(map[int]bool)
		for i := c.next(g.random, 1); i >= 0; i = c.next(g.random, 1) {
			require.False(t, seen[i])
			seen[i] = true
		}
		require.Len(t, seen, min(n, maxTries))
	}
}

func TestSameEndpointHasOneState(t *testing.T) {
	t.Parallel()
	p := NewPool(testOptions())
	group := func(e discovery.Endpoint) *Group {
		return p.Group(discovery.NewPodSet(discovery.NewEndpointSet([]discovery.Endpoint{e})))
	}
	one := group(endpointAt(a1, "u", discovery.Active))
	two := group(endpointAt(a1, "u", discovery.Draining))
	other := group(endpointAt(a1, "later", discovery.Active))
	require.Same(t, one.current().states[0], two.current().states[0])
	require.NotSame(t, one.current().states[0], other.current().states[0])
}

func TestForgetting(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		for head := readHead(r); head != ""; head = readHead(r) {
			if strings.Contains(head, "/hold") {
				<-hold
			}
			io.WriteString(c, ok)
		}
	})
	pool := NewPool(testOptions())
	pods := podSet(p.addr)
	g := pool.Group(pods)
	require.NoError(t, carry(g, newExchange("GET", "/")))
	pool.forget()
	require.Len(t, pool.all(), 1, "nothing is forgotten before the first Retain")
	pool.Retain([]*Group{g})
	pool.forget()
	require.Len(t, pool.all(), 1)
	require.Equal(t, 1, g.Status()[0].Idle)

	// Held by a request: its idle connections go, its state stays until the request has ended.
	answered := make(chan error)
	go func() { answered <- carry(g, newExchange("GET", "/hold")) }()
	e := g.current().states[0]
	require.Eventually(t, func() bool { return e.inFlight.Load() == 1 }, patience, time.Millisecond)
	pods.Store(nil)
	pool.forget()
	require.Len(t, pool.all(), 1)
	close(hold)
	require.NoError(t, <-answered)
	pool.forget()
	require.Empty(t, pool.all())
	require.Zero(t, e.open)

	// A group that is retained again gets a fresh state, even with the very same set.
	set := discovery.NewEndpointSet([]discovery.Endpoint{{Addr: p.addr}})
	pods.Store(set)
	before := g.current().states[0]
	pool.Retain([]*Group{})
	pool.forget()
	require.NotSame(t, before, g.current().states[0])
	require.NoError(t, carry(g, newExchange("GET", "/")))
	require.Equal(t, 1, g.Status()[0].Idle)
	for _, e := range pool.all() {
		e.closeIdle(maxTime)
	}
}

// What changes in one set is found without looking at the others: the endpoints of two groups that name the same one are
// forgotten when the last of them stops naming it, and groups whose sets stay keep their views.
func TestForgettingLooksAtWhatChanged(t *testing.T) {
	t.Parallel()
	pool := NewPool(testOptions())
	set := func(addrs ...string) *discovery.PodSet {
		var all []discovery.Endpoint
		for _, a := range addrs {
			all = append(all, endpointAt(a, "u", discovery.Active))
		}
		return discovery.NewPodSet(discovery.NewEndpointSet(all))
	}
	known := func() (addrs []string) {
		for _, e := range pool.all() {
			addrs = append(addrs, e.address)
		}
		slices.Sort(addrs)
		return addrs
	}
	one, two, still := set(a1, a2), set(a2, a3), set(d1)
	first, second, third := pool.Group(one), pool.Group(two), pool.Group(still)
	pool.Retain([]*Group{first, second, third})
	first.current()
	second.current()
	view := third.current()
	one.Store(set(a1).Load())
	pool.forget()
	require.Equal(t, []string{a1, a2, a3, d1}, known(), "the second group still names it")
	two.Store(set(a3).Load())
	one.Store(set(a1, d2).Load())
	pool.forget()
	require.Equal(t, []string{a1, a3, d1}, known(), "nobody names it; what nobody has asked for is not made")
	require.Same(t, view, third.current(), "what changes elsewhere does not rebuild a view")
	require.Len(t, first.current().states, 2)

	// An endpoint of a group that is not retained yet, or no longer, goes and comes back anew.
	later := pool.Group(set(a2))
	before := later.current().states[0]
	pool.forget()
	require.Equal(t, []string{a1, a3, d1, d2}, known())
	pool.Retain([]*Group{first, later})
	require.NotSame(t, before, later.current().states[0])
	pool.forget()
	require.Equal(t, []string{a1, a2, d2}, known())
	require.Len(t, pool.named, 3)
	pool.Retain([]*Group{})
	pool.forget()
	require.Empty(t, known())
	require.Empty(t, pool.named)
	require.Empty(t, pool.unnamed)
}

// The pool looks after endpoints that have connections or troubles, and after no other.
func TestSleepingEndpointsAreLeftAlone(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	pool := NewPool(testOptions())
	closed := closedPort(t)
	g := pool.Group(podSet(p.addr))
	refusing := pool.Group(podSet(closed))
	require.Len(t, append(g.current().states, refusing.current().states...), 2)
	require.Empty(t, pool.addWoken(nil), "nobody has asked for a connection")

	require.NoError(t, carry(g, newExchange("GET", "/")))
	awake := pool.addWoken(nil)
	require.Equal(t, []*endpoint{g.current().states[0]}, awake)
	require.NoError(t, carry(g, newExchange("GET", "/")))
	require.Empty(t, pool.addWoken(nil), "it is awake already")
	require.False(t, awake[0].sleep(time.Now()), "it has an idle connection")
	awake[0].closeIdle(maxTime)
	require.True(t, awake[0].sleep(time.Now()))
	require.NoError(t, carry(g, newExchange("GET", "/")))
	require.Equal(t, awake, pool.addWoken(nil))
	awake[0].closeIdle(maxTime)

	require.ErrorIs(t, refusing.Do(newExchange("GET", "/")), ErrNotConnected)
	awake = pool.addWoken(nil)
	require.Len(t, awake, 1)
	require.False(t, awake[0].sleep(time.Now()), "it has to be probed")
	awake[0].reached()
	require.True(t, awake[0].sleep(time.Now()))
	awake[0].unreachable(time.Now())
	require.Equal(t, awake, pool.addWoken(nil))
	refusing.pods.Store(nil)
	pool.Retain([]*Group{g})
	pool.forget()
	require.True(t, awake[0].sleep(time.Now()), "forgotten: nobody probes it for ever")
}

func TestRunClosesIdleConnections(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	o := testOptions()
	o.IdleTimeout = 50 * time.Millisecond
	g := testPool(t, o).Group(podSet(p.addr))
	require.NoError(t, carry(g, newExchange("GET", "/")))
	require.Equal(t, 1, g.Status()[0].Idle)
	require.Eventually(t, func() bool { return g.Status()[0].Idle == 0 }, patience, time.Millisecond)

	o.IdleTimeout = time.Hour
	pool := NewPool(o)
	g = pool.Group(podSet(p.addr))
	require.NoError(t, carry(g, newExchange("GET", "/")))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, pool.Run(ctx), context.Canceled)
	require.Zero(t, g.Status()[0].Idle)
	require.NoError(t, carry(g, newExchange("GET", "/")), "requests under way still end")
	require.Zero(t, g.Status()[0].Idle)
}

func TestNewestConnectionFirst(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		for head := readHead(r); head != ""; head = readHead(r) {
			if strings.Contains(head, "/wait") {
				<-gate
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Peer: %s\r\nContent-Length: 0\r\n\r\n", c.RemoteAddr())
		}
	})
	g := testPool(t, testOptions()).Group(podSet(p.addr))
	peers := make(chan string)
	for i := range 3 {
		go func() {
			x := newExchange("GET", "/wait")
			peers <- peerOf(g, x)
		}()
		require.Eventually(t, func() bool { return g.Status()[0].InFlight == i+1 }, patience, time.Millisecond)
	}
	var last string
	for range 3 {
		gate <- struct{}{}
		last = <-peers
	}
	require.Equal(t, 3, g.Status()[0].Idle)
	for range 5 {
		x := newExchange("GET", "/")
		require.Equal(t, last, peerOf(g, x))
	}
}

// peerOf returns the answer's X-Peer, or "" if there is none.
func peerOf(g *Group, x *Exchange) string {
	if g.Do(x) != nil {
		return ""
	}
	defer finish(x)
	return fieldOf(x, "X-Peer")
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	p := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		for head := readHead(r); head != ""; head = readHead(r) {
			if strings.Contains(head, "/hold") {
				<-gate
			}
			answer := ok
			if strings.Contains(head, "/close") {
				answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
			}
			io.WriteString(c, answer)
		}
	})
	o := testOptions()
	o.PerEndpoint = 2
	o.ResponseTimeout = time.Minute
	g := testPool(t, o).Group(podSet(p.addr))
	e := g.current().states[0]
	held := make(chan error, 2)
	for range 2 {
		go func() { held <- carry(g, newExchange("GET", "/hold")) }()
	}
	require.Eventually(t, func() bool { return p.dials() == 2 && e.inFlight.Load() == 2 }, patience, time.Millisecond)

	// Nothing becomes free: after the wait, an error of its own, and nobody has seen the request.
	start := time.Now()
	require.ErrorIs(t, carry(g, newExchange("GET", "/")), ErrBusy)
	require.GreaterOrEqual(t, time.Since(start), busyWait)

	// Two may wait, a third is refused at once; those who wait get what becomes free, kept or closed.
	waiting := make(chan error, 2)
	for i, target := range []string{"/close", "/close"} {
		go func() { waiting <- carry(g, newExchange("GET", target)) }()
		require.Eventually(t, func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return len(e.waiters) == i+1
		}, patience, time.Millisecond)
	}
	start = time.Now()
	require.ErrorIs(t, carry(g, newExchange("GET", "/")), ErrBusy)
	require.Less(t, time.Since(start), busyWait/2)
	close(gate)
	for range 2 {
		require.NoError(t, <-held)
		require.NoError(t, <-waiting)
	}

	var all sync.WaitGroup
	var most atomic.Int64 // as the gateway counts; a pod may see the end of a connection after the beginning of the next
	for i := range 50 {
		all.Go(func() {
			for range 20 {
				target := "/"
				if i%2 == 0 {
					target = "/close"
				}
				e.mu.Lock()
				most.Store(max(most.Load(), int64(e.open)))
				e.mu.Unlock()
				if err := carry(g, newExchange("GET", target)); err != nil {
					require.ErrorIs(t, err, ErrBusy)
				}
			}
		})
	}
	all.Wait()
	e.mu.Lock()
	require.Equal(t, len(e.idle), e.open, "a place was lost or won")
	require.Empty(t, e.waiters)
	e.mu.Unlock()
	require.LessOrEqual(t, most.Load(), int64(2))
}

func TestBusyEndpointIsPassedOver(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	full := startPod(t, func(p *pod, c net.Conn, r *bufio.Reader) {
		for readHead(r) != "" {
			<-gate
			io.WriteString(c, ok)
		}
	})
	free := startPod(t, answering(ok))
	o := testOptions()
	o.PerEndpoint = 1
	o.ResponseTimeout = time.Minute
	g := testPool(t, o).Group(podSet(full.addr, free.addr))
	held := make(chan error)
	go func() {
		x := newExchange("GET", "/")
		x.Prefer = full.addr
		held <- carry(g, x)
	}()
	require.Eventually(t, func() bool { return full.dials() == 1 }, patience, time.Millisecond)
	for range 20 {
		x := newExchange("GET", "/")
		require.NoError(t, carry(g, x))
		require.Equal(t, free.addr, x.Endpoint.Addr)
	}
	// A pinned session waits for its pod: it has not gone.
	x := newExchange("GET", "/")
	x.Prefer, x.Pinned = full.addr, true
	require.ErrorIs(t, g.Do(x), ErrBusy)
	require.Equal(t, full.addr, x.Endpoint.Addr)
	close(gate)
	require.NoError(t, <-held)
}

// Sets change under load: no request fails, and no unsafe request is executed twice.
func TestLedgerWhileSetsChange(t *testing.T) {
	t.Parallel()
	script := func(p *pod, c net.Conn, r *bufio.Reader) {
		for range 50 { // then the pod closes the idle connection
			head := readHead(r)
			if head == "" {
				return
			}
			_, id, _ := strings.Cut(head, "X-Id: ")
			id, _, _ = strings.Cut(id, "\r\n")
			p.record(id)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: 0\r\n\r\n", id)
		}
	}
	var pods [4]*pod
	for i := range pods {
		pods[i] = startPod(t, script)
	}
	pool := testPool(t, testOptions())
	live := podSet(pods[0].addr, pods[1].addr)
	g := pool.Group(live)
	pool.Retain([]*Group{g})
	stop := make(chan struct{})
	var changer, all sync.WaitGroup
	changer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			live.Store(discovery.NewEndpointSet([]discovery.Endpoint{
				{Addr: pods[i%4].addr}, {Addr: pods[(i+1)%4].addr, State: discovery.State(i % 2)},
			}))
			pool.Retain([]*Group{g})
		}
	})
	var mu sync.Mutex
	acknowledged := make(map[string]bool) // id: whether its client has an answer
	for client := range 8 {
		all.Go(func() {
			for n := range 400 {
				method := "GET"
				if n%2 == 0 {
					method = "POST"
				}
				id := fmt.Sprintf("%s-%d-%d", method, client, n)
				x := newExchange(method, "/")
				withLine(x, "X-Id: "+id)
				err := g.Do(x)
				if err == nil {
					if got := fieldOf(x, "X-Id"); got != id {
						t.Errorf("%s has got the answer to %s", id, got)
					}
					_, err = finish(x)
				}
				if err != nil && method == "GET" {
					t.Errorf("%s: %v", id, err)
				}
				mu.Lock()
				acknowledged[id] = err == nil
				mu.Unlock()
			}
		})
	}
	all.Wait()
	close(stop)
	changer.Wait()
	executed := make(map[string]int)
	for _, p := range pods {
		for _, id := range p.requests() {
			executed[id]++
		}
	}
	failed := 0
	for id, ok := range acknowledged {
		if ok {
			require.Positive(t, executed[id], "%s is acknowledged and lost", id)
		} else {
			failed++
		}
		if strings.HasPrefix(id, "POST") {
			require.LessOrEqual(t, executed[id], 1, "%s was executed twice", id)
		}
	}
	// A pod that closes in the very moment a POST leaves cannot be told from one that executed it.
	require.LessOrEqual(t, failed, len(acknowledged)/100)
}
