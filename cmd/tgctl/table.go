package main

import (
	"io"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// A table aligns columns by the width they have on a terminal, where a Chinese character is as wide as two letters.
// text/tabwriter counts characters instead.
type table struct{ rows [][]string }

// newTable returns a table with a header line.
func newTable(header ...string) *table { return &table{rows: [][]string{header}} }

// add appends a row. An empty cell is shown as "-", so that cutting columns apart by white space stays possible.
func (t *table) add(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		if row[i] = oneLine(cell); row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// write prints the table, two spaces between columns, none at the end of a line.
func (t *table) write(w io.Writer) {
	var columns []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(columns) {
				columns = append(columns, 0)
			}
			columns[i] = max(columns[i], displayWidth(cell))
		}
	}
	var line strings.Builder
	for _, row := range t.rows {
		line.Reset()
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", columns[i]-displayWidth(cell)+2))
			}
		}
		line.WriteByte('\n')
		io.WriteString(w, line.String())
	}
}

// displayWidth is how many cells of a terminal s takes.
func displayWidth(s string) int {
	cells := 0
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case width.LookupRune(r).Kind() == width.EastAsianWide, width.LookupRune(r).Kind() == width.EastAsianFullwidth:
			cells += 2
		default:
			cells++
		}
	}
	return cells
}

// oneLine replaces what would break a line or drive the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
