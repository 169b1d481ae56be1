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
	SessionsUnknown bool `json:"sessionsUnknown,omitempty" doc:"the store of sessions does not answer, or they are still being counted"`
	// Counted is when they were counted.
	Counted time.Time `json:"counted,omitzero" doc:"when the sessions were counted"`
}

// A VersionState asks that a version be in a state.
type VersionState struct {
	State string `json:"state" enum:"active,draining,disabled"`
}

// A Drain is how far a version is from being retired. What is not known is in the way.
type Drain struct {
	Service  string `json:"service"`
	Version  string `json:"version"`
	State    string `json:"state" doc:"on the replica that was asked; absent: its rules do not have the version"`
	Revision uint64 `json:"revision" doc:"that runs there"`
	// Sessions says nothing where Unknown is set or Counted is absent.
	Sessions int       `json:"sessions" doc:"live sessions on it, at the last complete count"`
	Oldest   time.Time `json:"oldest,omitzero" doc:"when the oldest of them began"`
	Counted  time.Time `json:"counted,omitzero" doc:"when the last complete count ended; absent: there is none yet"`
	Counting *int      `json:"counting,omitempty" doc:"percent of a count that is under way"`
	Unknown  string    `json:"unknown,omitempty" doc:"why it is not known how many sessions there are; never zero then"`
	Clean    int       `json:"clean" doc:"complete counts in a row that found nobody while nothing else was in the way"`
	Safe     bool      `json:"safe" doc:"its pods may go"`
	Waiting  []string  `json:"waiting" doc:"what is in the way, one sentence each; empty only if safe"`
	Replicas []Replica `json:"replicas" doc:"that share the sessions"`
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

// SessionCounts answers GET SessionCountsPath, oldest session first.
type SessionCounts struct {
	Counted time.Time      `json:"counted" doc:"when the count ended"`
	Counts  []SessionCount `json:"counts"`
}

// A SessionCount is how many sessions of a version, or of a version in one branch, there are.
type SessionCount struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Branch   string    `json:"branch,omitempty" doc:"absent: of every branch, or of sessions without one where by is branch"`
	Sessions int       `json:"sessions"`
	Oldest   time.Time `json:"oldest" doc:"when the oldest of them began"`
}

// A MovesRequest moves or ends the next sessions of a selection. The headers say who and why.
type MovesRequest struct {
	Service string `json:"service" minLength:"1"`
	From    string `json:"from" minLength:"1" doc:"version that the sessions are on"`
	To      string `json:"to,omitempty" doc:"active version that they go to; absent: they are ended, and decided anew"`
	Branch  string `json:"branch,omitempty" doc:"only of this branch"`
	Under   string `json:"under,omitempty" doc:"only of this branch and all beneath it in its organisation"`
	DryRun  bool   `json:"dryRun,omitempty" doc:"only count them"`
	ID      string `json:"id,omitempty" doc:"of the move that this goes on with, from the answer before"`
	After   string `json:"after,omitempty" doc:"next of the answer before"`
	Limit   int    `json:"limit,omitempty" minimum:"1" maximum:"1000" default:"200" doc:"how many at most in this call"`
}

// A MovesResult is what one call of a move in bulk has done.
type MovesResult struct {
	ID       string `json:"id,omitempty"`
	Sessions int    `json:"sessions" doc:"that this call has moved or ended; with dryRun, that it would"`
	Total    int    `json:"total" doc:"with those of the calls before"`
	Next     string `json:"next,omitempty" doc:"for after of the next call; absent: begin again without, until finished"`
	Finished bool   `json:"finished" doc:"a look from the beginning found none left"`
}

// Moves answers GET MovesPath, the latest first: the trail of what operators did to sessions.
type Moves struct {
	Moves []SessionMove `json:"moves"`
}

// A SessionMove is what an operator did to sessions.
type SessionMove struct {
	ID       string    `json:"id"`
	Author   string    `json:"author"`
	Reason   string    `json:"reason"`
	Service  string    `json:"service"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to,omitempty" doc:"absent: they were ended"`
	Branch   string    `json:"branch,omitempty"`
	Under    string    `json:"under,omitempty"`
	Began    time.Time `json:"began"`
	Last     time.Time `json:"last" doc:"when it went on last"`
	Sessions int       `json:"sessions"`
	Finished bool      `json:"finished" doc:"none was left"`
}

// Replicas answers GET ReplicasPath.
type Replicas struct {
	Replicas []Replica `json:"replicas"`
	// Unknown is set where the replica that was asked knows only itself.
	Unknown string `json:"unknown,omitempty" doc:"why the others are not known now"`
}

// A Replica is one running tellergate.
type Replica struct {
	ID        string    `json:"id,omitempty" doc:"of the process"`
	Name      string    `json:"name"`
	Self      bool      `json:"self" doc:"it is the one that was asked"`
	Started   time.Time `json:"started,omitzero"`
	Seen      time.Time `json:"seen,omitzero" doc:"when it was last heard of"`
	Late      bool      `json:"late" doc:"it has not been heard of for ten seconds: nothing is known of what it does"`
	Flushed   time.Time `json:"flushed,omitzero" doc:"up to then, all that it knew of sessions is in their store"`
	Freshness string    `json:"freshness,omitempty" doc:"how long its copies of sessions answer without being compared"`
	Resting   []Resting `json:"resting,omitempty" doc:"versions that are not active there"`
	Revision  uint64    `json:"revision" doc:"that runs"`
	Since     time.Time `json:"since" doc:"when it began to run"`
	Head      uint64    `json:"head" doc:"latest revision seen in the store"`
	Failing   string    `json:"failing,omitempty" doc:"why the head does not run"`
	FailingAt time.Time `json:"failingAt,omitzero" doc:"since when"`
	Version   string    `json:"version" doc:"of the program"`
}

// A Resting is a version that takes no new sessions on a replica.
type Resting struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Since    time.Time `json:"since"`
	InFlight int       `json:"inFlight" doc:"requests at its pods from there"`
}

// Readiness is the body of ReadyPath.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing,omitempty" doc:"what is not there yet, one full sentence each"`
	Notes   []string `json:"notes,omitempty" doc:"what operators should know although it is no fault"`
}
