package http1

import (
	"bytes"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestCutField(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line, field, value string
		ok                 bool
	}{
		"plain":               {"Host: a\r\n", "Host", "a", true},
		"no space":            {"Host:a\r\n", "Host", "a", true},
		"white space around":  {"Host: \t a \t\r\n", "Host", "a", true},
		"empty":               {"X:\r\n", "X", "", true},
		"colons":              {"X: a:b\r\n", "X", "a:b", true},
		"obs-text":            {"X: 总行\r\n", "X", "总行", true},
		"tab within":          {"X: a\tb\r\n", "X", "a\tb", true},
		"every sign of names": {"!#$%&'*+-.^_`|~0aZ: 1\r\n", "!#$%&'*+-.^_`|~0aZ", "1", true},
		"bare LF":             {"X: a\n", "", "", false},
		"bare CR":             {"X: a\rb\r\n", "", "", false},
		"no end":              {"X: a", "", "", false},
		"no colon":            {"X\r\n", "", "", false},
		"no name":             {": a\r\n", "", "", false},
		"space before colon":  {"X : a\r\n", "", "", false},
		"space in the name":   {"X Y: a\r\n", "", "", false},
		"folded":              {" X: a\r\n", "", "", false},
		"NUL":                 {"X: a\x00\r\n", "", "", false},
		"delete":              {"X: a\x7f\r\n", "", "", false},
		"name not ASCII":      {"总: a\r\n", "", "", false},
		"empty line":          {"\r\n", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := "next"
			if name == "no end" {
				after = ""
			}
			field, value, rest, ok := CutField([]byte(test.line + after))
			require.Equal(t, test.ok, ok)
			require.Equal(t, test.field, string(field))
			require.Equal(t, test.value, string(value))
			if ok {
				require.Equal(t, "next", string(rest))
			}
		})
	}
}

func TestParseLength(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "5": 5, "005": 5, "999999999999999999": 999999999999999999} {
		n, ok := ParseLength([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, n)
	}
	for _, text := range []string{"", "+5", "-5", "5 ", "5,5", "5, 5", "0x5", "1e3", "9223372036854775808", "５"} {
		_, ok := ParseLength([]byte(text))
		require.False(t, ok, text)
	}
}

func TestParseChunkSize(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int64{
		"0": 0, "a": 10, "FF": 255, "00ff": 255, "5;x": 5, `5;x="y z"`: 5, `5;x=y;z="\""`: 5,
	} {
		got, ok := ParseChunkSize([]byte(line))
		require.True(t, ok, line)
		require.Equal(t, want, got, line)
	}
	for _, line := range []string{
		"", ";", "g", "5 5", "5 ", "5 ;x", "5; x", "5;", "5;x=", `5;x="`, `5;x="a`, `5;x="\`, "5;x=a b", "+5", "-5", "0x5",
		"5\x00", "5;\x7f", "5;x=\r", "5,", strings.Repeat("0", 16), strings.Repeat("f", 16),
	} {
		_, ok := ParseChunkSize([]byte(line))
		require.False(t, ok, line)
	}
}

func TestHopeless(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"", "GET / HTTP/1.1\r\nHo", "GET / HTTP/1.1\r", "GET\r\n"} {
		require.False(t, Hopeless([]byte(b)), "%q", b)
	}
	for _, b := range []string{"GET / HTTP/1.1\n", "GET /\x00", "\x16\x03\x01", "GET / HTTP/1.1\rX", "\n"} {
		require.True(t, Hopeless([]byte(b)), "%q", b)
	}
}

// bodyOf reads a body of this length from b and returns it, its trailers, what follows it, and how it ended.
func bodyOf(source io.Reader, length int64) (body, trailer, rest string, err error) {
	r := &Reader{Source: source}
	var m Body
	m.Begin(r, length)
	all, err := io.ReadAll(&m)
	rest = string(r.Buffered())
	r.Drop()
	return string(all), string(m.Trailer), rest, err
}

func TestBody(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		bytes               string
		length              int64
		body, trailer, rest string
		err                 error
	}{
		"none":              {"next", 0, "", "", "", nil},
		"of known length":   {"okay", 2, "ok", "", "", nil},
		"cut":               {"o", 2, "o", "", "", io.ErrUnexpectedEOF},
		"until close":       {"okay", UntilClose, "okay", "", "", nil},
		"chunked":           {"1\r\no\r\n1\r\nk\r\n0\r\n\r\nnext", Chunked, "ok", "", "next", nil},
		"trailers":          {"2\r\nok\r\n0\r\nX: 1\r\nY: 2\r\n\r\nnext", Chunked, "ok", "X: 1\r\nY: 2\r\n", "next", nil},
		"extension":         {"2;a=b\r\nok\r\n0\r\n\r\n", Chunked, "ok", "", "", nil},
		"longer chunk":      {"2\r\nokay\r\n0\r\n\r\n", Chunked, "ok", "", "", ErrMalformed},
		"no end":            {"2\r\nok\r\n", Chunked, "ok", "", "", io.ErrUnexpectedEOF},
		"cut in a chunk":    {"5\r\nok", Chunked, "ok", "", "", io.ErrUnexpectedEOF},
		"bare LF":           {"2\nok\r\n0\r\n\r\n", Chunked, "", "", "", ErrMalformed},
		"bad trailer":       {"0\r\nX : 1\r\n\r\n", Chunked, "", "", "", ErrMalformed},
		"trailers too long": {"0\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 20) + "\r\n", Chunked, "", "", "", ErrTooLong},
		"line too long":     {"2;" + strings.Repeat("x", 5000) + "\r\nok\r\n0\r\n\r\n", Chunked, "", "", "", ErrTooLong},
	} {
		for how, source := range map[string]io.Reader{
			"at once": strings.NewReader(test.bytes), "byte by byte": iotest.OneByteReader(strings.NewReader(test.bytes)),
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				body, trailer, rest, err := bodyOf(source, test.length)
				require.ErrorIs(t, err, test.err)
				require.Equal(t, test.body, body)
				if test.err != nil {
					return
				}
				require.Equal(t, test.trailer, trailer)
				if how == "at once" && test.length == Chunked {
					require.Equal(t, test.rest, rest)
				}
			})
		}
	}
}

func TestReaderGrowsAndGivesBack(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 40_000) + "\r\n\r\n"
	r := &Reader{Source: strings.NewReader(long + "rest")}
	seen := 0
	for r.Block(seen) == nil {
		seen = len(r.Buffered())
		require.NoError(t, r.Fill(64<<10))
	}
	require.Equal(t, long, string(r.Block(0)))
	r.Discard(len(long))
	given := r.Detach()
	require.Equal(t, long, string(given[:len(long)]))
	rest, err := io.ReadAll(io.MultiReader(r, r.Source))
	require.NoError(t, err)
	require.Equal(t, "rest", string(rest))
	r.Release()
	require.Nil(t, r.buffer)
	Recycle(given)

	r = &Reader{Source: strings.NewReader(long)}
	for err = nil; err == nil; err = r.Fill(10_000) {
	}
	require.ErrorIs(t, err, ErrTooLong)
}

func TestFrame(t *testing.T) {
	t.Parallel()
	buffer := make([]byte, 1000)
	n := copy(buffer[FrameRoom:], strings.Repeat("x", 300))
	require.Equal(t, "12c\r\n"+strings.Repeat("x", 300)+"\r\n", string(Frame(buffer, n)))
	require.Equal(t, "2\r\nok\r\n", string(AppendChunk(nil, []byte("ok"))))
	require.Empty(t, AppendChunk(nil, nil))
	require.Equal(t, "0\r\n\r\n", string(AppendLastChunk(nil, nil)))
	require.Equal(t, "0\r\nX: 1\r\n\r\n", string(AppendLastChunk(nil, []byte("X: 1\r\n"))))
}

// What the strict reader takes for whole, the standard library does not read as other bytes; and the short way for small
// bodies agrees with the stream.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{
		"2\r\nok\r\n0\r\n\r\n", "0\r\n\r\n", "1;a=b\r\no\r\n0001\r\nk\r\n0\r\nX: y\r\n\r\n", "2\r\nok\r\n0\r\n",
		"A\r\n0123456789\r\n0\r\n\r\nHTTP", "2\nok\n0\n\n", "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, _, rest, err := bodyOf(bytes.NewReader(b), Chunked)
		if err == nil {
			if theirs, refused := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b))); refused == nil {
				require.Equal(t, string(theirs), ours)
			}
		}
		slow, _, _, slowErr := bodyOf(iotest.OneByteReader(bytes.NewReader(b)), Chunked)
		require.Equal(t, err == nil, slowErr == nil)
		if err == nil {
			require.Equal(t, ours, slow)
		}
		if len(b) == 0 || len(b) > smallSize {
			return
		}
		r := &Reader{Source: bytes.NewReader(b)}
		require.NoError(t, r.Fill(largeSize))
		var m Body
		m.Begin(r, Chunked)
		if whole, ok := m.Whole(); ok {
			require.NoError(t, err)
			require.Equal(t, ours, string(whole))
			require.Equal(t, rest, string(r.Buffered()))
		}
		r.Drop()
	})
}
