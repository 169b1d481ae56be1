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

// MaxBytes bounds the text that Decode reads: 64 MiB.
const MaxBytes = 64 << 20

// maxMarks bounds how many bytes of a text may begin a value: brackets, commas, colons, dashes, question marks, ends of
// lines. Values are what costs memory, many times their length, so it is their number that is bounded: a long text takes no
// more than 8 MiB of nothing but empty values would. A rule takes about 30.
const maxMarks = 8 << 20

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
//
// Of a text with very many faults the first maxProblems are spelled out. Memory is bounded by the number of values,
// which is bounded too: no path of an untrusted text is built unless there is a fault to report there.
func Decode(data []byte, out any) (*Source, problem.List) {
	root, fault := parse(data)
	if fault != nil {
		return &Source{}, problem.List{*fault}
	}
	source := &Source{}
	if root == nil {
		return source, nil
	}
	r := &reader{layouts: map[reflect.Type]*layout{}}
	r.read(root, reflect.ValueOf(out).Elem(), &source.root, &trail{})
	slices.SortStableFunc(r.problems, func(a, b problem.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if r.full() {
		r.problems = append(r.problems, problem.Problem{
			Message: "more was found than is listed here", Remedy: "correct those above first",
		})
	}
	return source, r.problems
}

// A Fault is an error of UnmarshalText that says what to do: Decode reports it as it is.
type Fault struct{ Message, Remedy string }

// Error implements error.
func (f *Fault) Error() string { return f.Message + "; " + f.Remedy }

// A Defaulter is a struct, read through its pointer, that fills in its defaults before a text is read into it.
type Defaulter interface{ SetDefaults() }

// OneOrMany is a sequence of strings that may also be written as a single string.
type OneOrMany []string
