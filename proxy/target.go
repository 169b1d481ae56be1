package proxy

import "bytes"

// readTarget finds host, path and query of the request. The path that decisions look at is a normalised one; what is
// forwarded is the client's own target, so what could mean two things is refused.
func (r *request) readTarget() *refusal {
	switch string(r.method) {
	case "CONNECT":
		return &notImplemented
	case "TRACE":
		return &methodNotAllowed
	}
	if len(r.front.methods) > 0 && !has(r.front.methods, r.method) {
		return &methodNotAllowed
	}
	no := r.readHost()
	if no != nil && no != &malformedHost {
		return no
	}
	switch {
	case r.target[0] == '/':
	case string(r.target) == "*":
		if string(r.method) != "OPTIONS" {
			return &badRequest
		}
	default:
		if no != nil {
			return no
		}
		if no := r.readAbsolute(); no != nil {
			return no
		}
	}
	r.rawPath, r.rawQuery = cut(r.target, '?')
	if !validEscapes(r.rawPath) {
		return &badRequest
	}
	r.query.Path = r.normalised(r.rawPath)
	r.query.Host = r.hostName()
	return no
}

// normalised returns the path that decisions look at: percent escapes decoded, empty and dot segments resolved. Most
// paths are so already.
func (r *request) normalised(path []byte) string {
	if path[0] != '/' {
		return "/"
	}
	for i, c := range path {
		if c == '%' || c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
			r.path.SetPathBytes(path)
			return view(r.path.Path())
		}
	}
	return view(path)
}

// agree refuses a target that leads to another service when it is read as it stands than when it is normalised: the pod
// is sent it as it stands.
func (r *request) agree() *refusal {
	if r.query.Path == view(r.rawPath) || r.rawPath[0] != '/' {
		return nil
	}
	normalised := r.query.Path
	r.query.Path = view(r.rawPath)
	service := r.table.rules.Match(&r.query)
	r.query.Path = normalised
	if service != r.service {
		return &ambiguousPath
	}
	return nil
}

// readHost finds the one Host header. An HTTP/1.0 client may leave it out where the frontend has a default.
func (r *request) readHost() *refusal {
	found := 0
	for i := range r.fields {
		if f := &r.fields[i]; equalFold(f.name, "Host") {
			r.host = f.value
			found++
		}
	}
	if found == 0 && r.minor == 0 && len(r.frontend.defaultHost) > 0 {
		r.host = r.frontend.defaultHost
		return nil
	}
	if found != 1 || !validHost(r.host) {
		return &malformedHost
	}
	return nil
}

// validHost reports whether b is uri-host [ ":" port ], with a host that is not empty (RFC 9110, section 7.2).
func validHost(b []byte) bool {
	name := b
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 2 {
			return false
		}
		for _, c := range b[1:end] {
			if hexDigit(c) < 0 && c != ':' && c != '.' {
				return false
			}
		}
		if end+1 == len(b) {
			return true
		}
		return b[end+1] == ':' && validPort(b[end+2:])
	}
	if colon := bytes.IndexByte(b, ':'); colon >= 0 {
		name = b[:colon]
		if !validPort(b[colon+1:]) {
			return false
		}
	}
	for _, c := range name {
		letter := 'a' <= lower(c) && lower(c) <= 'z' || isDigit(c)
		if !letter && bytes.IndexByte([]byte("-._~!$&'()*+;=%,"), c) < 0 {
			return false
		}
	}
	return len(name) > 0 && validEscapes(name)
}

func validPort(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return len(b) <= 5
}

// readAbsolute turns an absolute-form target into the origin form. It has to name the host that the Host header names.
func (r *request) readAbsolute() *refusal {
	scheme := bytes.Index(r.target, []byte("://"))
	if scheme < 0 || !equalFold(r.target[:scheme], "http") && !equalFold(r.target[:scheme], "https") {
		return &badRequest
	}
	rest := r.target[scheme+len("://"):]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if !bytes.EqualFold(rest[:end], r.host) {
		return &badRequest
	}
	r.target = rest[end:]
	if len(r.target) == 0 || r.target[0] != '/' {
		start := len(r.scratch)
		r.scratch = append(append(r.scratch, '/'), r.target...)
		r.target = r.scratch[start:]
	}
	return nil
}

// hostName returns the Host header in lower case without port.
func (r *request) hostName() string {
	name := r.host
	if colon := bytes.LastIndexByte(name, ':'); colon >= 0 && bytes.IndexByte(name[colon:], ']') < 0 {
		name = name[:colon]
	}
	start := len(r.scratch)
	for _, c := range name {
		r.scratch = append(r.scratch, lower(c))
	}
	return view(r.scratch[start:])
}

// validTarget refuses fragments and whatever is not visible ASCII.
func validTarget(target []byte) bool {
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// validEscapes reports whether every percent sign is followed by two hexadecimal digits.
func validEscapes(path []byte) bool {
	for i, c := range path {
		if c == '%' && (i+2 >= len(path) || hexDigit(path[i+1]) < 0 || hexDigit(path[i+2]) < 0) {
			return false
		}
	}
	return true
}
