package file

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A faultyJournal fails as a disk does: after having written a part, or when it is told to sync.
type faultyJournal struct {
	journal
	writes, syncs, truncates error // what fails next, and from then on
}

func (f *faultyJournal) WriteAt(p []byte, at int64) (int, error) {
	if f.writes == nil {
		return f.journal.WriteAt(p, at)
	}
	n, err := f.journal.WriteAt(p[:len(p)/2], at)
	return n, errors.Join(err, f.writes)
}

func (f *faultyJournal) Sync() error { return errors.Join(f.journal.Sync(), f.syncs) }

func (f *faultyJournal) Truncate(size int64) error {
	if f.truncates != nil {
		return f.truncates
	}
	return f.journal.Truncate(size)
}

func TestFailingDisk(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tests := []struct {
		name    string
		fault   faultyJournal
		want    string
		recover bool // whether the next Append works once the fault is over
	}{
		{"disk full", faultyJournal{writes: syscall.ENOSPC},
			"revision 3 was not stored, nothing has changed: writing it failed: no space left on device: free space or" +
				" repair the disk, then try again", true},
		{"disk full and stuck", faultyJournal{writes: syscall.ENOSPC, truncates: syscall.EIO},
			"revision 3 was not stored, nothing has changed: writing it failed: no space left on device: free space or" +
				" repair the disk, then try again", false},
		{"sync fails", faultyJournal{syncs: syscall.EIO},
			"revision 3 was not stored, nothing has changed: writing it failed: input/output error: free space or" +
				" repair the disk, then try again", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filled(t, 2)
			s, _ := mustOpen(t, dir)
			healthy, fault := s.journal, test.fault
			fault.journal = healthy
			s.journal = &fault
			_, err := s.Append(ctx, change(2, "lost"))
			require.EqualError(t, err, test.want)
			head, err := s.Head(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 2, head.Seq)
			short, cancel := context.WithCancel(ctx)
			cancel()
			_, err = s.Wait(short, 2)
			require.ErrorIs(t, err, context.Canceled, "nobody is woken")

			s.journal = healthy
			_, err = s.Append(ctx, change(2, "kept"))
			want := uint64(3)
			if !test.recover {
				require.ErrorContains(t, err, "could not be taken back")
				require.ErrorContains(t, err, "start again")
				want = 2
			} else {
				require.NoError(t, err)
			}
			require.NoError(t, s.Close())
			s, _ = mustOpen(t, dir)
			head, err = s.Head(ctx)
			require.NoError(t, err)
			require.Equal(t, want, head.Seq)
			require.NoError(t, s.Close())
		})
	}
}
