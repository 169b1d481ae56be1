package rules

// An outcome is where a rule sends requests: always the stable version, unless it splits.
type outcome struct {
	stable *CompiledVersion
	split  *split // nil: everybody goes to stable
}

// A split cuts the buckets into half-open intervals: second has [0, secondEnd), third [thirdBegin, 10,000), and the
// stable version what lies between. So a changed weight exchanges identities only between its version and the stable
// one.
type split struct {
	draw       draw
	second     *CompiledVersion
	third      *CompiledVersion // nil: two entries, and thirdBegin is 10,000
	secondEnd  int
	thirdBegin int
}

// choose returns the version for q and the bucket that chose it, -1 if none was drawn.
func (o *outcome) choose(q *Query) (version *CompiledVersion, bucket int) {
	if o.split == nil {
		return o.stable, -1
	}
	bucket, _ = o.split.draw.from(q)
	switch {
	case bucket < 0:
		return o.stable, -1
	case bucket < o.split.secondEnd:
		return o.split.second, bucket
	case bucket >= o.split.thirdBegin:
		return o.split.third, bucket
	}
	return o.stable, bucket
}

// A ruleTable finds the rule that decides.
type ruleTable struct {
	ordered []compiledRule // highest priority first
	index   ruleIndex
}

type compiledRule struct {
	name     string
	priority int
	when     condition // nil: every request
	at       string    // path in the document
	then     outcome
}

func (r *compiledRule) matches(q *Query) bool { return r.when == nil || r.when.holds(q) }
