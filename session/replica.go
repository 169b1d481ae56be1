package session

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// How long a replica may be silent. Replicas register every Heartbeat.
const (
	Heartbeat = 2 * time.Second
	Late      = 10 * time.Second // then it is late: nothing is known of what it does
	Gone      = 10 * time.Minute // then it is taken for dead
)

// A Replica is one running tellergate, as it says of itself. Its times are by the clock of the store.
type Replica struct {
	ID      string `json:"id"`   // of the process, random
	Name    string `json:"name"` // for people: the host's, usually
	Version string `json:"version"`

	Started   time.Time `json:"started"`
	Revision  uint64    `json:"revision"` // that it runs
	Since     time.Time `json:"since,omitzero"`
	Head      uint64    `json:"head"`
	Failing   string    `json:"failing,omitempty"`
	FailingAt time.Time `json:"failingAt,omitzero"`

	Seen time.Time `json:"seen"` // when it said so
	// Flushed is the moment up to which everything that it knew is in the store; zero: nothing is known of that.
	Flushed time.Time `json:"flushed,omitzero"`
	// Freshness is how long its copies answer without being compared with the store; 0: it keeps none.
	Freshness time.Duration `json:"freshness,omitempty"`
	Versions  []Running     `json:"versions"` // of every service that it runs
}

// A Running is a version on one replica.
type Running struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Active   bool      `json:"active"`            // it takes new sessions
	Resting  time.Time `json:"resting,omitzero"`  // since when it does not
	InFlight int       `json:"inFlight,omitzero"` // requests at its pods from there, counted where it is not active
}

// LateAt reports whether nothing has been heard of the replica for too long.
func (r *Replica) LateAt(now time.Time) bool { return now.Sub(r.Seen) > Late }

// running returns how the replica holds a version. One that its rules do not have takes no sessions since they run.
func (r *Replica) running(service, version string) Running {
	for _, v := range r.Versions {
		if v.Service == service && v.Version == version {
			return v
		}
	}
	return Running{Service: service, Version: version, Resting: r.Since}
}

// A Registry is the replicas that share a store.
type Registry struct {
	Since    time.Time // when it was begun: who registered before that is not in it
	Now      time.Time // when it was read
	Self     string    // ID of the replica that was asked
	Replicas []Replica // sorted by name, then ID
}

// Sort puts the replicas in order.
func (r *Registry) Sort() {
	slices.SortFunc(r.Replicas, func(a, b Replica) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}

// Clean is the number of censuses in a row that must have found nobody.
const Clean = 2

// A Verdict says whether the pods of a version may go, and if not what is in the way.
type Verdict struct {
	Safe    bool
	Clean   int      // censuses in a row, of 2, that found nobody while nothing was in the way
	Waiting []string // what is in the way, one sentence each; empty only if Safe
}

// Retirement says whether the pods of a version may go. It is a pure function of what is known: everything that is not
// known is in the way.
func Retirement(service, version string, w *Watch) Verdict {
	var v Verdict
	if w.Unknown != nil {
		v.Waiting = append(v.Waiting, "how many sessions are left is unknown: "+w.Unknown.Error())
		return v
	}
	v.Waiting = w.Registry.waiting(service, version, w.Now)
	for i := len(w.Last) - 1; i >= 0; i-- {
		c := &w.Last[i]
		sessions, _ := c.Of(service, version)
		if sessions > 0 || len(c.Before.waiting(service, version, c.Began)) > 0 ||
			len(c.After.waiting(service, version, c.Ended)) > 0 {
			break
		}
		v.Clean++
	}
	if len(w.Last) > 0 {
		if sessions, _ := w.Last[len(w.Last)-1].Of(service, version); sessions > 0 {
			v.Waiting = append(v.Waiting, plural(sessions, "session is", "sessions are")+" live on "+version)
		}
	}
	if len(v.Waiting) == 0 && v.Clean < Clean {
		v.Waiting = append(v.Waiting, fmt.Sprintf("%s of %d complete counts found nobody; the next is under way",
			[]string{"none", "one"}[v.Clean], Clean))
	}
	v.Safe = len(v.Waiting) == 0
	return v
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// waiting says what of the replicas keeps a census at this moment from meaning that a version has no sessions.
func (r *Registry) waiting(service, version string, now time.Time) (waiting []string) {
	say := func(format string, args ...any) { waiting = append(waiting, fmt.Sprintf(format, args...)) }
	if len(r.Replicas) == 0 {
		say("no replica is registered: nothing is known of any")
		return waiting
	}
	if age := now.Sub(r.Since); age < Late {
		say("the register of replicas is new: whoever runs is in it in %s", seconds(Late-age))
	}
	freshness := time.Duration(0)
	for i := range r.Replicas {
		freshness = max(freshness, r.Replicas[i].Freshness)
	}
	for i := range r.Replicas {
		m := &r.Replicas[i]
		v := m.running(service, version)
		switch {
		case m.LateAt(now):
			say("replica %s was last heard of %s ago: what it does is unknown; if it is dead, tgctl replicas forget %s",
				r.label(m), seconds(now.Sub(m.Seen)), m.ID)
		case v.Active:
			say("version %s is active on replica %s, which runs revision %d: drain it there too", version, r.label(m), m.Revision)
		case now.Sub(v.Resting) < freshness:
			say("replica %s drains it for %s of the %s that copies of sessions may be old", r.label(m), seconds(now.Sub(v.Resting)),
				freshness)
		case m.Flushed.Before(v.Resting.Add(freshness)):
			say("replica %s has not written everything it knows of sessions: %s", r.label(m), m.unflushed(now))
		}
		if v.InFlight > 0 {
			say("%s in flight to %s from replica %s", plural(v.InFlight, "request is", "requests are"), version, r.label(m))
		}
	}
	return waiting
}

func (r *Replica) unflushed(now time.Time) string {
	if r.Flushed.IsZero() {
		return "it has not done so yet"
	}
	return "the last time it had was " + seconds(now.Sub(r.Flushed)) + " ago"
}

// seconds prints a duration for people, rounded up.
func seconds(d time.Duration) string {
	return ((d + time.Second - 1) / time.Second * time.Second).String()
}

// label names a replica for people, with the beginning of its ID where another has the same name.
func (r *Registry) label(m *Replica) string {
	for i := range r.Replicas {
		if other := &r.Replicas[i]; other.Name == m.Name && other.ID != m.ID {
			return m.Name + " (" + m.ID[:min(len(m.ID), 6)] + ")"
		}
	}
	return m.Name
}
