// Package live keeps what the replica runs equal to what the store says: it follows the store's head, compiles it and
// has it published, and tells others which revision runs since when.
//
// It owns the one loop through which every rule change passes, the writer's own included. It never publishes a
// revision that does not compile: the last good one stays, and Status says so. It does not serve requests or the API.
package live

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tellergate/internal/content"
	"tellergate/rules"
	"tellergate/store"
)

// A Generation is what one revision became on this replica. It is immutable.
type Generation struct {
	Revision store.Revision
	State    *content.State
	Rules    *rules.RuleSet
}

// Publish makes a generation the one that requests see. It returns once every request that starts afterwards sees it.
type Publish func(*Generation) error

// Status tells operators what runs.
type Status struct {
	Applied   uint64    `json:"applied"`            // revision that runs; 0: the empty state
	Since     time.Time `json:"since,omitzero"`     // when it was published; zero: nothing runs yet
	Head      uint64    `json:"head"`               // latest revision seen in the store
	Failing   string    `json:"failing,omitempty"`  // why Head does not run or the store is not followed; empty if all is well
	FailingAt time.Time `json:"failingAt,omitzero"` // since when
}

// A Loop is created by New and runs in Run, once. Its other methods may be called by anybody at any time.
type Loop struct {
	from    store.Store
	reader  *content.Reader
	schema  *rules.Schema
	publish Publish
	observe func(Status)
	compile func(*content.State, *rules.Schema) (*rules.RuleSet, error) // tests replace it

	current atomic.Pointer[Generation]

	mu      sync.Mutex
	status  Status        // guarded by mu
	failure *failure      // why status.Head does not run; nil if it does; guarded by mu
	unread  error         // why the store is not followed; nil if it is; guarded by mu
	ended   error         // why Run returned; nil until then; guarded by mu
	changed chan struct{} // closed and replaced whenever one of the above changes; guarded by mu
}

// A failure is why a revision could not be applied.
type failure struct {
	seq uint64
	err error
}

// New returns a loop over store; schema is what documents are compiled against.
func New(from store.Store, reader *content.Reader, schema *rules.Schema, publish Publish) *Loop {
	return &Loop{
		from:    from,
		reader:  reader,
		schema:  schema,
		publish: publish,
		observe: func(Status) {},
		compile: (*content.State).Compile,
		changed: make(chan struct{}),
	}
}

// Observe has f called with the status after each change of it, from within Run. It must be called before Run, and f
// must return soon: the loop waits for it.
func (l *Loop) Observe(f func(Status)) { l.observe = f }

// Pauses between attempts that may succeed when repeated.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
)

// An attempt is what the loop remembers of the last time it tried to apply a revision.
type attempt struct {
	made  bool
	seq   uint64        // the revision tried
	again bool          // it failed in a way that may pass: it is to be tried again
	pause time.Duration // how long to wait before the store is asked again; 0 if all is well
}

// Run applies the head and then every later one until ctx ends. It returns ctx's error. A store without a revision is
// applied as the empty state. What may pass (a store that does not answer, a failure to publish) is tried again; a
// revision that is unreadable or does not compile stays failing until a later one comes.
func (l *Loop) Run(ctx context.Context) error {
	var last attempt
	for {
		head, err := l.next(ctx, last)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			l.noteUnread(fmt.Errorf("the store cannot be read: %w", err))
			last.pause = longer(last.pause)
		case last.made && !last.again && head.Seq <= last.seq:
			l.noteUnread(nil) // the store answers again and has nothing new
			last.pause = 0
		default:
			last = l.apply(ctx, head, last)
		}
		if err := ctx.Err(); err != nil {
			l.noteEnd(err)
			return err
		}
	}
}

// next blocks until there is something to do after the last attempt and returns the head.
func (l *Loop) next(ctx context.Context, last attempt) (store.Revision, error) {
	if last.pause == 0 {
		if !last.made {
			return l.from.Head(ctx)
		}
		return l.from.Wait(ctx, last.seq)
	}
	pause, cancel := context.WithTimeout(ctx, last.pause)
	defer cancel()
	if last.made {
		// A later revision ends the pause: it may be the remedy.
		if head, err := l.from.Wait(pause, last.seq); err == nil {
			return head, nil
		}
	}
	<-pause.Done()
	return l.from.Head(ctx)
}

// apply tries to make head what runs.
func (l *Loop) apply(ctx context.Context, head store.Revision, last attempt) attempt {
	generation, again, err := l.build(ctx, head)
	if err == nil {
		if err = l.publish(generation); err != nil {
			again, err = true, fmt.Errorf("revision %d could not be published: %w", head.Seq, err)
		}
	}
	if ctx.Err() != nil && err != nil {
		return last // interrupted, which says nothing about the revision
	}
	if err == nil {
		l.noteApplied(generation)
		return attempt{made: true, seq: head.Seq}
	}
	l.noteFailure(failure{head.Seq, err})
	now := attempt{made: true, seq: head.Seq, again: again}
	if again {
		if last.made && last.seq == head.Seq {
			now.pause = last.pause
		}
		now.pause = longer(now.pause)
	}
	return now
}

// build reads and compiles a revision. again tells whether a failure may pass.
func (l *Loop) build(ctx context.Context, head store.Revision) (g *Generation, again bool, err error) {
	state, err := l.reader.Read(ctx, head)
	if err != nil {
		return nil, !errors.Is(err, content.ErrUnreadable), fmt.Errorf("revision %d could not be read: %w", head.Seq, err)
	}
	compiled, err := l.compile(state, l.schema)
	if err != nil {
		return nil, false, fmt.Errorf("revision %d does not compile: %w", head.Seq, err)
	}
	return &Generation{Revision: head, State: state, Rules: compiled}, false, nil
}

func longer(pause time.Duration) time.Duration {
	return min(max(2*pause, shortestPause), longestPause)
}

func (l *Loop) noteApplied(g *Generation) {
	l.current.Store(g)
	l.note(func() {
		l.status.Applied, l.status.Since = g.Revision.Seq, time.Now()
		l.status.Head, l.failure, l.unread = g.Revision.Seq, nil, nil
	})
}

func (l *Loop) noteFailure(f failure) {
	l.note(func() { l.status.Head, l.failure, l.unread = f.seq, &f, nil })
}

// noteUnread keeps the failure of the head, which is as true as before.
func (l *Loop) noteUnread(err error) { l.note(func() { l.unread = err }) }

func (l *Loop) noteEnd(err error) { l.note(func() { l.ended = err }) }

// note makes a change, wakes who waits for one and tells the observer if the status differs.
func (l *Loop) note(change func()) {
	l.mu.Lock()
	before := l.status
	change()
	why := l.unread
	if l.failure != nil {
		why = l.failure.err
	}
	switch {
	case why == nil:
		l.status.Failing, l.status.FailingAt = "", time.Time{}
	case l.status.Failing == "" || l.status.Head != before.Head:
		l.status.FailingAt = time.Now()
		fallthrough
	default:
		l.status.Failing = why.Error()
	}
	after := l.status
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	if after != before {
		l.observe(after)
	}
}

// Current returns the generation that runs; never nil after the first was applied, nil before.
func (l *Loop) Current() *Generation { return l.current.Load() }

// Status returns what runs and what should.
func (l *Loop) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// WaitApplied blocks until a revision ≥ seq runs here and returns nil, or until seq or a later one has failed to apply
// (that error), or ctx or Run ends. A failure that may pass is returned too: the revision may yet be applied.
func (l *Loop) WaitApplied(ctx context.Context, seq uint64) error {
	for {
		done, changed, err := l.applied(seq)
		if done {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting until revision %d runs: %w", seq, ctx.Err())
		}
	}
}

// applied tells whether what WaitApplied waits for has come to pass, and what to wait for if not.
func (l *Loop) applied(seq uint64) (done bool, changed <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.status.Since.IsZero() && l.status.Applied >= seq:
		return true, nil, nil
	case l.failure != nil && l.failure.seq >= seq:
		return true, nil, l.failure.err
	case l.ended != nil:
		return true, nil, fmt.Errorf("revision %d will not run here, the replica is shutting down: %w", seq, l.ended)
	}
	return false, l.changed, nil
}
