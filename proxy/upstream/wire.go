package upstream

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// gather is the largest streamed body that is read from the client whole before a connection is taken: it leaves in
	// one write with its header, and a slow client holds no connection to a pod.
	gather = 8 << 10
	// pieceSize is the buffer a longer body passes through; pieceFrame of it are kept for a chunk's size and line ends.
	pieceSize  = 32 << 10
	pieceFrame = 16
)

// A wire is a request as bytes. It is built once and may be sent several times as long as stream is nil.
type wire struct {
	head   []byte // header, and the body as far as it is known
	stream io.Reader
	length int64 // of stream; -1: unknown, sent in chunks
}

var (
	wires  = sync.Pool{New: func() any { return new(wire) }}
	pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}
)

func (w *wire) release() {
	if cap(w.head) > 64<<10 {
		w.head = nil
	}
	w.stream = nil
	wires.Put(w)
}

// build renders r. Its error matches ErrClientBody.
func (w *wire) build(r *fasthttp.Request) error {
	h := &r.Header
	h.SetNoDefaultContentType(true)
	if !h.IsHTTP11() {
		h.SetProtocol("HTTP/1.1")
	}
	if len(h.PeekTrailerKeys()) > 0 {
		h.Del(fasthttp.HeaderTrailer) // the trailers themselves are dropped
	}
	w.stream = nil
	if !r.IsBodyStream() {
		body := r.Body()
		if len(body) > 0 || h.ContentLength() == -1 {
			h.SetContentLength(len(body))
		} else if h.ContentLength() == 0 {
			dropInventedLength(h)
		}
		w.head = append(h.AppendBytes(w.head[:0]), body...)
		return nil
	}
	length := h.ContentLength()
	if length == 0 {
		dropInventedLength(h)
		w.head = h.AppendBytes(w.head[:0])
		return nil
	}
	if length < 0 {
		h.SetContentLength(-1) // says chunked exactly once, also where it was removed as hop-by-hop
		w.head = h.AppendBytes(w.head[:0])
		w.stream, w.length = r.BodyStream(), -1
		return nil
	}
	w.head = h.AppendBytes(w.head[:0])
	if length > gather {
		w.stream, w.length = r.BodyStream(), int64(length)
		return nil
	}
	n := len(w.head)
	w.head = append(w.head, make([]byte, length)...)
	if _, err := io.ReadFull(r.BodyStream(), w.head[n:]); err != nil {
		return fmt.Errorf("%w: %w", ErrClientBody, err)
	}
	return nil
}

// dropInventedLength removes a "Content-Length: 0" that fasthttp's server adds to requests without a body that are
// neither GET nor HEAD. Where the method has a meaning for a body it is right (RFC 9110, section 8.6) and stays.
func dropInventedLength(h *fasthttp.RequestHeader) {
	if h.IsPost() || h.IsPut() || h.IsPatch() || len(h.RawHeaders()) == 0 || hasLength(h.RawHeaders()) {
		return
	}
	h.Del(fasthttp.HeaderContentLength)
}

// send writes the request to c and reports whether the pod took all of it. It stops in the midst of a body if the pod
// does not read on or has refused it; there may be an answer then. The error matches ErrClientBody.
func (w *wire) send(c *conn, timeout time.Duration) (whole bool, err error) {
	if _, err := c.net.Write(w.head); err != nil {
		c.expect(time.Now().Add(lastWords))
		return false, nil
	}
	if w.stream == nil {
		return true, nil
	}
	buffer := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buffer)
	for left := w.length; left != 0; {
		room := buffer[pieceFrame : pieceSize-2]
		if left > 0 {
			room = room[:min(left, int64(len(room)))]
		}
		n, err := w.stream.Read(room)
		if n > 0 {
			out := room[:n]
			if left > 0 {
				left -= int64(n)
			} else {
				out = frame(buffer[:], n)
			}
			if c.refusedEarly() || !c.push(out, timeout) {
				return false, nil
			}
		}
		if err == nil || left == 0 {
			continue
		}
		if err != io.EOF || left > 0 {
			return false, fmt.Errorf("%w: %w", ErrClientBody, err)
		}
		if !c.push(lastChunk, timeout) {
			return false, nil
		}
		break
	}
	c.expect(time.Now().Add(timeout))
	return true, nil
}

// push writes a piece of a body. If the pod does not take it, the time left for an answer is short.
func (c *conn) push(piece []byte, timeout time.Duration) bool {
	c.net.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := c.net.Write(piece); err != nil {
		c.expect(time.Now().Add(lastWords))
		return false
	}
	return true
}

var lastChunk = []byte("0\r\n\r\n")

// frame makes a chunk of the n bytes at buffer[pieceFrame:] and returns it.
func frame(buffer []byte, n int) []byte {
	var digits [pieceFrame]byte
	size := append(strconv.AppendInt(digits[:0], int64(n), 16), '\r', '\n')
	start := pieceFrame - len(size)
	copy(buffer[start:], size)
	end := pieceFrame + n
	buffer[end], buffer[end+1] = '\r', '\n'
	return buffer[start : end+2]
}
