package api

import (
	"net/netip"

	"tellergate/internal/problem"
	"tellergate/rules"
)

// An ExplainRequest is an identity and a request whose decision is wanted. Every field may be left out.
type ExplainRequest struct {
	// Service skips the matching of Frontend, Host and Path to a service.
	Service  string `json:"service,omitempty" doc:"decide for this service; absent: the one that matches the request"`
	Frontend string `json:"frontend,omitempty" doc:"name of the frontend; absent: matches services of any frontend"`
	Host     string `json:"host,omitempty" doc:"host name; a port is ignored"`
	Method   string `json:"method,omitempty" doc:"GET if absent"`
	Path     string `json:"path,omitempty" doc:"/ if absent; a query is ignored"`
	Source   string `json:"source,omitempty" doc:"client address; 127.0.0.1 if absent"`
	// Attributes is the identity. The value of an attribute declared within another is the pair outer/value, or, where
	// the outer attribute is given too and the value has no slash, the inner value alone.
	Attributes map[string]string `json:"attributes,omitempty" doc:"by attribute; pairs as outer/value, or value alone where the outer is given too"`
	Headers    map[string]string `json:"headers,omitempty" doc:"request headers that conditions look at"`
	// Forced is the version a tester asks for. It is believed here: the caller is an operator.
	Forced string `json:"forced,omitempty" doc:"version that a tester asks for"`
	// IgnorePins explains what a new session would get.
	IgnorePins bool `json:"ignorePins,omitempty" doc:"explain as if the session had no pin"`
	// Document is the text of a draft, YAML or JSON, explained instead of the live rules against the lists,
	// organisations and overrides of the head revision. Draft versions whose pods are not live count as usable.
	Document string `json:"document,omitempty" doc:"text of a draft rule document, explained instead of the live rules"`
}

// An ExplainResult is the decision and its whole reason.
type ExplainResult struct {
	rules.Explanation
	Revision uint64 `json:"revision" doc:"the revision that decided; with a draft, the head it was compiled against"`
	Draft    bool   `json:"draft,omitempty"`
	// Attributes is the identity as the decision saw it, pairs put together.
	Attributes map[string]string `json:"attributes" doc:"the identity as the decision saw it"`
	Pin        *Pin              `json:"pin,omitempty" doc:"the live pin that holds for this identity"`
	Endpoints  []Endpoint        `json:"endpoints" doc:"endpoints of the version that the request goes to"`
	Warnings   []problem.Problem `json:"warnings,omitempty" doc:"of the draft"`
}

// A Pin is the record that keeps a session on its version.
type Pin struct {
	Version  string         `json:"version"`
	Endpoint netip.AddrPort `json:"endpoint,omitzero" doc:"address:port of the pod that answered last"`
	Key      string         `json:"key" doc:"attribute under which it was found"`
	Subject  string         `json:"subject,omitempty" doc:"absent: provisional, until the subject appears"`
	Revision uint64         `json:"revision" doc:"that decided it"`
}

// Mentions answers GET MentionsPath: which tests of which rules of the head revision mention something.
type Mentions struct {
	Revision uint64          `json:"revision"`
	Mentions []rules.Mention `json:"mentions" doc:"in the order of the document"`
	More     int             `json:"more,omitempty" doc:"how many there are beyond the limit"`
	// Lists names the lists that hold the value, whether rules mention them or not.
	Lists []string `json:"lists,omitempty" doc:"lists that hold the value"`
}

// An ImpactRequest asks who of a population would get another version. The fields of the request are what all of them
// ask for, as in an ExplainRequest.
type ImpactRequest struct {
	Before     ImpactSide        `json:"before,omitzero" doc:"the head revision if absent"`
	After      ImpactSide        `json:"after,omitzero" doc:"the head revision if absent"`
	Population string            `json:"population,omitempty" doc:"CSV; a header line names attributes, without one branch,teller,legalEntity"`
	Seen       bool              `json:"seen,omitempty" doc:"instead of population: whom this replica has served within the last day, as far as it remembers"`
	Service    string            `json:"service,omitempty" doc:"absent: every service"`
	Frontend   string            `json:"frontend,omitempty"`
	Host       string            `json:"host,omitempty"`
	Path       string            `json:"path,omitempty" doc:"/ if absent"`
	Method     string            `json:"method,omitempty" doc:"GET if absent"`
	Source     string            `json:"source,omitempty" doc:"client address; 127.0.0.1 if absent"`
	Headers    map[string]string `json:"headers,omitempty"`
}

// An ImpactSide is a revision, or a document with the other parts of the head; the zero value is the head.
type ImpactSide struct {
	Revision *uint64 `json:"revision,omitempty"`
	Document string  `json:"document,omitempty" doc:"text of a rule document"`
}

// SeenPopulation says what a replica remembers of whom it has served.
type SeenPopulation struct {
	Replica  string `json:"replica"`
	Held     int    `json:"held" doc:"identities; one of two services counts twice"`
	Capacity int    `json:"capacity" doc:"how many are held at most; of more in a minute, some are not"`
	TooLong  int    `json:"tooLong,omitempty" doc:"of those held, how many are known by number only and not looked at, because their values are too long"`
}

// An ImpactResult answers an ImpactRequest.
type ImpactResult struct {
	rules.Impact
	Seen   *SeenPopulation `json:"seen,omitempty" doc:"if the request asked for those seen"`
	Before uint64          `json:"before" doc:"revision; of a document, the head whose other parts it was compiled with"`
	After  uint64          `json:"after"`
}
