package main

import (
	"bytes"
	"encoding/json"
	"io"
	"unicode/utf8"
)

// A quoted reads a text as what stands between the quotation marks of a JSON string, piece by piece: a population is
// megabytes, and json.Marshal would hold it several times.
type quoted struct {
	from io.Reader
	cut  []byte // the beginning of a character at the end of what has been read
	rest []byte // quoted already
	err  error  // how from has ended
}

// quotedPiece is how much is quoted at once.
const quotedPiece = 32 << 10

// Read implements io.Reader.
func (q *quoted) Read(p []byte) (int, error) {
	for len(q.rest) == 0 {
		if q.err != nil {
			return 0, q.err
		}
		piece := append(make([]byte, 0, quotedPiece), q.cut...)
		var n int
		n, q.err = q.from.Read(piece[len(piece):cap(piece)])
		piece = piece[:len(piece)+n]
		end := len(piece)
		if q.err == nil {
			end = wholeCharacters(piece)
		}
		q.cut = bytes.Clone(piece[end:])
		raw, err := json.Marshal(string(piece[:end]))
		if err != nil {
			panic("BUG: a text that cannot be quoted: " + err.Error())
		}
		q.rest = raw[1 : len(raw)-1]
	}
	n := copy(p, q.rest)
	q.rest = q.rest[n:]
	return n, nil
}

// wholeCharacters returns where the last character begins that more bytes may complete, or the length of b.
func wholeCharacters(b []byte) int {
	for at := len(b) - 1; at >= 0 && at > len(b)-utf8.UTFMax; at-- {
		if utf8.RuneStart(b[at]) {
			if utf8.FullRune(b[at:]) {
				break
			}
			return at
		}
	}
	return len(b)
}
