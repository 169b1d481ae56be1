package proxy

import (
	"bytes"
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
	r.p.pins.Lookup(r.keys, r.pins)
	r.held = session.Choose(r.pins, r.subject)
	if r.held >= 0 {
		r.pin = r.pins[r.held]
		r.standing.Pinned = r.pin.Version
	}
}

// decide asks the rules and writes the pin before the request leaves, so that requests of one session that come at the
// same moment go to one version.
func (r *request) decide() *refusal {
	r.decision = r.service.Decide(&r.query, r.standing, r.table)
	if no := r.refused(); no != nil {
		return no
	}
	switch {
	case !r.standing.Keyed:
	case r.decision.WritePin && r.standing.Pinned == "":
		won := r.p.pins.Claim(r.keys, r.newPin(r.decision.Version.Name()))
		r.pin = won
		if won.Version == r.decision.Version.Name() {
			break
		}
		// Another request of this session was faster.
		r.standing.Pinned = won.Version
		r.decision = r.service.Decide(&r.query, r.standing, r.table)
		if no := r.refused(); no != nil {
			return no
		}
		if r.decision.WritePin {
			r.repin()
		}
	case r.decision.WritePin:
		r.repin()
	case r.held >= 0 && r.scattered():
		r.p.pins.Put(r.keys, r.pin)
	}
	return nil
}

// decideAgain is for a version to which no connection could be made: nothing has been executed. It reports whether
// there is another version to try; the new one is pinned.
func (r *request) decideAgain() bool {
	failed := r.decision.Version
	if r.standing.Forced != "" {
		return false
	}
	if r.decision.WritePin {
		r.standing.Pinned = "" // what was claimed a moment ago has not served anybody
	}
	again := r.service.Decide(&r.query, r.standing, r.table)
	if again.Refusal != rules.NotRefused || again.Version == failed {
		return false
	}
	r.decision = again
	if r.standing.Keyed && again.WritePin {
		r.repin()
	}
	return true
}

// repin puts the session on the decision's version.
func (r *request) repin() {
	r.pin = r.newPin(r.decision.Version.Name())
	r.p.pins.Put(r.keys, r.pin)
	r.p.metrics.pinsWritten.Inc()
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

// refused translates what the rules refuse.
func (r *request) refused() *refusal {
	switch r.decision.Refusal {
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
		r.settle()
	}
}

// settle writes the pod that answered into the pin, unless the session has been moved or ended meanwhile.
func (r *request) settle() {
	r.p.pins.Lookup(r.keys, r.pins)
	i := session.Choose(r.pins, r.subject)
	if i < 0 || r.pins[i].Version != r.pin.Version {
		return
	}
	r.pin = r.pins[i]
	r.pin.Endpoint, r.pin.UID = r.exchange.Endpoint.Addr, r.exchange.Endpoint.UID
	r.p.pins.Put(r.keys, r.pin)
}

// endSession ends the pins under all keys of the request; what follows is a new session.
func (r *request) endSession() {
	if len(r.keys) > 0 {
		r.p.metrics.pinsEnded.Add(float64(r.p.pins.End(r.keys)))
	}
	r.keys, r.pins, r.pin, r.subject = r.keys[:0], r.pins[:0], session.Pin{}, ""
}

// beginUnder pins the session to the version that answered under the id it will be known by: a new session's, or the
// one that replaces another at login.
func (r *request) beginUnder(key session.Key) {
	pin := r.pin
	if pin.Version == "" {
		pin = r.newPin(r.decision.Version.Name())
	}
	pin.Version = r.decision.Version.Name()
	pin.Endpoint, pin.UID = r.exchange.Endpoint.Addr, r.exchange.Endpoint.UID
	r.keys = append(r.keys, session.Key{})
	copy(r.keys[1:], r.keys)
	r.keys[0] = key
	r.p.pins.Put(r.keys, pin)
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
			clean, ok := cleanValue(value)
			if !ok || len(clean) == 0 {
				continue
			}
			full := view(clean)
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
