package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"tellergate/admin/api"
	"tellergate/rules"
)

// Marks are the signs beside rules and conditions.
type marks struct{ holds, fails, arrow string }

func marksFor(ascii bool) marks {
	if ascii {
		return marks{"+", "-", "->"}
	}
	return marks{"✓", "✗", "→"}
}

func (m marks) of(holds bool) string {
	if holds {
		return m.holds
	}
	return m.fails
}

// writeExplanation prints a decision for a person: first what was decided, then how it came to that, then every rule.
func writeExplanation(w io.Writer, e *api.ExplainResult, m marks) {
	fmt.Fprintln(w, decision(e, m))
	identity := make([]string, 0, len(e.Attributes))
	for _, name := range slices.Sorted(maps.Keys(e.Attributes)) {
		identity = append(identity, name+"="+oneLine(e.Attributes[name]))
	}
	if len(identity) == 0 {
		identity = []string{"none"}
	}
	fmt.Fprintf(w, "\nidentity   %s\n", strings.Join(identity, " "))
	if e.Pin != nil {
		fmt.Fprintf(w, "pin        %s\n", pinText(e.Pin))
	}
	for i, endpoint := range e.Endpoints {
		label := "endpoints"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "%-9s  %s\n", label, endpointText(&endpoint))
	}
	if e.Revision > 0 {
		draft := ""
		if e.Draft {
			draft = ", with the draft instead of its rules"
		}
		fmt.Fprintf(w, "revision   %d%s\n", e.Revision, draft)
	}
	fmt.Fprintln(w, "\nsteps")
	for i, step := range e.Steps {
		fmt.Fprintf(w, "%3d. %s\n", i+1, oneLine(step))
	}
	fmt.Fprintln(w, "\nrules, from the highest priority")
	if len(e.Rules)+e.Omitted == 0 {
		fmt.Fprintln(w, "  none")
	}
	for i := range e.Rules {
		rule := &e.Rules[i]
		decided := ""
		if rule.Decided {
			decided = "  decided"
		}
		fmt.Fprintf(w, "  %s %s (priority %d)%s\n", m.of(rule.Matched), rule.Name, rule.Priority, decided)
		writeCondition(w, &rule.Conditions, m, 2)
	}
	if e.Omitted > 0 {
		fmt.Fprintf(w, "  and %s that need a value, a list or a branch that the request does not have\n", count(e.Omitted, "rule"))
	}
}

// decision is the first line: who gets what, and why.
func decision(e *api.ExplainResult, m marks) string {
	line := e.Service + " " + m.arrow + " "
	if e.Refusal != "" {
		line += "refused (" + e.Refusal + ")"
		if e.Wanted != "" {
			line += ", wanted " + e.Wanted
		}
	} else {
		line += e.Version
	}
	switch e.Reason {
	case rules.ByRule.String():
		line += " because rule " + e.Rule
		for _, rule := range e.Rules {
			if rule.Name == e.Rule {
				line += fmt.Sprintf(" (priority %d)", rule.Priority)
			}
		}
		line += " matched"
		if e.Bucket != nil {
			line += fmt.Sprintf(" and drew bucket %d", *e.Bucket)
		}
	case rules.ByPin.String():
		line += " because the session is pinned to " + e.Wanted
	case rules.ByOverride.String():
		line += " because an override sends everybody to " + e.Wanted
	case rules.ByTester.String():
		line += " because a tester asked for it"
	default:
		line += " by default: no rule matched"
	}
	if e.Refusal == "" && e.Wanted != "" && e.Wanted != e.Version {
		line += fmt.Sprintf(", as the fallback of %s", e.Wanted)
	}
	return line
}

func pinText(p *api.Pin) string {
	text := p.Version + ", found by " + p.Key
	if p.Subject == "" {
		text += ", provisional"
	} else {
		text += ", of " + oneLine(p.Subject)
	}
	if p.Endpoint.IsValid() {
		text += ", at " + p.Endpoint.String()
	}
	return text + fmt.Sprintf(", decided by revision %d", p.Revision)
}

func endpointText(e *api.Endpoint) string {
	text := e.Address.String() + " " + e.State
	if !e.Usable {
		text += ", cannot be reached"
	}
	return text
}

// writeCondition prints a condition and its parts, each with its truth.
func writeCondition(w io.Writer, c *rules.ConditionExplanation, m marks, depth int) {
	if c.Text != "" {
		fmt.Fprintf(w, "%s%s %s\n", strings.Repeat("  ", depth), m.of(c.Holds), oneLine(c.Text))
		depth++
	}
	for i := range c.Parts {
		writeCondition(w, &c.Parts[i], m, depth)
	}
}
