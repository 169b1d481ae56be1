package admin

import (
	"strings"

	"tellergate/rules"
)

// uses tells which rules, as service/rule in the order of the document, name a list or a legal entity's organisation.
type uses struct {
	lists, organisations map[string][]string
}

// usesOf walks every condition of a document.
func usesOf(d *rules.Document) uses {
	u := uses{lists: make(map[string][]string), organisations: make(map[string][]string)}
	for _, service := range d.Services {
		for _, rule := range service.Rules {
			if rule.When != nil {
				u.note(service.Name+"/"+rule.Name, rule.When)
			}
		}
	}
	return u
}

func (u uses) note(rule string, c *rules.Condition) {
	if c.InList != nil {
		noteUse(u.lists, *c.InList, rule)
	}
	if c.Under != nil {
		if entity, _, found := strings.Cut(*c.Under, "/"); found {
			noteUse(u.organisations, entity, rule)
		}
	}
	for i := range c.All {
		u.note(rule, &c.All[i])
	}
	for i := range c.Any {
		u.note(rule, &c.Any[i])
	}
	if c.Not != nil {
		u.note(rule, c.Not)
	}
}

// noteUse adds rule to what uses name, once: rules come one after the other.
func noteUse(by map[string][]string, name, rule string) {
	if rulesSoFar := by[name]; len(rulesSoFar) == 0 || rulesSoFar[len(rulesSoFar)-1] != rule {
		by[name] = append(rulesSoFar, rule)
	}
}

func (u uses) list(name string) []string { return append([]string{}, u.lists[name]...) }
func (u uses) organisation(entity string) []string {
	return append([]string{}, u.organisations[entity]...)
}
