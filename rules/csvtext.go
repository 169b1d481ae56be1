package rules

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"tellergate/internal/problem"
)

// A csvReader reads the records of a CSV text and knows where each one stands.
type csvReader struct {
	text   []byte
	csv    *csv.Reader
	faults faults
	start  int // offset of the record read last

	plain  bool // there is no quotation mark in the text: a line is a record and a comma ends a cell
	next   int  // offset of the next line, if plain
	record []string
}

func newCSVReader(text []byte, pause Pause) *csvReader {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	plain := true
	for piece := range slices.Chunk(text, pieceBytes) {
		if plain = bytes.IndexByte(piece, '"') < 0; !plain {
			break
		}
		pause.now()
	}
	return &csvReader{text: text, csv: r, plain: plain}
}

// read returns the next record that is CSV; ok is false at the end. The record is valid until the next call, and its cells
// are views of the text where that holds no quotation marks: whoever keeps one copies it.
func (r *csvReader) read() (record []string, ok bool) {
	if r.plain {
		return r.line()
	}
	for {
		r.start = int(r.csv.InputOffset())
		for r.start < len(r.text) && (r.text[r.start] == '\n' || r.text[r.start] == '\r') {
			r.start++ // the reader passes over empty lines
		}
		record, err := r.csv.Read()
		if err == nil {
			return record, true
		}
		if errors.Is(err, io.EOF) {
			return nil, false
		}
		message := "a quotation mark is not closed, or something follows the closing one"
		if errors.Is(err, csv.ErrBareQuote) {
			message = "a quotation mark stands inside a value that does not begin with one"
		}
		r.fault(&problem.Problem{
			Message: message,
			Remedy:  "put the whole value in quotation marks and double those inside it",
		})
	}
}

// line is read for a text without quotation marks, of which a general reader makes an object of every line.
func (r *csvReader) line() (record []string, ok bool) {
	for r.next < len(r.text) {
		r.start = r.next
		line := r.text[r.start:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
			r.next += end + 1
		} else {
			r.next = len(r.text)
		}
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			continue
		}
		r.record = r.record[:0]
		for {
			cell, rest, more := bytes.Cut(line, []byte{','})
			r.record = append(r.record, view(cell))
			if line = rest; !more {
				return r.record, true
			}
		}
	}
	return nil, false
}

// fault notes what is wrong with the record read last.
func (r *csvReader) fault(p *problem.Problem) { r.faults.add(r.start, "", p) }

// header tells whether the first record names columns instead of holding values, which it does if every cell is one of
// the words. They may end early, but must be in order; if they are not, that is noted.
func (r *csvReader) header(record []string, words ...string) bool {
	inOrder := len(record) <= len(words)
	for i, cell := range record {
		column := slices.IndexFunc(words, func(word string) bool { return strings.EqualFold(trimValue(cell), word) })
		if column < 0 {
			return false
		}
		inOrder = inOrder && column == i
	}
	if !inOrder {
		r.fault(&problem.Problem{
			Message: fmt.Sprintf("the columns are %s", abridged(strings.Join(record, ","))),
			Remedy:  "arrange them as " + strings.Join(words, ","),
		})
	}
	return true
}
