// Package problem describes what is wrong in something a person wrote: a settings file, a rule document, a list, an
// organisation.
//
// It is responsible for the one shape that the loader, the command line and the admin API share, so that the same
// fault reads the same everywhere. It finds no faults itself, prints no files and imports nothing of tellergate.
package problem

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// A Problem is one fault. Message is a full clause that names the offending value; Remedy says what to do about it.
// Both are English sentences without a final full stop.
type Problem struct {
	// Path leads from the top of the document to the fault, for example services[counter].rules[pilot].then.version.
	// An element of a sequence is addressed by its name where it has one that is not taken, else by its index.
	Path string `json:"path"`
	// Line and Column are 1-based and count runes; 0 means that the place in the text is not known.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`

	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// String prints the problem on one line: position, path, message; remedy.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Remedy != "" {
		b.WriteString("; ")
		b.WriteString(p.Remedy)
	}
	return b.String()
}

// A List is every problem of one text, in the order of the text. A List with at least one element is an error; use
// Err to get a nil error from an empty one.
type List []Problem

// Error prints one problem a line.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns l as an error, or nil if there is no problem.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// maxLabel bounds the names that serve as labels, in bytes. No name that anything of tellergate accepts is longer.
const maxLabel = 256

// Elements gives each element of a sequence the label by which a Path addresses it: its name where it is the first
// with that name, else its index. A name that would make a path unreadable (very long, with brackets or with what
// cannot be printed) is none.
func Elements(names []string) []string {
	seen := make(map[string]bool, len(names))
	labels := make([]string, len(names))
	for i, name := range names {
		if !isLabel(name) || seen[name] {
			labels[i] = strconv.Itoa(i)
			continue
		}
		seen[name] = true
		labels[i] = name
	}
	return labels
}

func isLabel(name string) bool {
	return name != "" && len(name) <= maxLabel && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '[' || r == ']' || !unicode.IsPrint(r)
	})
}
