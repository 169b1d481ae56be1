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
// contract: tester, override that moves, pin, override that keeps, rules by priority, default; then fallbacks.
func (s *CompiledService) Decide(q *Query, st Standing, up Availability) Decision {
	panic("BUG: not written")
}
