package upstream

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// idleClosing is a pod that closes connections after an idle time, and notes the longest that a request found.
func idleClosing(idle time.Duration, gaps chan<- time.Duration) func(*pod, net.Conn, *bufio.Reader) {
	return func(p *pod, c net.Conn, r *bufio.Reader) {
		answered := time.Time{}
		for head := readHead(r); head != ""; head = readHead(r) {
			if !answered.IsZero() {
				gaps <- time.Since(answered)
			}
			p.record(head)
			answered = time.Now()
			io.WriteString(c, ok)
			c.SetReadDeadline(time.Now().Add(idle))
		}
	}
}

// trustPatience makes the pods of g known to leave idle connections open, so that requests of every kind share them
// however slow the machine is.
func trustPatience(g *Group) {
	for _, e := range g.current().states {
		e.patience.survived(time.Hour)
	}
}

// A request that cannot be sent twice must not meet a pod that is about to close the connection. The pod's view is what
// counts: no such request comes on a connection that has been idle for much more than half of what the pod allows.
func TestUnsafeRequestsKeepOutOfTheWayOfClosingPods(t *testing.T) {
	t.Parallel()
	const idle = 200 * time.Millisecond
	gaps := make(chan time.Duration, 1000)
	p := startPod(t, idleClosing(idle, gaps))
	pool := testPool(t, testOptions())
	g := pool.Group(podSet(p.addr))
	for i := range 40 {
		require.NoError(t, carry(g, newExchange("POST", "/")))
		time.Sleep(time.Duration(i%9) * 25 * time.Millisecond) // 0 to 200 ms
	}
	require.Positive(t, pool.Reuse().Avoided)
	require.Positive(t, pool.Reuse().ClosedByPods)
	require.LessOrEqual(t, g.Status()[0].Patience, idle+100*time.Millisecond)
	close(gaps)
	for gap := range gaps {
		require.Less(t, gap, idle*9/10)
	}
}

// Patience is seen on connections that nobody uses: soon after the first request, POSTs share a connection.
func TestPatienceIsSeenWithoutRequests(t *testing.T) {
	t.Parallel()
	p := startPod(t, answering(ok))
	pool := testPool(t, testOptions())
	g := pool.Group(podSet(p.addr))
	require.NoError(t, carry(g, newExchange("POST", "/")))
	require.Eventually(t, func() bool { return g.Status()[0].Patience > 500*time.Millisecond }, patience, time.Millisecond)
	for range 5 {
		require.NoError(t, carry(g, newExchange("POST", "/")))
		time.Sleep(20 * time.Millisecond)
	}
	require.LessOrEqual(t, p.dials(), 2)
	require.LessOrEqual(t, pool.Reuse().Avoided, int64(1))
}

// What a pod closes while nobody asks for it is closed here too, and its time is known to some milliseconds however late
// it is looked at.
func TestClosedIdleConnectionsAreFound(t *testing.T) {
	t.Parallel()
	const idle = 30 * time.Millisecond
	p := startPod(t, idleClosing(idle, make(chan time.Duration, 10)))
	pool := NewPool(testOptions()) // looks at nothing by itself
	g := pool.Group(podSet(p.addr))
	require.NoError(t, carry(g, newExchange("GET", "/")))
	e := g.current().states[0]
	e.patience.survived(time.Hour)
	require.Eventually(t, func() bool {
		time.Sleep(400 * time.Millisecond) // the later the look, the better it shows that the time is not that of the look
		e.inspect(time.Now())
		return g.Status()[0].Idle == 0
	}, patience, time.Millisecond)
	require.Equal(t, int64(1), pool.Reuse().ClosedByPods)
	known := g.Status()[0].Patience
	require.GreaterOrEqual(t, known, idle-5*time.Millisecond)
	require.Less(t, known, 400*time.Millisecond)
}

func TestPatience(t *testing.T) {
	t.Parallel()
	var p patienceOf
	require.Equal(t, briefly, p.safe(), "nothing is known")
	p.exhausted(time.Second)
	require.Equal(t, briefly, p.safe(), "closing late does not show that sooner is safe")
	p.survived(5 * time.Second)
	p.survived(3 * time.Second)
	require.Equal(t, 5*time.Second/2, p.safe())
	p.exhausted(6 * time.Second)
	require.Equal(t, 5*time.Second/2, p.safe())
	p.exhausted(40 * time.Millisecond)
	require.Equal(t, 20*time.Millisecond, p.safe())
	p.exhausted(time.Microsecond)
	require.Negative(t, p.safe(), "the pod closes at once")
	p.exhausted(-time.Second)
	require.Negative(t, p.safe())
	p.survived(time.Minute)
	require.Equal(t, 30*time.Second, p.safe(), "a pod that is patient again is believed")
}

func TestAnnouncedTimeout(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"timeout=5": 5 * time.Second, "timeout=5, max=100": 5 * time.Second, "max=100,Timeout=15": 15 * time.Second, "max=100": -1,
		"timeout": -1, "timeout=": -1, "timeout=x": -1, "timeout=-1": -1, "": -1, "timeout=0": 0,
		"timeout=99999999999": 24 * time.Hour, "timeout=99999999999999999999": -1,
	} {
		got, ok := announced([]byte(header))
		if want < 0 {
			require.False(t, ok, header)
			continue
		}
		require.True(t, ok, header)
		require.Equal(t, want, got, header)
	}
}

// What the pod says about idle connections is kept to, whatever was seen.
func TestAnnouncedTimeoutIsKept(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"timeout=1": status + "Keep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok",
		"timeout=0": status + "Keep-Alive: timeout=0\r\nContent-Length: 2\r\n\r\nok",
	}
	for header, answer := range answers {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			p := startPod(t, answering(answer))
			pool := testPool(t, testOptions())
			g := pool.Group(podSet(p.addr))
			require.NoError(t, carry(g, newExchange("GET", "/")))
			if header == "timeout=0" {
				require.Zero(t, g.Status()[0].Idle)
				return
			}
			e := g.current().states[0]
			e.patience.survived(time.Minute)
			for method, after := range map[string][2]time.Duration{ // reused, not reused
				"POST": {400 * time.Millisecond, 600 * time.Millisecond}, "GET": {900 * time.Millisecond, time.Second},
			} {
				for i, d := range after {
					c := e.idle[len(e.idle)-1]
					got, _, err := e.connect(c.used.Add(d), true, false, method == "POST")
					require.NoError(t, err)
					require.Equal(t, i == 0, got == c, "%s after %s", method, d)
					e.discard(got)
					require.NoError(t, carry(g, newExchange("GET", "/")))
				}
			}
		})
	}
}

// A new pod at an address starts without what was known of the old one.
func TestPatienceBelongsToThePod(t *testing.T) {
	t.Parallel()
	pool := NewPool(testOptions())
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	a := newEndpoint(pool, addr)
	a.patience.survived(time.Minute)
	require.Equal(t, briefly, newEndpoint(pool, addr).patience.safe())
}
