package proxy

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strconv"

	"tellergate/proxy/http1"
)

// hopByHop are the headers that end at this hop (RFC 9110, section 7.6.1). Content-Length and Transfer-Encoding are
// written anew for each hop; Expect ends here because the answer 100 is ours to give; HTTP2-Settings belongs to an
// upgrade that is not passed on.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Upgrade",
	"HTTP2-Settings", "Expect", "Content-Length", "Transfer-Encoding",
}

func isHopByHop(name []byte) bool {
	switch lower(name[0]) {
	case 'c', 'k', 'p', 't', 'u', 'h', 'e':
		for _, hop := range hopByHop {
			if equalFold(name, hop) {
				return true
			}
		}
	}
	return false
}

// endToEnd are headers that a Connection header cannot nominate away; identity headers are added from the settings.
var endToEnd = []string{
	"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Cookie", "Set-Cookie", "Date",
	"Authorization", "X-Request-Id", "Traceparent", "Tracestate", "Forwarded", "X-Real-Ip", "Cache-Control",
}

// maxRequestID bounds a client's request id, in bytes.
const maxRequestID = 128

// prepare writes the head of the request that the pod gets: the client's own method, target and header lines in their
// order and spelling, without those of this hop and untrusted ones, then ours, then the framing of the body.
func (r *request) prepare() {
	r.markRemoved()
	if r.framing.length != 0 {
		r.upgrade = ""
	}
	b := append(append(r.head[:0], r.method...), ' ')
	b = append(append(b, r.target...), " HTTP/1.1\r\n"...)
	if r.minor == 0 && r.field("Host") == nil {
		b = appendField(b, "Host", r.host)
	}
	proto, host := false, false
	chain := 0
	for i := range r.fields {
		f := &r.fields[i]
		if f.removed {
			continue
		}
		switch lower(f.name[0]) {
		case 'x':
			switch {
			case equalFold(f.name, "X-Request-Id"):
				continue
			case equalFold(f.name, "X-Forwarded-For"):
				chain++
				continue
			case equalFold(f.name, "X-Forwarded-Proto"):
				proto = true
			case equalFold(f.name, "X-Forwarded-Host"):
				host = true
			}
		case 't':
			if equalFold(f.name, "Trailer") && !r.framing.chunked {
				continue
			}
		}
		b = append(append(append(append(b, f.name...), ": "...), f.value...), "\r\n"...)
	}
	b = r.appendForwardedFor(b, chain)
	if !proto {
		b = append(b, r.frontend.proto...)
	}
	if !host {
		b = appendField(b, "X-Forwarded-Host", r.host)
	}
	b = appendField(b, "X-Request-Id", r.requestID)
	switch {
	case r.framing.length == http1.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.framing.length > 0 || r.framing.told || r.framing.chunked:
		b = strconv.AppendInt(append(b, "Content-Length: "...), r.framing.length, 10)
		b = append(b, "\r\n"...)
	}
	if r.upgrade != "" {
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.upgrade...), "\r\n"...)
	}
	r.head = append(b, "\r\n"...)
}

func appendField(b []byte, name string, value []byte) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}

// appendForwardedFor tells the pod who asked, in one line. From a trusted peer the chain is continued, else it begins
// here.
func (r *request) appendForwardedFor(b []byte, chain int) []byte {
	b = append(b, "X-Forwarded-For: "...)
	for i := 0; chain > 0; i++ {
		if f := &r.fields[i]; !f.removed && equalFold(f.name, "X-Forwarded-For") {
			chain--
			if len(f.value) > 0 {
				b = append(append(b, f.value...), ", "...)
			}
		}
	}
	return append(r.peer.AppendTo(b), "\r\n"...)
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
	if isHopByHop(name) {
		return true
	}
	switch lower(name[0]) {
	case 'x':
		underscored := bytes.IndexByte(name, '_') >= 0
		if len(name) > len("X-Tellergate-") && spelledLike(name[:len("X-Tellergate-")], "X-Tellergate-") {
			return true
		}
		if spelledLike(name, movedHeader) {
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
		name, list = http1.CutElement(list)
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

// unmergeable are fields that mean nothing, or something else, in a trailer section (RFC 9110, section 6.5.1).
var unmergeable = []string{
	"Host", "Trailer", "Content-Encoding", "Content-Type", "Content-Range", "Content-Location", "Authorization",
	"Cookie", "Set-Cookie", "Cache-Control", "Pragma", "Expires", "Date", "Age", "Vary", "Location", "Retry-After",
	"Max-Forwards", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	"WWW-Authenticate", "X-Request-Id", "X-Session-End",
}

// appendTrailer appends the field lines of a trailer section that may pass. They are never merged into the header.
func (r *request) appendTrailer(dst, lines []byte) []byte {
	for len(lines) > 0 {
		name, value, rest, ok := http1.CutField(lines)
		if !ok {
			break
		}
		lines = rest
		if r.endsHere(name) || keepsEndToEnd(name) || r.claims(name) || slices.ContainsFunc(unmergeable,
			func(n string) bool { return equalFold(name, n) }) {
			continue
		}
		dst = append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
	}
	return dst
}

// claims reports whether name is that of a header in which identity is claimed, in any spelling.
func (r *request) claims(name []byte) bool {
	for _, protected := range r.terms.protected {
		if spelledLike(name, protected) {
			return true
		}
	}
	return false
}
