package rules

import (
	"slices"

	"tellergate/internal/problem"
)

// Names of attributes that the product itself gives a meaning.
const (
	AttributeBranch      = "branch"
	AttributeLegalEntity = "legalEntity"
)

// An Attribute is one declared attribute of identities.
type Attribute struct {
	Name string
	// Within names the attribute that this one is unique in, or is empty. The attribute then means the pair
	// outer/value everywhere. The outer attribute is never itself within another, and its values hold no slash.
	Within string
	// Claim: believed only from trusted sources. Otherwise the attribute is a handle, read from everybody.
	Claim bool
}

// A Schema is what the process settings declare and rule documents may refer to. It is immutable.
type Schema struct {
	attributes []Attribute
	index      map[string]int
	frontends  []string
	kubernetes bool
	namespaces []string // that pods.kubernetes may name; none: every one
}

// NewSchema copies its arguments. The attributes must have been validated by package config: names are unique, Within
// refers to a declared attribute that is not itself within another. kubernetes tells whether pods.kubernetes can be
// bound by this replica.
func NewSchema(attributes []Attribute, frontends []string, kubernetes bool) *Schema {
	s := &Schema{
		attributes: append([]Attribute(nil), attributes...),
		index:      make(map[string]int, len(attributes)),
		frontends:  append([]string(nil), frontends...),
		kubernetes: kubernetes,
	}
	for i, a := range s.attributes {
		s.index[a.Name] = i
	}
	return s
}

// InNamespaces returns a schema under which pods.kubernetes may name these namespaces only, or every one if there are
// none.
func (s *Schema) InNamespaces(names []string) *Schema {
	narrowed := *s
	narrowed.namespaces = append([]string(nil), names...)
	return &narrowed
}

// Len returns the number of attributes; Query.Attributes has this length.
func (s *Schema) Len() int { return len(s.attributes) }

// Attribute returns attribute i in the order of the settings.
func (s *Schema) Attribute(i int) Attribute { return s.attributes[i] }

// Index returns the position of the named attribute, or -1.
func (s *Schema) Index(name string) int {
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// Clean returns a value of the named attribute, which must be declared, as requests and lists have it: a pair where the
// attribute is declared within another. The fault has no place.
func (s *Schema) Clean(attribute, raw string) (string, *problem.Problem) {
	a := s.attributes[s.index[attribute]]
	value, fault := trimValue(raw), (*problem.Problem)(nil)
	if a.Within != "" {
		value, fault = cleanPair(value, a)
	}
	if fault == nil {
		outer := slices.ContainsFunc(s.attributes, func(inner Attribute) bool { return inner.Within == attribute })
		fault = checkDeclared(value, a, outer)
	}
	return value, fault
}
