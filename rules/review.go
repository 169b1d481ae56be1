package rules

import (
	"iter"
	"slices"
)

// Review finds what is legal but probably not meant. Every warning is true; not everything that deserves one is found.

func (c *compiler) reviewService(at string, s *CompiledService) {
	led := make([]bool, len(s.versions)) // versions that something leads to
	led[s.byDefault.index] = true
	if s.override != nil {
		led[s.overrideTo.index] = true
	}
	var everybody *compiledRule
	for i := range s.rules.ordered {
		rule := &s.rules.ordered[i]
		for _, v := range rule.then.versions() {
			led[v.index] = true
		}
		if everybody != nil {
			c.warn(rule.at, "give it a higher priority, or remove it",
				"rule %q is never reached: rule %q (priority %d) comes before it and takes every request",
				rule.name, everybody.name, everybody.priority)
			continue
		}
		if rule.when == nil {
			everybody = rule
			continue
		}
		if why := contradiction(rule.when); why != "" {
			c.warn(rule.at+".when", "correct the condition, or remove the rule", "rule %q can never match: %s", rule.name, why)
		}
	}
	for i := range s.versions {
		if led[i] {
			for _, v := range s.versions[i].chain {
				led[v.index] = true
			}
		}
	}
	for i := range s.versions {
		if v := &s.versions[i]; !led[i] && v.state == StateActive {
			c.warn(element(at+".versions", v.name), "let a rule lead there, drain it, or remove it",
				"nobody but testers gets version %q: no default, rule, fallback or override leads there", v.name)
		}
	}
}

func (o *outcome) versions() []*CompiledVersion {
	versions := []*CompiledVersion{o.stable}
	if o.split != nil {
		versions = append(versions, o.split.second)
		if o.split.third != nil {
			versions = append(versions, o.split.third)
		}
	}
	return versions
}

// withoutServices warns of a document that leaves nothing to serve. Before the first document there is none to warn of.
func (c *compiler) withoutServices(d *Document) {
	if d.source != nil && len(d.Services) == 0 {
		c.warn("services", "declare the services, or restore an earlier revision",
			"the document has no service: every request is answered 404")
	}
}

func (c *compiler) unmentionedLists() {
	for _, name := range sortedKeys(c.in.Lists) {
		if !c.mentioned[name] {
			c.warn(element("lists", name), "mention it in a rule, or delete it", "no rule mentions list %q", name)
		}
	}
}

// contradiction returns why a condition can never hold, empty if that is not known.
func contradiction(c condition) string {
	switch c := c.(type) {
	case *allOf:
		parts := flattened(c)
		for _, part := range parts {
			if why := contradiction(part); why != "" {
				return why
			}
		}
		return conflict(parts)
	case anyOf:
		why := ""
		for _, part := range c {
			if why = contradiction(part); why == "" {
				return ""
			}
		}
		return why
	case *attributeInList:
		if c.list.Len() == 0 {
			return "list " + c.name + " is empty"
		}
	case *bucketBelow:
		if c.below == 0 {
			return "no bucket is below 0"
		}
	}
	return ""
}

// flattened returns the parts of an all with those of the alls inside it.
func flattened(all *allOf) []condition {
	var parts []condition
	for _, part := range all.parts {
		if inner, ok := part.(*allOf); ok {
			parts = append(parts, flattened(inner)...)
			continue
		}
		parts = append(parts, part)
	}
	return parts
}

// A topic is the one thing that a condition looks at: an attribute, the method or the path. The zero value is none.
type topic struct {
	kind  topicKind
	index int // of the attribute
	name  string
}

type topicKind uint8

const (
	manyTopics topicKind = iota
	attributeTopic
	methodTopic
	pathTopic
)

// conflict returns why the parts of an all cannot hold together, empty if that is not known. Where one part leaves its
// topic only a few values, the others that look at the same topic are tried on each of them.
func conflict(parts []condition) string {
	byTopic := make(map[topic][]condition)
	var order []topic
	for _, part := range parts {
		about := topicOf(part)
		if byTopic[about] == nil {
			order = append(order, about)
		}
		byTopic[about] = append(byTopic[about], part)
	}
	for _, about := range order {
		if about.kind != manyTopics && !reconcilable(about, byTopic[about]) {
			return "its tests of " + about.name + " contradict each other"
		}
	}
	return ""
}

// maxTried is how many values are tried on how many conditions before a conflict counts as not found.
const maxTried = 100_000

// reconcilable reports whether all conditions, which look at one topic, can hold for one value, or whether that is not
// known.
func reconcilable(about topic, conditions []condition) bool {
	var values iter.Seq[string]
	fewest := maxTried / len(conditions)
	for _, c := range conditions {
		if these, n := possible(c); these != nil && n <= fewest {
			values, fewest = these, n
		}
	}
	if values == nil {
		return true
	}
	for value := range values {
		q := about.query(value)
		if !slices.ContainsFunc(conditions, func(c condition) bool { return !c.holds(q) }) {
			return true
		}
	}
	return false
}

// query returns a request of which only the topic is known.
func (s topic) query(value string) *Query {
	switch s.kind {
	case methodTopic:
		return &Query{Method: value}
	case pathTopic:
		return &Query{Path: value}
	}
	q := &Query{Attributes: make([]string, s.index+1)}
	q.Attributes[s.index] = value
	return q
}

// topicOf returns the one thing that c looks at, or none if there are several or it is of another kind.
func topicOf(c condition) topic {
	switch c := c.(type) {
	case *allOf:
		return commonTopic(c.parts)
	case anyOf:
		return commonTopic(c)
	case notOf:
		return topicOf(c.inner)
	case *attributeIs:
		return c.topic()
	case *attributeIn:
		return c.topic()
	case *attributeInList:
		return c.topic()
	case *attributeUnder:
		return c.topic()
	case *attributePrefix:
		return c.topic()
	case *attributeMatches:
		return c.topic()
	case *attributePresent:
		return c.topic()
	case *methodIn:
		return topic{kind: methodTopic, name: "the method"}
	case *pathIs, *pathUnder, *pathMatches:
		return topic{kind: pathTopic, name: "the path"}
	}
	return topic{}
}

func (a attributeRef) topic() topic {
	return topic{kind: attributeTopic, index: a.index, name: a.name}
}

func commonTopic(parts []condition) topic {
	common := topicOf(parts[0])
	for _, part := range parts[1:] {
		if topicOf(part) != common {
			return topic{}
		}
	}
	return common
}

// possible returns the only values of c's topic with which c can hold, and their number; "" stands for a missing
// attribute. It returns nil if there is no end of them.
func possible(c condition) (values iter.Seq[string], n int) {
	switch c := c.(type) {
	case *attributeIs:
		return slices.Values([]string{c.value}), 1
	case *attributeIn:
		return slices.Values(c.values), len(c.values)
	case *attributeInList:
		return c.list.All(), c.list.Len()
	case *attributePresent:
		if !c.want {
			return slices.Values([]string{""}), 1
		}
	case notOf:
		if present, ok := c.inner.(*attributePresent); ok && present.want {
			return slices.Values([]string{""}), 1
		}
	case *methodIn:
		return slices.Values(c.methods), len(c.methods)
	case *pathIs:
		return slices.Values([]string{c.path}), 1
	}
	return nil, 0
}
