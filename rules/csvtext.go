package rules

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"

	"tellergate/internal/problem"
)

// A csvReader reads the records of a CSV text and knows where each one stands.
type csvReader struct {
	text   []byte
	csv    *csv.Reader
	faults faults
	start  int // offset of the record read last
}

func newCSVReader(text []byte) *csvReader {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	return &csvReader{text: text, csv: r}
}

// read returns the next record that is CSV; ok is false at the end. The record is valid until the next call.
func (r *csvReader) read() (record []string, ok bool) {
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
		var syntax *csv.ParseError
		if errors.As(err, &syntax) {
			err = syntax.Err
		}
		r.fault(&problem.Problem{
			Message: "the line is not CSV: " + err.Error(),
			Remedy:  "put the whole value in quotation marks and double those inside it",
		})
	}
}

// fault notes what is wrong with the record read last.
func (r *csvReader) fault(p *problem.Problem) { r.faults.add(r.start, "", p) }
