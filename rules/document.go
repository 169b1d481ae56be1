package rules

import (
	"encoding/json"
	"time"

	"tellergate/internal/strictyaml"
)

// A Document is the rule document as a person wrote it. It is plain data: nothing in it has been checked but the
// syntax. Parse reads one, Compile checks it, Print writes it canonically.
type Document struct {
	Services []Service `yaml:"services" json:"services"`

	source *strictyaml.Source // where everything stood, nil if it was not read from a text
}

// A Service is one channel application and how its versions share the requests.
type Service struct {
	Name     string    `yaml:"name" json:"name"`
	Match    Match     `yaml:"match" json:"match"`
	Default  string    `yaml:"default" json:"default"`
	Versions []Version `yaml:"versions" json:"versions,omitzero"`
	Sessions *Sessions `yaml:"sessions" json:"sessions,omitempty"`
	// SerialHeader is the request header in which the channel sends the serial number (流水号) that its pods know a
	// repetition by. From sources whose claims are believed, a request that has it may be sent again as a GET may.
	SerialHeader string `yaml:"serialHeader" json:"serialHeader,omitempty"`
	Rules        []Rule `yaml:"rules" json:"rules,omitempty"`
}

// Match says which requests belong to a service. Empty lists match everything; an empty PathPrefix is "/". Among the
// services that match a request, the most specific wins: exact host before wildcard before any, then the longest path
// prefix. Two services of equal specificity are a compile error.
type Match struct {
	Frontends []string `yaml:"frontends" json:"frontends,omitempty"`
	// Hosts are names without port, compared without regard to case; "*.bank.example" matches every name below.
	Hosts []string `yaml:"hosts" json:"hosts,omitempty"`
	// PathPrefix matches whole path elements: /teller matches /teller and /teller/eod, not /tellers.
	PathPrefix string `yaml:"pathPrefix" json:"pathPrefix,omitempty"`
}

// Version states.
const (
	StateActive   = "active"   // takes everybody
	StateDraining = "draining" // keeps its pinned sessions, takes no new ones
	StateDisabled = "disabled" // takes nobody; its pins end
)

// A Version is a named pod set of a service.
type Version struct {
	Name     string `yaml:"name" json:"name"`
	Pods     Pods   `yaml:"pods" json:"pods"`
	State    string `yaml:"state" json:"state,omitempty"`       // empty: active
	Fallback string `yaml:"fallback" json:"fallback,omitempty"` // empty: the service's default
}

// Pods says where the pods of a version are found: exactly one of its fields is set.
type Pods struct {
	Static     []string        `yaml:"static" json:"static,omitzero"` // address:port, IPv6 in brackets
	Kubernetes *KubernetesPods `yaml:"kubernetes" json:"kubernetes,omitempty"`
}

// KubernetesPods selects the endpoints of a Kubernetes Service, narrowed to pods with all of PodLabels.
type KubernetesPods struct {
	Namespace string            `yaml:"namespace" json:"namespace"`
	Service   string            `yaml:"service" json:"service"`
	Port      string            `yaml:"port" json:"port"` // name or number
	PodLabels map[string]string `yaml:"podLabels" json:"podLabels,omitempty"`
}

// Sessions is how a service keeps sessions on their version. Without it nothing is pinned.
type Sessions struct {
	Key            []string    `yaml:"key" json:"key,omitzero"`                        // attributes; at least one
	Subject        string      `yaml:"subject" json:"subject,omitempty"`               // attribute whose change means a new decision
	Idle           Duration    `yaml:"idle" json:"idle,omitzero"`                      // 0: 30 minutes
	Absolute       Duration    `yaml:"absolute" json:"absolute,omitzero"`              // 0: 10 hours
	FallbackPinned bool        `yaml:"fallbackPinned" json:"fallbackPinned,omitempty"` // pinned sessions follow fallbacks and stay there
	End            *SessionEnd `yaml:"end" json:"end,omitempty"`                       // how logout shows; nil: the defaults
}

// Defaults of Sessions.
const (
	DefaultIdle     = 30 * time.Minute
	DefaultAbsolute = 10 * time.Hour
)

// SessionEnd is how a logout is recognised. The answer's header X-Session-End: 1 and the expiry of a session cookie
// always end the session; Paths add requests whose successful (below 400) answer does.
type SessionEnd struct {
	Paths []string `yaml:"paths" json:"paths,omitempty"` // whole path elements, as PathPrefix
}

// A Rule sends the requests that meet a condition to a version or splits them over several. Rules are tried from the
// highest priority to the lowest; priorities are unique within a service.
type Rule struct {
	Name     string     `yaml:"name" json:"name"`
	Priority int        `yaml:"priority" json:"priority"`
	When     *Condition `yaml:"when" json:"when,omitempty"` // nil: every request
	Then     Outcome    `yaml:"then" json:"then"`
}

// A Condition is exactly one of: all, any, not; attribute with one test; bucket; method; path; header; source.
type Condition struct {
	All []Condition `yaml:"all" json:"all,omitzero"`
	Any []Condition `yaml:"any" json:"any,omitzero"`
	Not *Condition  `yaml:"not" json:"not,omitempty"`

	// Attribute names what the following tests look at; exactly one of them is set.
	Attribute string   `yaml:"attribute" json:"attribute,omitempty"`
	Is        *string  `yaml:"is" json:"is,omitempty"`
	In        []string `yaml:"in" json:"in,omitzero"`
	InList    *string  `yaml:"inList" json:"inList,omitempty"`
	Under     *string  `yaml:"under" json:"under,omitempty"`
	Prefix    *string  `yaml:"prefix" json:"prefix,omitempty"`
	Matches   *string  `yaml:"matches" json:"matches,omitempty"` // RE2, anchored at both ends
	Present   *bool    `yaml:"present" json:"present,omitempty"`

	Bucket *Bucket              `yaml:"bucket" json:"bucket,omitempty"`
	Method strictyaml.OneOrMany `yaml:"method" json:"method,omitzero"`
	Path   *PathTest            `yaml:"path" json:"path,omitempty"`
	Header *HeaderTest          `yaml:"header" json:"header,omitempty"`
	Source strictyaml.OneOrMany `yaml:"source" json:"source,omitzero"` // CIDRs or addresses of the client
}

// A Bucket condition holds for the share below/10,000 of the values of the first attribute of By that is present.
type Bucket struct {
	By    []string `yaml:"by" json:"by,omitzero"`
	Below int      `yaml:"below" json:"below"`
	Salt  string   `yaml:"salt" json:"salt"`
}

// A PathTest looks at the normalised path, without the query; exactly one field is set. Prefix matches whole elements.
type PathTest struct {
	Is      *string `yaml:"is" json:"is,omitempty"`
	Prefix  *string `yaml:"prefix" json:"prefix,omitempty"`
	Matches *string `yaml:"matches" json:"matches,omitempty"`
}

// A HeaderTest looks at the first value of one request header; exactly one test is set.
type HeaderTest struct {
	Name    string   `yaml:"name" json:"name"`
	Is      *string  `yaml:"is" json:"is,omitempty"`
	In      []string `yaml:"in" json:"in,omitzero"`
	Matches *string  `yaml:"matches" json:"matches,omitempty"`
	Present *bool    `yaml:"present" json:"present,omitempty"`
}

// An Outcome is a version, or a split of two or three versions whose weights sum to exactly 10,000.
type Outcome struct {
	Version string   `yaml:"version" json:"version,omitempty"`
	Split   []Share  `yaml:"split" json:"split,omitzero"` // the first is the stable version
	By      []string `yaml:"by" json:"by,omitzero"`
	Salt    string   `yaml:"salt" json:"salt,omitempty"`
}

// A Share is one version's part of a split, in basis points.
type Share struct {
	Version string `yaml:"version" json:"version"`
	Weight  int    `yaml:"weight" json:"weight"`
}

// An Override sends everybody of a service to one version. It is not part of the Document.
type Override struct {
	Version string `yaml:"version" json:"version"`
	// Pinned is "move" (pins are rewritten at their sessions' next request) or "keep" (pinned sessions stay).
	Pinned string `yaml:"pinned" json:"pinned"`
	Reason string `yaml:"reason" json:"reason"`
}

// What an Override does with pinned sessions.
const (
	PinnedMove = "move"
	PinnedKeep = "keep"
)

// Parse reads a rule document from YAML or JSON, strictly. The error is a problem.List that holds every syntax fault.
func Parse(text []byte) (*Document, error) {
	d := new(Document)
	source, problems := strictyaml.Decode(text, d)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	d.source = source
	return d, nil
}

// MarshalJSON writes the document as JSON that Parse reads back.
func (d Document) MarshalJSON() ([]byte, error) {
	type plain Document // without this method
	if d.Services == nil {
		d.Services = []Service{}
	}
	return json.Marshal(plain(d))
}
