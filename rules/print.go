package rules

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Print writes the document as canonical YAML: fields in the order of the types, defaults left out, every text that
// could be read as something else in quotes. Parsing it gives an equivalent document, which prints the same.
func (d *Document) Print() []byte {
	root := spread()
	root.add("services", sequence(d.Services, true, Service.node))
	var p printer
	p.mapping(root, 0)
	return []byte(p.String())
}

// A node is a mapping, a sequence or a scalar on its way to YAML.
type node struct {
	scalar string   // what is written, quoted already; the node is a scalar if both others are nil
	keys   []string // of a mapping, in order
	values []*node  // of a mapping or a sequence
	block  bool     // one line each, even if all of it would fit on one
}

func spread() *node  { return &node{keys: []string{}, block: true} }
func compact() *node { return &node{keys: []string{}} }

// add appends a field; a nil value is left out.
func (n *node) add(key string, value *node) {
	if value != nil {
		n.keys = append(n.keys, key)
		n.values = append(n.values, value)
	}
}

func (n *node) isMapping() bool  { return n.keys != nil }
func (n *node) isSequence() bool { return n.keys == nil && n.values != nil }

func (n *node) isEmpty() bool { return (n.isMapping() || n.isSequence()) && len(n.values) == 0 }

func sequence[T any](elements []T, block bool, of func(T) *node) *node {
	n := &node{values: make([]*node, len(elements)), block: block}
	for i, e := range elements {
		n.values[i] = of(e)
	}
	return n
}

// some is sequence, or nothing where there is no sequence.
func some[T any](elements []T, block bool, of func(T) *node) *node {
	if elements == nil {
		return nil
	}
	return sequence(elements, block, of)
}

func literal(text string) *node { return &node{scalar: text} }
func integer(n int) *node       { return literal(strconv.Itoa(n)) }
func text(s string) *node       { return literal(quoted(s)) }
func texts(s []string) *node    { return some(s, false, text) }

// textUnless leaves out what is the default.
func textUnless(s string, defaults ...string) *node {
	if slices.Contains(defaults, s) {
		return nil
	}
	return text(s)
}

func textsUnlessEmpty(s []string) *node {
	if len(s) == 0 {
		return nil
	}
	return texts(s)
}

func optional(s *string) *node {
	if s == nil {
		return nil
	}
	return text(*s)
}

func optionalBool(b *bool) *node {
	if b == nil {
		return nil
	}
	return literal(strconv.FormatBool(*b))
}

func oneOrMany(s []string) *node {
	if len(s) == 1 {
		return text(s[0])
	}
	return texts(s)
}

func duration(d Duration, byDefault time.Duration) *node {
	if d == 0 || time.Duration(d) == byDefault {
		return nil
	}
	return literal(d.String())
}

func (s Service) node() *node {
	n := spread()
	n.add("name", text(s.Name))
	match := compact()
	match.add("frontends", textsUnlessEmpty(s.Match.Frontends))
	match.add("hosts", textsUnlessEmpty(s.Match.Hosts))
	match.add("pathPrefix", textUnless(s.Match.PathPrefix, "", "/"))
	if !match.isEmpty() {
		n.add("match", match)
	}
	n.add("default", textUnless(s.Default, ""))
	n.add("versions", some(s.Versions, true, Version.node))
	if s.Sessions != nil {
		n.add("sessions", s.Sessions.node())
	}
	n.add("serialHeader", textUnless(s.SerialHeader, ""))
	if len(s.Rules) > 0 {
		n.add("rules", sequence(s.Rules, true, Rule.node))
	}
	return n
}

func (v Version) node() *node {
	n := compact()
	n.add("name", text(v.Name))
	pods := compact()
	pods.add("static", texts(v.Pods.Static))
	if k := v.Pods.Kubernetes; k != nil {
		kubernetes := compact()
		kubernetes.add("namespace", text(k.Namespace))
		kubernetes.add("service", text(k.Service))
		kubernetes.add("port", text(k.Port))
		if len(k.PodLabels) > 0 {
			labels := compact()
			for _, key := range sortedKeys(k.PodLabels) {
				labels.add(quoted(key), text(k.PodLabels[key]))
			}
			kubernetes.add("podLabels", labels)
		}
		pods.add("kubernetes", kubernetes)
	}
	n.add("pods", pods)
	n.add("state", textUnless(v.State, "", StateActive))
	n.add("fallback", textUnless(v.Fallback, ""))
	return n
}

func (s *Sessions) node() *node {
	n := compact()
	n.add("key", texts(s.Key))
	n.add("subject", textUnless(s.Subject, ""))
	n.add("idle", duration(s.Idle, DefaultIdle))
	n.add("absolute", duration(s.Absolute, DefaultAbsolute))
	if s.FallbackPinned {
		n.add("fallbackPinned", literal("true"))
	}
	if s.End != nil && len(s.End.Paths) > 0 {
		end := compact()
		end.add("paths", texts(s.End.Paths))
		n.add("end", end)
	}
	return n
}

func (r Rule) node() *node {
	n := spread()
	n.add("name", text(r.Name))
	n.add("priority", integer(r.Priority))
	if r.When != nil {
		n.add("when", r.When.node())
	}
	then := compact()
	then.add("version", textUnless(r.Then.Version, ""))
	then.add("split", some(r.Then.Split, false, Share.node))
	then.add("by", texts(r.Then.By))
	then.add("salt", textUnless(r.Then.Salt, ""))
	n.add("then", then)
	return n
}

func (s Share) node() *node {
	n := compact()
	n.add("version", text(s.Version))
	n.add("weight", integer(s.Weight))
	return n
}

func (c Condition) node() *node {
	n := compact()
	n.block = len(c.All) > 0 || len(c.Any) > 0
	n.add("all", some(c.All, true, Condition.node))
	n.add("any", some(c.Any, true, Condition.node))
	if c.Not != nil {
		not := c.Not.node()
		n.block = n.block || not.block
		n.add("not", not)
	}
	n.add("attribute", textUnless(c.Attribute, ""))
	n.add("is", optional(c.Is))
	n.add("in", texts(c.In))
	n.add("inList", optional(c.InList))
	n.add("under", optional(c.Under))
	n.add("prefix", optional(c.Prefix))
	n.add("matches", optional(c.Matches))
	n.add("present", optionalBool(c.Present))
	if c.Bucket != nil {
		bucket := compact()
		bucket.add("by", texts(c.Bucket.By))
		bucket.add("below", integer(c.Bucket.Below))
		bucket.add("salt", text(c.Bucket.Salt))
		n.add("bucket", bucket)
	}
	n.add("method", oneOrMany(c.Method))
	if c.Path != nil {
		path := compact()
		path.add("is", optional(c.Path.Is))
		path.add("prefix", optional(c.Path.Prefix))
		path.add("matches", optional(c.Path.Matches))
		n.add("path", path)
	}
	if c.Header != nil {
		header := compact()
		header.add("name", text(c.Header.Name))
		header.add("is", optional(c.Header.Is))
		header.add("in", texts(c.Header.In))
		header.add("matches", optional(c.Header.Matches))
		header.add("present", optionalBool(c.Header.Present))
		n.add("header", header)
	}
	n.add("source", oneOrMany(c.Source))
	return n
}

// A printer writes nodes. What fits into a line of lineWidth columns and need not be spread is written on one.
type printer struct{ strings.Builder }

const lineWidth = 110

func (p *printer) mapping(n *node, indent int) {
	for i, key := range n.keys {
		if i > 0 {
			p.indent(indent)
		}
		p.WriteString(key)
		p.WriteByte(':')
		p.value(n.values[i], indent, len(key)+2)
	}
}

// value writes what follows a key that ends at column indent+used.
func (p *printer) value(n *node, indent, used int) {
	switch {
	case n.onOneLine(lineWidth - indent - used):
		p.WriteByte(' ')
		n.flow(&p.Builder)
		p.WriteByte('\n')
	case n.isMapping():
		p.WriteByte('\n')
		p.indent(indent + 2)
		p.mapping(n, indent+2)
	default:
		p.WriteByte('\n')
		for _, element := range n.values {
			p.indent(indent + 2)
			p.WriteByte('-')
			p.element(element, indent+4)
		}
	}
}

// element writes what follows a dash at column indent-2.
func (p *printer) element(n *node, indent int) {
	if !n.onOneLine(lineWidth-indent) && n.isMapping() {
		p.WriteByte(' ')
		p.mapping(n, indent)
		return
	}
	p.WriteByte(' ')
	n.flow(&p.Builder)
	p.WriteByte('\n')
}

func (p *printer) indent(columns int) {
	for range columns {
		p.WriteByte(' ')
	}
}

// onOneLine reports whether the node is to be written as one line; scalars and empty nodes always are.
func (n *node) onOneLine(columns int) bool {
	if !n.isMapping() && !n.isSequence() || n.isEmpty() {
		return true
	}
	if n.block {
		return false
	}
	var b strings.Builder
	n.flow(&b)
	return utf8.RuneCountInString(b.String()) <= columns
}

func (n *node) flow(b *strings.Builder) {
	open, end := "[", "]"
	switch {
	case n.isMapping():
		open, end = "{", "}"
	case !n.isSequence():
		b.WriteString(n.scalar)
		return
	}
	b.WriteString(open)
	for i, value := range n.values {
		if i > 0 {
			b.WriteString(", ")
		}
		if n.isMapping() {
			b.WriteString(n.keys[i])
			b.WriteString(": ")
		}
		value.flow(b)
	}
	b.WriteString(end)
}

// quoted returns s as a YAML scalar that is read as the text s and nothing else.
func quoted(s string) string {
	if isPlainScalar(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			b.WriteString(`\u` + hexadecimal(r, 4))
		default:
			b.WriteString(`\U` + hexadecimal(r, 8))
		}
	}
	b.WriteByte('"')
	return b.String()
}

func hexadecimal(r rune, digits int) string {
	text := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", digits-len(text)) + text
}

// isPlainScalar reports whether s needs no quotes: a word that no dialect of YAML reads as a number, truth or null.
func isPlainScalar(s string) bool {
	for i, r := range s {
		switch {
		case unicode.IsLetter(r), r == '/':
		case i > 0 && (unicode.IsDigit(r) || strings.ContainsRune("-_.", r)):
		default:
			return false
		}
	}
	switch strings.ToLower(s) {
	case "", "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity":
		return false
	}
	return true
}
