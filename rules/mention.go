package rules

import (
	"fmt"
	"strings"
)

// A Mention is one test of a rule that a value of an attribute meets, or that names a list.
type Mention struct {
	Service  string `json:"service"`
	Rule     string `json:"rule"`
	Priority int    `json:"priority"`
	// Path leads from the rule to the test, for example when.all[1].inList.
	Path string `json:"path"`
	Test string `json:"test" doc:"what it says of the value, in words"`
	// Negated: the test stands inside a not (and not inside two).
	Negated bool `json:"negated,omitempty"`
}

// MentionsOf returns the tests that mention the value of an attribute: those by is, in, inList, under, prefix and
// matches that hold for it. d must compile with in. The value must be a pair where the attribute is declared within
// another.
func MentionsOf(d *Document, in Inputs, attribute, value string) []Mention {
	q := &Query{Attributes: make([]string, in.Schema.Len())}
	q.Attributes[in.Schema.Index(attribute)] = value
	c := &compiler{in: in, mentioned: make(map[string]bool)}
	return mentions(d, func(test *Condition) string {
		if test.Attribute != attribute || test.Present != nil {
			return ""
		}
		if compiled := c.condition("", test); compiled.holds(q) {
			return compiled.explain(q).Text
		}
		return ""
	})
}

// MentionsOfList returns the tests that name the list.
func MentionsOfList(d *Document, name string) []Mention {
	return mentions(d, func(test *Condition) string {
		if test.InList == nil || *test.InList != name {
			return ""
		}
		return test.Attribute + " is in list " + name
	})
}

// mentions returns the tests of attributes of which says tells something.
func mentions(d *Document, says func(test *Condition) string) []Mention {
	found := []Mention{}
	for i := range d.Services {
		service := &d.Services[i]
		for j := range service.Rules {
			rule := &service.Rules[j]
			eachTest(rule.When, "when", false, func(at string, negated bool, test *Condition) {
				if text := says(test); text != "" {
					found = append(found, Mention{Service: service.Name, Rule: rule.Name, Priority: rule.Priority,
						Path: at + "." + strings.Join(test.tests(), ""), Test: text, Negated: negated})
				}
			})
		}
	}
	return found
}

// eachTest calls do for each test of an attribute in the condition, which may be nil.
func eachTest(c *Condition, at string, negated bool, do func(at string, negated bool, test *Condition)) {
	if c == nil {
		return
	}
	for i := range c.All {
		eachTest(&c.All[i], fmt.Sprintf("%s.all[%d]", at, i), negated, do)
	}
	for i := range c.Any {
		eachTest(&c.Any[i], fmt.Sprintf("%s.any[%d]", at, i), negated, do)
	}
	eachTest(c.Not, at+".not", !negated, do)
	if c.Attribute != "" {
		do(at, negated, c)
	}
}
