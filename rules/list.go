package rules

import "io"

// A List is a named set of values of one attribute (名单). It is immutable and may be shared by many RuleSets.
type List struct {
	attribute string
	values    map[string]struct{}
}

// NewList copies values into a list of the named attribute; values of an attribute declared within another are pairs
// outer/value. Duplicates are merged.
func NewList(attribute string, values []string) *List { panic("BUG: not written") }

// ParseList reads the canonical JSON that WriteTo produces: {"attribute":"teller","values":["9001/0001",…]}.
// The error is a problem.List.
func ParseList(text []byte) (*List, error) { panic("BUG: not written") }

// ParseListCSV reads one value a line; a header line naming the attribute is allowed; an attribute within another may
// be given as a pair in one column or as two columns outer,value. It returns how many duplicates were merged. The error
// is a problem.List with line numbers.
func ParseListCSV(text []byte, attribute Attribute) (list *List, duplicates int, err error) {
	panic("BUG: not written")
}

// Attribute returns the attribute whose values these are.
func (l *List) Attribute() string { return l.attribute }

// Len returns the number of values.
func (l *List) Len() int { return len(l.values) }

// Contains reports whether value is in the list.
func (l *List) Contains(value string) bool { panic("BUG: not written") }

// Values returns the values in ascending order, freshly allocated.
func (l *List) Values() []string { panic("BUG: not written") }

// WriteTo writes the list as canonical JSON: one line, values in ascending order.
func (l *List) WriteTo(w io.Writer) (int64, error) { panic("BUG: not written") }

// WriteCSV writes a header line with the attribute and one value a line.
func (l *List) WriteCSV(w io.Writer) error { panic("BUG: not written") }
