package live

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tellergate/internal/content"
	"tellergate/internal/problem"
	"tellergate/rules"
	"tellergate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline bounds every wait of these tests.
const deadline = 10 * time.Second

var errOutage = errors.New("no route to the store")

// memory is a store in memory whose outages a test decides. It keeps the contract of store.Store as far as a Loop
// relies on it.
type memory struct {
	mu        sync.Mutex
	revisions []store.Revision
	contents  map[store.Digest][]byte
	grown     chan struct{} // closed and replaced by each revision
	down      bool          // Head, Wait and Content fail
	unread    bool          // Content fails
}

var _ store.Store = (*memory)(nil)

func newMemory() *memory {
	return &memory{contents: map[store.Digest][]byte{}, grown: make(chan struct{})}
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *memory) head() (store.Revision, error) {
	if m.down {
		return store.Revision{}, errOutage
	}
	if len(m.revisions) == 0 {
		return store.Revision{}, nil
	}
	return m.revisions[len(m.revisions)-1], nil
}

func (m *memory) Head(context.Context) (store.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head()
}

func (m *memory) Revision(context.Context, uint64) (store.Revision, error) {
	return store.Revision{}, store.ErrNotFound
}

func (m *memory) Revisions(context.Context, uint64, int) ([]store.Revision, error) { return nil, nil }

func (m *memory) Content(_ context.Context, digest store.Digest) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down || m.unread {
		return nil, errOutage
	}
	text, ok := m.contents[digest]
	if !ok {
		return nil, store.ErrNotFound
	}
	return text, nil
}

func (m *memory) Append(_ context.Context, change store.Change) (store.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := store.Revision{Seq: uint64(len(m.revisions) + 1), Parts: map[string]store.Digest{}}
	r.Hash = store.DigestOf(fmt.Append(nil, r.Seq))
	for name, text := range change.Set {
		r.Parts[name] = store.DigestOf(text)
		m.contents[r.Parts[name]] = text
	}
	m.revisions = append(m.revisions, r)
	close(m.grown)
	m.grown = make(chan struct{})
	return r, nil
}

func (m *memory) Wait(ctx context.Context, after uint64) (store.Revision, error) {
	for {
		m.mu.Lock()
		head, err := m.head()
		grown := m.grown
		m.mu.Unlock()
		if err != nil || head.Seq > after {
			return head, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return store.Revision{}, ctx.Err()
		}
	}
}

// add appends a revision with a list of one teller.
func (m *memory) add(t *testing.T, teller string) uint64 {
	t.Helper()
	text := content.EncodeList(rules.NewList("teller", []string{"9001/" + teller}), nil)
	r, err := m.Append(t.Context(), store.Change{Set: map[string][]byte{content.ListPart("pilot"): text}})
	require.NoError(t, err)
	return r.Seq
}

// bad is the teller whose list does not compile.
const bad = "bad"

// A bench is a loop under test.
type bench struct {
	*Loop
	store *memory

	mu        sync.Mutex
	published []uint64
	refuse    error // what publishing answers
	statuses  []Status
}

func (b *bench) seqs() []uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]uint64(nil), b.published...)
}

func newBench() *bench {
	m := newMemory()
	b := &bench{store: m}
	b.Loop = New(m, content.NewReader(m, nil), rules.NewSchema(nil, nil, false), func(g *Generation) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.refuse != nil {
			return b.refuse
		}
		b.published = append(b.published, g.Revision.Seq)
		return nil
	})
	b.compile = func(s *content.State, _ *rules.Schema) (*rules.RuleSet, error) {
		if l := s.Lists["pilot"]; l != nil && l.Contains("9001/"+bad) {
			return nil, problem.List{{Path: "services[counter].default", Message: `version "v9" does not exist`}}
		}
		return &rules.RuleSet{}, nil
	}
	b.Observe(func(s Status) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.statuses = append(b.statuses, s)
	})
	return b
}

// start runs the loop until the test ends, or until stop is called.
func (b *bench) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.ErrorIs(t, err, context.Canceled)
		case <-time.After(deadline):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return stop
}

func (b *bench) wait(t *testing.T, seq uint64) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	err := b.WaitApplied(ctx, seq)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	return err
}

func (b *bench) eventually(t *testing.T, what string, holds func(Status) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return holds(b.Status()) }, deadline, time.Millisecond, what)
}

func TestAStoreWithoutRevisionsRunsAsTheEmptyState(t *testing.T) {
	t.Parallel()
	b := newBench()
	require.Nil(t, b.Current())
	require.Zero(t, b.Status())
	b.start(t)
	require.NoError(t, b.wait(t, 0))
	require.Zero(t, b.Current().Revision)
	require.NotNil(t, b.Current().State.Document)
	require.NotNil(t, b.Current().Rules)
	s := b.Status()
	require.Zero(t, s.Applied)
	require.False(t, s.Since.IsZero())
	require.Empty(t, s.Failing)
	require.Equal(t, []uint64{0}, b.seqs())
}

func TestTheHeadIsAppliedAndThenEveryLaterOne(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.store.add(t, "0001")
	b.store.add(t, "0002")
	b.start(t)
	require.NoError(t, b.wait(t, 2))
	require.Equal(t, []uint64{2}, b.seqs(), "only the head")
	require.True(t, b.Current().State.Lists["pilot"].Contains("9001/0002"))

	require.NoError(t, b.wait(t, b.store.add(t, "0003")))
	require.True(t, b.Current().State.Lists["pilot"].Contains("9001/0003"))
	require.NoError(t, b.wait(t, 1), "an earlier one is covered by a later one")
	s := b.Status()
	require.EqualValues(t, 3, s.Applied)
	require.EqualValues(t, 3, s.Head)
	require.Equal(t, []uint64{2, 3}, b.seqs())
}

func TestARevisionThatDoesNotCompileChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.store.add(t, "0001")
	b.start(t)
	require.NoError(t, b.wait(t, 1))
	good := b.Current()

	err := b.wait(t, b.store.add(t, bad))
	require.EqualError(t, err,
		`revision 2 does not compile: services[counter].default: version "v9" does not exist`)
	var problems problem.List
	require.ErrorAs(t, err, &problems)
	require.Same(t, good, b.Current())
	s := b.Status()
	require.EqualValues(t, 1, s.Applied)
	require.EqualValues(t, 2, s.Head)
	require.Equal(t, err.Error(), s.Failing)
	require.False(t, s.FailingAt.IsZero())
	require.NoError(t, b.wait(t, 1), "revision 1 still runs")

	require.NoError(t, b.wait(t, b.store.add(t, "0003")))
	require.NoError(t, b.wait(t, 2), "a later one runs")
	s = b.Status()
	require.EqualValues(t, 3, s.Applied)
	require.Empty(t, s.Failing)
	require.Zero(t, s.FailingAt)
	require.Equal(t, []uint64{1, 3}, b.seqs())
}

func TestARevisionIsCompiledAsTheAPICompilesIt(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.compile = (*content.State).Compile
	b.start(t)
	put := func(text string) uint64 {
		r, err := b.store.Append(t.Context(), store.Change{Set: map[string][]byte{content.RulesPart: []byte(text)}})
		require.NoError(t, err)
		return r.Seq
	}
	const good = `services: [{name: counter, default: v1, versions: [{name: v1, pods: {static: ["127.0.0.1:80"]}}]}]`
	require.NoError(t, b.wait(t, put(good)))
	require.Equal(t, "counter", b.Current().Rules.Service(0).Name())
	require.Equal(t, good, string(b.Current().State.Text))

	err := b.wait(t, put(strings.Replace(good, "default: v1", "default: v9", 1)))
	var problems problem.List
	require.ErrorAs(t, err, &problems)
	require.Equal(t, "services[counter].default", problems[0].Path)
	require.Equal(t, "counter", b.Current().Rules.Service(0).Name(), "the last good one still runs")
	require.EqualValues(t, 1, b.Status().Applied)
}

func TestAFirstRevisionThatCannotBeAppliedIsSeen(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.store.add(t, bad)
	b.start(t)
	require.ErrorContains(t, b.wait(t, 0), "revision 1 does not compile")
	require.Nil(t, b.Current())
	s := b.Status()
	require.Contains(t, s.Failing, "revision 1 does not compile")
	require.True(t, s.Since.IsZero())
	require.NoError(t, b.wait(t, b.store.add(t, "0002")))
}

func TestADamagedRevisionWaitsForTheNext(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.start(t)
	r, err := b.store.Append(t.Context(), store.Change{Set: map[string][]byte{"calendars/2026": []byte("{}")}})
	require.NoError(t, err)
	require.ErrorIs(t, b.wait(t, r.Seq), content.ErrUnreadable)
	require.NoError(t, b.wait(t, b.store.add(t, "0002")))
}

func TestAStoreThatIsAwayAtTheStartIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.store.add(t, "0001")
	b.store.set(func() { b.store.down = true })
	b.start(t)
	b.eventually(t, "the outage shows", func(s Status) bool {
		return s.Failing == "the store cannot be read: no route to the store" && !s.FailingAt.IsZero()
	})
	require.Nil(t, b.Current())
	b.store.set(func() { b.store.down = false })
	require.NoError(t, b.wait(t, 1))
	require.Empty(t, b.Status().Failing)
}

func TestContentThatCannotBeFetchedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.start(t)
	require.NoError(t, b.wait(t, 0))
	b.store.set(func() { b.store.unread = true })
	seq := b.store.add(t, "0001")
	require.ErrorIs(t, b.wait(t, seq), errOutage)
	failing := b.Status()
	require.Equal(t, `revision 1 could not be read: part "lists/pilot" of revision 1: no route to the store`, failing.Failing)
	require.Zero(t, failing.Applied)
	b.store.set(func() { b.store.unread = false })
	b.eventually(t, "it is applied in the end", func(s Status) bool { return s.Applied == seq && s.Failing == "" })
	require.NoError(t, b.wait(t, seq))
}

func TestALaterRevisionEndsThePauseOfAFailingOne(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.mu.Lock()
	b.refuse = errors.New("no pod sets")
	b.mu.Unlock()
	b.start(t)
	require.EqualError(t, b.wait(t, 0), "revision 0 could not be published: no pod sets")
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	require.NoError(t, b.wait(t, b.store.add(t, "0001")))
	require.EqualValues(t, 1, b.Current().Revision.Seq)
}

func TestARefusedPublishIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.start(t)
	require.NoError(t, b.wait(t, 0))
	b.mu.Lock()
	b.refuse = errors.New("no pod sets")
	b.mu.Unlock()
	seq := b.store.add(t, "0001")
	require.EqualError(t, b.wait(t, seq), "revision 1 could not be published: no pod sets")
	require.Zero(t, b.Current().Revision.Seq)
	since := b.Status().FailingAt
	b.mu.Lock()
	b.refuse = errors.New("still no pod sets")
	b.mu.Unlock()
	b.eventually(t, "the latest reason, since the first", func(s Status) bool {
		return s.Failing == "revision 1 could not be published: still no pod sets" && s.FailingAt.Equal(since)
	})
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	b.eventually(t, "it is published in the end", func(s Status) bool { return s.Applied == seq })
}

func TestAStoreThatGoesAwayKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.start(t)
	require.NoError(t, b.wait(t, b.store.add(t, "0001")))
	good := b.Current()
	b.store.set(func() {
		b.store.down = true
		close(b.store.grown) // whoever waits finds out
		b.store.grown = make(chan struct{})
	})
	b.eventually(t, "the outage shows", func(s Status) bool { return s.Failing != "" })
	require.NoError(t, b.wait(t, 1), "revision 1 still runs")
	require.Same(t, good, b.Current())
	b.store.set(func() { b.store.down = false })
	b.eventually(t, "its end shows without a new revision", func(s Status) bool { return s.Failing == "" })
	require.Same(t, good, b.Current())
	require.NoError(t, b.wait(t, b.store.add(t, "0002")))
}

func TestManyMayWait(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.start(t)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			seq := uint64(i%5 + 1)
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			err := b.WaitApplied(ctx, seq)
			if err == nil && b.Current().Revision.Seq < seq {
				err = fmt.Errorf("revision %d runs", b.Current().Revision.Seq)
			}
			if err != nil {
				t.Errorf("waiting for %d: %v", seq, err)
			}
		})
	}
	for i := range 5 {
		require.NoError(t, b.wait(t, b.store.add(t, fmt.Sprint(i))))
	}
	all.Wait()
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.start(t)
	require.NoError(t, b.wait(t, 0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, b.WaitApplied(ctx, 0), "what runs already needs no waiting")
	err := b.WaitApplied(ctx, 7)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "waiting until revision 7 runs: context canceled")
}

func TestWaitingEndsWithTheLoop(t *testing.T) {
	t.Parallel()
	b := newBench()
	stop := b.start(t)
	require.NoError(t, b.wait(t, 0))
	waiting := make(chan error, 1)
	go func() { waiting <- b.WaitApplied(context.Background(), 1) }()
	stop()
	select {
	case err := <-waiting:
		require.EqualError(t, err, "revision 1 will not run here, the replica is shutting down: context canceled")
	case <-time.After(deadline):
		t.Fatal("the waiter was forgotten")
	}
	require.NoError(t, b.wait(t, 0), "what was published still is")
}

func TestTheObserverSeesEveryChangeInOrder(t *testing.T) {
	t.Parallel()
	b := newBench()
	stop := b.start(t)
	require.NoError(t, b.wait(t, 0))
	require.NoError(t, b.wait(t, b.store.add(t, "0001")))
	require.Error(t, b.wait(t, b.store.add(t, bad)))
	stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	var seen []string
	for _, s := range b.statuses {
		seen = append(seen, fmt.Sprintf("%d of %d, failing: %t", s.Applied, s.Head, s.Failing != ""))
	}
	require.Equal(t, []string{"0 of 0, failing: false", "1 of 1, failing: false", "1 of 2, failing: true"}, seen)
}

func TestPausesGrowToALimit(t *testing.T) {
	t.Parallel()
	pause, total := longer(0), 0
	require.Equal(t, shortestPause, pause)
	for ; pause < longestPause; total++ {
		next := longer(pause)
		require.Greater(t, next, pause)
		pause = next
	}
	require.Equal(t, longestPause, longer(pause))
	require.LessOrEqual(t, total, 10)
}
