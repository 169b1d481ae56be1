package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tellergate/store"
	"tellergate/store/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(appenderDir); dir != "" {
		os.Exit(appendUntilKilled(dir))
	}
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _ := mustOpen(t, quickDir(t))
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	})
}

func mustOpen(t testing.TB, dir string) (*Store, Recovery) {
	t.Helper()
	s, recovery, err := Open(dir)
	require.NoError(t, err)
	return s, recovery
}

// quickDir returns a directory in memory where the machine has one: the syncs of the hundreds of stores that these tests
// open take minutes on a busy disk. The tests that end processes, and the benchmarks, use a real one.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tellergate-store-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// filled returns a directory with n revisions in a closed store.
func filled(t testing.TB, n int) string {
	t.Helper()
	dir := quickDir(t)
	s, _ := mustOpen(t, dir)
	for i := range n {
		_, err := s.Append(context.Background(), change(uint64(i), fmt.Sprint("rules ", i)))
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	return dir
}

func change(parent uint64, rules string) store.Change {
	return store.Change{
		Parent: parent, Author: "li.wei", Reason: "试点 <3200>",
		Set: map[string][]byte{"rules": []byte(rules), "lists/pilot": []byte("9001/000" + rules)},
	}
}

func TestReopenedStoreIsTheSame(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filled(t, 3)
	s, recovery := mustOpen(t, dir)
	defer func() { require.NoError(t, s.Close()) }()
	require.Empty(t, recovery.String())
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 3, head.Seq)
	content, err := s.Content(ctx, head.Parts["rules"])
	require.NoError(t, err)
	require.Equal(t, "rules 2", string(content))
	next, err := s.Append(ctx, change(3, "more"))
	require.NoError(t, err)
	require.NoError(t, store.CheckNext(head, next))
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "data")
	s, _ := mustOpen(t, dir)
	_, err := s.Append(context.Background(), change(0, "x"))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	seen := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, path)
		seen++
		return nil
	}))
	require.Equal(t, 6, seen, "two directories, journal, lock and two contents")
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	_, _, err := Open(dir)
	require.EqualError(t, err, fmt.Sprintf("cannot open the revision store %s: process %d has it open: stop that process,"+
		" or give this one another directory in rules.path", dir, os.Getpid()))
	require.NoError(t, s.Close())
	s, _ = mustOpen(t, dir)
	require.NoError(t, s.Close())
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, _ := mustOpen(t, filled(t, 2))
	waiting := make(chan error)
	go func() {
		_, err := s.Wait(ctx, 2)
		waiting <- err
	}()
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-waiting, ErrClosed)
	_, err := s.Append(ctx, change(2, "x"))
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.Revision(ctx, 1)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, s.Close(), ErrClosed)
}

func TestOpenSaysWhatIsWrongWithTheDirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, _, err := Open(path)
	require.EqualError(t, err, fmt.Sprintf("cannot open the revision store %s: mkdir %s: not a directory", path, path))
}
