package upstream

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// forgetful answers the first request of each connection and resets it at the second, all of them together; what is sent
// again, on a new connection, waits for the gate.
func forgetful(together int, gate <-chan struct{}) func(*pod, net.Conn, *bufio.Reader) {
	var first, second sync.WaitGroup
	first.Add(together)
	second.Add(together)
	return func(p *pod, c net.Conn, r *bufio.Reader) {
		if head := readHead(r); strings.Contains(head, "/second") {
			p.record(head)
			<-gate
			io.WriteString(c, ok)
			return
		}
		first.Done()
		first.Wait()
		io.WriteString(c, ok)
		if readHead(r) != "" {
			second.Done()
			second.Wait()
			c.(*net.TCPConn).SetLinger(0)
		}
	}
}

// all carries as many GETs at the same time and returns their errors.
func all(g *Group, n int, target string) []error {
	errs := make([]error, n)
	var done sync.WaitGroup
	for i := range errs {
		done.Go(func() { errs[i] = carry(g, newExchange("GET", target)) })
	}
	done.Wait()
	return errs
}

// Twenty requests are lost at once. No more than the budget are sent again at the same time; those that it has no room
// for within a second say so.
func TestRepeatsAreBounded(t *testing.T) {
	t.Parallel()
	const n = 20
	gate := make(chan struct{})
	p := startPod(t, forgetful(n, gate))
	o := testOptions()
	o.ResponseTimeout = patience
	pool := testPool(t, o)
	g := pool.Group(podSet(p.addr))
	for _, err := range all(g, n, "/first") {
		require.NoError(t, err)
	}
	result := make(chan []error, 1)
	go func() { result <- all(g, n, "/second") }()
	require.Eventually(t, func() bool { return pool.Repeats().OverBudget > 0 }, patience, 5*time.Millisecond)
	inFlight := len(p.requests())
	close(gate)
	lost := 0
	for _, err := range <-result {
		if err != nil {
			require.ErrorIs(t, err, ErrReset)
			lost++
		}
	}
	require.GreaterOrEqual(t, inFlight, leastRepeats)
	require.LessOrEqual(t, inFlight, n/repeatShare)
	require.Equal(t, Repeats{Sent: int64(n - lost), OverBudget: int64(lost)}, pool.Repeats())
	require.Zero(t, g.budget.taken)
	require.Empty(t, g.budget.waiters)
}

// What is soon done leaves room for the next: a pod that loses everything at once costs no GET.
func TestRepeatsWaitForOneAnother(t *testing.T) {
	t.Parallel()
	const n = 20
	gate := make(chan struct{})
	close(gate)
	p := startPod(t, forgetful(n, gate))
	pool := testPool(t, testOptions())
	g := pool.Group(podSet(p.addr))
	for _, target := range []string{"/first", "/second"} {
		for _, err := range all(g, n, target) {
			require.NoError(t, err)
		}
	}
	require.Equal(t, Repeats{Sent: n}, pool.Repeats())
	require.Zero(t, g.budget.taken)
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var b budget
	require.True(t, b.take(2))
	require.True(t, b.take(2))
	waiting := func(n int) func() bool {
		return func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.waiters) == n
		}
	}
	given := make(chan bool)
	go func() { given <- b.take(2) }()
	require.Eventually(t, waiting(1), patience, time.Millisecond)
	go func() { given <- b.take(100) }()
	require.Eventually(t, waiting(2), patience, time.Millisecond, "one that came later overtook")
	b.give()
	require.True(t, <-given)
	b.give()
	require.True(t, <-given)
	require.Equal(t, 2, b.taken)
	require.False(t, b.take(2), "nobody gave anything back")
	b.give()
	b.give()
	require.Zero(t, b.taken)
	require.True(t, b.take(1))
}
