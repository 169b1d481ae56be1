package strictyaml

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"tellergate/internal/problem"
)

// JSON is nearly YAML, and where it is not (\/, escaped surrogates, a colon on the next line) the YAML parser refuses
// it. So a text that is valid JSON is read as what it is, into the same nodes.

// looksLikeJSON reports whether data begins like a JSON object, which some YAML does too.
func looksLikeJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == '{'
}

// readJSON returns the root node of a text that is valid JSON and begins with a brace.
func readJSON(data []byte) (*yaml.Node, *problem.Problem) {
	t := jsonText{rest: data, line: 1, column: 1}
	root := t.value()
	return root, t.fault
}

// A jsonText walks a text that is valid JSON.
type jsonText struct {
	rest         []byte
	line, column int              // of the first rune of rest
	fault        *problem.Problem // the first
}

// value takes the next value.
func (t *jsonText) value() *yaml.Node {
	t.space()
	n := &yaml.Node{Line: t.line, Column: t.column}
	switch t.rest[0] {
	case '{':
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		t.items(n, '}')
	case '[':
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		t.items(n, ']')
	default:
		n.Kind = yaml.ScalarNode
		t.scalar(n)
	}
	return n
}

// items takes what is between brackets: values with commas, and colons after keys, which valid JSON has in place.
func (t *jsonText) items(n *yaml.Node, end byte) {
	t.take(1)
	for t.space(); t.rest[0] != end; t.space() {
		if c := t.rest[0]; c == ',' || c == ':' {
			t.take(1)
			continue
		}
		n.Content = append(n.Content, t.value())
	}
	t.take(1)
}

func (t *jsonText) scalar(n *yaml.Node) {
	if t.rest[0] == '"' {
		end := 1
		for ; t.rest[end] != '"'; end++ {
			if t.rest[end] == '\\' {
				end++
			}
		}
		n.Tag, n.Style = "!!str", yaml.DoubleQuotedStyle
		text := t.take(end + 1)
		if err := json.Unmarshal(text, &n.Value); err != nil {
			panic("BUG: a string of valid JSON is not one: " + err.Error())
		}
		if t.fault == nil && strings.ContainsRune(n.Value, utf8.RuneError) && hasLoneSurrogate(text) {
			t.fault = &problem.Problem{
				Line: n.Line, Column: n.Column,
				Message: "there is half a surrogate pair in the text " + abridged(string(text)), Remedy: "write the character itself",
			}
		}
		return
	}
	n.Value = string(t.take(bytes.IndexAny(t.rest, " \t\r\n,]}"))) // the outermost bracket ends it at the latest
	switch n.Value {
	case "true", "false":
		n.Tag = "!!bool"
	case "null":
		n.Tag = "!!null"
	default:
		n.Tag = "!!int"
		if bytes.ContainsAny([]byte(n.Value), ".eE") {
			n.Tag = "!!float"
		}
	}
}

// space takes white space.
func (t *jsonText) space() {
	for len(t.rest) > 0 {
		switch t.rest[0] {
		case ' ', '\t', '\r':
			t.take(1)
		case '\n':
			t.rest, t.line, t.column = t.rest[1:], t.line+1, 1
		default:
			return
		}
	}
}

// take takes n bytes, which hold no end of line.
func (t *jsonText) take(n int) []byte {
	taken := t.rest[:n]
	t.rest = t.rest[n:]
	t.column += utf8.RuneCount(taken)
	return taken
}

// hasLoneSurrogate reports whether text has an escaped surrogate without its other half, for which encoding/json puts
// a replacement character.
func hasLoneSurrogate(text []byte) bool {
	high := false
	for i := 0; i < len(text); i++ {
		unit := uint64(0)
		if text[i] == '\\' {
			if i++; text[i] == 'u' {
				unit, _ = strconv.ParseUint(string(text[i+1:i+5]), 16, 16) // four digits: the JSON is valid
				i += 4
			}
		}
		low := unit >= 0xdc00 && unit < 0xe000
		if low != high {
			return true
		}
		high = unit >= 0xd800 && unit < 0xdc00
	}
	return high
}
