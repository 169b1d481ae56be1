package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"tellergate/internal/problem"
)

// A jsonReader walks a JSON text token by token, so that a million values need no tree, and gathers every fault with
// its place. After a syntax error it reads no further: broken is set and every method returns at once.
type jsonReader struct {
	text   []byte
	dec    *json.Decoder
	faults faults
	broken bool
}

// A jsonPath leads to one text: key, array[index] or array[index].key. It is printed only where there is a fault.
type jsonPath struct {
	array string
	index int
	key   string
}

func (p jsonPath) String() string {
	if p.array == "" {
		return p.key
	}
	element := p.array + "[" + strconv.Itoa(p.index) + "]"
	if p.key == "" {
		return element
	}
	return element + "." + p.key
}

func newJSONReader(text []byte) *jsonReader {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return &jsonReader{text: text, dec: dec}
}

// next returns where the next token begins.
func (r *jsonReader) next() int {
	offset := int(r.dec.InputOffset())
	for offset < len(r.text) && bytes.IndexByte([]byte(" \t\r\n,:"), r.text[offset]) >= 0 {
		offset++
	}
	return offset
}

// token returns the next token, nil at the end of what can be read.
func (r *jsonReader) token(path jsonPath) json.Token {
	if r.broken {
		return nil
	}
	start := r.next()
	rest := r.text[start:]
	if len(rest) > 1 && rest[0] == '0' && isDigit(rest[1]) {
		// A number with a leading zero is no JSON: the decoder would read a 0 and object to what follows.
		r.broken = true
		r.faults.add(start, path.String(), notText(number(rest)))
		return nil
	}
	token, err := r.dec.Token()
	if err == nil {
		if token == nil {
			return jsonNull{}
		}
		return token
	}
	r.broken = true
	p := &problem.Problem{Message: "the text is not JSON: " + err.Error(), Remedy: "correct it"}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		p = &problem.Problem{Message: "the text ends too early", Remedy: "close every quotation mark, bracket and brace"}
		start = len(r.text)
	case len(rest) > 0 && isDigit(rest[0]):
		p = notText(number(rest))
	}
	r.faults.add(start, path.String(), p)
	return nil
}

// jsonNull stands for null, because a nil token means that there is none.
type jsonNull struct{}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// number names what stands before the next separator.
func number(text []byte) string {
	end := bytes.IndexAny(text, " \t\r\n,:]}")
	if end < 0 {
		end = len(text)
	}
	return "number " + string(text[:min(end, 40)])
}

func notText(found string) *problem.Problem {
	return &problem.Problem{Message: found + " where a text belongs", Remedy: "put it in quotes, leading zeros count"}
}

// object reads an object with some of the known keys and calls field to read the value of each that it finds.
func (r *jsonReader) object(path jsonPath, known []string, field func(key string)) {
	if !r.open(path, '{', "an object") {
		return
	}
	seen := make([]string, 0, len(known))
	for !r.broken && r.dec.More() {
		start := r.next()
		key, ok := r.token(path).(string)
		if !ok {
			return
		}
		inner := path
		inner.key = key
		switch {
		case !slices.Contains(known, key):
			r.faults.add(start, path.String(), &problem.Problem{
				Message: fmt.Sprintf("unknown key %s", abridged(key)),
				Remedy:  "the known keys are " + listed(known),
			})
			r.skip(inner)
		case slices.Contains(seen, key):
			r.faults.add(start, path.String(), &problem.Problem{
				Message: fmt.Sprintf("key %q occurs twice", key),
				Remedy:  "remove one of them",
			})
			r.skip(inner)
		default:
			seen = append(seen, key)
			field(key)
		}
	}
	r.token(path)
}

// array reads an array and calls element to read each of its elements.
func (r *jsonReader) array(path jsonPath, element func(index int)) {
	if !r.open(path, '[', "an array") {
		return
	}
	for i := 0; !r.broken && r.dec.More(); i++ {
		element(i)
	}
	r.token(path)
}

// open reads the delimiter that begins an object or array; if something else stands there, it is skipped.
func (r *jsonReader) open(path jsonPath, delimiter json.Delim, what string) bool {
	start := r.next()
	token := r.token(path)
	if token == nil {
		return false
	}
	if token == delimiter {
		return true
	}
	r.faults.add(start, path.String(), &problem.Problem{
		Message: described(token) + " where " + what + " belongs",
		Remedy:  "write " + what,
	})
	r.skipRest(token, path)
	return false
}

// string reads a text and returns where it stands. If something else stands there, it is skipped and ok is false.
func (r *jsonReader) string(path jsonPath) (text string, offset int, ok bool) {
	offset = r.next()
	token := r.token(path)
	if token == nil {
		return "", offset, false
	}
	if text, ok = token.(string); ok {
		return text, offset, true
	}
	p := notText(described(token))
	if _, isNumber := token.(json.Number); !isNumber {
		p.Remedy = "write a text in quotes"
	}
	r.faults.add(offset, path.String(), p)
	r.skipRest(token, path)
	return "", offset, false
}

// skip reads one value of any kind and forgets it.
func (r *jsonReader) skip(path jsonPath) { r.skipRest(r.token(path), path) }

// skipRest reads what follows the token in the same value.
func (r *jsonReader) skipRest(token json.Token, path jsonPath) {
	depth := 0
	for {
		switch token {
		case nil:
			return
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return
		}
		token = r.token(path)
	}
}

// end checks that nothing follows.
func (r *jsonReader) end() {
	if start := r.next(); !r.broken && start < len(r.text) {
		r.faults.add(start, "", &problem.Problem{
			Message: "something follows the end of the JSON text",
			Remedy:  "remove it",
		})
	}
}

// described names a token that stands in the wrong place.
func described(token json.Token) string {
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return "an object"
		}
		return "an array"
	case json.Number:
		return "number " + t.String()
	case string:
		return "text " + abridged(t)
	case bool:
		return strconv.FormatBool(t)
	}
	return "null"
}

// listed joins words as a sentence does.
func listed(words []string) string {
	text := words[0]
	for i, word := range words[1:] {
		if i == len(words)-2 {
			text += " and " + word
		} else {
			text += ", " + word
		}
	}
	return text
}

// appendJSONText appends s as a JSON string. Its output is part of what content hashes cover: it must never change.
func appendJSONText(to []byte, s string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	plain := 0 // where begins what stands as it is
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		to = append(to, s[plain:i]...)
		plain = i + 1
		if c < ' ' {
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			to = append(to, '\\', c)
		}
	}
	to = append(to, s[plain:]...)
	return append(to, '"')
}
