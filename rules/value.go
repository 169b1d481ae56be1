package rules

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"tellergate/internal/problem"
)

// MaxValueBytes bounds one value of an attribute. A pair is two such values and the slash between them.
const MaxValueBytes = 256

const byteOrderMark = "\ufeff"

// CleanValue returns raw without the white space and byte order marks around it, or what forbids it as the value of
// an attribute: it must be UTF-8 without control characters, not empty and at most MaxValueBytes long. The fault has
// no place; the caller knows it. A value that is in order costs no allocation.
func CleanValue(raw string) (value string, fault *problem.Problem) {
	return cleanText(raw, MaxValueBytes)
}

// cleanText is CleanValue with another bound.
func cleanText(raw string, maxBytes int) (string, *problem.Problem) {
	if isPlain(raw) && len(raw) <= maxBytes {
		return raw, nil
	}
	value := trimValue(raw)
	switch {
	case value == "":
		return "", &problem.Problem{Message: "the value is empty", Remedy: "fill it in or remove it"}
	case len(value) > maxBytes:
		return "", &problem.Problem{
			Message: fmt.Sprintf("value %s has %d bytes, more than %d", abridged(value), len(value), maxBytes),
			Remedy:  "shorten it",
		}
	case !utf8.ValidString(value):
		return "", &problem.Problem{
			Message: fmt.Sprintf("value %q is not UTF-8", value),
			Remedy:  "write it in UTF-8",
		}
	}
	if i := strings.IndexFunc(value, unicode.IsControl); i >= 0 {
		r, _ := utf8.DecodeRuneInString(value[i:])
		return "", &problem.Problem{
			Message: fmt.Sprintf("value %q holds the control character %U", value, r),
			Remedy:  "remove it",
		}
	}
	return value, nil
}

// trimValue removes white space and byte order marks from both ends.
func trimValue(raw string) string {
	return strings.TrimFunc(raw, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
}

// isPlain reports whether s is not empty and all visible ASCII: then there is nothing to trim or to object to.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// cleanPair is CleanValue for a pair outer/inner, whose halves are values of their own. It is split at the first
// slash.
func cleanPair(raw string, attribute Attribute) (string, *problem.Problem) {
	outer, inner, found := strings.Cut(raw, "/")
	if !found {
		return "", notPair(raw, attribute)
	}
	if isPlain(outer) && isPlain(inner) && len(outer) <= MaxValueBytes && len(inner) <= MaxValueBytes {
		return raw, nil // as nearly all of them are: nothing to clean, nothing to join
	}
	return joinPair(outer, inner, attribute)
}

// joinPair is cleanPair for halves that stand apart.
func joinPair(outer, inner string, attribute Attribute) (string, *problem.Problem) {
	cleanOuter, fault := CleanValue(outer)
	if fault != nil {
		return "", halfFault(outer, inner, attribute.Within, fault)
	}
	if strings.Contains(cleanOuter, "/") {
		return "", &problem.Problem{
			Message: fmt.Sprintf("%s %q holds a slash", attribute.Within, cleanOuter),
			Remedy:  fmt.Sprintf("a slash separates %s from %s; correct the value", attribute.Within, attribute.Name),
		}
	}
	cleanInner, fault := CleanValue(inner)
	if fault != nil {
		return "", halfFault(outer, inner, attribute.Name, fault)
	}
	return cleanOuter + "/" + cleanInner, nil
}

func halfFault(outer, inner, half string, fault *problem.Problem) *problem.Problem {
	return &problem.Problem{
		Message: fmt.Sprintf("%s of the pair %s: %s", half, abridged(outer+"/"+inner), fault.Message),
		Remedy:  fault.Remedy,
	}
}

func notPair(value string, attribute Attribute) *problem.Problem {
	return &problem.Problem{
		Message: fmt.Sprintf("value %s of %s is not a pair", abridged(value), attribute.Name),
		Remedy: fmt.Sprintf("%s is declared within %s: write %s/%s, for example 9001/0001",
			attribute.Name, attribute.Within, attribute.Within, attribute.Name),
	}
}

// abridged quotes s for a message and leaves out what is beyond 40 characters.
func abridged(s string) string {
	const shown = 40
	for i := range s {
		if utf8.RuneCountInString(s[:i]) == shown {
			return fmt.Sprintf("%q…", s[:i])
		}
	}
	return fmt.Sprintf("%q", s)
}
