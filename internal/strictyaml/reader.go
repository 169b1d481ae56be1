package strictyaml

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"tellergate/internal/problem"
)

const (
	// maxDepth bounds the nesting of a text; a rule document needs about ten levels.
	maxDepth = 64
	// maxProblems bounds how many problems of one text are spelled out.
	maxProblems = 1000
)

var (
	durationType  = reflect.TypeFor[time.Duration]()
	oneOrManyType = reflect.TypeFor[OneOrMany]()
)

// A reader walks the nodes of one text and the values they are read into, side by side.
type reader struct {
	problems problem.List
	layouts  map[reflect.Type]*layout
}

// A layout tells which field of a struct takes which key.
type layout struct {
	fields       map[string]int
	keys, others int // fields, or -1
}

// layout returns the layout of a type, which is asked for once for every value of it.
func (r *reader) layout(of reflect.Type) *layout {
	if l := r.layouts[of]; l != nil {
		return l
	}
	l := &layout{fields: map[string]int{}, keys: -1, others: -1}
	for i := range of.NumField() {
		tag, ok := of.Field(i).Tag.Lookup("yaml")
		switch {
		case tag == ",keys":
			l.keys = i
		case tag == ",others":
			l.others = i
		case ok && tag != "-":
			l.fields[tag] = i
		}
	}
	r.layouts[of] = l
	return l
}

func (r *reader) fault(n *yaml.Node, at *trail, message, remedy string) {
	if !r.full() {
		r.problems = append(r.problems, problem.Problem{
			Path: at.String(), Line: n.Line, Column: n.Column, Message: message, Remedy: remedy,
		})
	}
}

// full reports whether so much is wrong that reading on is of no use.
func (r *reader) full() bool { return len(r.problems) >= maxProblems }

// read stores n, which stands at the end of the trail, in v, and its place in here.
func (r *reader) read(n *yaml.Node, v reflect.Value, here *spot, at *trail) {
	if r.full() {
		return
	}
	here.line, here.column = int32(n.Line), int32(n.Column)
	switch {
	case at.depth > maxDepth:
		r.fault(n, at, fmt.Sprintf("this is nested more than %d levels deep", maxDepth), "simplify it")
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Style == 0 && n.Anchor == "":
		r.fault(n, at, "there is no value here", "give one, or leave the key out")
		return
	case r.ornate(n, at):
		return
	}

	if v.Kind() == reflect.Pointer {
		target := reflect.New(v.Type().Elem())
		r.read(n, target.Elem(), here, at)
		v.Set(target)
		return
	}
	if v.CanAddr() {
		if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if value, ok := r.text(n, at); ok {
				var fault *Fault
				if err := text.UnmarshalText([]byte(value)); errors.As(err, &fault) {
					r.fault(n, at, fault.Message, fault.Remedy)
				} else if err != nil {
					r.fault(n, at, fmt.Sprintf("%q is not readable: %v", abridged(value), err), "correct the value")
				}
			}
			return
		}
	}
	switch {
	case v.Type() == durationType:
		r.duration(n, v, at)
	case v.Type() == oneOrManyType && n.Kind == yaml.ScalarNode:
		if value, ok := r.text(n, at); ok {
			v.Set(reflect.ValueOf(OneOrMany{value}))
		}
	default:
		r.plain(n, v, here, at)
	}
}

// plain reads into the kinds that Go has of itself.
func (r *reader) plain(n *yaml.Node, v reflect.Value, here *spot, at *trail) {
	switch v.Kind() {
	case reflect.String:
		if value, ok := r.text(n, at); ok {
			v.SetString(value)
		}
	case reflect.Bool:
		value, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
			r.fault(n, at, describe(n)+" stands where true or false belongs", "write true or false, without quotes")
			return
		}
		v.SetBool(value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		r.integer(n, v, at)
	case reflect.Struct:
		r.structure(n, v, here, at)
	case reflect.Slice:
		r.sequence(n, v, here, at)
	case reflect.Map:
		r.mapping(n, v, here, at)
	default:
		panic("BUG: strictyaml cannot read into " + v.Type().String())
	}
}

// integer takes decimal digits only: 010 is eight to some and ten to others.
func (r *reader) integer(n *yaml.Node, v reflect.Value, at *trail) {
	value, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
	switch {
	case n.Kind == yaml.ScalarNode && n.Style == 0 && errors.Is(err, strconv.ErrRange):
		r.fault(n, at, describe(n)+" is too large", "write a smaller number")
	case n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil:
		r.fault(n, at, describe(n)+" stands where a whole number belongs", "write a whole number in digits, without quotes")
	case strconv.FormatInt(value, 10) != n.Value:
		r.fault(n, at, describe(n)+" is not written in plain digits", fmt.Sprintf("write %d", value))
	default:
		v.SetInt(value)
	}
}

// text returns the scalar n as a text, or reports why it is none.
func (r *reader) text(n *yaml.Node, at *trail) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		r.fault(n, at, describe(n)+" stands where a text belongs", "write a single value")
		return "", false
	}
	if n.Tag != "!!str" && n.Style == 0 {
		remedy := fmt.Sprintf("put it in quotes (%q)", abridged(n.Value))
		if n.Tag == "!!int" || n.Tag == "!!float" {
			remedy += ": leading zeros count"
		}
		r.fault(n, at, describe(n)+" stands where a text belongs", remedy)
		return "", false
	}
	return n.Value, true
}

func (r *reader) duration(n *yaml.Node, v reflect.Value, at *trail) {
	const remedy = "write a number with its unit, such as 30s, 5m or 1h30m"
	value, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || n.Tag == "!!int" && n.Value != "0" {
		r.fault(n, at, describe(n)+" stands where a duration belongs", remedy)
		return
	}
	v.SetInt(int64(value))
}

func (r *reader) sequence(n *yaml.Node, v reflect.Value, here *spot, at *trail) {
	if n.Kind != yaml.SequenceNode {
		r.fault(n, at, describe(n)+" stands where a sequence belongs", "write [a, b] or one item a line with a dash")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	in := &inside{elements: make([]spot, len(n.Content))}
	here.inside = in
	labels := labelsOf(n.Content)
	for i, item := range n.Content {
		step := at.element(i)
		if labels != nil && labels[i] != strconv.Itoa(i) {
			step = at.named(labels[i])
			if in.names == nil {
				in.names = map[string]int{}
			}
			in.names[labels[i]] = i
		}
		r.read(item, out.Index(i), &in.elements[i], step)
		n.Content[i] = nil // what has been read need not be in memory beside what it has become
	}
	v.Set(out)
}

// labelsOf returns the labels of a sequence's elements, nil if none has a name.
func labelsOf(items []*yaml.Node) []string {
	if !slices.ContainsFunc(items, func(item *yaml.Node) bool { return nameOf(item) != "" }) {
		return nil
	}
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = nameOf(item)
	}
	return problem.Elements(names)
}

// nameOf returns the scalar under the key name of a mapping, by which it is addressed within a sequence.
func nameOf(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if value := n.Content[i+1]; n.Content[i].Value == "name" && value.Kind == yaml.ScalarNode && value.Tag != "!!null" {
				return value.Value
			}
		}
	}
	return ""
}

// entries calls each for every key of the mapping n that is plain and not doubled, and reports the others.
func (r *reader) entries(n *yaml.Node, at *trail, each func(key string, keyNode, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, at, describe(n)+" stands where a mapping belongs", "write keys with values: {key: value}")
		return
	}
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			r.fault(key, at, "merge keys (<<) are not read", "write the keys out")
		case r.ornate(key, at):
		case key.Kind != yaml.ScalarNode:
			r.fault(key, at, describe(key)+" stands where a key belongs", "write a single word")
		case key.Tag == "!!null" && key.Style == 0:
			r.fault(key, at, "there is no key here", "write one, or remove the value")
		case first[key.Value] > 0:
			r.fault(key, at.to(key.Value),
				fmt.Sprintf("the key %s is there already, in line %d", keyText(key.Value), first[key.Value]), "remove one of them")
		default:
			first[key.Value] = key.Line
			each(key.Value, key, value)
		}
	}
}

// ornate reports what YAML can do with a node that is not a value.
func (r *reader) ornate(n *yaml.Node, at *trail) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fault(n, at, "anchors and aliases (& and *) are not read", "write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(n, at, fmt.Sprintf("tags like %s are not read", abridged(n.Tag)), "leave the tag out")
	default:
		return false
	}
	return true
}

func (r *reader) mapping(n *yaml.Node, v reflect.Value, here *spot, at *trail) {
	out := reflect.MakeMap(v.Type())
	r.entries(n, at, func(key string, _, value *yaml.Node) {
		element := reflect.New(v.Type().Elem()).Elem()
		r.read(value, element, here.inner(key, len(n.Content)/2), at.to(key))
		out.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
	})
	v.Set(out)
}

func (r *reader) structure(n *yaml.Node, v reflect.Value, here *spot, at *trail) {
	if d, ok := v.Addr().Interface().(Defaulter); ok {
		d.SetDefaults()
	}
	l := r.layout(v.Type())
	fields, keys, others := l.fields, l.keys, l.others
	if others >= 0 {
		v.Field(others).Set(reflect.MakeMap(v.Field(others).Type()))
	}
	r.entries(n, at, func(key string, keyNode, value *yaml.Node) {
		field, ok := fields[key]
		if !ok && others < 0 {
			r.fault(keyNode, at.to(key), "the key "+keyText(key)+" is not known here", suggestion(key, fields))
			return
		}
		if keys >= 0 {
			v.Field(keys).Set(reflect.Append(v.Field(keys), reflect.ValueOf(key)))
		}
		if ok {
			key, _ = v.Type().Field(field).Tag.Lookup("yaml") // the same, and not a copy of the text
			r.read(value, v.Field(field), here.inner(key, len(n.Content)/2), at.to(key))
			return
		}
		element := reflect.New(v.Field(others).Type().Elem()).Elem()
		r.read(value, element, here.inner(key, len(n.Content)/2), at.to(key))
		v.Field(others).SetMapIndex(reflect.ValueOf(key), element)
	})
}

// describe says what a node is, for the reader who meant it to be something else.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a sequence"
	case yaml.AliasNode:
		return "an alias"
	}
	value := abridged(n.Value)
	switch {
	case n.Style != 0 || n.Tag == "!!str":
		return fmt.Sprintf("the text %q", value)
	case n.Tag == "!!int" || n.Tag == "!!float":
		return "the number " + value
	case n.Tag == "!!timestamp":
		return "the date " + value
	case n.Tag == "!!bool":
		return "the truth value " + value
	}
	return "the value " + value
}

// abridged shortens what goes into a message.
func abridged(s string) string {
	const most = 60 // characters
	count := 0
	for i := range s {
		if count == most {
			return s[:i] + "…"
		}
		count++
	}
	return s
}

// keyText is a key as messages and paths show it.
func keyText(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(abridged(key))
	}
	return abridged(key)
}

// suggestion names the known key that was probably meant, or else every known key.
func suggestion(key string, fields map[string]int) string {
	names := make([]string, 0, len(fields))
	best, distance := "", 3
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if len(key) > len(name)+distance {
			continue
		}
		if d := editDistance(strings.ToLower(key), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known keys are " + strings.Join(names, ", ")
}

// editDistance is the number of letters to insert, remove or replace to make a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
