// Package http1 is the grammar of HTTP/1.1 as both sides of the gateway read it (RFC 9110, RFC 9112): header blocks,
// framing and chunked bodies, strict, over a buffer that exists only while there is something to read.
//
// It knows neither clients nor pods, and it repairs nothing: what could be read in two ways is not read at all.
package http1

import "bytes"

// token and text are the bytes of names and of values: tchar, and what a field value may hold, obs-text included
// (RFC 9110, sections 5.5 and 5.6.2).
var token, text [256]bool

func init() {
	for c := range 256 {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80 || '0' <= c && c <= '9'
		token[c] = letter || c < 0x80 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0
		text[c] = c >= ' ' && c != 0x7f || c == '\t'
	}
}

// IsToken reports whether b is a token: at least one byte, and none that separates.
func IsToken(b []byte) bool {
	for _, c := range b {
		if !token[c] {
			return false
		}
	}
	return len(b) > 0
}

// IsText reports whether b may stand in a field value or a reason phrase: no control character but the tab.
func IsText(b []byte) bool {
	for _, c := range b {
		if !text[c] {
			return false
		}
	}
	return true
}

// CutLine cuts the first line off block and takes its CRLF away. A line that does not end in CRLF is not ok.
func CutLine(block []byte) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(block, '\n')
	if end < 1 || block[end-1] != '\r' {
		return nil, nil, false
	}
	return block[:end-1], block[end+1:], true
}

// CutField cuts the first field line off block. White space around the value is no part of it. What is not ok: a bare
// LF or CR, a folded line, a name that is no token, white space before the colon, a control character.
func CutField(block []byte) (name, value, rest []byte, ok bool) {
	line, rest, ok := CutLine(block)
	if !ok {
		return nil, nil, nil, false
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 || !IsToken(line[:colon]) {
		return nil, nil, nil, false
	}
	value = TrimSpace(line[colon+1:])
	if !IsText(value) {
		return nil, nil, nil, false
	}
	return line[:colon], value, rest, true
}

// TrimSpace takes away optional white space, which is spaces and tabs and nothing else.
func TrimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// CutElement cuts the first element off a comma-separated list.
func CutElement(list []byte) (first, rest []byte) {
	first = list
	if i := bytes.IndexByte(list, ','); i >= 0 {
		first, rest = list[:i], list[i+1:]
	}
	return TrimSpace(first), rest
}

// Is compares a name without regard to the case of ASCII letters.
func Is(b []byte, name string) bool {
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

// ParseLength reads 1*DIGIT that fits an int64 with room to spare.
func ParseLength(b []byte) (int64, bool) {
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

// Hopeless reports whether the beginning of a header block, which has no end yet, can become none: it holds a line that
// does not end in CRLF, or a control character. It is for blocks that come in pieces, so that they are refused at once
// and not when their time is over.
func Hopeless(block []byte) bool {
	for i, c := range block {
		switch {
		case text[c]:
		case c == '\r':
			if i+1 < len(block) && block[i+1] != '\n' {
				return true
			}
		case c == '\n':
			if i == 0 || block[i-1] != '\r' {
				return true
			}
		default:
			return true
		}
	}
	return false
}
