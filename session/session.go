// Package session holds pins: the records that keep a session on the version, and if possible the pod, that it started
// on.
//
// It is responsible for what a pin is and how long it lives, and for the in-process store (Memory). It does not decide
// versions (rules does), read requests (proxy does) or talk to Redis (session/redis does). It imports nothing of
// tellergate.
package session

import (
	"net/netip"
	"time"
)

// A Key names one session attribute of one service. Value is the pair outer/value where the attribute is declared
// within another. Key fields passed to a store are only borrowed: a store that keeps one copies it.
type Key struct {
	Service, Attribute, Value string
}

// A Pin keeps a session on its version. It names things and never indexes them, because indexes change between
// generations of rules. The zero Pin means that there is none.
type Pin struct {
	Version  string
	Endpoint netip.AddrPort // the pod that answered last; may be gone
	UID      string         // that pod's identity, where its source knows one
	// Subject is the value of the service's subject attribute when the session was decided. An empty one makes the pin
	// provisional: the session is decided once more when its subject first appears.
	Subject  string
	Branch   string // for the drain ledger; the branch of the request that made the pin
	Revision uint64 // the revision of the rules that decided it
	// Moved says that an operator took the session off the pod that it had; nobody has told its client yet.
	Moved bool

	Start   time.Time     // when the session began; kept when the pin is rewritten within the session
	Renewed time.Time     // when the session was last seen by the store
	Idle    time.Duration // the session ends this long after Renewed
	End     time.Time     // and at the latest then
}

// Live reports whether the pin is one and has not reached its idle or absolute limit at now.
func (p *Pin) Live(now time.Time) bool {
	return p.Version != "" && now.Before(p.End) && now.Sub(p.Renewed) < p.Idle
}

// A Wait adds up how long one request has waited for a store that is not in this process. Handed to every call that the
// request makes, it keeps all its waiting together within the store's budget. The zero Wait has not waited; where a store
// is handed nil, the call has a budget of its own. It belongs to one goroutine.
type Wait struct{ Spent time.Duration }

// A Session is one row of the drain ledger: the keys that share a pin are one session.
type Session struct {
	// ID names the session towards operators, from its beginning to its end. It does not reveal a key's value.
	ID      string
	Service string
	Pin     Pin
	Keys    []Key
}

// Choose returns the index of the pin that holds for a request, or -1 if it must be decided anew. pins are those found
// under the request's keys in the order of the service's key, zero where there is none or it is not live. Without a
// subject the first pin holds; with one, the first that was made for that subject: a provisional pin and another
// subject's do not bind.
func Choose(pins []Pin, subject string) int {
	for i := range pins {
		if pins[i].Version != "" && (subject == "" || pins[i].Subject == subject) {
			return i
		}
	}
	return -1
}
