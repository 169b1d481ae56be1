package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/valyala/fasthttp"
)

const (
	untilClose = -2       // the body ends with the connection
	lineLimit  = 4 << 10  // of a chunk's size line, its extensions included, and of a trailer line
	trailLimit = 16 << 10 // of all trailers together
)

var http11 = []byte("HTTP/1.1")

// A body streams an answer from its connection. Whatever ends it before its end is an error, never io.EOF, so that the
// client's connection is cut too. It belongs to the response and is not safe for concurrent use.
type body struct {
	conn  *conn // nil once closed
	left  int64 // bytes to come of the body or of the chunk; untilClose
	chunk bool  // chunked
	first bool  // no chunk has begun yet
	reuse bool  // both sides keep the connection open
	err   error // how it ended; io.EOF: whole
}

// Read returns what the pod has sent as soon as it comes. Trailers are read and dropped.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.conn == nil {
		return 0, os.ErrClosed
	}
	r := b.conn.reader
	if b.chunk && b.left == 0 {
		if err := b.nextChunk(r); err != nil {
			b.err = err
			return 0, err
		}
	}
	if b.left >= 0 {
		p = p[:min(int64(len(p)), b.left)]
	}
	n, err := r.Read(p)
	switch {
	case b.left == untilClose:
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
		b.left -= int64(n)
	default:
		b.left -= int64(n)
		if err == nil && b.left == 0 && !b.chunk {
			b.err = io.EOF // the next call says so
		}
	}
	if err != nil {
		b.err = err
	}
	return n, err
}

// nextChunk reads up to the next chunk's data. It returns io.EOF after the last chunk and its trailers.
func (b *body) nextChunk(r *bufio.Reader) error {
	if !b.first {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return fmt.Errorf("%w: chunk longer than its size", ErrBadResponse)
		}
	}
	b.first = false
	line, err := readLine(r)
	if err != nil {
		return err
	}
	size, ok := parseChunkSize(line)
	if !ok {
		return fmt.Errorf("%w: chunk size %q", ErrBadResponse, line)
	}
	b.left = size
	if size > 0 {
		return nil
	}
	for total := 0; total <= trailLimit; total += len(line) + 2 {
		if line, err = readLine(r); err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
	}
	return fmt.Errorf("%w: trailers longer than %d bytes", ErrBadResponse, trailLimit)
}

// readLine returns the next line without its CRLF, valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: a line of its chunks is longer than %d bytes", ErrBadResponse, lineLimit)
	default:
		return nil, err
	}
	if len(line) > lineLimit {
		return nil, fmt.Errorf("%w: a line of its chunks is longer than %d bytes", ErrBadResponse, lineLimit)
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("%w: a line of its chunks does not end in CRLF", ErrBadResponse)
	}
	return line[:len(line)-2], nil
}

// parseChunkSize reads the size of a chunk and passes over its extensions (RFC 9112, section 7.1).
func parseChunkSize(line []byte) (int64, bool) {
	var size int64
	i := 0
	for ; i < len(line); i++ {
		var digit byte
		switch c := line[i]; {
		case c >= '0' && c <= '9':
			digit = c - '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			digit = c | 0x20 - 'a' + 10
		default:
			digit = 16
		}
		if digit == 16 {
			break
		}
		size = size<<4 | int64(digit)
	}
	if i == 0 || i > 15 {
		return 0, false
	}
	rest := line[i:]
	for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0] != ';' {
		return 0, false
	}
	for _, c := range rest {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, false
		}
	}
	return size, true
}

// Close gives the connection back: for reuse if the body was read whole, else it is closed. It may be called twice.
func (b *body) Close() error {
	if b.conn == nil {
		return nil
	}
	c := b.conn
	b.conn = nil
	c.end(b.reuse && b.err == io.EOF)
	return nil
}

// receive fills x.Response from the header h and what follows it, and gives the connection back as soon as it has
// nothing more to say. reuse says whether the request allows the connection to be kept.
func (c *conn) receive(x *Exchange, h head, reuse bool) error {
	resp := x.Response
	if err := resp.Header.Read(c.reader); err != nil {
		blank(resp)
		return fmt.Errorf("%w: %w", ErrBadResponse, err)
	}
	reuse = reuse && h.keep
	resp.Header.ResetConnectionClose()
	if h.minor == 0 {
		resp.Header.SetProtocol(http11)
	}
	if len(resp.Header.PeekTrailerKeys()) > 0 {
		resp.Header.Del(fasthttp.HeaderTrailer) // the trailers themselves are dropped
	}
	c.renewal = c.endpoint.pool.options.ResponseTimeout

	if head := x.Request.Header.IsHead(); head || h.status == fasthttp.StatusNoContent ||
		h.status == fasthttp.StatusNotModified {
		resp.ResetBody()
		resp.SkipBody = resp.SkipBody || head
		c.end(reuse)
		return nil
	}
	if h.length >= 0 && h.length <= int64(c.reader.Buffered()) {
		whole, _ := c.reader.Peek(int(h.length))
		resp.ResetBody()
		resp.AppendBody(whole)
		c.reader.Discard(int(h.length))
		c.end(reuse)
		return nil
	}
	if h.chunked {
		resp.ResetBody()
		if size := wholeChunks(resp, c.reader); size > 0 {
			c.reader.Discard(size)
			resp.Header.SetContentLength(len(resp.Body()))
			c.end(reuse)
			return nil
		}
	}
	b := &body{conn: c, left: h.length, reuse: reuse}
	size := int(h.length)
	switch {
	case h.chunked:
		b.left, b.chunk, b.first, size = 0, true, true, -1
	case h.length < 0:
		b.left, b.reuse, size = untilClose, false, -1
	}
	resp.SetBodyStream(b, size)
	return nil
}

// wholeChunks appends a chunked body to resp if all of it, without trailers, is in r's buffer already, and returns the
// bytes that it takes there, else 0. What is not plainly so is left for the stream to judge.
func wholeChunks(resp *fasthttp.Response, r *bufio.Reader) int {
	b, _ := r.Peek(r.Buffered())
	if !bytes.HasSuffix(b, []byte("\r\n0\r\n\r\n")) && !bytes.Equal(b, []byte("0\r\n\r\n")) {
		return 0
	}
	for rest := b; ; {
		end := bytes.Index(rest, []byte("\r\n"))
		if end < 0 {
			break
		}
		size, ok := parseChunkSize(rest[:end])
		rest = rest[end+2:]
		if !ok || size+2 > int64(len(rest)) || rest[size] != '\r' || rest[size+1] != '\n' {
			break
		}
		if size == 0 && len(rest) == 2 {
			return len(b)
		}
		if size == 0 {
			break
		}
		resp.AppendBody(rest[:size])
		rest = rest[size+2:]
	}
	resp.ResetBody()
	return 0
}
