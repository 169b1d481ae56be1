package redis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

// A line is the way to Redis. Requests never speak to Redis themselves: they hand what they ask to a worker, which sends
// it together with what others ask, and wait within the budget. So a Redis that hangs costs a request its budget and the
// process a fixed number of goroutines and connections.
type line struct {
	client  goredis.UniversalClient
	timeout time.Duration // for one exchange of a worker
	budget  time.Duration // that a request may wait, all its asks together
	asks    chan *ask
	stats   *counters
	breaker breaker
}

// An ask is one question. write adds its commands to a pipeline; answered takes the replies, also when nobody waits any
// more, and says whether Redis answered.
type ask struct {
	write    func(goredis.Pipeliner)
	answered func() error
	done     chan struct{}
	ok       bool // set before done is closed
}

const (
	workers  = 4
	together = 128 // asks in one pipeline at most
	waiting  = 4096
)

func newLine(client goredis.UniversalClient, timeout, budget time.Duration, stats *counters, threshold int) *line {
	return &line{
		client: client, timeout: timeout, budget: budget, asks: make(chan *ask, waiting), stats: stats,
		breaker: breaker{threshold: threshold},
	}
}

// onTime is the part of the budget after which a wait ends: timers ring late, by milliseconds where every core is busy,
// and the budget is what a request may wait in all.
func onTime(budget time.Duration) time.Duration { return budget - budget/4 }

// do asks, waits no longer than what wait has left of the budget, and reports whether Redis answered in time. pending says
// that it has not, and that answered is still to be called. A nil wait has not waited.
func (l *line) do(wait *session.Wait, write func(goredis.Pipeliner), answered func() error) (ok, pending bool) {
	if l.breaker.open() {
		l.stats.skipped.Add(1)
		return false, false
	}
	patience, began := onTime(l.budget), time.Now()
	if wait != nil {
		patience -= wait.Spent
		defer func() { wait.Spent += time.Since(began) }()
	}
	a := &ask{write: write, answered: answered, done: make(chan struct{})}
	select {
	case l.asks <- a:
	default:
		l.stats.late.Add(1)
		l.breaker.failed(time.Now())
		return false, false
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case <-a.done:
		return a.ok, false
	case <-over.C:
		select {
		case <-a.done: // both came while this goroutine waited for a core
			return a.ok, false
		default:
		}
		l.stats.late.Add(1)
		l.breaker.failed(time.Now())
		return false, true
	}
}

// post asks without waiting; where there is no room nothing is asked.
func (l *line) post(write func(goredis.Pipeliner), answered func() error) {
	if l.breaker.open() {
		return
	}
	select {
	case l.asks <- &ask{write: write, answered: answered, done: make(chan struct{})}:
	default:
		l.stats.unwrittenLost.Add(1)
	}
}

// work answers asks until ctx ends. Several run side by side.
func (l *line) work(ctx context.Context) {
	batch := make([]*ask, 0, together)
	for {
		batch = batch[:0]
		select {
		case <-ctx.Done():
			return
		case a := <-l.asks:
			batch = append(batch, a)
		}
	more:
		for len(batch) < together {
			select {
			case a := <-l.asks:
				batch = append(batch, a)
			default:
				break more
			}
		}
		l.exchange(ctx, batch)
	}
}

// exchange sends a batch in one pipeline and hands out the replies.
func (l *line) exchange(ctx context.Context, batch []*ask) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	pipe := l.client.Pipeline()
	for _, a := range batch {
		a.write(pipe)
	}
	l.stats.commands.Add(uint64(pipe.Len()))
	_, _ = pipe.Exec(ctx) // each ask looks at its own replies
	for _, a := range batch {
		err := a.answered()
		a.ok = err == nil
		if err == nil {
			l.breaker.succeeded()
		} else {
			l.stats.failures.Add(1)
			l.stats.lastError.Store(err.Error())
			l.breaker.failed(time.Now())
		}
		close(a.done)
	}
}

// A breaker keeps requests from asking a Redis that does not answer. It opens after threshold failures in a row and
// closes when a probe succeeds.
type breaker struct {
	threshold int
	mu        sync.Mutex
	failures  int          // guarded by mu
	since     atomic.Int64 // when it opened, Unix nanoseconds; 0: closed
}

func (b *breaker) open() bool { return b.since.Load() != 0 }

func (b *breaker) failed(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures++; b.failures >= b.threshold && b.since.Load() == 0 {
		b.since.Store(now.UnixNano())
	}
}

func (b *breaker) succeeded() {
	b.mu.Lock()
	b.failures = 0
	b.mu.Unlock()
}

// close is for the probe that Redis answered.
func (b *breaker) close() {
	b.mu.Lock()
	b.failures = 0
	b.since.Store(0)
	b.mu.Unlock()
}

// probe asks whether every primary takes writes, or at least answers where there are many.
func (l *line) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if cluster, ok := l.client.(*goredis.ClusterClient); ok {
		cluster.ReloadState(ctx)
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *goredis.Client) error { return c.Ping(ctx).Err() })
	}
	return l.client.Set(ctx, "tellergate:probe", "1", time.Minute).Err()
}

// replied takes "there is nothing" for a reply.
func replied(err error) error {
	if errors.Is(err, goredis.Nil) {
		return nil
	}
	return err
}
