package http1

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// ErrMalformed: what came is not HTTP/1.1.
var ErrMalformed = errors.New("not HTTP/1.1")

// ErrNotYet: a source that was asked not to wait has nothing at the moment. It ends no body.
var ErrNotYet = errors.New("nothing has come yet")

// Lengths of bodies that are not told by a number.
const (
	Chunked    = -1
	UntilClose = -2
)

const (
	lineLimit  = 4 << 10  // of a chunk's size line, its extensions included, and of a trailer line
	trailLimit = 16 << 10 // of all trailers together
)

// A Body reads a message's body from the connection that carries it. It returns io.EOF only at the end that the framing
// told of; whatever ends it before is another error: ErrMalformed, ErrTooLong, io.ErrUnexpectedEOF or the connection's.
// The zero value is an empty body.
type Body struct {
	from *Reader
	// Trailer keeps the field lines of the trailer section, as they came; it is complete when Read returns io.EOF.
	Trailer []byte
	left    int64 // bytes to come, of the body or of the chunk
	length  int64
	begun   bool // a chunk has begun
	err     error
}

// Begin makes b the body of this length at the beginning of what from has to read.
func (b *Body) Begin(from *Reader, length int64) {
	*b = Body{from: from, length: length, left: max(length, 0), Trailer: b.Trailer[:0]}
	if length == 0 {
		b.err = io.EOF
	}
}

// Ended reports whether the body has been read to its end.
func (b *Body) Ended() bool { return b.err == io.EOF || b.from == nil }

// Length is what Begin was told.
func (b *Body) Length() int64 { return b.length }

// Read returns what there is of the body.
func (b *Body) Read(p []byte) (int, error) {
	if b.from == nil {
		return 0, io.EOF
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.length == Chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil {
			b.err = err
			return 0, err
		}
	}
	if b.length != UntilClose {
		p = p[:min(int64(len(p)), b.left)]
	}
	n, err := b.from.Read(p)
	if err == ErrNotYet {
		return n, err
	}
	if b.length != UntilClose {
		b.left -= int64(n)
		if n > 0 {
			err = nil
		} else if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if b.left == 0 && b.length != Chunked {
			b.err = io.EOF // the next call says so
		}
	}
	if err != nil {
		b.err = err
	}
	return n, err
}

// Whole returns the rest of a body that has come already to its end, or ok == false and nothing is changed. The body is
// a view of the reader's buffer; trailers are never part of it: a chunked body with some is not returned.
func (b *Body) Whole() (body []byte, ok bool) {
	if b.from == nil || b.err == io.EOF {
		return nil, true
	}
	all := b.from.Buffered()
	switch {
	case b.err != nil || b.length == UntilClose:
		return nil, false
	case b.length != Chunked:
		if int64(len(all)) < b.left {
			return nil, false
		}
		body = all[:b.left]
		b.from.Discard(int(b.left))
	default:
		size, consumed := wholeChunks(all)
		if b.begun || consumed == 0 {
			return nil, false
		}
		body = joinChunks(all[:consumed], size)
		b.from.Discard(consumed)
	}
	b.left, b.err = 0, io.EOF
	return body, true
}

// nextChunk reads up to the next chunk's data. It returns io.EOF after the last chunk and its trailers.
func (b *Body) nextChunk() error {
	if b.begun {
		line, err := b.from.Line(2)
		if err != nil {
			if err == ErrTooLong {
				err = ErrMalformed // the chunk is longer than its size
			}
			return err
		}
		if len(line) != 0 {
			return ErrMalformed
		}
	}
	b.begun = true
	line, err := b.from.Line(lineLimit)
	if err != nil {
		return err
	}
	size, ok := ParseChunkSize(line)
	if !ok {
		return ErrMalformed
	}
	b.left = size
	if size > 0 {
		return nil
	}
	for {
		if line, err = b.from.Line(lineLimit); err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		if len(b.Trailer)+len(line) > trailLimit {
			return ErrTooLong
		}
		start := len(b.Trailer)
		b.Trailer = append(append(b.Trailer, line...), "\r\n"...)
		if _, _, _, ok := CutField(b.Trailer[start:]); !ok {
			return ErrMalformed
		}
	}
}

// ParseChunkSize reads the size line of a chunk and passes over its extensions, which have to be well formed (RFC 9112,
// section 7.1.1; no white space is accepted around their signs).
func ParseChunkSize(line []byte) (int64, bool) {
	var size int64
	i := 0
	for ; i < len(line); i++ {
		digit, ok := hexDigit(line[i])
		if !ok {
			break
		}
		if i == 15 {
			return 0, false
		}
		size = size<<4 | int64(digit)
	}
	return size, i > 0 && validExtensions(line[i:])
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// validExtensions reports whether b is *( ";" name [ "=" ( token / quoted-string ) ] ).
func validExtensions(b []byte) bool {
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		b = b[1:]
		n := tokenLength(b)
		if n == 0 {
			return false
		}
		b = b[n:]
		if len(b) == 0 || b[0] != '=' {
			continue
		}
		b = b[1:]
		if len(b) > 0 && b[0] == '"' {
			if n = quotedLength(b); n == 0 {
				return false
			}
		} else if n = tokenLength(b); n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func tokenLength(b []byte) int {
	n := 0
	for n < len(b) && token[b[n]] {
		n++
	}
	return n
}

// quotedLength returns the length of the quoted string at the beginning of b, or 0.
func quotedLength(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i++; i == len(b) || !text[b[i]] {
				return 0
			}
		case !text[c]:
			return 0
		}
	}
	return 0
}

var lastChunk = []byte("0\r\n\r\n")

// wholeChunks returns the size of the body at the beginning of b and how many bytes it takes there, or 0 if it has not
// come whole or is not plainly right, which Read then judges.
func wholeChunks(b []byte) (size, consumed int) {
	for at := 0; ; {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 1 || b[at+end-1] != '\r' {
			return 0, 0
		}
		n, ok := ParseChunkSize(b[at : at+end-1])
		if !ok {
			return 0, 0
		}
		at += end + 1
		if n == 0 {
			if len(b)-at < 2 || b[at] != '\r' || b[at+1] != '\n' {
				return 0, 0
			}
			return size, at + 2
		}
		if n > int64(len(b)-at-2) || b[at+int(n)] != '\r' || b[at+int(n)+1] != '\n' {
			return 0, 0
		}
		size += int(n)
		at += int(n) + 2
	}
}

// joinChunks moves the data of whole chunks together, in place, and returns it.
func joinChunks(b []byte, size int) []byte {
	to := 0
	for at := 0; to < size; {
		end := bytes.IndexByte(b[at:], '\n')
		n, _ := ParseChunkSize(b[at : at+end-1])
		at += end + 1
		copy(b[to:], b[at:at+int(n)])
		to += int(n)
		at += int(n) + 2
	}
	return b[:size]
}

// FrameRoom is kept free before a chunk's data for its size line, FrameEnd after it.
const (
	FrameRoom = 18
	FrameEnd  = 2
)

// Frame makes a chunk of the n bytes at buffer[FrameRoom:] and returns it.
func Frame(buffer []byte, n int) []byte {
	var digits [FrameRoom]byte
	size := append(strconv.AppendInt(digits[:0], int64(n), 16), '\r', '\n')
	start := FrameRoom - len(size)
	copy(buffer[start:], size)
	end := FrameRoom + n
	buffer[end], buffer[end+1] = '\r', '\n'
	return buffer[start : end+2]
}

// AppendChunk appends data as a chunk.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = append(strconv.AppendInt(dst, int64(len(data)), 16), '\r', '\n')
	return append(append(dst, data...), '\r', '\n')
}

// AppendLastChunk appends the end of a chunked body with this trailer section.
func AppendLastChunk(dst, trailer []byte) []byte {
	if len(trailer) == 0 {
		return append(dst, lastChunk...)
	}
	return append(append(append(dst, "0\r\n"...), trailer...), '\r', '\n')
}
