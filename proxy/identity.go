package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"tellergate/config"
)

// maxValue bounds an attribute's value, in bytes.
const maxValue = 256

// identify fills r.query.Attributes: each attribute from the first of its sources that answers, pairs joined in
// r.scratch. Claims presented by a client that is not trusted are taken out of the request first, so that neither
// rules nor the pod see them. It allocates nothing once r's buffers have grown.
func (r *request) identify() *refusal {
	r.trusted = r.client.IsValid() && r.front.identity.Contains(r.client)
	r.removeClaims()
	for i := range r.terms.attributes {
		value, no := r.attribute(&r.terms.attributes[i])
		if no != nil {
			return no
		}
		r.plain[i] = value
	}
	for i := range r.terms.attributes {
		a := &r.terms.attributes[i]
		switch {
		case a.within < 0 || r.plain[i] == "":
			r.query.Attributes[i] = r.plain[i]
		case r.plain[a.within] == "":
			r.query.Attributes[i] = ""
		default:
			r.query.Attributes[i] = r.pair(r.plain[a.within], r.plain[i])
		}
	}
	return nil
}

// pair joins an outer value and a value in the scratch buffer. Where the buffer has to grow, earlier pairs keep the old
// one alive.
func (r *request) pair(outer, value string) string {
	start := len(r.scratch)
	r.scratch = append(r.scratch, outer...)
	r.scratch = append(r.scratch, '/')
	r.scratch = append(r.scratch, value...)
	return view(r.scratch[start:])
}

// attribute returns the value of one attribute, not yet paired, or "" if it is missing: that of the first source in the
// settings that answers. A trusted client that makes a claim in two places must say the same in both; where it says
// otherwise than its subnet does, that is counted and logged, and the order of the settings decides.
func (r *request) attribute(a *attributeTerms) (string, *refusal) {
	found, said, mapped := "", "", ""
	for i := range a.sources {
		s := &a.sources[i]
		if s.kind == config.SourceSubnets {
			if r.client.IsValid() {
				mapped, _ = s.subnets.Lookup(r.client)
			}
			if found == "" {
				found = mapped
			}
			continue
		}
		if a.claim && !r.trusted || !a.claim && found != "" {
			continue
		}
		value, no := r.presented(a, s)
		if no != nil {
			return "", no
		}
		switch {
		case value == "" || value == said:
		case said != "":
			return "", &claimDuplicated
		default:
			said = value
		}
		if found == "" {
			found = value
		}
	}
	if said != "" && mapped != "" && said != mapped {
		r.p.metrics.disagreements[a.name].Inc()
		r.logDisagreement(a, said, mapped)
	}
	if found == "" {
		found = a.fallback
	}
	return found, nil
}

// presented returns what the client says in one source. Two mentions or a malformed value of a claim are refused; of a
// handle the first mention counts and a malformed one is a missing one.
func (r *request) presented(a *attributeTerms, s *sourceTerms) (string, *refusal) {
	var raw []byte
	var mentions int
	switch s.kind {
	case config.SourceHeader:
		for i := range r.fields {
			if f := &r.fields[i]; !f.removed && equalFold(f.name, s.name) {
				if mentions++; mentions == 1 {
					raw = f.value
				}
			}
		}
	case config.SourceCookie:
		raw, mentions = r.cookie(s.name)
	case config.SourceQuery:
		raw, mentions = r.parameter(s.name)
	}
	if mentions > 1 && a.claim {
		return "", &claimDuplicated
	}
	if !a.claim {
		value, _ := r.handleValue(raw)
		return value, nil
	}
	value, ok := cleanValue(raw)
	if ok && a.outer && bytes.IndexByte(value, '/') >= 0 {
		ok = false
	}
	if !ok {
		return "", &claimMalformed
	}
	return view(value), nil
}

// handleValue returns the value of a handle, or reports that it has none. A long one, such as a signed token in a cookie, is
// represented by its SHA-256 in hexadecimal, so that it identifies the session all the same at a bounded cost.
func (r *request) handleValue(raw []byte) (string, bool) {
	if raw = bytes.TrimSpace(raw); len(raw) > maxValue {
		sum := sha256.Sum256(raw)
		start := len(r.scratch)
		r.scratch = hex.AppendEncode(r.scratch, sum[:])
		return view(r.scratch[start:]), true
	}
	value, ok := cleanValue(raw)
	return view(value), ok
}

// cleanValue trims white space and byte order marks and reports whether what is left is a value: valid UTF-8 without
// control characters, not too long. An empty value is a missing one.
func cleanValue(raw []byte) (value []byte, ok bool) {
	ascii := true
	for _, c := range raw {
		if c >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		value = bytes.TrimSpace(raw)
		for _, c := range value {
			if c < ' ' || c == 0x7f {
				return nil, false
			}
		}
		if len(value) > maxValue {
			return nil, false
		}
		return value, true
	}
	value = bytes.TrimFunc(raw, func(c rune) bool { return unicode.IsSpace(c) || c == '\ufeff' })
	if len(value) > maxValue || !utf8.Valid(value) {
		return nil, false
	}
	for rest := value; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		if unicode.IsControl(c) {
			return nil, false
		}
		rest = rest[size:]
	}
	return value, true
}

// cookie returns the first value of the named cookie and how often it occurs.
func (r *request) cookie(name string) (value []byte, mentions int) {
	for i := range r.fields {
		if !equalFold(r.fields[i].name, "Cookie") {
			continue
		}
		for rest := r.fields[i].value; len(rest) > 0; {
			var crumb []byte
			crumb, rest = cut(rest, ';')
			key, v, _ := bytes.Cut(crumb, []byte{'='})
			if string(bytes.TrimSpace(key)) == name {
				if mentions++; mentions == 1 {
					value = bytes.TrimSpace(v)
				}
			}
		}
	}
	return value, mentions
}

// parameter returns the first decoded value of the named query parameter and how often it occurs. A value with a bad
// escape is returned as one that no attribute accepts.
func (r *request) parameter(name string) (value []byte, mentions int) {
	for rest := r.rawQuery; len(rest) > 0; {
		var crumb []byte
		crumb, rest = cut(rest, '&')
		key, v, _ := bytes.Cut(crumb, []byte{'='})
		if !r.parameterIs(key, name) {
			continue
		}
		if mentions++; mentions == 1 {
			value = r.unescape(v)
		}
	}
	return value, mentions
}

// parameterIs compares a parameter's name, which may be escaped.
func (r *request) parameterIs(key []byte, name string) bool {
	if bytes.IndexByte(key, '%') < 0 && bytes.IndexByte(key, '+') < 0 {
		return string(key) == name
	}
	kept := len(r.scratch)
	same := string(r.unescape(key)) == name
	r.scratch = r.scratch[:kept]
	return same
}

// unescape decodes percent escapes and plus signs into the scratch buffer. A bad escape becomes a NUL, which is in no
// valid value.
func (r *request) unescape(v []byte) []byte {
	if bytes.IndexByte(v, '%') < 0 && bytes.IndexByte(v, '+') < 0 {
		return v
	}
	start := len(r.scratch)
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			c = 0
			if i+2 < len(v) {
				high, low := hexDigit(v[i+1]), hexDigit(v[i+2])
				if high >= 0 && low >= 0 {
					c = byte(high<<4 | low)
					i += 2
				}
			}
		}
		r.scratch = append(r.scratch, c)
	}
	return r.scratch[start:]
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// cut splits at the first separator.
func cut(b []byte, separator byte) (first, rest []byte) {
	if i := bytes.IndexByte(b, separator); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// logDisagreement tells, at most once a second, that a client's claim and its subnet differ: a terminal that moved, or
// a table that is out of date. The values themselves are in the access log, masked as the settings say.
func (r *request) logDisagreement(a *attributeTerms, claimed, subnet string) {
	suppressed, ok := r.p.disagreed.allow(r.started)
	if !ok {
		return
	}
	if a.masked {
		claimed, subnet = string(appendMasked(nil, claimed)), string(appendMasked(nil, subnet))
	}
	r.p.log.Warn("a claimed attribute differs from what the client's subnet says; the first source in the settings was taken",
		zap.String("attribute", a.name), zap.String("claimed", strings.Clone(claimed)),
		zap.String("subnet", subnet), zap.Stringer("client", r.client), zap.Uint64("notLogged", suppressed))
}
