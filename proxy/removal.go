package proxy

import "bytes"

// removeClaims takes out of the request what its client may not say: claims in header, query or cookie unless the
// client is trusted, and, from everybody, other spellings of a claim's header, which the settings do not declare and a
// pod might still read.
func (r *request) removeClaims() {
	for i := range r.fields {
		f := &r.fields[i]
		for _, claim := range r.terms.claimHeaders {
			if spelledLike(f.name, claim) && (!r.trusted || !equalFold(f.name, claim)) {
				f.removed = true
			}
		}
	}
	if r.trusted {
		return
	}
	for _, claim := range r.terms.claimQueries {
		r.removeParameter(claim)
	}
	for _, claim := range r.terms.claimCookies {
		if _, mentions := r.cookie(claim); mentions > 0 {
			r.removeCookie(claim)
		}
	}
}

// removeParameter takes every mention of the named parameter out of r.rawQuery and r.target. What stays keeps its
// bytes.
func (r *request) removeParameter(name string) {
	if _, mentions := r.parameter(name); mentions == 0 {
		return
	}
	var kept []byte // this is rare: the client is lying or misconfigured
	for rest := r.rawQuery; len(rest) > 0; {
		var crumb []byte
		crumb, rest = cut(rest, '&')
		key, _, _ := bytes.Cut(crumb, []byte{'='})
		if r.parameterIs(key, name) {
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, '&')
		}
		kept = append(kept, crumb...)
	}
	path, _ := cut(r.target, '?')
	target := append([]byte(nil), path...)
	if len(kept) > 0 {
		target = append(append(target, '?'), kept...)
	}
	r.target, r.rawQuery = target, kept
}

// removeCookie takes every mention of the named cookie out of the request. The bytes of the other cookies are moved
// within the header's own value, never printed anew, because fasthttp's cookie parser drops what it does not like; the
// space that is gained is blank and in front, where it is no part of the value.
func (r *request) removeCookie(name string) {
	left := 0
	for _, line := range r.ctx.Request.Header.PeekAll("Cookie") {
		left += blankCookie(line, name)
	}
	for i := range r.fields {
		if equalFold(r.fields[i].name, "Cookie") {
			blankCookie(r.fields[i].value, name)
		}
	}
	if left == 0 {
		r.ctx.Request.Header.Del("Cookie")
	}
}

// blankCookie removes the named cookie from line in place and returns how many bytes are left.
func blankCookie(line []byte, name string) (left int) {
	kept := make([]byte, 0, len(line))
	for rest := line; len(rest) > 0; {
		var crumb []byte
		crumb, rest = cut(rest, ';')
		key, _, _ := bytes.Cut(crumb, []byte{'='})
		if string(bytes.TrimSpace(key)) == name {
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, ';')
		} else {
			crumb = bytes.TrimLeft(crumb, " ")
		}
		kept = append(kept, crumb...)
	}
	blank := len(line) - len(kept)
	for i := range blank {
		line[i] = ' '
	}
	copy(line[blank:], kept)
	return len(kept)
}
