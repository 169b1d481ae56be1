package file

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tellergate/store"
)

// A Recovery says what Open found left over from a crash and put in order. The zero Recovery is the normal case.
type Recovery struct {
	// TornBytes is the length of an unfinished record that was cut off the end of the journal, and TornFile where its
	// bytes are kept. No Append had acknowledged it.
	TornBytes int64
	TornFile  string
	// Temporary is the number of half-written contents that were removed.
	Temporary int
}

// String says it in a sentence for the log, empty if there is nothing to say.
func (r Recovery) String() string {
	var did []string
	if r.TornBytes > 0 {
		did = append(did, fmt.Sprintf("cut off an unfinished record of %d bytes and kept it in %s", r.TornBytes, r.TornFile))
	}
	if r.Temporary > 0 {
		did = append(did, fmt.Sprintf("removed %d half-written contents", r.Temporary))
	}
	if len(did) == 0 {
		return ""
	}
	return "after a crash the revision store " + strings.Join(did, " and ")
}

// Open opens the store in dir, creating it if there is none, and checks the whole history. Whatever it finds wrong
// besides an unfinished last record is an error: it would rather not start than serve a history that nobody wrote.
func Open(dir string) (*Store, Recovery, error) {
	s, recovery, err := open(dir)
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("cannot open the revision store %s: %w", dir, err)
	}
	return s, recovery, nil
}

func open(dir string) (_ *Store, recovery Recovery, err error) {
	contents := filepath.Join(dir, contentName)
	_, statErr := os.Stat(dir)
	if err := os.MkdirAll(contents, dirMode); err != nil {
		return nil, Recovery{}, err
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return nil, Recovery{}, err
		}
	}
	lock, err := acquireLock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, Recovery{}, err
	}
	var f *os.File
	defer func() {
		if err != nil {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
			err = errors.Join(err, releaseLock(lock))
		}
	}()
	if recovery.Temporary, err = removeTemporary(contents); err != nil {
		return nil, Recovery{}, err
	}
	if f, err = os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE, fileMode); err != nil {
		return nil, Recovery{}, err
	}
	first, torn, err := scan(f, f.Name())
	if err != nil {
		return nil, Recovery{}, err
	}
	if len(torn) > 0 {
		recovery.TornBytes, recovery.TornFile = int64(len(torn)), fmt.Sprintf("%s.torn-%d", f.Name(), first.size)
		if err := cutOff(f, first.size, torn, recovery.TornFile); err != nil {
			return nil, Recovery{}, fmt.Errorf("an unfinished record cannot be cut off %s: %w", f.Name(), err)
		}
	}
	// The last line may have been written just before a crash and not be synced yet, and so may the names.
	if err := errors.Join(f.Sync(), syncDir(dir)); err != nil {
		return nil, Recovery{}, err
	}
	s := &Store{
		dir:     dir,
		lock:    lock,
		closed:  make(chan struct{}),
		now:     time.Now,
		journal: f,
		writing: make(chan struct{}, 1),
	}
	s.state.Store(first)
	if err := s.checkHead(first.head); err != nil {
		return nil, Recovery{}, err
	}
	s.release()
	return s, recovery, nil
}

// acquireLock takes the store for this process until the file is closed or the process ends, however it ends.
func acquireLock(path string) (_ *os.File, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, err := io.ReadAll(io.LimitReader(f, 20))
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("process %s has it open: stop that process, or give this one another directory in rules.path",
			cmp.Or(strings.TrimSpace(string(holder)), "?"))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, err
	}
	return f, nil
}

// releaseLock gives the store free explicitly, because closing is not enough while a process that is just being started
// holds a copy of every descriptor.
func releaseLock(lock *os.File) error {
	return errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_UN), lock.Close())
}

// scan reads the whole journal and checks the chain. torn is what a crash in the middle of an append can have left at
// the end: a record without its line feed, or of full length with bytes that were never written, which read as zeros
// and occur in no whole line. A last record that is bad in any other way was damaged or edited after it had been
// acknowledged; to cut that one off would lose a revision in silence.
func scan(journal io.Reader, name string) (first *state, torn []byte, err error) {
	first = &state{changed: make(chan struct{})}
	for reader := bufio.NewReaderSize(journal, 1<<20); ; {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return first, line, nil
		}
		if err != nil {
			return nil, nil, err
		}
		revision, err := decode(line)
		if err != nil {
			_, end := reader.Peek(1)
			if errors.Is(end, io.EOF) && bytes.IndexByte(line, 0) >= 0 {
				return first, line, nil
			}
			return nil, nil, damaged(name, len(first.lines)+1, err)
		}
		if err := store.CheckNext(first.head, revision); err != nil {
			return nil, nil, damaged(name, len(first.lines)+1, err)
		}
		first.head = revision
		first.lines = append(first.lines, first.size)
		first.size += int64(len(line))
	}
}

func damaged(journal string, line int, fault error) error {
	return fmt.Errorf("line %d of %s is damaged or was edited: %w: restore the file from a backup, or, to go back to"+
		" revision %d and lose what came after, keep a copy and delete line %d and everything below it",
		line, journal, fault, line-1, line)
}

// cutOff keeps torn in a file of its own and then shortens the journal to size.
func cutOff(journal *os.File, size int64, torn []byte, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(torn)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return journal.Truncate(size)
}

// checkHead makes sure that what is about to be served is there.
func (s *Store) checkHead(head store.Revision) error {
	var faults []error
	for name, digest := range head.Parts {
		if _, err := s.Content(context.Background(), digest); err != nil {
			faults = append(faults, fmt.Errorf("part %q of revision %d: %w", name, head.Seq, err))
		}
	}
	return errors.Join(faults...)
}
