package proxy

import "bytes"

// readTarget finds host, path and query of the request. The path that decisions look at is fasthttp's normalised one;
// what is forwarded is the client's own target, so what could mean two things is refused.
func (r *request) readTarget() *refusal {
	h := &r.ctx.Request.Header
	switch string(h.Method()) {
	case "CONNECT", "TRACE":
		return &badRequest
	}
	r.target = h.RequestURI()
	r.host = h.Host()
	if len(r.target) == 0 || !validTarget(r.target) || bytes.IndexByte(r.host, '@') >= 0 || !r.framedOnce() {
		return &badRequest
	}
	if r.target[0] != '/' && string(r.target) != "*" {
		if no := r.readAbsolute(); no != nil {
			return no
		}
	}
	path, query := cut(r.target, '?')
	if !validEscapes(path) {
		return &badRequest
	}
	r.rawQuery = query
	r.query.Path = view(r.ctx.Path())
	if r.query.Path == "" || r.query.Path[0] != '/' {
		r.query.Path = "/"
	}
	r.query.Host = r.hostName()
	return nil
}

// framedOnce reports whether the body's length is told in one way only: by Content-Length, or by chunked as the one
// transfer coding. fasthttp would accept both together and the coding "identity"; the next hop might choose otherwise
// (RFC 9112, section 6.3).
func (r *request) framedOnce() bool {
	lengths, codings := 0, 0
	for i := range r.fields {
		switch f := &r.fields[i]; {
		case equalFold(f.name, "Content-Length"):
			lengths++
		case equalFold(f.name, "Transfer-Encoding"):
			codings++
			if !equalFold(f.value, "chunked") {
				return false
			}
		}
	}
	return lengths+codings <= 1
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
