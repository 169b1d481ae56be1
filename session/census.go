package session

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrUnknown is what the ledger answers where it cannot know: an unreachable store is not an empty one.
var ErrUnknown = errors.New("the sessions are not known now")

// Counting is the error of a question whose answer takes a census that is still under way. It is an ErrUnknown.
type Counting struct {
	Seen, Of int // keys; Of is an estimate, and 0 before there is one
}

// Error says how far the census is.
func (c *Counting) Error() string {
	if c.Of == 0 {
		return "the sessions are being counted: ask again"
	}
	return fmt.Sprintf("the sessions are being counted, %d %% so far: ask again", c.Percent())
}

// Percent is how much has been seen, at most 99.
func (c *Counting) Percent() int {
	if c.Of == 0 {
		return 0
	}
	return min(99, int(int64(c.Seen)*100/int64(c.Of)))
}

// Unwrap makes it an ErrUnknown.
func (c *Counting) Unwrap() error { return ErrUnknown }

// A Filter selects sessions; zero fields select everything.
type Filter struct {
	Service, Version, Branch string
	// Branches are those of which one must be the session's; nil is every one and none at all.
	Branches map[string]struct{}
	// Before selects sessions that began before it.
	Before time.Time
}

// Selects reports whether the filter selects a session.
func (f *Filter) Selects(service, version, branch string, start time.Time) bool {
	if f.Service != "" && f.Service != service || f.Version != "" && f.Version != version ||
		f.Branch != "" && f.Branch != branch || !f.Before.IsZero() && !start.Before(f.Before) {
		return false
	}
	if f.Branches == nil {
		return true
	}
	_, in := f.Branches[branch]
	return in
}

// Count is the number of live sessions of one version in one branch.
type Count struct {
	Service, Version string
	Branch           string // empty: sessions whose branch is not known, or all branches together
	Sessions         int
	Oldest           time.Time // Start of the oldest of them
}

// Together adds counts up over branches, by service and version, sorted by both.
func Together(counts []Count) []Count {
	type name struct{ service, version string }
	sums := make(map[name]Count)
	for _, c := range counts {
		n := name{c.Service, c.Version}
		sum, there := sums[n]
		if !there || c.Oldest.Before(sum.Oldest) {
			sum.Oldest = c.Oldest
		}
		sum.Service, sum.Version, sum.Sessions = c.Service, c.Version, sum.Sessions+c.Sessions
		sums[n] = sum
	}
	out := make([]Count, 0, len(sums))
	for _, sum := range sums {
		out = append(out, sum)
	}
	SortCounts(out)
	return out
}

// SortCounts sorts by service, version and branch.
func SortCounts(counts []Count) {
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Branch, b.Branch))
	})
}

// A Census is what one complete look at every pin found. Its times are by the clock of the store. It is immutable.
type Census struct {
	Began, Ended time.Time
	Counts       []Count // by service, version and branch, sorted; versions without a session are not in it
	// Before and After are the replicas that were registered when it began and when it had ended.
	Before, After Registry
}

// Of returns the number of sessions on a version.
func (c *Census) Of(service, version string) (sessions int, oldest time.Time) {
	for _, n := range c.Counts {
		if n.Service == service && n.Version == version {
			sessions += n.Sessions
			if oldest.IsZero() || n.Oldest.Before(oldest) {
				oldest = n.Oldest
			}
		}
	}
	return sessions, oldest
}

// A Watch is what is known to somebody who waits for a version to drain.
type Watch struct {
	Now     time.Time // by the clock of the store
	Last    []Census  // the last two in a row, or fewer, oldest first; none where the store did not answer since
	Running *Counting // the census that is under way; nil: none is
	// Unknown says why there is nothing newer; nil: nothing is in the way.
	Unknown  error
	Registry Registry // as it is now; without members where Unknown is set
}
