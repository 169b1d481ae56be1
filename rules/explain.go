package rules

import "fmt"

// An Explanation is a Decision with its whole reason, in words an operator reads. Its JSON form is part of the admin
// API.
type Explanation struct {
	Service string `json:"service"`
	Version string `json:"version,omitempty"` // where the request goes; empty if it is refused
	Reason  string `json:"reason"`
	Rule    string `json:"rule,omitempty"`
	Wanted  string `json:"wanted"`           // before fallbacks
	Bucket  *int   `json:"bucket,omitempty"` // the draw of the split that decided
	Refusal string `json:"refusal,omitempty"`
	// Steps tells in order what was considered: tester, override, pin, rules, default, each fallback.
	Steps []string `json:"steps"`
	// Rules lists every rule from the highest priority down, whether considered before the decision fell or not. Of a
	// service with more than 1,000 rules it lists those that the values of the request lead to.
	Rules []RuleExplanation `json:"rules"`
	// Omitted is how many rules are not listed: they need a value, a list or a branch that the request does not have.
	Omitted int `json:"omitted,omitempty"`
}

// A RuleExplanation tells whether one rule's condition holds and which parts of it do.
type RuleExplanation struct {
	Name       string               `json:"name"`
	Priority   int                  `json:"priority"`
	Matched    bool                 `json:"matched"`
	Decided    bool                 `json:"decided"` // this rule's outcome was taken
	Conditions ConditionExplanation `json:"conditions"`
}

// A ConditionExplanation is one condition with its truth and what was found, for example "teller 9001/0001 is in list
// pilot-tellers".
type ConditionExplanation struct {
	Holds bool                   `json:"holds"`
	Text  string                 `json:"text"`
	Parts []ConditionExplanation `json:"parts,omitempty"`
}

// Explain returns what Decide would, with the reason. It is for operators, not for the request path.
func (s *CompiledService) Explain(q *Query, st Standing, up Availability) Explanation {
	told := new(narrative)
	d := s.decide(q, st, up, told)
	e := Explanation{
		Service: s.name,
		Reason:  d.Reason.String(),
		Rule:    d.Rule,
		Refusal: d.Refusal.String(),
		Steps:   told.steps,
		Rules:   []RuleExplanation{},
	}
	if d.Refusal == NotRefused {
		e.Version = d.Version.name
	}
	if e.Wanted = st.Forced; d.Wanted != nil {
		e.Wanted = d.Wanted.name
	}
	if d.Bucket >= 0 {
		e.Bucket = &d.Bucket
	}
	shown := s.rules.explained(q)
	e.Omitted = len(s.rules.ordered) - len(shown)
	for _, rank := range shown {
		rule := &s.rules.ordered[rank]
		conditions := ConditionExplanation{Holds: true, Text: "the rule has no condition: it takes every request"}
		if rule.when != nil {
			conditions = rule.when.explain(q)
		}
		e.Rules = append(e.Rules, RuleExplanation{
			Name:       rule.name,
			Priority:   rule.priority,
			Matched:    conditions.Holds,
			Decided:    d.Reason == ByRule && d.Rule == rule.name,
			Conditions: conditions,
		})
	}
	return e
}

// maxExplained is how many rules of a service are explained whether the request leads to them or not.
const maxExplained = 1000

// explained returns the ranks of the rules to explain.
func (t *ruleTable) explained(q *Query) []uint32 {
	if len(t.ordered) > maxExplained {
		return t.candidates(q)
	}
	ranks := make([]uint32, len(t.ordered))
	for i := range ranks {
		ranks[i] = uint32(i)
	}
	return ranks
}

// A narrative tells how a decision fell, one full clause a step.
type narrative struct{ steps []string }

func (n *narrative) say(format string, args ...any) {
	n.steps = append(n.steps, fmt.Sprintf(format, args...))
}

func (n *narrative) forced(d Decision, st Standing) {
	n.say("a tester asks for version %s", shown(st.Forced))
	switch d.Refusal {
	case TesterUnknown:
		n.say("the service has no version %s: refused", shown(st.Forced))
	case TesterDisabled:
		n.say("version %s is disabled: refused", d.Version.name)
	case NothingUsable:
		n.say("version %s has no usable endpoint, and testers follow no fallback: refused", d.Version.name)
	default:
		n.say("version %s takes the request; pins are neither read nor written", d.Version.name)
	}
}

func (n *narrative) overridden(o *Override) {
	pinned := "sessions pinned elsewhere are moved"
	if o.Pinned == PinnedKeep {
		pinned = "pinned sessions stay"
	}
	why := ""
	if o.Reason != "" {
		why = ", because: " + o.Reason
	}
	n.say("an override sends everybody to version %s (%s)%s", o.Version, pinned, why)
}

func (n *narrative) unpinned(st Standing, version *CompiledVersion) {
	switch {
	case st.Pinned == "":
		n.say("the session has no pin")
	case version == nil:
		n.say("the session is pinned to version %s, which no longer exists: it is decided anew", shown(st.Pinned))
	default:
		n.say("the session is pinned to version %s, which is disabled: it is decided anew", version.name)
	}
}

// ruled tells the rules that were considered up to the one that decided, nil if none did.
func (n *narrative) ruled(s *CompiledService, decided *compiledRule, q *Query) {
	shown := s.rules.explained(q)
	if omitted := len(s.rules.ordered) - len(shown); omitted > 0 {
		n.say("%s need a value, a list or a branch that the request does not have", counted(omitted, "rule"))
	}
	for _, rank := range shown {
		rule := &s.rules.ordered[rank]
		if rule != decided {
			n.say("rule %s (priority %d) does not match", rule.name, rule.priority)
			continue
		}
		n.say("rule %s (priority %d) matches: %s", rule.name, rule.priority, rule.then.explain(q))
		return
	}
	n.say("no rule matches: the default is version %s", s.byDefault.name)
}

// explain tells which version an outcome chooses for q and why.
func (o *outcome) explain(q *Query) string {
	version, bucket := o.choose(q)
	if o.split == nil {
		return "version " + version.name
	}
	if bucket < 0 {
		return fmt.Sprintf("the split needs %s, which the request lacks: the stable version %s",
			names(o.split.draw.by), version.name)
	}
	_, by := o.split.draw.from(q)
	lo, hi := o.split.secondEnd, o.split.thirdBegin
	switch {
	case bucket < o.split.secondEnd:
		lo, hi = 0, o.split.secondEnd
	case bucket >= o.split.thirdBegin:
		lo, hi = o.split.thirdBegin, Buckets
	}
	return fmt.Sprintf("%s %s has bucket %d, which is from %d to %d of the split: version %s",
		by.name, shown(by.of(q)), bucket, lo, hi-1, version.name)
}

// fallback tells that next is tried instead of version.
func (n *narrative) fallback(version *CompiledVersion, h hindrance, next *CompiledVersion) {
	n.say("version %s %s: its fallback %s is tried", version.name, h, next.name)
}

func (n *narrative) exhausted(version *CompiledVersion, h hindrance) {
	n.say("version %s %s, and no fallback is left: refused", version.name, h)
}

// String completes a sentence that begins with the version.
func (h hindrance) String() string {
	switch h {
	case isDisabled:
		return "is disabled"
	case isDraining:
		return "is draining and takes no new sessions"
	case isUnusable:
		return "has no usable endpoint"
	}
	return "takes the request"
}

func names(by []drawAttribute) string {
	list := make([]string, len(by))
	for i, a := range by {
		list[i] = a.name
	}
	return either(list)
}
