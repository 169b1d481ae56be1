package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"tellergate/internal/problem"
)

var syntaxErrorLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// parse returns the root node of the only document in data, nil if there is none.
func parse(data []byte) (*yaml.Node, *problem.Problem) {
	if len(data) > MaxBytes {
		return nil, &problem.Problem{
			Message: fmt.Sprintf("the text has %d bytes, and at most %d are read", len(data), MaxBytes),
			Remedy:  "move long sets of values into lists",
		}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if fault := checkText(data); fault != nil {
		return nil, fault
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxFault(err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		return nil, &problem.Problem{
			Line: second.Line, Column: second.Column,
			Message: "a second document begins here", Remedy: "keep one document in a file: remove the --- line",
		}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxFault(err)
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

// checkText finds the first byte that is not UTF-8 text.
func checkText(data []byte) *problem.Problem {
	line, column := 1, 1
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && size == 1 {
			return &problem.Problem{
				Line: line, Column: column,
				Message: fmt.Sprintf("byte %#02x at offset %d is not UTF-8", data[i], i),
				Remedy:  "save the text as UTF-8",
			}
		}
		if c == 0 {
			return &problem.Problem{
				Line: line, Column: column,
				Message: fmt.Sprintf("there is a NUL character at offset %d", i), Remedy: "save the text as UTF-8",
			}
		}
		if column++; c == '\n' {
			line, column = line+1, 1
		}
		i += size
	}
	return nil
}

// syntaxFault turns the parser's error into a problem.
func syntaxFault(err error) *problem.Problem {
	text := err.Error()
	p := &problem.Problem{Remedy: "check indentation, quotes and brackets there and just above"}
	if at := syntaxErrorLine.FindStringSubmatch(text); at != nil {
		p.Line, _ = strconv.Atoi(at[1]) // digits by the expression
		p.Column = 1
		text = text[len(at[0]):]
	}
	p.Message = "the text is not YAML: " + strings.TrimPrefix(text, "yaml: ")
	return p
}
