package proxy

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tellergate/proxy/upstream"
	"tellergate/rules"
	"tellergate/session"
)

// findSession looks up the pins of the request's keys. A tester's request has no session: it neither reads nor writes
// pins.
func (r *request) findSession() {
	r.held = -1
	sessions := r.service.Sessions()
	if sessions == nil || r.standing.Forced != "" {
		return
	}
	if sessions.Subject >= 0 {
		r.subject = r.query.Attributes[sessions.Subject]
	}
	for _, i := range sessions.Key {
		if value := r.query.Attributes[i]; value != "" {
			r.keys = append(r.keys, session.Key{
				Service: r.service.Name(), Attribute: r.terms.attributes[i].name, Value: value,
			})
			r.pins = append(r.pins, session.Pin{})
		}
	}
	if len(r.keys) == 0 {
		return
	}
	r.standing.Keyed = true
	r.lookUp()
}

// lookUp finds the pin that holds for the request.
func (r *request) lookUp() {
	r.p.pins.Lookup(r.keys, r.pins, &r.wait)
	r.held, r.pin = session.Choose(r.pins, r.subject), session.Pin{}
	if r.held >= 0 {
		r.pin = r.pins[r.held]
	}
	r.standing.Pinned = r.pin.Version
}

// decideAttempts bounds how often a request looks again because its session was moved or ended between its look and its
// write. Losing that race even once is rare.
const decideAttempts = 4

// decide asks the rules and writes the pin before the request leaves, so that requests of one session that come at the
// same moment go to one version.
func (r *request) decide() *refusal {
	for range decideAttempts {
		r.decision = r.service.Decide(&r.query, r.standing, r.table)
		if no := refusalOf(r.decision.Refusal); no != nil {
			if r.foundElsewhere() {
				continue
			}
			return no
		}
		if r.settled() {
			break
		}
	}
	r.noteSeen()
	return nil
}

// noteShare is how many requests of pinned sessions there are for one that is noted: who keeps a session sends many, and to
// look for them all, in a sketch that is larger than the caches, is more than a hundredth of what a request costs.
const noteShare = 8

// noteSeen has whoever sends the request remembered. A tester is nobody.
func (r *request) noteSeen() {
	if r.p.seen == nil || r.standing.Forced != "" {
		return
	}
	if r.standing.Pinned != "" && !r.decision.WritePin && rand.Uint32()%noteShare != 0 {
		return
	}
	r.p.seen.Note(r.service.Name(), r.query.Attributes, r.started)
}

// foundElsewhere is for a new session that is refused: what it may not have, one that another replica has pinned may.
func (r *request) foundElsewhere() bool {
	if !r.standing.Keyed || r.standing.Pinned != "" {
		return false
	}
	r.p.pins.Peek(r.keys, r.pins, &r.wait)
	if r.held = session.Choose(r.pins, r.subject); r.held < 0 {
		return false
	}
	r.pin = r.pins[r.held]
	r.standing.Pinned = r.pin.Version
	return true
}

// settled brings the session's pin in line with the decision. It reports false where the session is no longer what the
// decision was made for; then the session has been looked up anew.
func (r *request) settled() bool {
	switch {
	case !r.standing.Keyed:
		return true
	case r.decision.WritePin && r.standing.Pinned == "":
		mine := r.newPin(r.decision.Version.Name())
		r.pin = r.p.pins.Claim(r.keys, mine, &r.wait)
		if r.pin.Start.Equal(mine.Start) {
			r.p.metrics.pinsWritten.Inc()
		} else { // a session that was known elsewhere, and is under every key now
			r.held = 0
			for i := range r.pins {
				r.pins[i] = r.pin
			}
		}
		if r.pin.Version == mine.Version {
			return true
		}
		r.standing.Pinned = r.pin.Version // another request of this session was faster
		return false
	case r.decision.WritePin:
		if r.swap(r.newPin(r.decision.Version.Name())) {
			r.p.metrics.pinsWritten.Inc()
			return true
		}
	case !r.scattered() || r.swap(r.pin):
		return true
	}
	r.lookUp()
	return false
}

// swap writes next where the session still has the pin that this request knows, and reports whether it did.
func (r *request) swap(next session.Pin) bool {
	if r.pin.Version == "" || !r.p.pins.Swap(r.keys, r.pin, next, &r.wait) {
		return false
	}
	r.pin = next
	return true
}

// decideAgain is for a version to which no connection could be made: nothing has been executed. It reports whether
// there is another version to try, which has been pinned, or else why there is none.
func (r *request) decideAgain() (no *refusal, ok bool) {
	failed := r.decision.Version
	if r.standing.Forced != "" {
		return nil, false
	}
	if r.decision.WritePin {
		r.standing.Pinned = "" // what was claimed a moment ago has not served anybody
	}
	again := r.service.Decide(&r.query, r.standing, r.table)
	if no := refusalOf(again.Refusal); no != nil {
		return no, false
	}
	if again.Version == failed {
		return nil, false
	}
	r.decision = again
	if r.standing.Keyed && again.WritePin && r.swap(r.newPin(again.Version.Name())) {
		r.p.metrics.pinsWritten.Inc()
	}
	return nil, true
}

// newPin is a pin for this request's session. It keeps the beginning of a session that was known already, and, where the
// request does not name the subject, whose session it is; another subject's session is another session.
func (r *request) newPin(version string) session.Pin {
	sessions := r.service.Sessions()
	pin := session.Pin{
		Version:  version,
		Subject:  r.subject,
		Revision: r.table.revision,
		Start:    r.started,
		Renewed:  r.started,
		Idle:     sessions.Idle,
	}
	if sessions.Branch >= 0 {
		pin.Branch = r.query.Attributes[sessions.Branch]
	}
	if former := r.former(sessions.Absolute); former != nil {
		pin.Start = former.Start
		if r.subject == "" {
			pin.Subject = former.Subject
			if pin.Branch == "" {
				pin.Branch = former.Branch
			}
		}
	}
	pin.End = pin.Start.Add(sessions.Absolute)
	return pin
}

// former returns the pin that the request's session has had so far, or nil: the one that held, or else the first that is
// not over and not another subject's.
func (r *request) former(absolute time.Duration) *session.Pin {
	continues := func(p *session.Pin) bool {
		return p.Version != "" && p.Start.Add(absolute).After(r.started) &&
			(p.Subject == "" || r.subject == "" || p.Subject == r.subject)
	}
	if r.held >= 0 && r.held < len(r.pins) && continues(&r.pins[r.held]) {
		return &r.pins[r.held]
	}
	for i := range r.pins {
		if continues(&r.pins[i]) {
			return &r.pins[i]
		}
	}
	return nil
}

// scattered reports whether some key of the request does not hold the session's pin yet.
func (r *request) scattered() bool {
	for i := range r.pins {
		if r.pins[i].Version != r.pin.Version || r.pins[i].Subject != r.pin.Subject {
			return true
		}
	}
	return false
}

// refusalOf translates what the rules refuse; nil for what they do not.
func refusalOf(reason rules.Refusal) *refusal {
	switch reason {
	case rules.NotRefused:
		return nil
	case rules.TesterUnknown:
		return &testerVersionUnknown
	case rules.TesterDisabled:
		return &testerVersionDisabled
	case rules.PinnedUnusable:
		return &pinnedVersionUnavailable
	}
	return &noEndpoint
}

// remember brings the session up to date with the answer: it ends at logout, it begins or continues under the id that
// the answer's Set-Cookie sets, and its pin learns which pod answered.
func (r *request) remember() {
	sessions := r.service.Sessions()
	if sessions == nil || r.standing.Forced != "" {
		return
	}
	a := &r.exchange.Answer
	r.moved = r.leftPod(sessions)
	began, expired := r.cookiesSet(sessions)
	if expired || says(a, "X-Session-End", "1") ||
		a.Status < 400 && sessions.EndsAt(r.query.Path) {
		r.endSession()
	}
	if began != (session.Key{}) {
		r.beginUnder(began)
		return
	}
	if len(r.keys) > 0 && r.pin.Version == r.decision.Version.Name() &&
		(r.pin.Endpoint != r.exchange.Endpoint.Addr || r.pin.UID != r.exchange.Endpoint.UID) {
		next := r.pin
		next.Endpoint, next.UID, next.Moved = r.exchange.Endpoint.Addr, r.exchange.Endpoint.UID, false
		r.swap(next) // or the session has been moved or ended meanwhile, and its pin is not ours to write
	}
}

// Values of movedHeader.
const (
	movedHeader  = "X-Session-Moved"
	movedPod     = "pod"     // another pod of the session's version answers
	movedVersion = "version" // another version answers
)

// leftPod says what the client of a session learns whose pod is not the one that answers; empty for a session that had
// none yet or has kept it.
func (r *request) leftPod(sessions *rules.CompiledSessions) string {
	former := r.former(sessions.Absolute)
	answers := &r.exchange.Endpoint
	switch {
	case former == nil || !former.Endpoint.IsValid() && !former.Moved:
		return ""
	case former.Moved || former.Version != r.decision.Version.Name():
		return movedVersion
	case former.Endpoint != answers.Addr || former.UID != answers.UID:
		return movedPod
	}
	return ""
}

// endSession ends the pins under all keys of the request; what follows is a new session.
func (r *request) endSession() {
	if len(r.keys) > 0 {
		r.p.metrics.pinsEnded.Add(float64(r.p.pins.End(r.keys)))
	}
	r.keys, r.pins, r.pin, r.subject, r.moved = r.keys[:0], r.pins[:0], session.Pin{}, "", ""
}

// beginUnder gives the session the id that the answer sets: a new session is pinned to the version that answered, one
// that had an id before goes on under both. A session that was moved meanwhile goes on where it was moved to; one that
// was ended begins anew with the next request.
func (r *request) beginUnder(key session.Key) {
	had := r.pin.Version != ""
	next := r.pin
	if !had {
		next = r.newPin(r.decision.Version.Name())
	}
	next.Version, next.Moved = r.decision.Version.Name(), false
	next.Endpoint, next.UID = r.exchange.Endpoint.Addr, r.exchange.Endpoint.UID
	r.keys = append([]session.Key{key}, r.keys...) // a login: once in a session
	r.pins = append(r.pins, session.Pin{})
	switch {
	case !had:
		r.p.pins.Swap(r.keys, session.Pin{}, next, &r.wait)
	case r.swap(next):
	default:
		if r.lookUp(); r.pin.Version == "" || !r.swap(r.pin) {
			return
		}
	}
	r.p.metrics.pinsWritten.Inc()
}

// cookiesSet reads the answer's Set-Cookie headers: the session key that one of them gives a new value, and whether one
// of them takes the session's cookie away.
func (r *request) cookiesSet(sessions *rules.CompiledSessions) (began session.Key, expired bool) {
	for f := range r.exchange.Answer.Fields {
		line := r.exchange.Answer.Fields[f].Value
		if !equalFold(r.exchange.Answer.Fields[f].Name, "Set-Cookie") {
			continue
		}
		name, _, _ := bytes.Cut(line, []byte{'='})
		name = bytes.TrimSpace(name)
		for _, i := range sessions.Key {
			a := &r.terms.attributes[i]
			if !has(a.cookies, name) || a.claim {
				continue
			}
			value, gone := readSetCookie(line, r.started)
			if gone {
				expired = expired || r.query.Attributes[i] != ""
				continue
			}
			full, ok := r.handleValue(value)
			if !ok || full == "" {
				continue
			}
			if a.within >= 0 {
				if r.plain[a.within] == "" {
					continue
				}
				full = r.pair(r.plain[a.within], full)
			}
			if full != r.query.Attributes[i] {
				began = session.Key{Service: r.service.Name(), Attribute: a.name, Value: full}
			}
		}
	}
	return began, expired
}

// says reports whether the answer has the header with this value.
func says(a *upstream.Answer, name, value string) bool {
	for i := range a.Fields {
		if equalFold(a.Fields[i].Name, name) && string(a.Fields[i].Value) == value {
			return true
		}
	}
	return false
}

func has(names []string, name []byte) bool {
	for _, n := range names {
		if n == string(name) {
			return true
		}
	}
	return false
}

// readSetCookie returns the cookie's value and whether the header takes the cookie away: no value, or an end in the
// past. Max-Age rules over Expires, RFC 6265 section 5.3.
func readSetCookie(line []byte, now time.Time) (value []byte, gone bool) {
	pair, attributes := cut(line, ';')
	_, value, _ = bytes.Cut(pair, []byte{'='})
	value = bytes.TrimSpace(value)
	gone = len(bytes.Trim(value, `"`)) == 0
	aged := false
	for len(attributes) > 0 {
		var attribute []byte
		attribute, attributes = cut(attributes, ';')
		name, v, _ := bytes.Cut(bytes.TrimSpace(attribute), []byte{'='})
		switch {
		case equalFold(name, "Max-Age"):
			if age, err := strconv.Atoi(view(v)); err == nil {
				aged = true
				gone = gone || age <= 0
			}
		case equalFold(name, "Expires") && !aged:
			if at, err := fasthttp.ParseHTTPDate(v); err == nil && !at.After(now) {
				gone = true
			}
		}
	}
	return value, gone
}
