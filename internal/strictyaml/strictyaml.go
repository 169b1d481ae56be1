// Package strictyaml reads YAML (and so JSON) written by people into Go structs, and refuses everything it does not
// understand.
//
// It is responsible for unknown keys, doubled keys, wrong types, unquoted scalars where a text belongs, anchors,
// several documents, encodings and sizes; it reports every fault of a text at once, each with line, column, path and
// remedy. What the values mean is its callers' business. It is pure and imports only internal/problem.
package strictyaml

import (
	"cmp"
	"reflect"
	"slices"

	"tellergate/internal/problem"
)

// MaxBytes bounds the text that Decode reads: 8 MiB.
const MaxBytes = 8 << 20

// Decode reads one YAML document from data into the struct that out points to, by the rules below, and returns where
// everything stood. If the list is not empty, out must not be used.
//
// Fields are matched by their `yaml:"name"` tags; a field without one is not read. A field tagged `yaml:",keys"` of
// type []string receives the keys of the mapping in the order of the text; one tagged `yaml:",others"` of type
// map[string]T takes every key that no other field does. Fields whose key is absent keep what they hold. Supported types:
// bool, string, signed integers, time.Duration (as Go prints it), structs, pointers to these (nil when absent), slices
// (non-nil when present, even if empty), map[string]T, anything that implements encoding.TextUnmarshaler (its error
// becomes the message, and the remedy too if it is a Fault), and OneOrMany. A string takes only a quoted or plainly
// textual scalar: 0012 and true must be quoted. Any other type is a programming error and panics.
func Decode(data []byte, out any) (*Source, problem.List) {
	r := &reader{source: &Source{places: map[string]place{}}}
	root, fault := parse(data)
	if fault != nil {
		return r.source, problem.List{*fault}
	}
	if root == nil {
		return r.source, nil
	}
	r.read(root, reflect.ValueOf(out).Elem(), "", 0)
	slices.SortStableFunc(r.problems, func(a, b problem.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return r.source, r.problems
}

// A Fault is an error of UnmarshalText that says what to do: Decode reports it as it is.
type Fault struct{ Message, Remedy string }

// Error implements error.
func (f *Fault) Error() string { return f.Message + "; " + f.Remedy }

// A Defaulter is a struct, read through its pointer, that fills in its defaults before a text is read into it.
type Defaulter interface{ SetDefaults() }

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
	if s == nil {
		return 0, 0
	}
	for {
		if at, ok := s.places[path]; ok {
			return at.line, at.column
		}
		if path == "" {
			return 0, 0
		}
		path = path[:max(lastStep(path), 0)]
	}
}

// Place fills in where p stands, unless it knows already.
func (s *Source) Place(p *problem.Problem) {
	if p.Line == 0 {
		p.Line, p.Column = s.Position(p.Path)
	}
}

// lastStep returns where the last step of a path begins: its dot or its bracket. Labels in brackets may hold dots.
func lastStep(path string) int {
	depth := 0
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i] {
		case ']':
			depth++
		case '[':
			if depth--; depth == 0 {
				return i
			}
		case '.':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}
