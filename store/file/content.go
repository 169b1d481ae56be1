package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tellergate/internal/block"
	"tellergate/store"
)

// temporary ends the names of contents that are still being written.
const temporary = ".tmp"

// Content returns the content with this digest, or ErrNotFound. It is read from the disk and checked each time.
func (s *Store) Content(ctx context.Context, digest store.Digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := s.contentPath(digest)
	content, err := s.readPausing(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("content %s: %w: if a revision names it, restore %s from a backup", digest, store.ErrNotFound, path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read content: %w", err)
	}
	if actual := store.DigestPausing(content, s.Pause); actual != digest {
		return nil, fmt.Errorf("the content in %s is damaged: its SHA-256 is %s: restore the file from a backup", path, actual)
	}
	return content, nil
}

// pieceBytes is how much is read or written between two pauses.
const pieceBytes = 16 << 10

func (s *Store) pause() {
	if s.Pause != nil {
		s.Pause()
	}
}

// readPausing is os.ReadFile in pieces.
func (s *Store) readPausing(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	content := block.Uncleared[byte](int(info.Size()))
	for piece := range slices.Chunk(content, pieceBytes) {
		if _, err := io.ReadFull(f, piece); err != nil {
			return nil, err
		}
		s.pause()
	}
	return content, nil
}

// holds reports whether the content with this digest is there unharmed.
func (s *Store) holds(digest store.Digest) bool {
	f, err := os.Open(s.contentPath(digest))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it was only read
	hash, piece := sha256.New(), make([]byte, pieceBytes)
	for {
		n, err := f.Read(piece)
		_, _ = hash.Write(piece[:n]) // it never fails
		if err != nil {
			return errors.Is(err, io.EOF) && store.Digest(hash.Sum(nil)) == digest
		}
		s.pause()
	}
}

func (s *Store) contentPath(digest store.Digest) string {
	return filepath.Join(s.dir, contentName, digest.String())
}

// keepContents makes every content durable that is not yet there unharmed.
func (s *Store) keepContents(ctx context.Context, contents map[string][]byte, digests map[string]store.Digest) error {
	written := false
	for name, content := range contents {
		digest := digests[name]
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.holds(digest) {
			continue
		}
		if err := s.writeContent(digest, content); err != nil {
			return fmt.Errorf("writing part %q failed: %w: free space or repair the disk, then try again", name, err)
		}
		written = true
	}
	if !written {
		return nil
	}
	return syncDir(filepath.Join(s.dir, contentName))
}

// writeContent puts content in its place at once and synced, so that a file with its final name is always whole.
func (s *Store) writeContent(digest store.Digest, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, contentName), "*"+temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	for piece := range slices.Chunk(content, pieceBytes) {
		if _, err = f.Write(piece); err != nil {
			break
		}
		s.pause()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.contentPath(digest))
}

// removeTemporary removes the contents that a crash left half written.
func removeTemporary(dir string) (removed int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), temporary) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
