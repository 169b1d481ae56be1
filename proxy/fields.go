package proxy

import (
	"bytes"
	"unsafe"

	"tellergate/proxy/http1"
)

// A field is one header line of the request as it came. Both parts are views of the header block.
type field struct {
	name, value []byte
	// removed fields are neither forwarded nor seen by rules.
	removed bool
}

// view returns b as a string without copying. The string must not outlive the request whose buffers b belongs to:
// whatever does is copied first (appendAccess), or by the store that keeps it (session.Key says so).
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// readLine takes the request line apart (RFC 9112, section 3): single spaces, a method that is a token, a version that
// we speak.
func (r *request) readLine(block []byte) *refusal {
	line, _, ok := http1.CutLine(block)
	if !ok {
		return &badRequest
	}
	method := bytes.IndexByte(line, ' ')
	version := bytes.LastIndexByte(line, ' ')
	if method < 0 || version <= method+1 || !http1.IsToken(line[:method]) {
		return &badRequest
	}
	r.method, r.target = line[:method], line[method+1:version]
	switch v := line[version+1:]; {
	case string(v) == "HTTP/1.1":
	case string(v) == "HTTP/1.0":
		r.minor, r.keepAlive = 0, false
	case len(v) == len("HTTP/1.1") && string(v[:5]) == "HTTP/" && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]):
		return &versionNotSupported
	default:
		return &badRequest
	}
	if !validTarget(r.target) {
		return &badRequest
	}
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// readFields splits the header lines up to the empty one. Whatever is not plainly right in one is refused.
func (r *request) readFields(raw []byte, limit int) *refusal {
	for len(raw) > 0 && (raw[0] != '\r' || len(raw) != 2) {
		if len(r.fields) == limit {
			return &headerTooLarge
		}
		name, value, rest, ok := http1.CutField(raw)
		if !ok {
			return &badRequest
		}
		r.fields = append(r.fields, field{name: name, value: value})
		raw = rest
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
