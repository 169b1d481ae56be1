package rules

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

func (c *allOf) explain(q *Query) ConditionExplanation {
	e := explainParts(c.parts, q)
	e.Holds = c.holds(q)
	if e.Text = "not all of these hold"; e.Holds {
		e.Text = "all of these hold"
	}
	return e
}

func (c anyOf) explain(q *Query) ConditionExplanation {
	e := explainParts(c, q)
	e.Holds = c.holds(q)
	if e.Text = "none of these holds"; e.Holds {
		e.Text = "at least one of these holds"
	}
	return e
}

func explainParts(parts []condition, q *Query) ConditionExplanation {
	e := ConditionExplanation{Parts: make([]ConditionExplanation, len(parts))}
	for i, part := range parts {
		e.Parts[i] = part.explain(q)
	}
	return e
}

func (c notOf) explain(q *Query) ConditionExplanation {
	e := ConditionExplanation{Holds: c.holds(q), Parts: []ConditionExplanation{c.inner.explain(q)}}
	if e.Text = "this holds, and it must not"; e.Holds {
		e.Text = "this does not hold, as it must not"
	}
	return e
}

// tell explains a test of something that has a value: yes and no are what follows the value where the test holds and
// where it does not.
func tell(name, value string, present, holds bool, yes, no string) ConditionExplanation {
	e := ConditionExplanation{Holds: holds}
	switch {
	case !present:
		e.Text = name + " is missing, so it " + no
	case holds:
		e.Text = name + " " + shown(value) + " " + yes
	default:
		e.Text = name + " " + shown(value) + " " + no
	}
	return e
}

// tellOneOf explains a test of whether something is one of some values.
func tellOneOf(name, value string, present, holds bool, values ...string) ConditionExplanation {
	if len(values) > 1 {
		return tell(name, value, present, holds, "is one of "+listing(values), "is not one of "+listing(values))
	}
	if holds {
		return ConditionExplanation{Holds: true, Text: name + " is " + shown(value)}
	}
	return tell(name, value, present, false, "", "is not "+shown(values[0]))
}

func (a attributeRef) tell(q *Query, holds bool, yes, no string) ConditionExplanation {
	value := a.of(q)
	return tell(a.name, value, value != "", holds, yes, no)
}

func (c *attributeIs) explain(q *Query) ConditionExplanation {
	value := c.of(q)
	return tellOneOf(c.name, value, value != "", c.holds(q), c.value)
}

func (c *attributeIn) explain(q *Query) ConditionExplanation {
	value := c.of(q)
	return tellOneOf(c.name, value, value != "", c.holds(q), c.values...)
}

func (c *attributeInList) explain(q *Query) ConditionExplanation {
	return c.tell(q, c.holds(q), "is in list "+c.name, "is not in list "+c.name)
}

func (c *attributeUnder) explain(q *Query) ConditionExplanation {
	ancestor := shown(c.entity + "/" + c.code)
	no := "is not under " + ancestor
	entity, code, _ := strings.Cut(c.of(q), "/")
	if entity == c.entity && !c.organisation.Contains(code) {
		no += ": the organisation of " + shown(entity) + " does not have it"
	}
	return c.tell(q, c.holds(q), "is under "+ancestor, no)
}

func (c *attributePrefix) explain(q *Query) ConditionExplanation {
	return c.tell(q, c.holds(q), "begins with "+shown(c.prefix), "does not begin with "+shown(c.prefix))
}

func (c *attributeMatches) explain(q *Query) ConditionExplanation {
	return c.tell(q, c.holds(q), "matches "+c.pattern.written, "does not match "+c.pattern.written)
}

func (c *attributePresent) explain(q *Query) ConditionExplanation {
	value := c.of(q)
	return tellPresence(c.name, value, value != "", c.want)
}

// tellPresence explains a test of whether something is there.
func tellPresence(name, value string, present, want bool) ConditionExplanation {
	e := ConditionExplanation{Holds: present == want}
	switch {
	case present && want:
		e.Text = name + " " + shown(value) + " is present"
	case present:
		e.Text = name + " " + shown(value) + " is present, and it must be missing"
	case want:
		e.Text = name + " is missing, and it must be present"
	default:
		e.Text = name + " is missing"
	}
	return e
}

func (c *bucketBelow) explain(q *Query) ConditionExplanation {
	bucket, by := c.draw.from(q)
	if by == nil {
		return ConditionExplanation{Text: names(c.draw.by) + " is missing, so there is no bucket"}
	}
	e := ConditionExplanation{Holds: c.holds(q)}
	verb := "is not"
	if e.Holds {
		verb = "is"
	}
	e.Text = fmt.Sprintf("bucket %d of %s %s %s below %d (salt %s)",
		bucket, by.name, shown(by.of(q)), verb, c.below, shown(c.draw.salt))
	return e
}

func (c *methodIn) explain(q *Query) ConditionExplanation {
	return tellOneOf("method", q.Method, q.Method != "", c.holds(q), c.methods...)
}

func tellPath(q *Query, holds bool, yes, no string) ConditionExplanation {
	return tell("path", q.Path, true, holds, yes, no)
}

func (c *pathIs) explain(q *Query) ConditionExplanation {
	return tellOneOf("path", q.Path, true, c.holds(q), c.path)
}

func (c *pathUnder) explain(q *Query) ConditionExplanation {
	return tellPath(q, c.holds(q), "is at or below "+shown(c.prefix), "is not at or below "+shown(c.prefix))
}

func (c *pathMatches) explain(q *Query) ConditionExplanation {
	return tellPath(q, c.holds(q), "matches "+c.pattern.written, "does not match "+c.pattern.written)
}

func (h headerRef) tell(q *Query, holds bool, yes, no string) ConditionExplanation {
	value, found := h.of(q)
	return tell("header "+string(h), value, found, holds, yes, no)
}

func (c *headerIn) explain(q *Query) ConditionExplanation {
	value, found := c.of(q)
	return tellOneOf("header "+string(c.headerRef), value, found, c.holds(q), c.values...)
}

func (c *headerMatches) explain(q *Query) ConditionExplanation {
	return c.tell(q, c.holds(q), "matches "+c.pattern.written, "does not match "+c.pattern.written)
}

func (c *headerPresent) explain(q *Query) ConditionExplanation {
	value, found := c.of(q)
	return tellPresence("header "+string(c.headerRef), value, found, c.want)
}

func (c *sourceIn) explain(q *Query) ConditionExplanation {
	prefixes := make([]string, len(c.prefixes))
	for i, p := range c.prefixes {
		prefixes[i] = p.String()
	}
	return tell("client address", q.Source.String(), q.Source.IsValid(), c.holds(q),
		"is in "+listing(prefixes), "is not in "+listing(prefixes))
}

// listing lists a few values and how many more there are.
func listing(values []string) string {
	const few = 5
	list := make([]string, 0, few)
	for _, v := range values[:min(few, len(values))] {
		list = append(list, shown(v))
	}
	if more := len(values) - few; more > 0 {
		return strings.Join(list, ", ") + fmt.Sprintf(" or %d more", more)
	}
	return either(list)
}

// either joins words by "or".
func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// shown prints a value in a sentence: bare where it is one word, otherwise in quotes, and not beyond 64 characters.
func shown(value string) string {
	const most = 64
	bare := value != ""
	for _, r := range value {
		bare = bare && r != ' ' && r != '"' && r != utf8.RuneError && unicode.IsPrint(r)
	}
	if utf8.RuneCountInString(value) > most {
		return fmt.Sprintf("%q…", string([]rune(value)[:most]))
	}
	if bare {
		return value
	}
	return fmt.Sprintf("%q", value)
}
