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
// within the header's own value, never printed anew; a line in which nothing is left goes.
func (r *request) removeCookie(name string) {
	for i := range r.fields {
		if f := &r.fields[i]; equalFold(f.name, "Cookie") {
			f.value = withoutCookie(f.value, name)
			f.removed = f.removed || len(f.value) == 0
		}
	}
}

// withoutCookie removes the named cookie from line in place and returns what is left.
func withoutCookie(line []byte, name string) []byte {
	kept := make([]byte, 0, len(line)) // this is rare: the client is lying or misconfigured
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
	return line[:copy(line, kept)]
}
