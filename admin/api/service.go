package api

import (
	"net/netip"
	"time"

	"tellergate/rules"
)

// Services answers GET ServicesPath, in the order of the document.
type Services struct {
	Revision uint64          `json:"revision" doc:"the revision that runs here"`
	Services []ServiceStatus `json:"services"`
}

// A ServiceStatus is what runs of one service.
type ServiceStatus struct {
	Name     string          `json:"name"`
	Match    rules.Match     `json:"match"`
	Default  string          `json:"default"`
	Override *rules.Override `json:"override,omitempty" doc:"the override in force"`
	Rules    int             `json:"rules" doc:"how many"`
	Versions []VersionStatus `json:"versions" doc:"in the order of the document"`
}

// A VersionStatus is one version, its pods and the sessions it keeps.
type VersionStatus struct {
	Name      string     `json:"name"`
	State     string     `json:"state" enum:"active,draining,disabled"`
	Fallback  string     `json:"fallback,omitempty"`
	Usable    bool       `json:"usable" doc:"some endpoint could be sent a request now"`
	Endpoints []Endpoint `json:"endpoints"`
	Sessions  int        `json:"sessions" doc:"live sessions pinned to it; says nothing where sessionsUnknown is set"`
	// SessionsUnknown says that the store of sessions does not answer.
	SessionsUnknown bool `json:"sessionsUnknown,omitempty" doc:"the store of sessions does not answer"`
}

// An Endpoint is one pod's address as this replica sees it.
type Endpoint struct {
	Address  netip.AddrPort `json:"address" doc:"address:port"`
	UID      string         `json:"uid,omitempty" doc:"the pod's identity, where its source knows one"`
	Zone     string         `json:"zone,omitempty"`
	State    string         `json:"state" enum:"active,draining"`
	Usable   bool           `json:"usable" doc:"false while it cannot be dialled"`
	InFlight int            `json:"inFlight" doc:"requests at it now, from this replica"`
}

// Sessions answers GET SessionsPath: the drain ledger, oldest session first.
type Sessions struct {
	Sessions []Session `json:"sessions"`
	Next     string    `json:"next,omitempty" doc:"the query after of the next page; absent on the last one"`
}

// A Session is one row of the drain ledger.
type Session struct {
	ID       string         `json:"id" doc:"names the session here; reveals no value"`
	Service  string         `json:"service"`
	Version  string         `json:"version"`
	Endpoint netip.AddrPort `json:"endpoint,omitzero" doc:"address:port of the pod that answered last"`
	Subject  string         `json:"subject,omitempty" doc:"absent: provisional"`
	Branch   string         `json:"branch,omitempty"`
	Keys     []string       `json:"keys" doc:"attributes under which the session is known"`
	Revision uint64         `json:"revision" doc:"that decided it"`
	Start    time.Time      `json:"start"`
	LastSeen time.Time      `json:"lastSeen"`
	Ends     time.Time      `json:"ends" doc:"when it ends if nothing more comes"`
	Latest   time.Time      `json:"latest" doc:"when it ends in any case"`
}

// A MoveRequest puts a session on another version from its next request on.
type MoveRequest struct {
	Version string `json:"version" minLength:"1"`
}

// Replicas answers GET ReplicasPath.
type Replicas struct {
	Replicas []Replica `json:"replicas"`
}

// A Replica is one running tellergate.
type Replica struct {
	Name      string    `json:"name"`
	Revision  uint64    `json:"revision" doc:"that runs"`
	Since     time.Time `json:"since" doc:"when it began to run"`
	Head      uint64    `json:"head" doc:"latest revision seen in the store"`
	Failing   string    `json:"failing,omitempty" doc:"why the head does not run"`
	FailingAt time.Time `json:"failingAt,omitzero" doc:"since when"`
	Version   string    `json:"version" doc:"of the program"`
}

// Readiness is the body of ReadyPath.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing,omitempty" doc:"what is not there yet, one full sentence each"`
	Notes   []string `json:"notes,omitempty" doc:"what operators should know although it is no fault"`
}
