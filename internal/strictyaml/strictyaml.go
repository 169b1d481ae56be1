// Package strictyaml reads YAML (and so JSON) written by people into Go structs, and refuses everything it does not
// understand.
//
// It is responsible for unknown keys, doubled keys, wrong types, unquoted scalars where a text belongs, anchors,
// several documents, encodings and sizes; it reports every fault of a text at once, each with line, column, path and
// remedy. What the values mean is its callers' business. It is pure and imports only internal/problem.
package strictyaml

import (
	"tellergate/internal/problem"
)

// MaxBytes bounds the text that Decode reads: 8 MiB.
const MaxBytes = 8 << 20

// Decode reads one YAML document from data into the struct that out points to, by the rules below, and returns where
// everything stood. If the list is not empty, out must not be used.
//
// Fields are matched by their `yaml:"name"` tags; a field without one is not read. A field tagged `yaml:",keys"` of
// type []string receives the keys of the mapping in the order of the text. Supported types: bool, string, integers,
// float64, time.Duration (as Go prints it), structs, pointers to these (nil when absent), slices (non-nil when present,
// even if empty), map[string]T, anything that implements encoding.TextUnmarshaler (its error becomes the message), and
// OneOrMany. A string takes only a quoted or plainly textual scalar: 0012 and true must be quoted.
func Decode(data []byte, out any) (*Source, problem.List) {
	panic("BUG: not written")
}

// OneOrMany is a sequence of strings that may also be written as a single string.
type OneOrMany []string

// A Source remembers where each path of a decoded text stood. A nil *Source knows no place. It is immutable.
type Source struct {
	places map[string]place
}

type place struct{ line, column int }

// Position returns the 1-based place of path (as problem.Problem writes paths), or that of its closest ancestor that
// has one, or zeros.
func (s *Source) Position(path string) (line, column int) {
	panic("BUG: not written")
}
