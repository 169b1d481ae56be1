package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Forms of output.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func checkOutput(form string) error {
	switch form {
	case outputTable, outputJSON, outputYAML:
		return nil
	}
	return usagef("-o %s is not a form of output; give table, json or yaml", form)
}

// print writes value in the form that -o asks for: JSON as it comes, YAML from the same JSON, or what human writes.
func (t *tool) print(value any, human func(w io.Writer)) error {
	var text bytes.Buffer
	if t.output == outputTable {
		human(&text)
	} else {
		raw, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if t.output == outputYAML {
			raw, err = yamlOf(raw)
		} else {
			raw, err = indented(raw)
		}
		if err != nil {
			return err
		}
		text.Write(raw)
	}
	_, err := t.out.Write(text.Bytes())
	return err
}

func indented(raw []byte) ([]byte, error) {
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "  "); err != nil {
		return nil, err
	}
	text.WriteByte('\n')
	return text.Bytes(), nil
}

// yamlOf writes JSON as YAML, members in the order in which they stand.
func yamlOf(raw []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	node, err := nextNode(decoder)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return nil, err
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// readsOtherwise tells a string that readers of YAML 1.1 take for a truth value or a number to the base of 60. What YAML
// 1.2 would take for something else the encoder quotes by itself.
func readsOtherwise(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return strings.Contains(s, ":") && strings.Trim(s, "+-0123456789:._") == ""
}

// nextNode reads one value.
func nextNode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if v == '{' {
			node = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		for decoder.More() {
			// The members of an object are its keys and values in turn.
			member, err := nextNode(decoder)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, member)
		}
		if len(node.Content) == 0 {
			node.Style = yaml.FlowStyle
		}
		_, err := decoder.Token()
		return node, err
	case string:
		node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}
		if readsOtherwise(v) {
			node.Style = yaml.DoubleQuotedStyle
		}
		return node, nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: v.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
}
