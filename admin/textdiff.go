package admin

import (
	"fmt"
	"slices"
	"strings"
)

// contextLines stand around every difference of a unified diff.
const contextLines = 3

// maxEdits bounds the search for the shortest difference: its memory grows with the square. Documents that differ in
// more lines are shown as one block removed and one added.
const maxEdits = 1000

// A lineEdit is one line of a difference: ' ' in both texts, '-' in the first only, '+' in the second only.
type lineEdit struct {
	op   byte
	line string
}

// unifiedDiff returns how two texts differ line by line, in the unified format without file names; empty if they do
// not.
func unifiedDiff(before, after string) string {
	if before == after {
		return ""
	}
	return hunks(lineEdits(lines(before), lines(after)))
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// lineEdits returns the edits that lead from a to b, every line of both included.
func lineEdits(a, b []string) []lineEdit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	edits := make([]lineEdit, 0, len(a)+len(b)-head-tail)
	for _, line := range a[:head] {
		edits = append(edits, lineEdit{' ', line})
	}
	edits = append(edits, shortest(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, line := range a[len(a)-tail:] {
		edits = append(edits, lineEdit{' ', line})
	}
	return edits
}

// shortest returns the fewest edits from a to b, by the greedy method of Myers ("An O(ND) Difference Algorithm and Its
// Variations", 1986): for each number of edits it notes how far down a every diagonal reaches, and walks back from the
// end once it is reached.
func shortest(a, b []string) []lineEdit {
	var trace [][]int // trace[d][k+d+1]: the furthest x on diagonal k = x-y with d edits or fewer
	reach := []int{0, 0, 0}
	for d := 0; d <= maxEdits; d++ {
		next := make([]int, 2*d+3)
		for k := -d; k <= d; k += 2 {
			x := 0
			if d > 0 {
				x = step(reach, d-1, k)
			}
			for y := x - k; x < len(a) && y < len(b) && a[x] == b[y]; y++ {
				x++
			}
			next[k+d+1] = x
			if x >= len(a) && x-k >= len(b) {
				return walkBack(a, b, append(trace, next), d)
			}
		}
		trace = append(trace, next)
		reach = next
	}
	edits := make([]lineEdit, 0, len(a)+len(b))
	for _, line := range a {
		edits = append(edits, lineEdit{'-', line})
	}
	for _, line := range b {
		edits = append(edits, lineEdit{'+', line})
	}
	return edits
}

// down reports whether the furthest path to diagonal k comes from k+1 (a line of b added) rather than from k-1, given
// how far d edits reach.
func down(reach []int, d, k int) bool {
	return k == -(d+1) || k != d+1 && reach[k-1+d+1] < reach[k+1+d+1]
}

// step returns where diagonal k begins after one edit more than the d that reach describes.
func step(reach []int, d, k int) int {
	if down(reach, d, k) {
		return reach[k+1+d+1]
	}
	return reach[k-1+d+1] + 1
}

// walkBack turns the trace of a search that ended with d edits into the edits, in the order of the texts.
func walkBack(a, b []string, trace [][]int, d int) []lineEdit {
	var reversed []lineEdit
	x, y := len(a), len(b)
	for ; d > 0; d-- {
		reach, k := trace[d-1], x-y
		added := down(reach, d-1, k)
		// One edit led from (fromX, fromY) to (x0, y0), and equal lines from there to (x, y).
		fromK := k - 1
		if added {
			fromK = k + 1
		}
		fromX := reach[fromK+d]
		fromY := fromX - fromK
		x0, y0 := fromX+1, fromY
		if added {
			x0, y0 = fromX, fromY+1
		}
		for x > x0 && y > y0 {
			x, y = x-1, y-1
			reversed = append(reversed, lineEdit{' ', a[x]})
		}
		if added {
			reversed = append(reversed, lineEdit{'+', b[fromY]})
		} else {
			reversed = append(reversed, lineEdit{'-', a[fromX]})
		}
		x, y = fromX, fromY
	}
	for x > 0 {
		x--
		reversed = append(reversed, lineEdit{' ', a[x]})
	}
	slices.Reverse(reversed)
	return reversed
}

// hunks prints edits, leaving out what is further than contextLines from a difference.
func hunks(edits []lineEdit) string {
	var out strings.Builder
	lineA, lineB := 1, 1 // of edits[i]
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' && !differsWithin(edits[i:]) {
			lineA, lineB, i = lineA+1, lineB+1, i+1
			continue
		}
		end, same := i, 0
		for end < len(edits) && same <= 2*contextLines {
			if edits[end].op == ' ' {
				same++
			} else {
				same = 0
			}
			end++
		}
		end -= max(same-contextLines, 0)
		a, b := count(edits[i:end])
		fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(lineA, a), span(lineB, b))
		for _, e := range edits[i:end] {
			out.WriteByte(e.op)
			out.WriteString(e.line)
			out.WriteByte('\n')
		}
		lineA, lineB, i = lineA+a, lineB+b, end
	}
	return out.String()
}

// differsWithin reports whether a difference comes within the next contextLines lines.
func differsWithin(edits []lineEdit) bool {
	for _, e := range edits[:min(contextLines+1, len(edits))] {
		if e.op != ' ' {
			return true
		}
	}
	return false
}

// count returns how many lines of the first and of the second text edits span.
func count(edits []lineEdit) (a, b int) {
	for _, e := range edits {
		if e.op != '+' {
			a++
		}
		if e.op != '-' {
			b++
		}
	}
	return a, b
}

// span prints the lines of one side of a hunk; where there is none, the line before.
func span(first, n int) string {
	if n == 0 {
		return fmt.Sprintf("%d,0", first-1)
	}
	return fmt.Sprintf("%d,%d", first, n)
}
