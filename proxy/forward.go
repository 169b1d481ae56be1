package proxy

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"

	"github.com/valyala/fasthttp"
)

// hopByHop are the headers that end at this hop, RFC 9110 section 7.6.1. Expect ends here because the answer 100 has
// been given here; HTTP2-Settings belongs to an upgrade that is not offered.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Upgrade",
	"HTTP2-Settings", "Expect",
}

// endToEnd are headers that a Connection header cannot nominate away; identity headers are added from the settings.
var endToEnd = []string{
	"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Cookie", "Set-Cookie", "Date",
	"Authorization", "X-Request-Id", "Traceparent", "Tracestate", "Forwarded", "X-Real-Ip", "Cache-Control",
}

// maxRequestID bounds a client's request id, in bytes.
const maxRequestID = 128

// prepare turns the client's request into the one the pod gets, in place: headers of this hop and untrusted ones go,
// ours are set, the target is the client's own bytes.
func (r *request) prepare() {
	r.markRemoved()
	h := &r.ctx.Request.Header
	for i := range r.fields {
		if f := &r.fields[i]; f.removed && !equalFold(f.name, "Cookie") {
			h.DelBytes(f.name)
		}
	}
	h.ResetConnectionClose()
	h.SetNoDefaultContentType(true)
	h.SetProtocol("HTTP/1.1")
	// Setting the target also makes fasthttp forget the URI it parsed, which it would otherwise print instead.
	r.ctx.Request.SetRequestURIBytes(r.target)
	r.setForwarded(h)
	h.Del("X-Request-Id")
	h.SetBytesV("X-Request-Id", r.requestID)
}

// markRemoved decides which headers the pod does not get.
func (r *request) markRemoved() {
	for i := range r.fields {
		f := &r.fields[i]
		if f.removed {
			continue
		}
		if equalFold(f.name, "Connection") {
			r.removeNominated(f.value)
		}
		f.removed = r.endsHere(f.name)
	}
}

// endsHere reports whether a header is for this hop, ours alone, or of the X-Forwarded family from a peer that is not
// trusted with it. Spellings with underscores are nobody's.
func (r *request) endsHere(name []byte) bool {
	for _, hop := range hopByHop {
		if equalFold(name, hop) {
			return true
		}
	}
	switch lower(name[0]) {
	case 'x':
		underscored := bytes.IndexByte(name, '_') >= 0
		if len(name) > len("X-Tellergate-") && spelledLike(name[:len("X-Tellergate-")], "X-Tellergate-") {
			return true
		}
		forwarded := len(name) > len("X-Forwarded-") && spelledLike(name[:len("X-Forwarded-")], "X-Forwarded-") ||
			spelledLike(name, "X-Real-IP")
		if forwarded && (underscored || !r.forwardedTrusted) {
			return true
		}
	case 'f':
		if equalFold(name, "Forwarded") && !r.forwardedTrusted {
			return true
		}
	}
	return r.terms.testerHeader != "" && spelledLike(name, r.terms.testerHeader)
}

// removeNominated removes the headers that a Connection header names, but never those that identify, frame or trace the
// request: a client cannot use it to strip what we or a trusted proxy have said.
func (r *request) removeNominated(list []byte) {
	for len(list) > 0 {
		var name []byte
		name, list = token(list)
		if len(name) == 0 || keepsEndToEnd(name) || r.isIdentity(name) {
			continue
		}
		for i := range r.fields {
			if bytes.EqualFold(r.fields[i].name, name) {
				r.fields[i].removed = true
			}
		}
	}
}

func keepsEndToEnd(name []byte) bool {
	for _, kept := range endToEnd {
		if equalFold(name, kept) {
			return true
		}
	}
	return hasPrefixFold(name, "X-Forwarded-")
}

func (r *request) isIdentity(name []byte) bool {
	for _, kept := range r.terms.protected {
		if equalFold(name, kept) {
			return true
		}
	}
	return false
}

// setForwarded tells the pod who asked. From a trusted peer the chain is continued, else it begins here.
func (r *request) setForwarded(h *fasthttp.RequestHeader) {
	start := len(r.scratch)
	proto, host := false, false
	for i := range r.fields {
		f := &r.fields[i]
		switch {
		case f.removed:
		case equalFold(f.name, "X-Forwarded-For"):
			if len(f.value) > 0 {
				r.scratch = append(append(r.scratch, f.value...), ", "...)
			}
		case equalFold(f.name, "X-Forwarded-Proto"):
			proto = true
		case equalFold(f.name, "X-Forwarded-Host"):
			host = true
		}
	}
	if r.peer.IsValid() {
		r.scratch = r.peer.AppendTo(r.scratch)
	}
	h.Del("X-Forwarded-For") // Set would leave the second of two lines
	h.SetBytesV("X-Forwarded-For", r.scratch[start:])
	r.scratch = r.scratch[:start]
	if !proto {
		h.Set("X-Forwarded-Proto", "http")
	}
	if !host {
		h.SetBytesV("X-Forwarded-Host", r.host)
	}
}

// nameRequest keeps the client's X-Request-Id if it is well formed, else makes one.
func (r *request) nameRequest() {
	if f := r.field("X-Request-Id"); f != nil && validRequestID(f.value) {
		r.requestID = append(r.requestID[:0], f.value...)
		return
	}
	r.requestID = appendRequestID(r.requestID[:0])
}

// appendRequestID appends a fresh id: 32 hexadecimal digits. It has to be unique, not secret.
func appendRequestID(dst []byte) []byte {
	var random [16]byte
	high, low := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		random[i], random[8+i] = byte(high>>(8*i)), byte(low>>(8*i))
	}
	return hex.AppendEncode(dst, random[:])
}

func validRequestID(id []byte) bool {
	if len(id) == 0 || len(id) > maxRequestID {
		return false
	}
	for _, c := range id {
		letter := 'a' <= lower(c) && lower(c) <= 'z' || '0' <= c && c <= '9'
		if !letter && bytes.IndexByte([]byte("-_.:+/=@"), c) < 0 {
			return false
		}
	}
	return true
}

// cleanAnswer removes from an answer what belongs to the hop between us and the pod. The connection to the client has
// its own life.
func cleanAnswer(h *fasthttp.ResponseHeader) {
	for _, line := range h.PeekAll(fasthttp.HeaderConnection) {
		for len(line) > 0 {
			var name []byte
			name, line = token(line)
			if len(name) > 0 && !keepsEndToEnd(name) {
				h.DelBytes(name)
			}
		}
	}
	for _, hop := range hopByHop {
		h.Del(hop)
	}
	h.ResetConnectionClose()
}
