package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/store"
)

// BenchmarkAppend is dominated by the syncs: a content, its directory, the journal.
func BenchmarkAppend(b *testing.B) {
	s, _ := mustOpen(b, b.TempDir())
	b.ReportAllocs()
	for i := range b.N {
		_, err := s.Append(context.Background(), store.Change{
			Parent: uint64(i), Author: "li.wei", Set: map[string][]byte{"rules": []byte(fmt.Sprint(i))},
		})
		require.NoError(b, err)
	}
	require.NoError(b, s.Close())
}

// history writes a journal of n revisions with 20 parts each, and returns its directory.
func history(b *testing.B, n int) string {
	dir := b.TempDir()
	content := []byte("x")
	parts := make(map[string]store.Digest)
	for i := range 20 {
		parts[fmt.Sprint("lists/list-", i)] = store.DigestOf(content)
	}
	require.NoError(b, os.Mkdir(filepath.Join(dir, contentName), dirMode))
	require.NoError(b, os.WriteFile(filepath.Join(dir, contentName, store.DigestOf(content).String()), content, fileMode))
	journal, err := os.Create(filepath.Join(dir, journalName))
	require.NoError(b, err)
	var parent store.Revision
	for i := range n {
		next := store.Revision{
			Seq: uint64(i) + 1, Parent: uint64(i), Author: "li.wei", Reason: "试点", At: time.UnixMilli(int64(i)).UTC(),
			Parts: parts, Previous: parent.Hash,
		}
		next.Hash = next.ComputeHash()
		line, err := encode(next)
		require.NoError(b, err)
		_, err = journal.Write(line)
		require.NoError(b, err)
		parent = next
	}
	require.NoError(b, journal.Close())
	return dir
}

func BenchmarkOpen10000(b *testing.B) {
	dir := history(b, 10_000)
	info, err := os.Stat(filepath.Join(dir, journalName))
	require.NoError(b, err)
	b.SetBytes(info.Size())
	b.ReportAllocs()
	for b.Loop() {
		s, _ := mustOpen(b, dir)
		require.NoError(b, s.Close())
	}
}

func BenchmarkRevision(b *testing.B) {
	s, _ := mustOpen(b, history(b, 1000))
	b.ReportAllocs()
	for i := range b.N {
		_, err := s.Revision(context.Background(), uint64(i%999)+1)
		require.NoError(b, err)
	}
	require.NoError(b, s.Close())
}
