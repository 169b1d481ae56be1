package http1

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// The sizes of buffers: most header blocks fit the small one. Larger ones than the largest are not pooled.
const (
	smallSize  = 4 << 10
	mediumSize = 16 << 10
	largeSize  = 64 << 10
)

var (
	small  = sync.Pool{New: func() any { return new([smallSize]byte) }}
	medium = sync.Pool{New: func() any { return new([mediumSize]byte) }}
	large  = sync.Pool{New: func() any { return new([largeSize]byte) }}
)

// Buffer returns a buffer of at least size bytes, of which the content is unknown.
func Buffer(size int) []byte {
	switch {
	case size <= smallSize:
		return small.Get().(*[smallSize]byte)[:]
	case size <= mediumSize:
		return medium.Get().(*[mediumSize]byte)[:]
	case size <= largeSize:
		return large.Get().(*[largeSize]byte)[:]
	}
	return make([]byte, size)
}

// Recycle takes back what Buffer returned, at its full length; nobody may use it any more.
func Recycle(b []byte) {
	switch len(b) {
	case smallSize:
		small.Put((*[smallSize]byte)(b))
	case mediumSize:
		medium.Put((*[mediumSize]byte)(b))
	case largeSize:
		large.Put((*[largeSize]byte)(b))
	}
}

// ErrTooLong: a header block or a line is longer than its limit.
var ErrTooLong = errors.New("longer than its limit")

// A Reader reads a connection through a buffer that it has only while there is something in it. It belongs to one
// goroutine. The zero value with a Source is ready.
type Reader struct {
	Source io.Reader
	buffer []byte // nil: none
	r, w   int    // buffer[r:w] has not been read yet
}

// Buffered returns what has come and has not been read. It is valid until the next Fill or Release.
func (b *Reader) Buffered() []byte { return b.buffer[b.r:b.w] }

// Discard passes over n bytes of what is buffered.
func (b *Reader) Discard(n int) { b.r += n }

// Fill reads once from the source. Where the buffer is full it grows, up to limit bytes of unread content.
func (b *Reader) Fill(limit int) error {
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
	if b.w-b.r >= limit {
		return ErrTooLong
	}
	if b.buffer == nil {
		b.buffer = Buffer(smallSize)
	}
	if b.w == len(b.buffer) {
		b.makeRoom()
	}
	n, err := b.Source.Read(b.buffer[b.w:])
	b.w += n
	if n > 0 {
		return nil
	}
	return err
}

// Room takes a buffer if there is none and returns the free part of it, for a source that is read by other means.
// Filled tells how much of it was used.
func (b *Reader) Room() []byte {
	if b.buffer == nil {
		b.buffer = Buffer(smallSize)
		b.r, b.w = 0, 0
	}
	return b.buffer[b.w:]
}

// Filled notes that n bytes were put into Room.
func (b *Reader) Filled(n int) { b.w += n }

func (b *Reader) makeRoom() {
	if b.r > 0 {
		copy(b.buffer, b.buffer[b.r:b.w])
	} else {
		bigger := Buffer(4 * len(b.buffer))
		copy(bigger, b.buffer[:b.w])
		Recycle(b.buffer)
		b.buffer = bigger
	}
	b.r, b.w = 0, b.w-b.r
}

// Read returns what is buffered, or else what the source has, without a copy in between.
func (b *Reader) Read(p []byte) (int, error) {
	if b.r < b.w {
		n := copy(p, b.buffer[b.r:b.w])
		b.r += n
		return n, nil
	}
	return b.Source.Read(p)
}

// Detach gives the buffer away, with whatever views of it exist, to whoever recycles it. What has not been read moves
// to another one.
func (b *Reader) Detach() []byte {
	given := b.buffer
	rest := b.buffer[b.r:b.w]
	b.buffer, b.r, b.w = nil, 0, 0
	if len(rest) > 0 {
		b.buffer = Buffer(len(rest))
		b.w = copy(b.buffer, rest)
	}
	return given
}

// Release gives the buffer back if nothing is in it.
func (b *Reader) Release() {
	if b.buffer != nil && b.r == b.w {
		b.Drop()
	}
}

// Drop gives the buffer back with whatever is in it.
func (b *Reader) Drop() {
	if b.buffer != nil {
		Recycle(b.buffer)
	}
	b.buffer, b.r, b.w = nil, 0, 0
}

// Block returns the header block at the beginning of what is buffered, its empty line included, or nil if its end has
// not come. The first seen bytes are known not to end one.
func (b *Reader) Block(seen int) []byte {
	all := b.buffer[b.r:b.w]
	from := max(seen-3, 0)
	if i := bytes.Index(all[from:], []byte("\r\n\r\n")); i >= 0 {
		return all[:from+i+4]
	}
	return nil
}

// Line returns the next line without its CRLF; it is valid until the next read.
func (b *Reader) Line(limit int) ([]byte, error) {
	for seen := 0; ; {
		all := b.buffer[b.r:b.w]
		if i := bytes.IndexByte(all[seen:], '\n'); i >= 0 {
			end := seen + i
			if end+1 > limit {
				return nil, ErrTooLong
			}
			if end == 0 || all[end-1] != '\r' {
				return nil, ErrMalformed
			}
			b.r += end + 1
			return all[:end-1], nil
		}
		seen = len(all)
		if err := b.Fill(limit); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}
