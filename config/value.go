package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"tellergate/internal/strictyaml"
)

// maxValue bounds an attribute's value, in bytes, as for values in requests and rules.
const maxValue = 256

// A role is what an attribute is to others, which decides whether its values may hold a slash.
type role struct {
	name   string
	within string // the attribute it is within, "" if none
	outer  bool   // others are within it
}

func roleOf(name string, written *identityText) role {
	r := role{name: name, within: written.Attributes[name].Within}
	for _, other := range written.Attributes {
		r.outer = r.outer || other.Within == name
	}
	return r
}

// clean returns a value of the attribute without the white space and byte order marks around it, or what is wrong.
func (r role) clean(raw string) (string, *strictyaml.Fault) {
	value := strings.TrimFunc(raw, func(c rune) bool { return unicode.IsSpace(c) || c == '\ufeff' })
	control := strings.IndexFunc(value, unicode.IsControl)
	switch {
	case value == "":
		return "", &strictyaml.Fault{Message: "the value is empty", Remedy: "give one, or leave it out"}
	case len(value) > maxValue:
		return "", &strictyaml.Fault{
			Message: fmt.Sprintf("a value of %d bytes is too long", len(value)), Remedy: fmt.Sprintf("write %d at most", maxValue),
		}
	case control >= 0:
		c, _ := utf8.DecodeRuneInString(value[control:])
		return "", &strictyaml.Fault{Message: fmt.Sprintf("%q holds the control character %U", value, c), Remedy: "remove it"}
	case r.outer && strings.Contains(value, "/"):
		return "", &strictyaml.Fault{
			Message: fmt.Sprintf("%q holds a slash", value),
			Remedy:  "values of an attribute that others are within hold none: it divides the pair",
		}
	case r.within != "" && strings.Contains(value, "/"):
		return "", &strictyaml.Fault{
			Message: fmt.Sprintf("%q holds a slash", value),
			Remedy:  fmt.Sprintf("write the %s alone: its %s is added to it", r.name, r.within),
		}
	}
	return value, nil
}
