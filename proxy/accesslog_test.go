package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func FuzzAppendText(f *testing.F) {
	for _, s := range []string{"", "plain", `"quoted\"`, "tab\tline\nnul\x00del\x7f", "柜员", "a\xffb\xc3", "\u2028\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := append(appendText([]byte{'"'}, s), '"')
		var got string
		require.NoError(t, json.Unmarshal(line, &got), "%s", line)
		require.Equal(t, strings.ToValidUTF8(string([]rune(s)), "\ufffd"), got)
		require.True(t, utf8.Valid(line))
		require.NotContains(t, string(line), "\n")
	})
}

// Every byte, at every place of the words in which text is looked at.
func TestAppendTextAtEveryPlace(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 17 {
			s := strings.Repeat("x", at) + string([]byte{byte(c)}) + strings.Repeat("y", 17-at)
			var got string
			require.NoError(t, json.Unmarshal(append(appendText([]byte{'"'}, s), '"'), &got), "%q", s)
			require.Equal(t, strings.ToValidUTF8(s, "\ufffd"), got)
		}
	}
}

func BenchmarkAppendText(b *testing.B) {
	var line []byte
	for b.Loop() {
		line = appendText(appendText(appendText(line[:0], "/teller/balance"), "9001/000123"), "0123456789abcdef0123456789abcdef")
	}
}

func TestAppendMasked(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": "***", "1": "***", "12": "***", "123": "1***3", "000123": "0***3", "柜员": "***", "张三丰": "张***丰", "0001": "0***1", `"a"`: `\"***\"`,
	} {
		require.Equal(t, want, string(appendMasked(nil, value)), "%q", value)
	}
}

func TestAppendSeconds(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.000000", -time.Second: "0.000000", 1999: "0.000001", time.Millisecond: "0.001000", 61*time.Second + 20*time.Microsecond: "61.000020",
	} {
		require.Equal(t, want, string(appendSeconds(nil, d)))
	}
}

// A faultyWriter writes as much of each write as it is told, and fails if that is not all.
type faultyWriter struct {
	mu    sync.Mutex
	out   bytes.Buffer
	takes []int // bytes of the next writes; then everything
	block chan struct{}
}

func (w *faultyWriter) Write(b []byte) (int, error) {
	if w.block != nil {
		<-w.block
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(b)
	if len(w.takes) > 0 {
		n, w.takes = min(n, w.takes[0]), w.takes[1:]
	}
	w.out.Write(b[:n])
	if n < len(b) {
		return n, errors.New("disk full")
	}
	return n, nil
}

// running returns a log whose writer runs, and what ends it and waits.
func running(w *faultyWriter, buffer int) (*accessLog, func()) {
	l := newAccessLog(w, buffer)
	ended := make(chan struct{})
	go func() { defer close(ended); l.run() }()
	return l, func() { l.close(); <-ended }
}

func TestAccessLogWritesEverythingBeforeItEnds(t *testing.T) {
	t.Parallel()
	w := new(faultyWriter)
	l, stop := running(w, 1<<20)
	var all sync.WaitGroup
	for i := range 8 {
		to := l.batch()
		all.Go(func() {
			for j := range 1000 {
				l.send(to, fmt.Appendf(nil, "line %d %d\n", i, j))
			}
		})
	}
	all.Wait()
	stop()
	lines := strings.Split(strings.TrimSuffix(w.out.String(), "\n"), "\n")
	require.Len(t, lines, 8000)
	seen := map[string]bool{}
	for _, line := range lines {
		require.False(t, seen[line], line)
		seen[line] = true
	}
	require.Zero(t, l.dropped.Load())
	l.send(l.batch(), []byte("too late\n"))
	require.EqualValues(t, 1, l.dropped.Load())
}

func TestAccessLogDropsAndCountsWhatTheWriterCannotTake(t *testing.T) {
	t.Parallel()
	w := &faultyWriter{block: make(chan struct{})}
	l, stop := running(w, 10)
	for i := range 1000 {
		l.send(l.batch(), fmt.Appendf(nil, "%d\n", i))
	}
	close(w.block)
	stop()
	written := strings.Count(w.out.String(), "\n")
	require.EqualValues(t, 1000, uint64(written)+l.dropped.Load())
	require.Positive(t, l.dropped.Load())
	require.GreaterOrEqual(t, written, 10)
}

func TestAccessLogGoesOnAfterAFullDisk(t *testing.T) {
	t.Parallel()
	w := &faultyWriter{takes: []int{6}}
	l := newAccessLog(w, 10)
	for _, lines := range []string{"one\n", "two\nthree\n"} {
		l.send(l.batch(), []byte(lines))
	}
	l.write(false)
	l.send(l.batch(), []byte("four\n"))
	l.write(false)
	require.Equal(t, "one\ntw\nfour\n", w.out.String(), "a line that was cut does not take the next one with it")
	require.EqualValues(t, 1, l.dropped.Load())
}

func TestAccessLogSleepsWhileThereIsNothingAndThenIsSoon(t *testing.T) {
	t.Parallel()
	w := new(faultyWriter)
	l, stop := running(w, 10)
	defer stop()
	l.send(l.batch(), []byte("a\n"))
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.out.String() == "a\n"
	}, 10*time.Second, time.Millisecond)
}
