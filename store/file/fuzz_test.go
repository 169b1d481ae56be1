package file

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/store"
)

// FuzzScan reads whatever a disk may hold. What is not refused is a true history, byte for byte what tellergate writes,
// and then nothing or something that a crash can have left.
func FuzzScan(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join(filled(f, 2), journalName))
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("\n"))
	f.Add([]byte("{}\n"))
	f.Add(append(bytes.Clone(whole), 0, 0, '\n'))
	f.Add(append(bytes.Clone(whole), whole...))
	f.Fuzz(func(t *testing.T, found []byte) {
		first, torn, err := scan(bytes.NewReader(found), journalName)
		if err != nil {
			require.Contains(t, err.Error(), "restore the file from a backup")
			return
		}
		require.Equal(t, string(found[first.size:]), string(torn))
		require.True(t, !bytes.HasSuffix(torn, []byte("\n")) || bytes.IndexByte(torn, 0) >= 0)
		var parent store.Revision
		var written []byte
		for i, begin := range first.lines {
			require.EqualValues(t, len(written), begin)
			revision, err := decode(found[begin : begin+int64(bytes.IndexByte(found[begin:], '\n'))+1])
			require.NoError(t, err)
			require.NoError(t, store.CheckNext(parent, revision), "line %d", i+1)
			line, err := encode(revision)
			require.NoError(t, err)
			written = append(written, line...)
			parent = revision
		}
		require.Equal(t, string(found[:first.size]), string(written))
		require.Equal(t, parent, first.head)
	})
}
