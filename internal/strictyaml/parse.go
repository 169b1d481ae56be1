package strictyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"tellergate/internal/problem"
)

const byteOrderMark = "\ufeff"

// syntaxErrorLine is what the parser puts in front of its errors.
var syntaxErrorLine = regexp.MustCompile(`^(yaml: )?(line \d+: )?`)

// parse returns the root node of the only document in data, nil if there is none.
func parse(data []byte) (*yaml.Node, *problem.Problem) {
	if len(data) > MaxBytes {
		return nil, &problem.Problem{
			Message: fmt.Sprintf("the text has %d bytes, and at most %d are read", len(data), MaxBytes),
			Remedy:  "move long sets of values into lists",
		}
	}
	if marks := countMarks(data); marks > maxMarks {
		return nil, &problem.Problem{
			Message: fmt.Sprintf("the text has too many values: %d bytes may begin one ([ { , : - ? and ends of lines), and at most "+
				"%d are read", marks, maxMarks),
			Remedy: "move long sets of values into lists",
		}
	}
	if fault := checkText(data); fault != nil {
		return nil, fault
	}
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	if looksLikeJSON(data) && json.Valid(data) {
		return readJSON(data)
	}
	if fault := checkCharacters(data); fault != nil {
		return nil, fault
	}
	lines := &lineReader{rest: data, line: 1}
	decoder := yaml.NewDecoder(lines)
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxFault(err, lines.line)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		return nil, &problem.Problem{
			Line: second.Line, Column: second.Column,
			Message: "a second document begins here", Remedy: "keep one document in a file: remove the --- line",
		}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxFault(err, lines.line)
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" && root.Value == "" {
		return nil, nil // comments only
	}
	return root, nil
}

// countMarks returns how many bytes of data may begin a value. Every node that the parser makes stands behind one of them,
// and behind none more than two.
func countMarks(data []byte) (marks int) {
	for _, c := range data {
		marks += int(isMark[c])
	}
	return marks
}

var isMark = [256]uint8{'[': 1, '{': 1, ',': 1, ':': 1, '-': 1, '?': 1, '\n': 1, '\r': 1}

// checkText finds the first byte that is not UTF-8.
func checkText(data []byte) *problem.Problem {
	if utf8.Valid(data) {
		return nil
	}
	at := cursor{1, 1}
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && size == 1 {
			return &problem.Problem{
				Line: at.line, Column: at.column,
				Message: fmt.Sprintf("byte %#02x at offset %d is not UTF-8", data[i], i),
				Remedy:  "save the text as UTF-8",
			}
		}
		i += size
		if c != '\ufeff' || i > size {
			at.pass(c, data[i:])
		}
	}
	return nil
}

// checkCharacters finds the first character that YAML allows nowhere; the parser would not say where.
func checkCharacters(data []byte) *problem.Problem {
	at := cursor{1, 1}
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		switch {
		case c == '\t', c == '\n', c == '\r', c == '\u0085':
		case unicode.IsControl(c), c == '\ufeff', c == '\ufffe', c == '\uffff':
			return &problem.Problem{
				Line: at.line, Column: at.column,
				Message: fmt.Sprintf("the character %U must not stand in a text", c),
				Remedy:  "remove it; in double quotes it may be written as an escape",
			}
		}
		i += size
		at.pass(c, data[i:])
	}
	return nil
}

// A cursor counts lines and columns as the YAML parser does.
type cursor struct{ line, column int }

// pass moves the cursor over c, behind which rest stands.
func (at *cursor) pass(c rune, rest []byte) {
	switch {
	case c == '\n', c == '\u0085', c == '\u2028', c == '\u2029', c == '\r' && !bytes.HasPrefix(rest, []byte("\n")):
		*at = cursor{at.line + 1, 1}
	default:
		at.column++
	}
}

// A lineReader gives a text away line by line and so knows how far a parser has come. The parser's own errors mostly
// do not tell, or tell the line before.
type lineReader struct {
	rest  []byte
	line  int // of the last byte given away
	ended bool
}

// Read implements io.Reader.
func (l *lineReader) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	if l.ended {
		l.line++
	}
	n := bytes.IndexByte(l.rest, '\n') + 1
	if n == 0 {
		n = len(l.rest)
	}
	n = copy(p, l.rest[:n])
	l.ended = n > 0 && l.rest[n-1] == '\n'
	l.rest = l.rest[n:]
	return n, nil
}

// syntaxFault turns the parser's error into a problem at the line where it stopped.
func syntaxFault(err error, line int) *problem.Problem {
	text := syntaxErrorLine.ReplaceAllString(err.Error(), "")
	if strings.HasPrefix(text, "unknown anchor") {
		return &problem.Problem{
			Line: line, Column: 1,
			Message: "anchors and aliases (& and *) are not read", Remedy: "write the value out",
		}
	}
	return &problem.Problem{
		Line: line, Column: 1,
		Message: "the text is not YAML: " + text,
		Remedy:  "check indentation, quotes and brackets there and just above",
	}
}
