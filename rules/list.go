package rules

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"tellergate/internal/problem"
)

// A List is a named set of values of one attribute (名单). It is immutable and may be shared by many RuleSets. Its
// memory holds no pointer per value, so that the garbage collector does not notice its size.
type List struct {
	attribute string
	set       valueSet
}

// NewList copies values into a list of the named attribute; values of an attribute declared within another are pairs
// outer/value. Duplicates are merged. The values must have been cleaned by CleanValue.
func NewList(attribute string, values []string) *List {
	size := 0
	for _, v := range values {
		size += len(v) + 1
	}
	b := newSetBuilder(size, nil)
	for _, v := range values {
		b.add(v)
	}
	set, _ := b.finish()
	return &List{attribute: attribute, set: set}
}

// ParseList reads the canonical JSON that WriteTo produces: {"attribute":"teller","values":["9001/0001",…]}.
// The error is a problem.List. What needs the attribute's declaration is left to Check.
func ParseList(text []byte) (*List, error) { return Pause(nil).ParseList(text) }

// ParseList is the function of this name.
func (p Pause) ParseList(text []byte) (*List, error) {
	text, err := p.checkText(text)
	if err != nil {
		return nil, err
	}
	if list, ok := plainList(text, p); ok {
		return list, nil
	}
	return p.parseList(text)
}

// parseList reads a list of which plainList knows no more than that something about it is unusual.
func (p Pause) parseList(text []byte) (*List, error) {
	r := newJSONReader(text)
	b := newSetBuilder(len(text), p)
	attribute, hasAttribute, hasValues := "", false, false
	r.object(jsonPath{}, []string{"attribute", "values"}, func(key string) {
		if key == "attribute" {
			hasAttribute = true
			attribute = r.clean(jsonPath{key: "attribute"}, MaxValueBytes)
			return
		}
		hasValues = true
		r.array(jsonPath{key: "values"}, func(i int) {
			if value := r.clean(jsonPath{array: "values", index: i}, MaxValueBytes+1+MaxValueBytes); value != "" {
				b.add(value)
			}
		})
	})
	r.end()
	if !r.broken && len(r.faults.found) == 0 {
		if !hasAttribute {
			r.faults.add(0, "attribute", &problem.Problem{
				Message: "the list does not say whose values it holds",
				Remedy:  `name the attribute, for example "attribute": "teller"`,
			})
		}
		if !hasValues {
			r.faults.add(0, "values", &problem.Problem{
				Message: "the list has no values",
				Remedy:  `write "values": [] if it is to be empty`,
			})
		}
	}
	if err := r.faults.err(text); err != nil {
		return nil, err
	}
	set, _ := b.finish()
	return &List{attribute: attribute, set: set}, nil
}

// clean reads a text that must be a value of at most maxBytes; it returns "" if it is not and has been noted.
func (r *jsonReader) clean(path jsonPath, maxBytes int) string {
	raw, offset, ok := r.string(path)
	if !ok {
		return ""
	}
	value, fault := cleanText(raw, maxBytes)
	if fault != nil {
		r.faults.add(offset, path.String(), fault)
		return ""
	}
	return value
}

// ParseListCSV reads one value a line; a header line naming the attribute is allowed; an attribute within another may
// be given as a pair in one column or as two columns outer,value. It returns how many duplicates were merged. The error
// is a problem.List with line numbers.
func ParseListCSV(text []byte, attribute Attribute) (list *List, duplicates int, err error) {
	return Pause(nil).ParseListCSV(text, attribute)
}

// ParseListCSV is the function of this name.
func (p Pause) ParseListCSV(text []byte, attribute Attribute) (list *List, duplicates int, err error) {
	if text, err = p.checkText(text); err != nil {
		return nil, 0, err
	}
	r := newCSVReader(text, p)
	b := newSetBuilder(len(text), p)
	for first := true; ; first = false {
		record, ok := r.read()
		if !ok {
			break
		}
		if first && r.listHeader(record, attribute) {
			continue
		}
		value, fault := recordValue(record, attribute)
		if fault != nil {
			r.fault(fault)
			continue
		}
		b.add(value)
	}
	if err := r.faults.err(text); err != nil {
		return nil, 0, err
	}
	set, duplicates := b.finish()
	return &List{attribute: attribute.Name, set: set}, duplicates, nil
}

// listHeader tells whether the first record names the columns of a list.
func (r *csvReader) listHeader(record []string, attribute Attribute) bool {
	switch {
	case len(record) == 1 && attribute.Within != "":
		return r.header(record, attribute.Name) || r.header(record, attribute.Within+"/"+attribute.Name)
	case len(record) == 1:
		return r.header(record, attribute.Name)
	case attribute.Within != "":
		return r.header(record, attribute.Within, attribute.Name)
	}
	return false
}

// recordValue returns the value that one line of CSV holds.
func recordValue(record []string, attribute Attribute) (string, *problem.Problem) {
	switch {
	case attribute.Within == "" && len(record) == 1:
		return CleanValue(record[0])
	case attribute.Within != "" && len(record) == 1:
		return cleanPair(record[0], attribute)
	case attribute.Within != "" && len(record) == 2:
		return joinPair(record[0], record[1], attribute)
	}
	columns := attribute.Name
	if attribute.Within != "" {
		columns = fmt.Sprintf("%s, or %s/%s", attribute.Within+","+attribute.Name, attribute.Within, attribute.Name)
	}
	return "", &problem.Problem{
		Message: fmt.Sprintf("the line has %d columns", len(record)),
		Remedy:  "a line is " + columns,
	}
}

// Check reports what is wrong with the list in view of the attributes that are declared: its attribute must be one of
// them, and its values pairs if that is within another. The error is a problem.List with the values' positions in
// ascending order. A list that ParseListCSV returned for a declared attribute may still hold slashes that an attribute
// others are within must not have.
func (l *List) Check(schema *Schema) error { return Pause(nil).Check(l, schema) }

// Check is the method of lists of this name.
func (p Pause) Check(l *List, schema *Schema) error {
	var f faults
	index := schema.Index(l.attribute)
	if index < 0 {
		f.add(-1, "attribute", &problem.Problem{
			Message: fmt.Sprintf("attribute %q is not declared", l.attribute),
			Remedy:  "declare it under identity in the process settings, or correct the name",
		})
		return f.err(nil)
	}
	attribute, position := schema.Attribute(index), 0
	outer := slices.ContainsFunc(schema.attributes, func(a Attribute) bool { return a.Within == attribute.Name })
	for value := range l.All() {
		p.after(position)
		if fault := checkDeclared(value, attribute, outer); fault != nil {
			f.add(-1, jsonPath{array: "values", index: position}.String(), fault)
		}
		position++
	}
	return f.err(nil)
}

// checkDeclared returns what is wrong with a cleaned value of attribute; outer tells whether others are within it.
func checkDeclared(value string, attribute Attribute, outer bool) *problem.Problem {
	if attribute.Within != "" {
		clean, fault := cleanPair(value, attribute)
		if fault == nil && clean != value {
			fault = &problem.Problem{
				Message: fmt.Sprintf("value %q has white space beside its slash", value),
				Remedy:  fmt.Sprintf("write %q", clean),
			}
		}
		return fault
	}
	if outer && strings.Contains(value, "/") {
		return &problem.Problem{
			Message: fmt.Sprintf("value %q holds a slash", value),
			Remedy:  fmt.Sprintf("other attributes are declared within %s, so its values have none", attribute.Name),
		}
	}
	_, fault := CleanValue(value)
	return fault
}

// Attribute returns the attribute whose values these are.
func (l *List) Attribute() string { return l.attribute }

// Len returns the number of values.
func (l *List) Len() int { return l.set.n }

// TextBytes returns about how many bytes WriteTo writes.
func (l *List) TextBytes() int { return len(l.set.text) + 2*l.set.n + len(l.attribute) + 64 }

// Contains reports whether value is in the list. It allocates nothing, and its cost does not grow with the list.
func (l *List) Contains(value string) bool { return l.set.find(value) >= 0 }

// Values returns the values in ascending order, freshly allocated.
func (l *List) Values() []string {
	values := make([]string, 0, l.set.n)
	for v := range l.set.all() {
		values = append(values, v)
	}
	return values
}

// All yields the values in ascending order without allocating; each keeps the list's memory alive.
func (l *List) All() iter.Seq[string] { return l.set.all() }

// Edit returns the list with the values of add and without those of remove, and how many values came and went. A value
// that is in both is removed.
func (l *List) Edit(add, remove *List) (edited *List, added, removed int) {
	return Pause(nil).Edit(l, add, remove)
}

// Edit is the method of lists of this name.
func (p Pause) Edit(l, add, remove *List) (edited *List, added, removed int) {
	b := newSetBuilder(len(l.set.text)+len(add.set.text), p)
	p.merge(l, add, func(value string, inList, inAdd bool) {
		switch {
		case remove.Contains(value):
			if inList {
				removed++
			}
			return
		case !inList:
			added++
		}
		b.add(value)
	})
	set, _ := b.finish()
	return &List{attribute: l.attribute, set: set}, added, removed
}

// Differences calls report for every value that is in only one of two lists, in ascending order; a nil list is empty.
func (p Pause) Differences(before, after *List, report func(value string, added bool)) {
	none := &List{}
	p.merge(cmp.Or(before, none), cmp.Or(after, none), func(value string, was, is bool) {
		if was != is {
			report(value, is)
		}
	})
}

// merge calls do for every value of either list, once and in ascending order.
func (p Pause) merge(a, b *List, do func(value string, inA, inB bool)) {
	x, y := &a.set, &b.set
	n := 0
	for i, j := 0, 0; i < len(x.text) || j < len(y.text); n++ {
		p.after(n)
		switch {
		case j == len(y.text):
			value, next := x.at(i)
			do(value, true, false)
			i = next
		case i == len(x.text):
			value, next := y.at(j)
			do(value, false, true)
			j = next
		default:
			inX, nextX := x.at(i)
			inY, nextY := y.at(j)
			switch order := cmp.Compare(inX, inY); {
			case order < 0:
				do(inX, true, false)
				i = nextX
			case order > 0:
				do(inY, false, true)
				j = nextY
			default:
				do(inX, true, true)
				i, j = nextX, nextY
			}
		}
	}
}

// WriteTo writes the list as canonical JSON: one line, values in ascending order.
func (l *List) WriteTo(w io.Writer) (int64, error) {
	out := newTextWriter(w)
	out.raw(`{"attribute":`)
	out.text(l.attribute)
	out.raw(`,"values":[`)
	separator := ""
	for v := range l.set.all() {
		out.raw(separator)
		out.text(v)
		separator = ","
	}
	out.raw("]}\n")
	return out.finish()
}

// WriteCSV writes a header line with the attribute and one value a line.
func (l *List) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	record := []string{l.attribute}
	err := out.Write(record)
	for v := range l.set.all() {
		if err != nil {
			break
		}
		record[0] = v
		err = out.Write(record)
	}
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	return err
}

// A textWriter writes canonical JSON in pieces of some 20 µs of work and counts the bytes. An error stops it and is kept by out.
type textWriter struct {
	out   *bufio.Writer
	bytes int64
}

func newTextWriter(w io.Writer) *textWriter { return &textWriter{out: bufio.NewWriterSize(w, 8<<10)} }

func (t *textWriter) raw(s string) {
	n, _ := t.out.WriteString(s)
	t.bytes += int64(n)
}

func (t *textWriter) text(s string) {
	n, _ := t.out.Write(appendJSONText(t.out.AvailableBuffer(), s))
	t.bytes += int64(n)
}

// finish flushes and returns what io.WriterTo has to.
func (t *textWriter) finish() (int64, error) {
	err := t.out.Flush()
	return t.bytes - int64(t.out.Buffered()), err
}
