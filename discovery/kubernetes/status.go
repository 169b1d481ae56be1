package kubernetes

import (
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Counts only grow.
type Counts struct {
	Events   uint64 // changes received from the API server
	Lists    uint64 // whole lists read
	Failures uint64 // lists and watches that failed
	Held     uint64 // lists that turned a pod set empty and were not believed at once
	Joins    uint64 // times that the slices of a pod set were joined, whether that changed it or not
	Changes  uint64 // pod sets published
}

// A Status is what operators see.
type Status struct {
	Counts
	References int // followed, those of former generations included
	Endpoints  int // in their pod sets
	Unknown    int // references whose pods have never been read
	Stale      int // references whose changes do not arrive
	Truncated  int // legacy Endpoints that do not name every pod
	Refused    int // slices and endpoints left out because they are not understood
	// StaleSince is since when the longest of them is; zero if none is.
	StaleSince time.Time
	// Missing says of each unknown reference why; Notes of the rest what operators should know. One sentence each.
	Missing, Notes []string
}

// patience is how long unknown pods keep a replica from being ready that knows others.
const patience = 10 * time.Second

// Status returns what is known and how fresh it is.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Counts: s.counts, References: len(s.pods)}
	now, waiting, known, why := time.Now(), false, false, ""
	var unknown []string
	for name, p := range s.pods {
		st.Endpoints += p.handle.Load().Len()
		since, reason := p.stale()
		switch {
		case !p.known:
			st.Unknown++
			unknown = append(unknown, fmt.Sprintf("the pods of %s have not been read yet%s", name, because(reason)))
			waiting = waiting || now.Sub(p.added) < patience
		case !since.IsZero():
			st.Stale++
			if st.StaleSince.IsZero() || since.Before(st.StaleSince) {
				st.StaleSince = since
			}
			if reason != "" {
				why = reason
			}
		}
		known = known || p.known
		if p.portless && p.known {
			st.Notes = append(st.Notes, fmt.Sprintf("some pods of %s do not have that port and are left out", name))
		}
		if !p.held.IsZero() {
			st.Notes = append(st.Notes, fmt.Sprintf("a list says that %s has no pods any more; believed from %s on", name,
				p.held.UTC().Format(time.RFC3339)))
		}
	}
	slices.Sort(unknown)
	slices.Sort(st.Notes)
	// What is unknown keeps the replica from being ready at first, and for as long as nothing at all is known.
	if waiting || !known && len(s.pods) > 0 {
		st.Missing = unknown
	} else {
		st.Notes = append(st.Notes, unknown...)
	}
	if st.Stale > 0 {
		st.Notes = append([]string{fmt.Sprintf("stale: %d of %d pod sets are as they were last known, since %s at the latest%s",
			st.Stale, len(s.pods), st.StaleSince.UTC().Format(time.RFC3339), because(why))}, st.Notes...)
	}
	for _, c := range s.collections {
		for _, kept := range c.slices {
			st.Refused += len(kept.faults)
			if kept.truncated {
				st.Truncated++
			}
		}
	}
	return st
}

// stale returns since when changes of p do not arrive, and why; zero if they do.
func (p *podSet) stale() (since time.Time, why string) {
	for _, c := range []*collection{p.from, p.pods} {
		if c != nil && !c.broken.IsZero() && (since.IsZero() || c.broken.Before(since)) {
			since, why = c.broken, c.why
		}
	}
	if !p.cachedAt.IsZero() && (since.IsZero() || p.cachedAt.Before(since)) {
		since = p.cachedAt
	}
	return since, why
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// explain says what an answer of the API server means and what to do.
func explain(k key, err error) string {
	text := "the " + k.String() + " cannot be read; its pods stay as they were last known"
	switch {
	case apierrors.IsForbidden(err):
		return text + ". The credentials lack a right: deploy/kubernetes/rbac.yaml holds the role that suffices"
	case apierrors.IsUnauthorized(err):
		return text + ". The API server does not accept the credentials: they may have expired"
	case apierrors.IsNotFound(err) && k.kind == kindSlices:
		return text + ". This API server does not serve EndpointSlices (discovery.k8s.io/v1): set discovery.kubernetes.source to endpoints"
	}
	return text
}
