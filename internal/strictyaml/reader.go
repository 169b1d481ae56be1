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

	"go.yaml.in/yaml/v3"

	"tellergate/internal/problem"
)

// maxDepth bounds the nesting of a text; a rule document needs about ten levels.
const maxDepth = 64

var (
	durationType  = reflect.TypeFor[time.Duration]()
	oneOrManyType = reflect.TypeFor[OneOrMany]()
)

// A reader walks the nodes of one text and the values they are read into, side by side.
type reader struct {
	source   *Source
	problems problem.List
}

func (r *reader) fault(n *yaml.Node, path, message, remedy string) {
	r.problems = append(r.problems, problem.Problem{
		Path: path, Line: n.Line, Column: n.Column, Message: message, Remedy: remedy,
	})
}

// read stores n, which stands at path, in v.
func (r *reader) read(n *yaml.Node, v reflect.Value, path string, depth int) {
	if _, known := r.source.places[path]; !known {
		r.source.places[path] = place{n.Line, n.Column}
	}
	switch {
	case depth > maxDepth:
		r.fault(n, path, fmt.Sprintf("this is nested more than %d levels deep", maxDepth), "simplify it")
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fault(n, path, "anchors and aliases (& and *) are not read", "write the value out")
		return
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(n, path, fmt.Sprintf("tags like %s are not read", n.Tag), "leave the tag out")
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Style == 0:
		r.fault(n, path, "there is no value here", "give one, or leave the key out")
		return
	}

	if v.Kind() == reflect.Pointer {
		target := reflect.New(v.Type().Elem())
		r.read(n, target.Elem(), path, depth)
		v.Set(target)
		return
	}
	if v.CanAddr() {
		if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if value, ok := r.text(n, path); ok {
				var fault *Fault
				if err := text.UnmarshalText([]byte(value)); errors.As(err, &fault) {
					r.fault(n, path, fault.Message, fault.Remedy)
				} else if err != nil {
					r.fault(n, path, fmt.Sprintf("%q is not readable: %v", value, err), "correct the value")
				}
			}
			return
		}
	}
	switch {
	case v.Type() == durationType:
		r.duration(n, v, path)
	case v.Type() == oneOrManyType && n.Kind == yaml.ScalarNode:
		if value, ok := r.text(n, path); ok {
			v.Set(reflect.ValueOf(OneOrMany{value}))
		}
	default:
		r.plain(n, v, path, depth)
	}
}

// plain reads into the kinds that Go has of itself.
func (r *reader) plain(n *yaml.Node, v reflect.Value, path string, depth int) {
	switch v.Kind() {
	case reflect.String:
		if value, ok := r.text(n, path); ok {
			v.SetString(value)
		}
	case reflect.Bool:
		value, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
			r.fault(n, path, describe(n)+" stands where true or false belongs", "write true or false, without quotes")
			return
		}
		v.SetBool(value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		value, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
			r.fault(n, path, describe(n)+" stands where a whole number belongs", "write a whole number in digits, without quotes")
			return
		}
		v.SetInt(value)
	case reflect.Struct:
		r.structure(n, v, path, depth)
	case reflect.Slice:
		r.sequence(n, v, path, depth)
	case reflect.Map:
		r.mapping(n, v, path, depth)
	default:
		panic("BUG: strictyaml cannot read into " + v.Type().String())
	}
}

// text returns the scalar n as a text, or reports why it is none.
func (r *reader) text(n *yaml.Node, path string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		r.fault(n, path, describe(n)+" stands where a text belongs", "write a single value")
		return "", false
	}
	if n.Tag != "!!str" && n.Style == 0 {
		r.fault(n, path, describe(n)+" stands where a text belongs",
			fmt.Sprintf("put it in quotes (%q): leading zeros count", n.Value))
		return "", false
	}
	return n.Value, true
}

func (r *reader) duration(n *yaml.Node, v reflect.Value, path string) {
	const remedy = "write a number with its unit, such as 30s, 5m or 1h30m"
	value, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || n.Tag == "!!int" && n.Value != "0" {
		r.fault(n, path, describe(n)+" stands where a duration belongs", remedy)
		return
	}
	v.SetInt(int64(value))
}

func (r *reader) sequence(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		r.fault(n, path, describe(n)+" stands where a sequence belongs", "write [a, b] or one item a line with a dash")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	names := make([]string, len(n.Content))
	for i, item := range n.Content {
		names[i] = nameOf(item)
	}
	for i, label := range problem.Elements(names) {
		r.read(n.Content[i], out.Index(i), path+"["+label+"]", depth+1)
	}
	v.Set(out)
}

// nameOf returns the scalar under the key name of a mapping, by which it is addressed within a sequence.
func nameOf(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "name" && n.Content[i+1].Kind == yaml.ScalarNode {
				return n.Content[i+1].Value
			}
		}
	}
	return ""
}

// entries calls each for every key of the mapping n that is a plain text and not doubled, and reports the others.
func (r *reader) entries(n *yaml.Node, path string, each func(key string, at, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, path, describe(n)+" stands where a mapping belongs", "write keys with values: {key: value}")
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			r.fault(key, path, "merge keys (<<) are not read", "write the keys out")
		case key.Kind != yaml.ScalarNode:
			r.fault(key, path, describe(key)+" stands where a key belongs", "write a single word")
		case first[key.Value] > 0:
			r.fault(key, join(path, key.Value), fmt.Sprintf("the key %s is there already, in line %d", key.Value, first[key.Value]),
				"remove one of them")
		default:
			first[key.Value] = key.Line
			each(key.Value, key, value)
		}
	}
}

func (r *reader) mapping(n *yaml.Node, v reflect.Value, path string, depth int) {
	out := reflect.MakeMap(v.Type())
	r.entries(n, path, func(key string, _, value *yaml.Node) {
		element := reflect.New(v.Type().Elem()).Elem()
		r.read(value, element, join(path, key), depth+1)
		out.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
	})
	v.Set(out)
}

func (r *reader) structure(n *yaml.Node, v reflect.Value, path string, depth int) {
	if d, ok := v.Addr().Interface().(Defaulter); ok {
		d.SetDefaults()
	}
	fields := map[string]int{}
	keys, others := -1, -1
	for i := range v.NumField() {
		tag, ok := v.Type().Field(i).Tag.Lookup("yaml")
		switch {
		case tag == ",keys":
			keys = i
		case tag == ",others":
			others = i
			v.Field(i).Set(reflect.MakeMap(v.Field(i).Type()))
		case ok && tag != "-":
			fields[tag] = i
		}
	}
	r.entries(n, path, func(key string, at, value *yaml.Node) {
		field, ok := fields[key]
		if !ok && others < 0 {
			r.fault(at, join(path, key), "the key "+key+" is not known here", suggestion(key, fields))
			return
		}
		if keys >= 0 {
			v.Field(keys).Set(reflect.Append(v.Field(keys), reflect.ValueOf(key)))
		}
		if ok {
			r.read(value, v.Field(field), join(path, key), depth+1)
			return
		}
		element := reflect.New(v.Field(others).Type().Elem()).Elem()
		r.read(value, element, join(path, key), depth+1)
		v.Field(others).SetMapIndex(reflect.ValueOf(key), element)
	})
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
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
	value := n.Value
	if len([]rune(value)) > 60 {
		value = string([]rune(value)[:60]) + "…"
	}
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

// suggestion names the known key that was probably meant, or else every known key.
func suggestion(key string, fields map[string]int) string {
	names := make([]string, 0, len(fields))
	best, distance := "", 3
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
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
