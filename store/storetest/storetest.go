// Package storetest is the conformance suite of store.Store: what every adapter must do alike. An adapter's test calls
// Run with a factory. The package knows no adapter, and tests neither durability nor speed: those are each adapter's own.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/store"
)

// deadline is how long a test may take on a busy disk.
const deadline = 30 * time.Second

// Run runs the suite. open returns an empty store and closes it when the test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"an empty store is revision 0", testEmpty},
		{"revisions chain", testChain},
		{"parts not named stay", testParts},
		{"a change against another revision conflicts", testConflict},
		{"a change of nothing appends nothing", testNothing},
		{"texts that are not UTF-8 are refused", testNotUTF8},
		{"texts and contents come back byte for byte", testBytes},
		{"revisions are paged newest first", testPages},
		{"unknown revisions and contents are not found", testNotFound},
		{"one of many concurrent changes wins", testRace},
		{"readers see whole revisions while others append", testReadWhileAppending},
		{"waiting ends with the next revision", testWait},
		{"waiting ends with the context", testWaitCancelled},
		{"a cancelled append changes nothing", testAppendCancelled},
		{"nothing is kept of what a change was made of", testSetIsGivenBack},
		{"a change is told the digests of its parts", testDigested},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func set(parent uint64, parts ...string) store.Change {
	change := store.Change{Parent: parent, Author: "li.wei", Reason: "试点", Set: make(map[string][]byte)}
	for i := 0; i < len(parts); i += 2 {
		change.Set[parts[i]] = []byte(parts[i+1])
	}
	return change
}

// testSetIsGivenBack writes over a content once Append has returned, as whoever lent the memory may.
func testSetIsGivenBack(t *testing.T, s store.Store) {
	ctx := bounded(t)
	text := []byte("9001/0001")
	change := set(0)
	change.Set["lists/pilot"] = text
	revision, err := s.Append(ctx, change)
	require.NoError(t, err)
	clear(text)
	content, err := s.Content(ctx, revision.Parts["lists/pilot"])
	require.NoError(t, err)
	require.Equal(t, "9001/0001", string(content))
}

func testDigested(t *testing.T, s store.Store) {
	ctx := bounded(t)
	told := map[string]store.Digest{}
	change := set(0, "rules", "1", "lists/pilot", "2")
	change.Digested = func(part string, digest store.Digest) {
		head, err := s.Head(ctx)
		require.NoError(t, err)
		require.Zero(t, head.Seq, "it is told before the revision is the head")
		told[part] = digest
	}
	revision, err := s.Append(ctx, change)
	require.NoError(t, err)
	require.Equal(t, revision.Parts, told)
}

func testEmpty(t *testing.T, s store.Store) {
	ctx := bounded(t)
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.Equal(t, store.Revision{}, head)
	zero, err := s.Revision(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, store.Revision{}, zero)
	page, err := s.Revisions(ctx, 0, 10)
	require.NoError(t, err)
	require.Empty(t, page)
}

func testChain(t *testing.T, s store.Store) {
	ctx := bounded(t)
	var parent store.Revision
	for i := range 5 {
		before := time.Now().Truncate(time.Millisecond)
		appended, err := s.Append(ctx, set(parent.Seq, "rules", fmt.Sprint(i)))
		require.NoError(t, err)
		require.NoError(t, store.CheckNext(parent, appended))
		require.Equal(t, "li.wei", appended.Author)
		require.Equal(t, "试点", appended.Reason)
		require.Equal(t, time.UTC, appended.At.Location())
		require.WithinRange(t, appended.At, before, time.Now())

		head, err := s.Head(ctx)
		require.NoError(t, err)
		require.Equal(t, appended, head)
		parent = appended
	}
	for seq := uint64(1); seq <= 5; seq++ {
		read, err := s.Revision(ctx, seq)
		require.NoError(t, err)
		before, err := s.Revision(ctx, seq-1)
		require.NoError(t, err)
		require.NoError(t, store.CheckNext(before, read))
		content, err := s.Content(ctx, read.Parts["rules"])
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(seq-1), string(content))
	}
}

func testParts(t *testing.T, s store.Store) {
	ctx := bounded(t)
	_, err := s.Append(ctx, set(0, "rules", "r", "lists/pilot", "p", "lists/old", "o"))
	require.NoError(t, err)
	change := set(1, "lists/pilot", "q")
	change.Delete = []string{"lists/old", "lists/never"}
	second, err := s.Append(ctx, change)
	require.NoError(t, err)
	require.Equal(t, map[string]store.Digest{
		"rules": store.DigestOf([]byte("r")), "lists/pilot": store.DigestOf([]byte("q")),
	}, second.Parts)
	first, err := s.Revision(ctx, 1)
	require.NoError(t, err)
	require.Len(t, first.Parts, 3, "a revision never changes")
	old, err := s.Content(ctx, first.Parts["lists/old"])
	require.NoError(t, err)
	require.Equal(t, "o", string(old), "what an older revision names stays")

	both := set(2, "rules", "r2")
	both.Delete = []string{"rules"}
	third, err := s.Append(ctx, both)
	require.NoError(t, err)
	require.Equal(t, store.DigestOf([]byte("r2")), third.Parts["rules"], "what is deleted and set is set")
}

func testConflict(t *testing.T, s store.Store) {
	ctx := bounded(t)
	first, err := s.Append(ctx, set(0, "rules", "1"))
	require.NoError(t, err)
	for _, parent := range []uint64{0, 2, 1 << 60} {
		_, err = s.Append(ctx, set(parent, "rules", "2"))
		require.ErrorIs(t, err, store.ErrConflict, "parent %d", parent)
		_, err = s.Append(ctx, set(parent, "rules", "1"))
		require.ErrorIs(t, err, store.ErrConflict, "parent %d, same content", parent)
	}
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.Equal(t, first, head)
}

func testNothing(t *testing.T, s store.Store) {
	ctx := bounded(t)
	head, err := s.Append(ctx, store.Change{Delete: []string{"rules"}})
	require.NoError(t, err)
	require.Equal(t, store.Revision{}, head)
	first, err := s.Append(ctx, set(0, "rules", "1"))
	require.NoError(t, err)
	for _, change := range []store.Change{set(1), set(1, "rules", "1"), {Parent: 1, Delete: []string{"lists/never"}}} {
		again, err := s.Append(ctx, change)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
	page, err := s.Revisions(ctx, 0, 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
}

func testNotUTF8(t *testing.T, s store.Store) {
	ctx := bounded(t)
	author, reason := set(0, "rules", "1"), set(0, "rules", "1")
	author.Author, reason.Reason = "\xff", "\xff"
	for _, change := range []store.Change{author, reason, set(0, "lists/\xff", "1"), set(0, "", "1")} {
		_, err := s.Append(ctx, change)
		require.Error(t, err)
	}
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.Zero(t, head.Seq)
}

func testBytes(t *testing.T, s store.Store) {
	ctx := bounded(t)
	change := set(0, "rules", "\x00\xff\n<&>\u2028", "empty", "", "lists/名单 \"a\"\n", "x")
	change.Author, change.Reason = "<b>&\u2028\x00\n", "\u2029\"\\"
	appended, err := s.Append(ctx, change)
	require.NoError(t, err)
	next, err := s.Append(ctx, set(1, "rules", "2"))
	require.NoError(t, err)
	read, err := s.Revision(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, appended, read)
	require.NoError(t, store.CheckNext(read, next))
	require.Equal(t, change.Author, read.Author)
	require.Equal(t, change.Reason, read.Reason)
	for name, want := range change.Set {
		content, err := s.Content(ctx, read.Parts[name])
		require.NoError(t, err)
		require.Equal(t, string(want), string(content))
	}
}

func testPages(t *testing.T, s store.Store) {
	ctx := bounded(t)
	for i := range uint64(7) {
		_, err := s.Append(ctx, set(i, "rules", fmt.Sprint(i)))
		require.NoError(t, err)
	}
	tests := []struct {
		before uint64
		limit  int
		want   []uint64
	}{
		{0, 3, []uint64{7, 6, 5}},
		{5, 3, []uint64{4, 3, 2}},
		{2, 3, []uint64{1}},
		{1, 3, nil},
		{0, 100, []uint64{7, 6, 5, 4, 3, 2, 1}},
		{100, 2, []uint64{7, 6}},
		{0, 0, nil},
	}
	for _, test := range tests {
		page, err := s.Revisions(ctx, test.before, test.limit)
		require.NoError(t, err)
		var got []uint64
		for _, revision := range page {
			require.Equal(t, revision.ComputeHash(), revision.Hash)
			got = append(got, revision.Seq)
		}
		require.Equal(t, test.want, got, "before %d, limit %d", test.before, test.limit)
	}
}

func testNotFound(t *testing.T, s store.Store) {
	ctx := bounded(t)
	_, err := s.Revision(ctx, 1)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Content(ctx, store.DigestOf([]byte("nobody wrote this")))
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testRace(t *testing.T, s store.Store) {
	ctx := bounded(t)
	const writers, rounds = 8, 5
	for parent := range uint64(rounds) {
		var won, lost atomic.Int32
		var all sync.WaitGroup
		for writer := range writers {
			all.Go(func() {
				_, err := s.Append(ctx, set(parent, "rules", fmt.Sprint(parent, writer)))
				if err == nil {
					won.Add(1)
				} else if errors.Is(err, store.ErrConflict) {
					lost.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, won.Load())
		require.EqualValues(t, writers-1, lost.Load())
	}
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.EqualValues(t, rounds, head.Seq)
}

func testReadWhileAppending(t *testing.T, s store.Store) {
	ctx := bounded(t)
	const last = 30
	faults := make(chan error, 5)
	for range cap(faults) - 1 {
		go func() { faults <- follow(ctx, s, last) }()
	}
	go func() {
		for parent := range uint64(last) {
			if _, err := s.Append(ctx, set(parent, "rules", fmt.Sprint("revision ", parent+1))); err != nil {
				faults <- err
				return
			}
		}
		faults <- nil
	}()
	for range cap(faults) {
		require.NoError(t, <-faults)
	}
}

// follow waits for one head after the other up to last and checks that it and all before it can be read.
func follow(ctx context.Context, s store.Store, last uint64) error {
	for seen := uint64(0); seen < last; {
		head, err := s.Wait(ctx, seen)
		if err != nil {
			return err
		}
		if head.Seq <= seen {
			return fmt.Errorf("waited for more than %d and got %d", seen, head.Seq)
		}
		seen = head.Seq
		content, err := s.Content(ctx, head.Parts["rules"])
		if err != nil {
			return err
		}
		if want := fmt.Sprint("revision ", seen); string(content) != want {
			return fmt.Errorf("the content of revision %d is %q", seen, content)
		}
		page, err := s.Revisions(ctx, seen+1, int(last))
		if err != nil {
			return err
		}
		if len(page) != int(seen) || page[0].Hash != head.Hash {
			return fmt.Errorf("%d revisions up to %d", len(page), seen)
		}
	}
	return nil
}

func testWait(t *testing.T, s store.Store) {
	ctx := bounded(t)
	const waiters = 16
	woken := make(chan store.Revision, waiters)
	for range waiters {
		go func() {
			head, err := s.Wait(ctx, 0)
			if err != nil {
				head = store.Revision{}
			}
			woken <- head
		}()
	}
	first, err := s.Append(ctx, set(0, "rules", "1"))
	require.NoError(t, err)
	for range waiters {
		require.Equal(t, first, <-woken)
	}
	head, err := s.Wait(ctx, 0)
	require.NoError(t, err, "a revision that is already there is not waited for")
	require.Equal(t, first, head)

	// A waiter that is behind by several gets the head, not the next one.
	second, err := s.Append(ctx, set(1, "rules", "2"))
	require.NoError(t, err)
	head, err = s.Wait(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, second, head)
}

func testWaitCancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(bounded(t))
	ended := make(chan error, 1)
	go func() {
		_, err := s.Wait(ctx, 0)
		ended <- err
	}()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func testAppendCancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(bounded(t))
	cancel()
	_, err := s.Append(ctx, set(0, "rules", "1"))
	require.ErrorIs(t, err, context.Canceled)
	head, err := s.Head(bounded(t))
	require.NoError(t, err)
	require.Zero(t, head.Seq)
}
