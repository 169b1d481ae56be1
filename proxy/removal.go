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
		r.removeCookie(claim)
	}
}

// removeParameter takes every mention of the named parameter out of r.rawQuery and r.target. What stays keeps its
// bytes. Some pods divide parameters at semicolons too, so a mention behind one goes as well.
func (r *request) removeParameter(name string) {
	kept, found := withoutCrumbs(r.rawQuery, "&;", func(key []byte) bool { return r.parameterIs(key, name) })
	if !found {
		return
	}
	path, _ := cut(r.target, '?')
	target := append([]byte(nil), path...)
	if len(kept) > 0 {
		target = append(append(target, '?'), kept...)
	}
	r.target, r.rawQuery = target, kept
}

// withoutCrumbs returns line, whose crumbs key=value are divided by any of separators, without those whose key is one to
// remove, in memory of its own; found is false, and line itself is returned, if there is none. Crumbs that stay keep
// the separator before them.
func withoutCrumbs(line []byte, separators string, remove func(key []byte) bool) (kept []byte, found bool) {
	for rest := line; len(rest) > 0; {
		end := bytes.IndexAny(rest, separators)
		if end < 0 {
			end = len(rest)
		}
		if key, _, _ := bytes.Cut(rest[:end], []byte{'='}); remove(key) {
			found = true
			break
		}
		rest = rest[min(end+1, len(rest)):]
	}
	if !found {
		return line, false
	}
	separator := -1 // before the crumb, in line
	for separator < len(line) {
		end := bytes.IndexAny(line[separator+1:], separators)
		if end < 0 {
			end = len(line)
		} else {
			end += separator + 1
		}
		crumb := line[separator+1 : end]
		if key, _, _ := bytes.Cut(crumb, []byte{'='}); !remove(key) {
			if len(kept) > 0 {
				kept = append(kept, line[separator])
			}
			kept = append(kept, crumb...)
		}
		separator = end
	}
	return kept, true
}

// removeCookie takes every mention of the named cookie out of the request. The other cookies keep their bytes; a line in
// which nothing is left goes. Some pods divide cookies at commas too, so a mention behind one goes as well.
func (r *request) removeCookie(name string) {
	for i := range r.fields {
		f := &r.fields[i]
		if f.removed || !equalFold(f.name, "Cookie") {
			continue
		}
		kept, found := withoutCrumbs(f.value, ";,", func(key []byte) bool { return string(bytes.TrimSpace(key)) == name })
		if !found {
			continue
		}
		f.value = bytes.TrimLeft(kept, " ")
		f.removed = len(f.value) == 0
	}
}
