package rules

import "net/netip"

// A Query is what a decision looks at. All strings are borrowed for the duration of the call and may be views of
// request buffers; nothing of a Query is kept.
type Query struct {
	Frontend string
	Host     string // lower case, without port
	Method   string
	Path     string // normalised, without the query; begins with "/"
	Source   netip.Addr
	// Attributes holds, for each attribute of the Schema, its value (the pair outer/value where it is declared within
	// another), or "" if it is missing.
	Attributes []string
	Headers    Headers
}

// Headers gives access to request headers. A nil Headers has none.
type Headers interface {
	// Get returns the first value of the named header, and whether there is one. The name's case does not matter.
	Get(name string) (value string, ok bool)
}

// Availability tells whether a version has an endpoint that could be sent a request now.
type Availability interface {
	Usable(service, version int) bool
}

// Standing is what is known about a request's session before the decision.
type Standing struct {
	// Forced is the version a tester asks for, believed already; empty if none does.
	Forced string
	// Pinned is the version of the live pin that holds for this request; empty if there is none.
	Pinned string
	// Keyed: the request carries an attribute of the service's session key, so its decision may be pinned.
	Keyed bool
}

// Reason is who decided.
type Reason uint8

const (
	ByDefault Reason = iota
	ByRule
	ByPin
	ByOverride
	ByTester
	reasons
)

// Reasons is the number of reasons; they count from 0.
const Reasons = int(reasons)

// String returns the stable word for metrics and logs: default, rule, pin, override, tester.
func (r Reason) String() string {
	switch r {
	case ByRule:
		return "rule"
	case ByPin:
		return "pin"
	case ByOverride:
		return "override"
	case ByTester:
		return "tester"
	}
	return "default"
}

// Refusal is why a request cannot be sent anywhere.
type Refusal uint8

const (
	NotRefused     Refusal = iota
	TesterUnknown          // the tester's version does not exist: 400
	TesterDisabled         // the tester's version is disabled: 400
	PinnedUnusable         // the pinned version has no usable endpoint and pins do not follow fallbacks: 503
	NothingUsable          // neither the version, nor its fallbacks, nor the default has a usable endpoint: 503
)

// A Decision is where one request goes and why. It is a plain value.
type Decision struct {
	// Version is where the request goes; where Refusal is set, what was wanted, nil for TesterUnknown.
	Version *CompiledVersion
	Reason  Reason
	// Rule is the name of the rule that matched, also where a fallback replaced its version; empty otherwise.
	Rule string
	// Wanted differs from Version where fallbacks replaced it.
	Wanted *CompiledVersion
	// Bucket is the split's draw, 0 to 9,999, or -1.
	Bucket  int
	Refusal Refusal
	// WritePin: the session is to be pinned to Version: it has no pin, or a pin to something else.
	WritePin bool
}

// Decide returns where q goes. Same inputs, same answer; it allocates nothing. The order is that of the product's
// contract: tester, override that moves, pin, override that keeps, rules by priority, default; then fallbacks. A nil
// Availability finds every version usable. Without Sessions, pins neither count nor are asked for.
func (s *CompiledService) Decide(q *Query, st Standing, up Availability) Decision {
	return s.decide(q, st, up, nil)
}

// decide is Decide that also tells its steps if told is not nil. Every use of told stands behind a test for nil, so
// that the request path formats nothing.
func (s *CompiledService) decide(q *Query, st Standing, up Availability, told *narrative) Decision {
	if st.Forced != "" {
		return s.decideForced(st, up, told)
	}
	if told != nil {
		told.say("no tester asks for a version")
	}
	if s.sessions == nil {
		st.Pinned, st.Keyed = "", false
	}
	if s.override != nil && s.override.Pinned == PinnedMove {
		return s.finish(s.decideOverride(told), st, up, told)
	}
	if d, decided := s.decidePinned(st, up, told); decided {
		return d
	}
	if s.override != nil {
		return s.finish(s.decideOverride(told), st, up, told)
	}
	if told != nil {
		told.say("no override is in force")
	}
	if rule := s.rules.first(q); rule != nil {
		version, bucket := rule.then.choose(q)
		if told != nil {
			told.ruled(s, rule, q)
		}
		d := Decision{Wanted: version, Reason: ByRule, Rule: rule.name, Bucket: bucket}
		return s.finish(d, st, up, told)
	}
	if told != nil {
		told.ruled(s, nil, q)
	}
	return s.finish(Decision{Wanted: s.byDefault, Reason: ByDefault, Bucket: -1}, st, up, told)
}

// decideForced sends a tester to the version asked for or nowhere; pins and fallbacks do not matter.
func (s *CompiledService) decideForced(st Standing, up Availability, told *narrative) Decision {
	version := s.VersionNamed(st.Forced)
	d := Decision{Version: version, Wanted: version, Reason: ByTester, Bucket: -1}
	switch {
	case version == nil:
		d.Refusal = TesterUnknown
	case version.state == StateDisabled:
		d.Refusal = TesterDisabled
	case !s.usable(version, up):
		d.Refusal = NothingUsable
	}
	if told != nil {
		told.forced(d, st)
	}
	return d
}

func (s *CompiledService) decideOverride(told *narrative) Decision {
	if told != nil {
		told.overridden(s.override)
	}
	return Decision{Wanted: s.overrideTo, Reason: ByOverride, Bucket: -1}
}

// decidePinned keeps the session where it is; decided is false if no pin binds it.
func (s *CompiledService) decidePinned(st Standing, up Availability, told *narrative) (d Decision, decided bool) {
	version := s.VersionNamed(st.Pinned)
	if version == nil || version.state == StateDisabled {
		if told != nil {
			told.unpinned(st, version)
		}
		return Decision{}, false
	}
	if told != nil {
		told.say("the session is pinned to version %s", version.name)
	}
	d = Decision{Wanted: version, Reason: ByPin, Bucket: -1}
	if !s.sessions.FallbackPinned && !s.usable(version, up) {
		d.Version, d.Refusal = version, PinnedUnusable
		if told != nil {
			told.say("version %s has no usable endpoint, and pinned sessions of %s do not follow fallbacks: refused",
				version.name, s.name)
		}
		return d, true
	}
	return s.finish(d, st, up, told), true
}

// finish replaces what was wanted by its fallbacks until one may take the session, and says whether to pin it there.
func (s *CompiledService) finish(d Decision, st Standing, up Availability, told *narrative) Decision {
	d.Version = d.Wanted
	for i := 0; ; i++ {
		hindrance := s.hindrance(d.Version, st, up)
		if hindrance == nothingHinders {
			break
		}
		if i == len(d.Wanted.chain) {
			if told != nil {
				told.exhausted(d.Version, hindrance)
			}
			d.Version, d.Refusal = d.Wanted, NothingUsable
			return d
		}
		next := d.Wanted.chain[i]
		if told != nil {
			told.fallback(d.Version, hindrance, next)
		}
		d.Version = next
	}
	if told != nil {
		told.say("version %s takes the request", d.Version.name)
	}
	d.WritePin = st.Keyed && s.sessions != nil && d.Version.name != st.Pinned
	return d
}

// A hindrance is why a version may not take a session.
type hindrance uint8

const (
	nothingHinders hindrance = iota
	isDisabled
	isDraining // and the session is not pinned there
	isUnusable // no endpoint
)

func (s *CompiledService) hindrance(v *CompiledVersion, st Standing, up Availability) hindrance {
	switch {
	case v.state == StateDisabled:
		return isDisabled
	case v.state == StateDraining && v.name != st.Pinned:
		return isDraining
	case !s.usable(v, up):
		return isUnusable
	}
	return nothingHinders
}

func (s *CompiledService) usable(v *CompiledVersion, up Availability) bool {
	return up == nil || up.Usable(s.index, v.index)
}

// String returns the stable word for APIs: tester-unknown, tester-disabled, pinned-unusable, nothing-usable, or nothing.
func (r Refusal) String() string {
	switch r {
	case TesterUnknown:
		return "tester-unknown"
	case TesterDisabled:
		return "tester-disabled"
	case PinnedUnusable:
		return "pinned-unusable"
	case NothingUsable:
		return "nothing-usable"
	}
	return ""
}
