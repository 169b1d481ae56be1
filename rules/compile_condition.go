package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// condition compiles one condition, or notes what is wrong with it and returns what must not be used.
func (c *compiler) condition(at string, from *Condition) condition {
	tests := from.tests()
	var kinds []string
	for _, k := range [...]struct {
		name string
		set  bool
	}{
		{"all", from.All != nil}, {"any", from.Any != nil}, {"not", from.Not != nil}, {"attribute", from.Attribute != ""},
		{"bucket", from.Bucket != nil}, {"method", from.Method != nil}, {"path", from.Path != nil},
		{"header", from.Header != nil}, {"source", from.Source != nil},
	} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	if from.Attribute == "" && len(tests) > 0 {
		c.fault(at, "name the attribute beside it, for example attribute: branch", "%s tests no attribute", listed(tests))
		return nil
	}
	switch len(kinds) {
	case 0:
		c.fault(at, "write an attribute with a test, bucket, method, path, header, source, all, any or not",
			"the condition says nothing")
		return nil
	case 1:
	default:
		c.fault(at, "join them by all or any", "the condition is of several kinds: %s", listed(kinds))
		return nil
	}
	switch kinds[0] {
	case "all":
		return newAllOf(c.conditions(at+".all", from.All))
	case "any":
		return anyOf(c.conditions(at+".any", from.Any))
	case "not":
		return notOf{c.condition(at+".not", from.Not)}
	case "attribute":
		return c.attributeTest(at, from, tests)
	case "bucket":
		return c.bucket(at+".bucket", from.Bucket)
	case "method":
		return c.method(at+".method", from.Method)
	case "path":
		return c.pathTest(at+".path", from.Path)
	case "header":
		return c.headerTest(at+".header", from.Header)
	}
	return c.sourceTest(at+".source", from.Source)
}

func (c *compiler) conditions(at string, from []Condition) []condition {
	if len(from) == 0 {
		c.fault(at, "write at least one condition, or leave the condition out to mean every request",
			"there is no condition to join")
	}
	parts := make([]condition, len(from))
	for i := range from {
		parts[i] = c.condition(element(at, i), &from[i])
	}
	return parts
}

// tests names the tests of an attribute that are written.
func (c *Condition) tests() []string {
	var tests []string
	for _, t := range [...]struct {
		name string
		set  bool
	}{
		{"is", c.Is != nil}, {"in", c.In != nil}, {"inList", c.InList != nil}, {"under", c.Under != nil},
		{"prefix", c.Prefix != nil}, {"matches", c.Matches != nil}, {"present", c.Present != nil},
	} {
		if t.set {
			tests = append(tests, t.name)
		}
	}
	return tests
}

func (c *compiler) attributeTest(at string, from *Condition, tests []string) condition {
	ref, known := c.attribute(at+".attribute", from.Attribute)
	switch len(tests) {
	case 0:
		c.fault(at, "write is, in, inList, under, prefix, matches or present", "attribute %q is not tested", from.Attribute)
		return nil
	case 1:
	default:
		c.fault(at, "keep one of them; join several tests by all or any", "attribute %q has several tests: %s",
			from.Attribute, listed(tests))
		return nil
	}
	at += "." + tests[0]
	if from.Matches != nil {
		return &attributeMatches{ref, c.pattern(at, *from.Matches)}
	}
	if !known {
		return nil
	}
	switch tests[0] {
	case "is":
		c.value(at, ref, *from.Is)
		return &attributeIs{ref, strings.Clone(*from.Is)}
	case "in":
		return c.inValues(at, ref, from.In)
	case "inList":
		return c.inList(at, ref, *from.InList)
	case "under":
		return c.under(at, ref, *from.Under)
	case "prefix":
		c.prefix(at, ref, *from.Prefix)
		return &attributePrefix{ref, *from.Prefix}
	}
	return &attributePresent{ref, *from.Present}
}

// value checks a value of an attribute as a person wrote it.
func (c *compiler) value(at string, ref attributeRef, value string) {
	attribute := c.in.Schema.Attribute(ref.index)
	trimmed := trimValue(value)
	if trimmed == "" {
		c.fault(at, "write a value; whether there is one at all is tested by present", "the value of %s is empty", ref.name)
		return
	}
	if trimmed != value {
		c.fault(at, fmt.Sprintf("write %q", trimmed), "value %q of %s has white space around it", value, ref.name)
		return
	}
	if fault := checkDeclared(value, attribute, c.isOuter(attribute.Name)); fault != nil {
		c.fault(at, fault.Remedy, "%s", fault.Message)
	}
}

// isOuter reports whether other attributes are declared within the named one.
func (c *compiler) isOuter(name string) bool {
	return slices.ContainsFunc(c.in.Schema.attributes, func(a Attribute) bool { return a.Within == name })
}

func (c *compiler) inValues(at string, ref attributeRef, values []string) condition {
	if len(values) == 0 {
		c.fault(at, "write at least one value; a named list may be empty", "the list of values is empty")
	}
	set := make(map[string]struct{}, len(values))
	for i, value := range values {
		c.value(element(at, i), ref, value)
		if _, doubled := set[value]; doubled {
			c.fault(element(at, i), "remove one of them", "value %q occurs twice", value)
		}
		set[value] = struct{}{}
	}
	return &attributeIn{ref, slices.Clone(values), set}
}

func (c *compiler) inList(at string, ref attributeRef, name string) condition {
	c.mentioned[name] = true
	list, found := c.in.Lists[name]
	if !found {
		remedy := "create it first"
		if known := sortedKeys(c.in.Lists); len(known) > 0 {
			remedy = "write " + listing(known) + ", or create it first"
		}
		c.fault(at, remedy, "there is no list %q", name)
		return nil
	}
	if list.Attribute() != ref.name {
		c.fault(at, fmt.Sprintf("test attribute %s, or use a list of %s", list.Attribute(), ref.name),
			"list %q holds values of %s, not of %s", name, list.Attribute(), ref.name)
	}
	if list.Len() == 0 {
		c.warn(at, "add values, unless nobody is to be meant", "list %q is empty", name)
	}
	return &attributeInList{ref, list, name}
}

func (c *compiler) under(at string, ref attributeRef, written string) condition {
	if ref.name != AttributeBranch {
		c.fault(at, "test attribute branch, or use is, in, inList or prefix",
			"under looks into the organisation of branches, which %s is not part of", ref.name)
		return nil
	}
	if c.in.Schema.Attribute(ref.index).Within != AttributeLegalEntity {
		c.fault(at, "declare branch within legalEntity in the process settings; legalEntity may consist of a default alone",
			"under needs to know the legal entity of a branch")
		return nil
	}
	known := len(c.problems)
	if c.value(at, ref, written); len(c.problems) > known {
		return nil
	}
	entity, code, _ := strings.Cut(written, "/")
	organisation, found := c.in.Organisations[entity]
	if !found {
		remedy := "upload it first"
		if known := sortedKeys(c.in.Organisations); len(known) > 0 {
			remedy = "there is one of " + listing(known) + "; upload the missing one first"
		}
		c.fault(at, remedy, "there is no organisation of legal entity %q", entity)
		return nil
	}
	lo, hi, found := organisation.Interval(code)
	if !found {
		c.fault(at, "correct the branch, or add it to the organisation", "the organisation of %q has no branch %q", entity,
			code)
		return nil
	}
	return &attributeUnder{attributeRef: ref, entity: entity, code: code, organisation: organisation, lo: lo, hi: hi}
}

// prefix checks the beginning of values; that of pairs must reach beyond the slash.
func (c *compiler) prefix(at string, ref attributeRef, prefix string) {
	attribute := c.in.Schema.Attribute(ref.index)
	switch {
	case prefix == "":
		c.fault(at, "write how values begin; whether there is one at all is tested by present",
			"the prefix of %s is empty", ref.name)
	case trimValue(prefix) != prefix:
		c.fault(at, fmt.Sprintf("write %q", trimValue(prefix)), "prefix %q of %s has white space around it", prefix, ref.name)
	case attribute.Within != "" && strings.Index(prefix, "/") < 1:
		c.fault(at, fmt.Sprintf("%s is declared within %s: begin with the whole of %s and a slash, for example 9001/00",
			ref.name, attribute.Within, attribute.Within), "prefix %q of %s is not the beginning of a pair", prefix, ref.name)
	}
}

func (c *compiler) pattern(at, written string) pattern {
	p, err := newPattern(written)
	if err != nil {
		c.fault(at, "write a regular expression in the syntax of RE2; it is matched against the whole value",
			"%q is not a regular expression: %s", written, reasonOf(err))
	}
	return p
}

// reasonOf leaves out the words with which package regexp begins.
func reasonOf(err error) string { return strings.TrimPrefix(err.Error(), "error parsing regexp: ") }

func (c *compiler) bucket(at string, from *Bucket) condition {
	if from.Below < 0 || from.Below > Buckets {
		c.fault(at+".below", "write a number from 0 to 10000, where 10000 is everybody", "%d is not a bound of buckets",
			from.Below)
	}
	return &bucketBelow{draw: c.draw(at, from.By, from.Salt), below: from.Below}
}

func (c *compiler) method(at string, from []string) condition {
	if len(from) == 0 {
		c.fault(at, "write at least one, for example GET", "the list of methods is empty")
	}
	first := firsts(from)
	for i, method := range from {
		place := oneOrManyElement(at, i, from)
		upper := strings.ToUpper(method)
		switch {
		case !isToken(method):
			c.fault(place, "write one as requests have it, for example GET", "%q is not a method", method)
		case upper != method:
			c.fault(place, "write "+strconv.Quote(upper), "method %q is not in upper case, as methods are", method)
		case first[method] < i:
			c.fault(place, "remove one of them", "method %q occurs twice", method)
		}
	}
	return &methodIn{slices.Clone(from)}
}

// oneOrManyElement returns the path of an element; one alone stands where its sequence would.
func oneOrManyElement(at string, i int, of []string) string {
	if len(of) == 1 {
		return at
	}
	return element(at, i)
}

func (c *compiler) pathTest(at string, from *PathTest) condition {
	if !c.oneTest(at, "path", from.Is != nil, from.Prefix != nil, from.Matches != nil) {
		return nil
	}
	switch {
	case from.Is != nil:
		c.path(at+".is", *from.Is, false)
		return &pathIs{*from.Is}
	case from.Prefix != nil:
		c.path(at+".prefix", *from.Prefix, true)
		return &pathUnder{*from.Prefix}
	}
	return &pathMatches{c.pattern(at+".matches", *from.Matches)}
}

// oneTest reports whether exactly one of the tests is written.
func (c *compiler) oneTest(at, what string, tests ...bool) bool {
	written := 0
	for _, t := range tests {
		if t {
			written++
		}
	}
	choice := "is, prefix or matches"
	if what == "header" {
		choice = "is, in, matches or present"
	}
	switch {
	case written == 0:
		c.fault(at, "write "+choice, "the %s is not tested", what)
	case written > 1:
		c.fault(at, "keep one of them; join several tests by all or any", "the %s has several tests", what)
	}
	return written == 1
}

func (c *compiler) headerTest(at string, from *HeaderTest) condition {
	if !isToken(from.Name) {
		c.fault(at+".name", "write the name of a header, for example X-Channel", "%q is not the name of a header", from.Name)
	}
	if !c.oneTest(at, "header", from.Is != nil, from.In != nil, from.Matches != nil, from.Present != nil) {
		return nil
	}
	ref := headerRef(from.Name)
	switch {
	case from.Is != nil:
		c.headerValue(at+".is", *from.Is)
		return &headerIn{ref, []string{*from.Is}}
	case from.In != nil:
		if len(from.In) == 0 {
			c.fault(at+".in", "write at least one value", "the list of values is empty")
		}
		first := firsts(from.In)
		for i, value := range from.In {
			c.headerValue(element(at+".in", i), value)
			if first[value] < i {
				c.fault(element(at+".in", i), "remove one of them", "value %q occurs twice", value)
			}
		}
		return &headerIn{ref, slices.Clone(from.In)}
	case from.Matches != nil:
		return &headerMatches{ref, c.pattern(at+".matches", *from.Matches)}
	}
	return &headerPresent{ref, *from.Present}
}

func (c *compiler) headerValue(at, value string) {
	switch trimmed := trimValue(value); {
	case trimmed == "":
		c.fault(at, "write a value; whether there is one at all is tested by present", "the value of the header is empty")
	case trimmed != value:
		c.fault(at, fmt.Sprintf("write %q", trimmed), "value %q of the header has white space around it", value)
	case strings.IndexFunc(value, unicode.IsControl) >= 0:
		c.fault(at, "remove it", "value %q of the header holds a control character", value)
	}
}

func (c *compiler) sourceTest(at string, from []string) condition {
	if len(from) == 0 {
		c.fault(at, "write at least one, for example 10.20.0.0/14", "the list of client addresses is empty")
	}
	to := &sourceIn{}
	seen := make(map[netip.Prefix]bool, len(from))
	for i, written := range from {
		place := oneOrManyElement(at, i, from)
		prefix, err := netip.ParsePrefix(written)
		if addr, addrErr := netip.ParseAddr(written); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
		}
		switch {
		case err != nil:
			c.fault(place, "write a CIDR or an address, for example 10.20.0.0/14", "%q is not a range of addresses", written)
		case prefix.Masked() != prefix:
			c.fault(place, fmt.Sprintf("write %q, or lengthen the prefix", prefix.Masked().String()),
				"range %q has bits set behind its prefix", written)
		case prefix.Addr().Is4In6():
			c.fault(place, "write it as IPv4", "range %q is IPv4 written as IPv6", written)
		case seen[prefix]:
			c.fault(place, "remove one of them", "range %q occurs twice", written)
		default:
			seen[prefix] = true
			to.prefixes = append(to.prefixes, prefix)
		}
	}
	return to
}

// counted prints a number of things.
func counted(n int, thing string) string {
	switch n {
	case 0:
		return "no " + thing + "s"
	case 1:
		return "one " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
