package file

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/store"
)

// TestTruncationAtEveryOffset cuts the journal at every byte of its last record: what was whole before must open.
func TestTruncationAtEveryOffset(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filled(t, 3)
	journal := filepath.Join(dir, journalName)
	whole, err := os.ReadFile(journal)
	require.NoError(t, err)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	begin := len(lines[0]) + len(lines[1])
	for size := begin; size <= len(whole); size++ {
		require.NoError(t, os.WriteFile(journal, whole[:size], fileMode))
		s, recovery := mustOpen(t, dir)
		head, err := s.Head(ctx)
		require.NoError(t, err)
		want := uint64(2)
		if size == len(whole) {
			want = 3
		}
		require.Equal(t, want, head.Seq, "cut at %d", size)
		torn := size - begin
		if size == len(whole) {
			torn = 0
		}
		require.EqualValues(t, torn, recovery.TornBytes, "cut at %d", size)
		if torn > 0 {
			kept, err := os.ReadFile(recovery.TornFile)
			require.NoError(t, err)
			require.Equal(t, string(whole[begin:size]), string(kept))
			require.Equal(t, fmt.Sprintf("%s.torn-%d", journal, begin), recovery.TornFile)
		}
		next, err := s.Append(ctx, change(head.Seq, "after the crash"))
		require.NoError(t, err)
		require.NoError(t, s.Close())

		s, recovery = mustOpen(t, dir)
		require.Equal(t, Recovery{}, recovery)
		head, err = s.Head(ctx)
		require.NoError(t, err)
		require.Equal(t, next, head)
		require.NoError(t, s.Close())
	}
}

// TestUnwrittenPages replaces the last record's bytes by zeros, as file systems do that grow a file before its data.
func TestUnwrittenPages(t *testing.T) {
	t.Parallel()
	for _, from := range []int{0, 10, 200} {
		dir := filled(t, 2)
		journal := filepath.Join(dir, journalName)
		whole, err := os.ReadFile(journal)
		require.NoError(t, err)
		begin := bytes.IndexByte(whole, '\n') + 1
		clear(whole[begin+from : len(whole)-1])
		require.NoError(t, os.WriteFile(journal, whole, fileMode))
		s, recovery := mustOpen(t, dir)
		require.EqualValues(t, len(whole)-begin, recovery.TornBytes)
		require.Contains(t, recovery.String(), "after a crash the revision store cut off an unfinished record of")
		head, err := s.Head(context.Background())
		require.NoError(t, err)
		require.EqualValues(t, 1, head.Seq)
		require.NoError(t, s.Close())
	}
}

// TestFlippedByte damages one byte at a time: no such history may be served. Only a zero or a missing line feed in the
// last record looks like a crash.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	dir := filled(t, 3)
	journal := filepath.Join(dir, journalName)
	whole, err := os.ReadFile(journal)
	require.NoError(t, err)
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for at := range len(whole) - 1 {
		for _, bit := range []byte{0x01, 0x20, 0x80} {
			damaged := bytes.Clone(whole)
			damaged[at] ^= bit
			if at >= last && damaged[at] == 0 {
				continue
			}
			require.NoError(t, os.WriteFile(journal, damaged, fileMode))
			_, _, err := Open(dir)
			require.Error(t, err, "byte %d, bit %#x", at, bit)
		}
	}
	require.NoError(t, os.WriteFile(journal, whole, fileMode))
	s, _ := mustOpen(t, dir)
	require.NoError(t, s.Close())
}

var digests = regexp.MustCompile("[0-9a-f]{64}")

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(lines []string) []string
		want   string
	}{
		{"no JSON", func(l []string) []string { l[0] = "{\n"; return l },
			"line 1 of %s is damaged or was edited: it is no revision: unexpected end of JSON input:" +
				" restore the file from a backup, or, to go back to revision 0 and lose what came after, keep a copy and" +
				" delete line 1 and everything below it"},
		{"reason edited", func(l []string) []string { l[1] = strings.Replace(l[1], "试点", "试用", 1); return l },
			"line 2 of %s is damaged or was edited: its hash is HASH, but its fields give HASH:" +
				" restore the file from a backup, or, to go back to revision 1 and lose what came after, keep a copy and" +
				" delete line 2 and everything below it"},
		{"spelled otherwise", func(l []string) []string { l[1] = strings.Replace(l[1], ":", ": ", 1); return l },
			"line 2 of %s is damaged or was edited: it is not written the way tellergate writes revisions:" +
				" restore the file from a backup, or, to go back to revision 1 and lose what came after, keep a copy and" +
				" delete line 2 and everything below it"},
		{"line removed", func(l []string) []string { return append(l[:1], l[2:]...) },
			"line 2 of %s is damaged or was edited: its number is 3 and should be 2:" +
				" restore the file from a backup, or, to go back to revision 1 and lose what came after, keep a copy and" +
				" delete line 2 and everything below it"},
		{"last record edited", func(l []string) []string { l[2] = strings.Replace(l[2], "li.wei", "nobody", 1); return l },
			"line 3 of %s is damaged or was edited: its hash is HASH, but its fields give HASH:" +
				" restore the file from a backup, or, to go back to revision 2 and lose what came after, keep a copy and" +
				" delete line 3 and everything below it"},
		{"history of another store", func(l []string) []string { l[2] = foreign(t); return l },
			"line 3 of %s is damaged or was edited: it follows a revision with the hash HASH, but the hash of revision 2 is" +
				" HASH: restore the file from a backup, or, to go back to revision 2 and lose what came after, keep a copy and" +
				" delete line 3 and everything below it"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filled(t, 3)
			journal := filepath.Join(dir, journalName)
			whole, err := os.ReadFile(journal)
			require.NoError(t, err)
			lines := strings.SplitAfter(strings.TrimSuffix(string(whole), "\n"), "\n")
			lines[len(lines)-1] += "\n"
			damaged := strings.Join(test.damage(lines), "")
			require.NoError(t, os.WriteFile(journal, []byte(damaged), fileMode))
			_, _, err = Open(dir)
			require.Error(t, err)
			message := digests.ReplaceAllString(err.Error(), "HASH")
			require.Equal(t, "cannot open the revision store "+dir+": "+fmt.Sprintf(test.want, journal), message)
			after, err := os.ReadFile(journal)
			require.NoError(t, err)
			require.Equal(t, damaged, string(after), "a refused journal is left as it is")
		})
	}
}

// foreign returns a third line whose own hash is right but whose parent is of another history.
func foreign(t *testing.T) string {
	t.Helper()
	revision := store.Revision{Seq: 3, Parent: 2, Author: "x", Parts: map[string]store.Digest{}, At: time.UnixMilli(0).UTC()}
	revision.Hash = revision.ComputeHash()
	line, err := encode(revision)
	require.NoError(t, err)
	return string(line)
}

func TestContentIsChecked(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filled(t, 2)
	s, _ := mustOpen(t, dir)
	first, err := s.Revision(ctx, 1)
	require.NoError(t, err)
	head, err := s.Head(ctx)
	require.NoError(t, err)

	path := s.contentPath(first.Parts["rules"])
	require.NoError(t, os.WriteFile(path, []byte("evil"), fileMode))
	_, err = s.Content(ctx, first.Parts["rules"])
	require.EqualError(t, err, fmt.Sprintf("the content in %s is damaged: its SHA-256 is %s: restore the file from a backup",
		path, store.DigestOf([]byte("evil"))))

	// The same content stored anew mends the file.
	_, err = s.Append(ctx, change(2, "rules 0"))
	require.NoError(t, err)
	mended, err := s.Content(ctx, first.Parts["rules"])
	require.NoError(t, err)
	require.Equal(t, "rules 0", string(mended))
	_, err = s.Append(ctx, change(3, "rules 1"))
	require.NoError(t, err)
	require.NoError(t, s.Close())

	// A damaged content of an old revision does not keep the gateway from starting, one of the head does.
	require.NoError(t, os.Remove(path))
	s, _ = mustOpen(t, dir)
	require.NoError(t, s.Close())
	missing := s.contentPath(head.Parts["rules"])
	require.NoError(t, os.Remove(missing))
	_, _, err = Open(dir)
	require.EqualError(t, err, fmt.Sprintf("cannot open the revision store %s: part \"rules\" of revision 4: content %s:"+
		" not found: if a revision names it, restore %s from a backup", dir, head.Parts["rules"], missing))
}

func TestTemporaryContentsAreRemoved(t *testing.T) {
	t.Parallel()
	dir := filled(t, 1)
	left := filepath.Join(dir, contentName, "123"+temporary)
	require.NoError(t, os.WriteFile(left, []byte("ha"), fileMode))
	unnamed := filepath.Join(dir, contentName, store.DigestOf([]byte("nobody")).String())
	require.NoError(t, os.WriteFile(unnamed, []byte("nobody"), fileMode))
	s, recovery := mustOpen(t, dir)
	require.Equal(t, "after a crash the revision store removed 1 half-written contents", recovery.String())
	require.NoError(t, s.Close())
	require.NoFileExists(t, left)
	require.FileExists(t, unnamed, "a content that a crash left without a revision is harmless and stays")
}
