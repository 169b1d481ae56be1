package rules

import (
	"bytes"
	"encoding/json"
	"unsafe"
)

// A plainReader reads the JSON of a list without a fault, for which a general decoder makes an object of every value. It
// gives up at whatever it does not take; what is wrong there, and whether anything is, a jsonReader finds out.
type plainReader struct {
	text []byte
	at   int
}

// plainList returns a list, or ok false.
func plainList(text []byte, pause Pause) (list *List, ok bool) {
	r := plainReader{text: text}
	attribute := ""
	var values *setBuilder
	if !r.take('{') {
		return nil, false
	}
	for more := true; more; more = r.take(',') {
		key, ok := r.string()
		if !ok || !r.take(':') {
			return nil, false
		}
		switch {
		case key == "attribute" && attribute == "":
			value, ok := r.value(MaxValueBytes)
			if !ok {
				return nil, false
			}
			attribute = string([]byte(value))
		case key == "values" && values == nil:
			values = newSetBuilder(len(text), pause)
			if !r.values(values) {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	if !r.take('}') || attribute == "" || values == nil {
		return nil, false
	}
	if r.space(); r.at < len(r.text) {
		return nil, false
	}
	set, _ := values.finish()
	return &List{attribute: attribute, set: set}, true
}

// values reads the array of values.
func (r *plainReader) values(to *setBuilder) bool {
	if !r.take('[') {
		return false
	}
	if r.take(']') {
		return true
	}
	for more := true; more; more = r.take(',') {
		value, ok := r.value(MaxValueBytes + 1 + MaxValueBytes)
		if !ok {
			return false
		}
		to.add(value)
	}
	return r.take(']')
}

// value reads a string that is a value of at most maxBytes.
func (r *plainReader) value(maxBytes int) (string, bool) {
	raw, ok := r.string()
	if !ok {
		return "", false
	}
	value, fault := cleanText(raw, maxBytes)
	return value, fault == nil
}

func (r *plainReader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// take passes over white space and, if it follows, a character.
func (r *plainReader) take(c byte) bool {
	if r.space(); r.at == len(r.text) || r.text[r.at] != c {
		return false
	}
	r.at++
	return true
}

// string reads a string. It is a view of the text unless it holds escapes.
func (r *plainReader) string() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	start, plain := r.at, true
	for {
		end := bytes.IndexByte(r.text[r.at:], '"')
		if end < 0 {
			return "", false
		}
		part := r.text[r.at : r.at+end]
		r.at += end + 1
		escapes := len(part) - len(bytes.TrimRight(part, `\`))
		for _, c := range part {
			if c < ' ' {
				return "", false
			}
			plain = plain && c != '\\'
		}
		if escapes%2 == 0 {
			break
		}
	}
	if plain {
		return view(r.text[start : r.at-1]), true
	}
	var text string
	err := json.Unmarshal(r.text[start-1:r.at], &text)
	return text, err == nil
}

// view returns the text as a string that shares its memory: it must not outlive what the caller may do to it.
func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }

// bytesOf returns the memory of a string, which nobody may write to.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }
