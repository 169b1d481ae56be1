package upstream

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"tellergate/discovery"
	"tellergate/proxy/http1"
)

// interim bounds the 1xx answers before the final one.
const interim = 8

// lastWords is how long an answer is waited for from a pod that has stopped reading the request.
const lastWords = time.Second

// maxFields bounds the header lines of an answer.
const maxFields = 1000

// errEnded: the connection ended before the first byte of an answer.
var errEnded = errors.New("connection closed before the first byte of an answer")

// errLate: waiting for the answer's header ran into the deadline.
var errLate = errors.New("deadline passed")

// A head is what the framing of an answer depends on.
type head struct {
	size    int // bytes, the empty line included
	minor   int // HTTP/1.minor
	length  int64
	chunked bool
	keep    bool // the pod keeps the connection open (RFC 9112, section 9.3)
	upgrade []byte
	idle    time.Duration // how long the pod says it keeps the connection when idle; 0: it does not say
}

// expect sets the deadline of the answer's header.
func (c *conn) expect(until time.Time) {
	c.until = until
	c.net.SetReadDeadline(until)
}

// readHead waits for the next complete header, which it leaves in c.reader and takes apart into a. The error matches
// errEnded, errLate, ErrReset or ErrBadResponse.
func (c *conn) readHead(a *Answer) (head, error) {
	for seen := 0; ; {
		if block := c.reader.Block(seen); block != nil {
			return parseHead(block, a)
		}
		b := c.reader.Buffered()
		if malformedStart(b) || seen > 0 && http1.Hopeless(b) {
			return head{}, fmt.Errorf("%w: it begins with %q", ErrBadResponse, b[:min(len(b), 40)])
		}
		seen = len(b)
		err := c.reader.Fill(headerLimit)
		switch {
		case err == nil:
		case errors.Is(err, http1.ErrTooLong):
			return head{}, fmt.Errorf("%w: its header is longer than %d bytes", ErrBadResponse, headerLimit)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return head{}, errLate
		case seen == 0 && (err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
			return head{}, errEnded
		default:
			return head{}, fmt.Errorf("%w: in the midst of its header: %w", ErrReset, err)
		}
	}
}

// malformedStart reports whether b cannot become a status line.
func malformedStart(b []byte) bool {
	const start = "HTTP/1."
	return string(b[:min(len(b), len(start))]) != start[:min(len(b), len(start))]
}

// parseHead takes a whole header block apart, strict about all of it: what is not plainly right is not passed on.
func parseHead(block []byte, a *Answer) (head, error) {
	h := head{size: len(block), length: http1.UntilClose}
	line, rest, ok := http1.CutLine(block)
	if !ok || !parseStatusLine(line, &h, a) {
		return h, fmt.Errorf("%w: status line %q", ErrBadResponse, line)
	}
	h.keep = h.minor == 1
	a.Fields = a.Fields[:0]
	for len(rest) > 2 {
		before := rest
		var f Field
		if f.Name, f.Value, rest, ok = http1.CutField(rest); !ok || len(a.Fields) == maxFields {
			return h, fmt.Errorf("%w: header line %q", ErrBadResponse, before[:min(len(before), 40)])
		}
		a.Fields = append(a.Fields, f)
		if err := h.field(f.Name, f.Value); err != nil {
			return h, err
		}
	}
	if h.chunked && h.length >= 0 {
		return h, fmt.Errorf("%w: both Content-Length and Transfer-Encoding", ErrBadResponse)
	}
	return h, nil
}

// parseStatusLine reads HTTP/1.x SP 3DIGIT [ SP reason ].
func parseStatusLine(line []byte, h *head, a *Answer) bool {
	if len(line) < 12 || malformedStart(line) || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return false
	}
	h.minor = int(line[7]) - '0'
	a.Status = 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return false
		}
		a.Status = a.Status*10 + int(c-'0')
	}
	a.Reason = line[min(len(line), 13):]
	return (h.minor == 0 || h.minor == 1) && a.Status >= 100 && http1.IsText(a.Reason)
}

// field takes note of what frames the message.
func (h *head) field(name, value []byte) error {
	switch len(name) {
	case len("Content-Length"):
		if !http1.Is(name, "Content-Length") {
			break
		}
		n, ok := http1.ParseLength(value)
		if !ok || h.length >= 0 {
			return fmt.Errorf("%w: Content-Length %q, or more than one", ErrBadResponse, value)
		}
		h.length = n
	case len("Transfer-Encoding"):
		if !http1.Is(name, "Transfer-Encoding") {
			break
		}
		if h.chunked || !http1.Is(value, "chunked") || h.minor == 0 {
			return fmt.Errorf("%w: Transfer-Encoding %q", ErrBadResponse, value)
		}
		h.chunked = true
	case len("Connection"):
		if http1.Is(name, "Connection") {
			h.connection(value)
		} else if http1.Is(name, "Keep-Alive") {
			h.keepAlive(value)
		}
	case len("Upgrade"):
		if http1.Is(name, "Upgrade") {
			h.upgrade = value
		}
	}
	return nil
}

// connection reads the options of a Connection header; "close" wins over "keep-alive" in the same one.
func (h *head) connection(value []byte) {
	closes := false
	for len(value) > 0 {
		var option []byte
		option, value = http1.CutElement(value)
		if http1.Is(option, "close") {
			closes = true
		} else if h.minor == 0 && http1.Is(option, "keep-alive") {
			h.keep = true
		}
	}
	if closes {
		h.keep = false
	}
}

// keepAlive reads how long the pod keeps an idle connection. Not at all is a way to say that it closes it.
func (h *head) keepAlive(value []byte) {
	d, ok := announced(value)
	if !ok {
		return
	}
	if h.idle = d; d == 0 {
		h.keep = false
	}
}

// finalHead passes interim answers on and takes the final one into x.Answer. written says whether the pod took all that
// was written at once.
func (c *conn) finalHead(x *Exchange, written bool) error {
	a := &x.Answer
	for range interim {
		h, err := c.readHead(a)
		if err != nil {
			return err
		}
		c.reader.Discard(h.size)
		switch {
		case a.Status >= 200:
			c.endpoint.heard(a.Status, c.reused, h.keep, x.Endpoint.State == discovery.Draining)
			x.receive(h, written)
			return nil
		case a.Status == 101:
			if x.Upgrade == "" || !http1.Is(h.upgrade, x.Upgrade) {
				return fmt.Errorf("%w: it switches to the protocol %q without being asked", ErrBadResponse, h.upgrade)
			}
			a.Length = 0
			return nil
		case a.Status > 101 && x.Interim != nil:
			a.Length = 0
			if err := x.Interim(a); err != nil {
				return fmt.Errorf("%w: %w", ErrCancelled, err)
			}
		}
	}
	return fmt.Errorf("%w: more than %d interim answers", ErrBadResponse, interim)
}

// receive makes the answer's body what follows its header (RFC 9112, section 6.3).
func (x *Exchange) receive(h head, written bool) {
	c := x.conn
	length := h.length
	switch {
	case x.Method == "HEAD", x.Answer.Status == 204, x.Answer.Status == 304:
		length = 0
	case h.chunked:
		length = http1.Chunked
	}
	x.keep = h.keep && written && length != http1.UntilClose
	c.announced = h.idle
	x.Answer.Length = length
	x.body.Begin(&c.reader, length)
	c.renewal = c.endpoint.pool.options.ResponseTimeout
}
