package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	const MiB = 1 << 20
	tests := map[int64]string{
		2 * MiB: "\rsent 1.0 of 2.0 MiB (50 %)\x1b[K\r\x1b[K",
		-1:      "\rsent 1.0 MiB\x1b[K\r\x1b[K",
	}
	for total, want := range tests {
		var screen bytes.Buffer
		p := &progress{to: &screen, verb: "sent", total: total} // the last time it told something is long ago
		_, err := io.ReadFull(p.reading(strings.NewReader(strings.Repeat("1", MiB))), make([]byte, MiB))
		require.NoError(t, err)
		p.done()
		p.done()
		require.Equal(t, want, screen.String())
	}
}

// A download is shown where the data goes to a file, by --file or by the shell, and messages go to a terminal.
func TestProgressOnlyOnTerminals(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	require.True(t, isFile(file))
	require.False(t, isFile(new(bytes.Buffer)))
	require.Nil(t, (&tool{messages: file}).progress("sent", 1).to)
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer device.Close()
	require.False(t, isFile(device))
	require.NotNil(t, (&tool{messages: device}).progress("sent", 1).to)
}
