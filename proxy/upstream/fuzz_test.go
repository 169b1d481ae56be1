package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// bufferedConn is a conn whose pod has sent b and closed.
func bufferedConn(b []byte) *conn {
	return &conn{reader: bufio.NewReaderSize(bytes.NewReader(b), headerLimit)}
}

// What readHead accepts, fasthttp's parser frames the same way or refuses.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		ok, typical + "\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 304 \r\nX: a\r\n b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\n",
		"HTTP/1.1 200 OK\r\nConnection: close, x\r\nTrailer: X, Y\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := bufferedConn(b)
		h, err := c.readHead()
		if err != nil {
			return
		}
		require.LessOrEqual(t, h.size, len(b))
		buffered := c.reader.Buffered()
		var theirs fasthttp.ResponseHeader
		if theirs.Read(c.reader) != nil {
			return
		}
		require.Equal(t, h.size, buffered-c.reader.Buffered(), "header ends elsewhere")
		require.Equal(t, h.status, theirs.StatusCode())
		switch {
		case h.chunked:
			require.Equal(t, -1, theirs.ContentLength())
		case h.length >= 0:
			require.EqualValues(t, h.length, theirs.ContentLength())
		default:
			require.Equal(t, -2, theirs.ContentLength())
		}
		if h.keep {
			require.False(t, theirs.ConnectionClose() && theirs.ContentLength() != -2, "they close: %q", b)
		}
	})
}

// What the strict chunk reader takes for whole, the standard library does not read as other bytes; and the short way
// for small bodies agrees with the stream.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{
		"2\r\nok\r\n0\r\n\r\n", "0\r\n\r\n", "1;a=b\r\no\r\n0001 ;x\r\nk\r\n0\r\nX: y\r\n\r\n", "2\r\nok\r\n0\r\n",
		"A\r\n0123456789\r\n0\r\n\r\nHTTP", "2\nok\n0\n\n", "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > readerSize {
			return
		}
		stream := &body{conn: bufferedConn(b), chunk: true, first: true}
		ours, err := io.ReadAll(stream)
		// The standard library knows no white space before an extension and refuses some data for it.
		if theirs, refused := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b))); err == nil && refused == nil {
			require.Equal(t, string(theirs), string(ours))
		}
		c := bufferedConn(b)
		c.reader.Peek(1)
		var resp fasthttp.Response
		if n := wholeChunks(&resp, c.reader); n > 0 {
			require.NoError(t, err)
			require.Equal(t, string(ours), string(resp.Body()))
			require.Equal(t, len(b), n)
			require.Zero(t, stream.conn.reader.Buffered())
		} else {
			require.Empty(t, resp.Body())
		}
	})
}

func TestChunkSize(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int64{"0": 0, "a": 10, "FF": 255, "00ff": 255, "5 ;x": 5, "5;x=\"y z\"": 5} {
		got, ok := parseChunkSize([]byte(line))
		require.True(t, ok, line)
		require.Equal(t, want, got, line)
	}
	for _, line := range []string{"", ";", "g", "5 5", "+5", "5\x00", "5;\x7f", strings.Repeat("0", 16)} {
		_, ok := parseChunkSize([]byte(line))
		require.False(t, ok, line)
	}
}
