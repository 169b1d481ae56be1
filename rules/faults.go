package rules

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"tellergate/internal/problem"
)

// maxFaults is how many problems of one list or organisation are spelled out: a million-line file with the wrong
// separator has a million.
const maxFaults = 100

// faults gathers what is wrong in a list or an organisation. The zero value is empty.
type faults struct {
	found []fault
	more  int // beyond maxFaults
}

type fault struct {
	offset  int // in the text; -1 if there is none
	problem problem.Problem
}

func (f *faults) add(offset int, path string, p *problem.Problem) {
	if len(f.found) == maxFaults {
		f.more++
		return
	}
	found := fault{offset: offset, problem: *p}
	found.problem.Path = path
	f.found = append(f.found, found)
}

// err returns the problem.List in the order of the text, with lines and columns, or nil.
func (f *faults) err(text []byte) error {
	if len(f.found) == 0 {
		return nil
	}
	slices.SortStableFunc(f.found, func(a, b fault) int { return cmp.Compare(a.offset, b.offset) })
	list := make(problem.List, 0, len(f.found)+1)
	line, start := 1, 0 // the line reached so far and the offset at which it begins
	for _, found := range f.found {
		p := found.problem
		if found.offset >= 0 {
			line += bytes.Count(text[start:found.offset], []byte{'\n'})
			start += bytes.LastIndexByte(text[start:found.offset], '\n') + 1
			p.Line, p.Column = line, utf8.RuneCount(text[start:found.offset])+1
		}
		list = append(list, p)
	}
	if f.more > 0 {
		what := "problems were"
		if f.more == 1 {
			what = "problem was"
		}
		list = append(list, problem.Problem{
			Message: fmt.Sprintf("%d more %s found", f.more, what),
			Remedy:  "correct those above first",
		})
	}
	return list
}

// maxTextBytes bounds the text of a list or an organisation: offsets into it have 32 bits.
const maxTextBytes = 1 << 30

// checkText returns text without a leading byte order mark, or a problem.List that says why it cannot be read.
func (p Pause) checkText(text []byte) ([]byte, error) {
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	var f faults
	switch {
	case len(text) > maxTextBytes:
		f.add(-1, "", &problem.Problem{
			Message: fmt.Sprintf("the text has %d bytes, more than %d", len(text), maxTextBytes),
			Remedy:  "split it into several",
		})
	case !p.isUTF8(text):
		at := invalidAt(text)
		f.add(at, "", &problem.Problem{
			Message: fmt.Sprintf("the text is not UTF-8: byte 0x%02X", text[at]),
			Remedy:  "save it as UTF-8, or declare the charset if it is CSV",
		})
	}
	return text, f.err(text)
}

// isUTF8 is utf8.Valid in pieces.
func (p Pause) isUTF8(text []byte) bool {
	for len(text) > pieceBytes {
		end := pieceBytes
		for end > pieceBytes-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		if !utf8.Valid(text[:end]) {
			return false
		}
		text = text[end:]
		p.now()
	}
	return utf8.Valid(text)
}

// invalidAt returns the offset of the first byte that is not UTF-8.
func invalidAt(text []byte) int {
	at := 0
	for {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}
