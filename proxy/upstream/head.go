package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// interim bounds the 1xx answers that are passed over before the final one. They are not relayed.
const interim = 8

// lastWords is how long an answer is waited for from a pod that has stopped reading the request.
const lastWords = time.Second

// errEnded: the connection ended before the first byte of an answer.
var errEnded = errors.New("connection closed before the first byte of an answer")

// errLate: waiting for the answer's header ran into the deadline.
var errLate = errors.New("deadline passed")

// A head is what the framing of an answer depends on, read from its raw bytes.
type head struct {
	size    int // bytes, the empty line included
	status  int
	minor   int // HTTP/1.minor
	length  int64
	chunked bool
	keep    bool // the pod keeps the connection open (RFC 9112, section 9.3)
}

// readHead waits for the next complete header, strict about everything that frames a message, and leaves it in
// c.reader. The error matches errEnded, errLate, ErrReset or ErrBadResponse.
func (c *conn) readHead() (head, error) {
	searched := 0
	for want := 1; ; {
		_, err := c.reader.Peek(want)
		b, _ := c.reader.Peek(c.reader.Buffered())
		if i := bytes.Index(b[searched:], []byte("\r\n\r\n")); i >= 0 {
			return parseHead(b[:searched+i+4])
		}
		if err == nil && malformedStart(b) {
			return head{}, fmt.Errorf("%w: it begins with %q", ErrBadResponse, b[:min(len(b), 40)])
		}
		switch {
		case err == nil:
		case errors.Is(err, bufio.ErrBufferFull):
			if !c.enlarge() {
				return head{}, fmt.Errorf("%w: its header is longer than %d bytes", ErrBadResponse, headerLimit)
			}
			searched = 0
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return head{}, errLate
		case len(b) == 0 && (err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
			return head{}, errEnded
		default:
			return head{}, fmt.Errorf("%w: in the midst of its header: %w", ErrReset, err)
		}
		searched = max(0, len(b)-3)
		want = len(b) + 1
	}
}

// malformedStart reports whether b cannot become a status line.
func malformedStart(b []byte) bool {
	const start = "HTTP/1."
	return string(b[:min(len(b), len(start))]) != start[:min(len(b), len(start))]
}

// parseHead reads a whole header block. What fasthttp's parser would pass over in silence is refused here.
func parseHead(b []byte) (head, error) {
	h := head{size: len(b), length: -1}
	line, rest := cutLine(b)
	if len(line) < 12 || malformedStart(line) || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return h, fmt.Errorf("%w: status line %q", ErrBadResponse, line)
	}
	h.minor = int(line[7]) - '0'
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return h, fmt.Errorf("%w: status line %q", ErrBadResponse, line)
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.minor < 0 || h.minor > 1 || h.status < 100 || bytes.ContainsAny(line, "\r\n") {
		return h, fmt.Errorf("%w: status line %q", ErrBadResponse, line)
	}
	h.keep = h.minor == 1
	framing := false // the line before was one that frames the message
	for {
		if line, rest = cutLine(rest); len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if framing {
				return h, fmt.Errorf("%w: folded framing header", ErrBadResponse)
			}
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || bytes.ContainsAny(line[:colon], " \t\r\n") || bytes.IndexByte(line, '\n') >= 0 {
			return h, fmt.Errorf("%w: header line %q", ErrBadResponse, line)
		}
		framing = true
		switch name, value := line[:colon], bytes.Trim(line[colon+1:], " \t"); {
		case isName(name, fasthttp.HeaderContentLength):
			n, ok := parseLength(value)
			if !ok || h.length >= 0 {
				return h, fmt.Errorf("%w: Content-Length %q, or more than one", ErrBadResponse, value)
			}
			h.length = n
		case isName(name, fasthttp.HeaderTransferEncoding):
			if h.chunked || !isName(value, "chunked") || h.minor == 0 {
				return h, fmt.Errorf("%w: Transfer-Encoding %q", ErrBadResponse, value)
			}
			h.chunked = true
		case isName(name, fasthttp.HeaderConnection):
			framing = false
			h.connection(value)
		default:
			framing = false
		}
	}
	if h.chunked && h.length >= 0 {
		return h, fmt.Errorf("%w: both Content-Length and Transfer-Encoding", ErrBadResponse)
	}
	return h, nil
}

// connection reads the options of a Connection header; "close" wins over "keep-alive" in the same one.
func (h *head) connection(value []byte) {
	closes := false
	for len(value) > 0 {
		option := value
		if i := bytes.IndexByte(value, ','); i >= 0 {
			option, value = value[:i], value[i+1:]
		} else {
			value = nil
		}
		option = bytes.Trim(option, " \t")
		if isName(option, "close") {
			closes = true
		} else if h.minor == 0 && isName(option, "keep-alive") {
			h.keep = true
		}
	}
	if closes {
		h.keep = false
	}
}

// cutLine splits b after its first CRLF, which it has.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.Index(b, []byte("\r\n"))
	return b[:i], b[i+2:]
}

// isName compares ignoring the case of ASCII letters; name is a token.
func isName(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if c != name[i] && (c|0x20 != name[i]|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// parseLength reads 1*DIGIT that fits an int64 with room to spare.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// hasLength reports whether raw header lines name a Content-Length.
func hasLength(raw []byte) bool {
	for len(raw) > 0 {
		line := raw
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			line, raw = raw[:i], raw[i+1:]
		} else {
			raw = nil
		}
		if colon := bytes.IndexByte(line, ':'); colon > 0 && isName(line[:colon], fasthttp.HeaderContentLength) {
			return true
		}
	}
	return false
}

// finalHead passes over interim answers and returns the header of the final one.
func (c *conn) finalHead() (head, error) {
	for range interim {
		h, err := c.readHead()
		if err != nil || h.status >= 200 {
			return h, err
		}
		if h.status == fasthttp.StatusSwitchingProtocols {
			return h, fmt.Errorf("%w: it switches protocols without being asked", ErrBadResponse)
		}
		c.reader.Discard(h.size)
	}
	return head{}, fmt.Errorf("%w: more than %d interim answers", ErrBadResponse, interim)
}

// refusedEarly looks, between two pieces of a body, whether the pod has answered already with anything but success, or
// has closed the connection: then nobody wants the rest. finalHead tells which it was.
func (c *conn) refusedEarly() bool {
	if c.reader.Buffered() == 0 && c.quiet() {
		return false
	}
	c.expect(time.Now().Add(lastWords))
	h, err := c.finalHead()
	return err != nil || h.status >= 300
}
