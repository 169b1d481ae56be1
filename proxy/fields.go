package proxy

import (
	"bytes"
	"unsafe"
)

// A field is one header line of the request as it came. Both parts are views of the raw header block, which fasthttp
// keeps unchanged until the request is reset, whatever is edited in the parsed header meanwhile.
type field struct {
	name, value []byte
	// removed fields are neither forwarded nor seen by rules.
	removed bool
}

// view returns b as a string without copying. The string must not outlive the request whose buffers b belongs to:
// whatever does is copied first (accessEntry.keep), or by the store that keeps it (session.Key says so).
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// readFields splits the raw header block. What fasthttp's parser tolerates and a pod might read differently, a line
// that ends in a bare LF, a folded line or a space in a name, is refused.
func (r *request) readFields(raw []byte, limit int) *refusal {
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return &badRequest
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || bytes.IndexByte(line[:colon], ' ') >= 0 || line[0] == '\t' {
			return &badRequest
		}
		if len(r.fields) == limit {
			return &headerTooLarge
		}
		r.fields = append(r.fields, field{name: line[:colon], value: bytes.Trim(line[colon+1:], " \t")})
	}
	return nil
}

// Get gives rules the headers that are forwarded; it implements rules.Headers.
func (r *request) Get(name string) (string, bool) {
	if f := r.field(name); f != nil {
		return view(f.value), true
	}
	return "", false
}

// field returns the first field with this name that has not been removed, or nil.
func (r *request) field(name string) *field {
	for i := range r.fields {
		if f := &r.fields[i]; !f.removed && equalFold(f.name, name) {
			return f
		}
	}
	return nil
}

// equalFold compares a field name with a name, both ASCII, without regard to case.
func equalFold(name []byte, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range name {
		if lower(name[i]) != lower(want[i]) {
			return false
		}
	}
	return true
}

// hasPrefixFold is equalFold for the beginning of name.
func hasPrefixFold(name []byte, prefix string) bool {
	return len(name) >= len(prefix) && equalFold(name[:len(prefix)], prefix)
}

// spelledLike reports whether name is want with underscores for some hyphens or the other way round. Many applications
// (CGI, WSGI, some servlet containers) read both as the same header.
func spelledLike(name []byte, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range name {
		a, b := lower(name[i]), lower(want[i])
		if a == '_' {
			a = '-'
		}
		if b == '_' {
			b = '-'
		}
		if a != b {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// token cuts the next element off a comma-separated list.
func token(list []byte) (first, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		first, rest = list[:i], list[i+1:]
	} else {
		first = list
	}
	return bytes.Trim(first, " \t"), rest
}
