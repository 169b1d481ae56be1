// Package file keeps revisions in a directory: the embedded default, for one replica, with nothing else on the machine.
//
//	DIR/revisions.jsonl       one line of JSON per revision, oldest first; only ever appended to
//	DIR/content/<sha256>      the contents that parts name, each once
//	DIR/lock                  held (flock) by the process that has the store open, whose number it contains
//	DIR/revisions.jsonl.torn-<offset>   what a crash left behind the last whole line, kept for whoever wants to look
//
// It is responsible for durability: what Append acknowledged survives kill -9 and loss of power, and a history that was
// damaged or edited is refused instead of served. The hash chain of store.Revision is checked whole when the store is
// opened, each content whenever it is read. It does not know what the parts mean.
//
// An Append writes and syncs the contents first and the line last, so that a line never names a content that is not
// there; a crash in between leaves contents that nothing names, which are harmless and stay. Directories are private to
// the owner (0700, files 0600), because lists contain teller numbers.
package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"tellergate/store"
)

// ErrClosed: the store was closed.
var ErrClosed = errors.New("the revision store is closed")

const (
	journalName = "revisions.jsonl"
	contentName = "content"
	lockName    = "lock"

	dirMode  = 0o700
	fileMode = 0o600
)

// Store is a store.Store in a directory. Create it with Open; it is safe for concurrent use. The history is read from
// the disk when it is asked for; only the head and where each line begins are in memory.
type Store struct {
	dir    string
	lock   *os.File
	closed chan struct{}
	now    func() time.Time

	// Pause is called between pieces of long work, such as reading and writing megabytes; nil: never. It is set before the
	// store is used.
	Pause func()

	state   atomic.Pointer[state]
	journal journal // read by anybody below state.size; written by the holder of writing

	writing chan struct{} // holds one token; its taker alone appends and closes
	broken  error         // guarded by writing: why nothing may be appended until the store is opened again
}

// A state is what readers see. It is immutable: an append publishes the next one.
type state struct {
	head    store.Revision
	lines   []int64       // where the line of revision i+1 begins; a later state may share the array and be longer
	size    int64         // where the last line ends
	changed chan struct{} // closed when the next state is published
}

// A journal is the file revisions.jsonl; tests put failing disks behind it.
type journal interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

var _ store.Store = (*Store)(nil)

// Head returns the latest revision, the zero Revision if there is none.
func (s *Store) Head(context.Context) (store.Revision, error) { return s.state.Load().head, nil }

// Revision returns revision seq, or ErrNotFound. Seq 0 is the empty state.
func (s *Store) Revision(_ context.Context, seq uint64) (store.Revision, error) {
	current := s.state.Load()
	switch {
	case seq == 0:
		return store.Revision{}, nil
	case seq == current.head.Seq:
		return current.head, nil
	case seq > current.head.Seq:
		return store.Revision{}, fmt.Errorf("revision %d: %w: the latest is %d", seq, store.ErrNotFound, current.head.Seq)
	}
	return s.read(current, seq)
}

// Revisions returns at most limit revisions with Seq < before (0: from the head), newest first.
func (s *Store) Revisions(ctx context.Context, before uint64, limit int) ([]store.Revision, error) {
	current := s.state.Load()
	if before == 0 || before > current.head.Seq {
		before = current.head.Seq + 1
	}
	var page []store.Revision
	for seq := before - 1; seq > 0 && len(page) < limit; seq-- {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		revision, err := s.read(current, seq)
		if err != nil {
			return nil, err
		}
		page = append(page, revision)
	}
	return page, nil
}

// read reads revision seq, 1 ≤ seq ≤ the head's, from the disk and checks it again.
func (s *Store) read(current *state, seq uint64) (store.Revision, error) {
	begin, end := current.lines[seq-1], current.size
	if seq < uint64(len(current.lines)) {
		end = current.lines[seq]
	}
	line := make([]byte, end-begin)
	if _, err := s.journal.ReadAt(line, begin); err != nil {
		return store.Revision{}, fmt.Errorf("cannot read revision %d: %w", seq, s.orClosed(err))
	}
	revision, err := decode(line)
	if err == nil && revision.Hash != revision.ComputeHash() {
		err = errors.New("its hash does not fit its fields")
	}
	if err != nil {
		return store.Revision{}, fmt.Errorf("revision %d was damaged on the disk while the store was open: %w: restore %s"+
			" from a backup and start again", seq, err, filepath.Join(s.dir, journalName))
	}
	return revision, nil
}

// Append makes change durable and then the head. It returns ErrConflict, and changes nothing, unless change.Parent is
// the head. A change that leaves every part as it was appends nothing and returns the head. Any error leaves the head,
// and what is on the disk, as it was.
func (s *Store) Append(ctx context.Context, change store.Change) (store.Revision, error) {
	if err := s.acquire(ctx); err != nil {
		return store.Revision{}, err
	}
	defer s.release()
	current := s.state.Load()
	change.Pause = s.Pause
	next, ok, err := store.Next(current.head, change, s.now())
	if err != nil {
		return store.Revision{}, err
	}
	if !ok {
		return current.head, nil
	}
	if s.broken != nil {
		return store.Revision{}, s.broken
	}
	if err := s.keepContents(ctx, change.Set, next.Parts); err != nil {
		return store.Revision{}, fmt.Errorf("revision %d was not stored, nothing has changed: %w", next.Seq, err)
	}
	line, err := encode(next)
	if err != nil {
		return store.Revision{}, fmt.Errorf("revision %d was not stored, nothing has changed: %w", next.Seq, err)
	}
	if err := s.writeLine(line, current.size); err != nil {
		return store.Revision{}, fmt.Errorf("revision %d was not stored, nothing has changed: %w", next.Seq, err)
	}
	s.state.Store(&state{
		head:    next,
		lines:   append(current.lines, current.size),
		size:    current.size + int64(len(line)),
		changed: make(chan struct{}),
	})
	close(current.changed)
	return next, nil
}

// writeLine makes line durable at the end of the journal, or puts the journal back to size.
func (s *Store) writeLine(line []byte, size int64) error {
	_, err := s.journal.WriteAt(line, size)
	if err == nil {
		err = s.journal.Sync()
	}
	if err == nil {
		return nil
	}
	undo := s.journal.Truncate(size)
	if undo == nil {
		undo = s.journal.Sync()
	}
	if undo != nil {
		s.broken = fmt.Errorf("an earlier write to %s failed (%w) and could not be taken back (%w): free space or repair"+
			" the disk, then start again", filepath.Join(s.dir, journalName), err, undo)
	}
	return fmt.Errorf("writing it failed: %w: free space or repair the disk, then try again", err)
}

// Wait blocks until the head's Seq exceeds after and returns that head, or ctx's error, or ErrClosed.
func (s *Store) Wait(ctx context.Context, after uint64) (store.Revision, error) {
	for {
		current := s.state.Load()
		if current.head.Seq > after {
			return current.head, nil
		}
		select {
		case <-current.changed:
		case <-ctx.Done():
			return store.Revision{}, ctx.Err()
		case <-s.closed:
			return store.Revision{}, ErrClosed
		}
	}
}

// Close waits for a running Append, ends every Wait, and gives the directory free for another process. A second Close
// returns ErrClosed.
func (s *Store) Close() error {
	if err := s.acquire(context.Background()); err != nil {
		return err
	}
	defer s.release()
	close(s.closed)
	return errors.Join(s.journal.Close(), releaseLock(s.lock))
}

// acquire takes the right to write.
func (s *Store) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.writing:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-s.closed:
		s.release()
		return ErrClosed
	default:
		return nil
	}
}

func (s *Store) release() { s.writing <- struct{}{} }

// orClosed says what a read error of a closed file means.
func (s *Store) orClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return ErrClosed
	}
	return err
}

// encode returns the line of a revision.
func encode(revision store.Revision) ([]byte, error) {
	line, err := json.Marshal(revision)
	if err != nil {
		return nil, err
	}
	return append(line, '\n'), nil
}

// decode reads a line, with its line feed. Only the very bytes that encode writes are accepted: a line that merely means
// the same was not written by this store.
func decode(line []byte) (store.Revision, error) {
	var revision store.Revision
	if err := json.Unmarshal(line, &revision); err != nil {
		return store.Revision{}, fmt.Errorf("it is no revision: %w", err)
	}
	again, err := encode(revision)
	if err != nil {
		return store.Revision{}, fmt.Errorf("it is no revision: %w", err)
	}
	if !slices.Equal(again, line) {
		return store.Revision{}, errors.New("it is not written the way tellergate writes revisions")
	}
	return revision, nil
}
