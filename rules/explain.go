package rules

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
	// Rules lists every rule from the highest priority down, whether considered before the decision fell or not.
	Rules []RuleExplanation `json:"rules"`
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
	panic("BUG: not written")
}

// BucketOf returns the bucket, 0 to 9,999, of an attribute's value: XXH64 (seed 0) modulo 10,000 over salt, attribute
// name, outer value or empty, value, each preceded by its length as 4 bytes big-endian.
func BucketOf(salt, attribute, outer, value string) int { panic("BUG: not written") }
