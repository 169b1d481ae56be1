package session_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
	"tellergate/session/sessiontest"
)

func TestPinLive(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	pin := session.Pin{Version: "v1", Renewed: start, Idle: 30 * time.Minute, End: start.Add(time.Hour)}
	tests := []struct {
		name string
		pin  func(*session.Pin)
		at   time.Duration
		want bool
	}{
		{"new", nil, 0, true},
		{"just within idle", nil, 30*time.Minute - 1, true},
		{"idle", nil, 30 * time.Minute, false},
		{"just within the end", func(p *session.Pin) { p.Renewed = start.Add(59 * time.Minute) }, time.Hour - 1, true},
		{"the end", func(p *session.Pin) { p.Renewed = start.Add(59 * time.Minute) }, time.Hour, false},
		{"seen a moment later than this request's clock", nil, -1, true},
		{"no pin", func(p *session.Pin) { p.Version = "" }, 0, false},
		{"the zero pin", func(p *session.Pin) { *p = session.Pin{} }, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := pin
			if test.pin != nil {
				test.pin(&p)
			}
			require.Equal(t, test.want, p.Live(start.Add(test.at)))
		})
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	none := session.Pin{}
	provisional := session.Pin{Version: "v1"}
	first := session.Pin{Version: "v1", Subject: "9001/0001"}
	second := session.Pin{Version: "v2", Subject: "9001/0002"}
	tests := []struct {
		name    string
		pins    []session.Pin
		subject string
		want    int
	}{
		{"no keys", nil, "", -1},
		{"new session", []session.Pin{none, none}, "", -1},
		{"new session of a teller", []session.Pin{none, none}, "9001/0001", -1},
		{"before the teller is known", []session.Pin{provisional}, "", 0},
		{"the teller becomes known", []session.Pin{provisional, none}, "9001/0001", -1},
		{"the teller stays", []session.Pin{first, first}, "9001/0001", 0},
		{"a request without the teller", []session.Pin{first, none}, "", 0},
		{"session id renewed at login", []session.Pin{none, first}, "9001/0001", 1},
		{"provisional session, known teller", []session.Pin{provisional, first}, "9001/0001", 1},
		{"another teller at the same terminal", []session.Pin{first, none}, "9001/0002", -1},
		{"another teller who has a session elsewhere", []session.Pin{first, second}, "9001/0002", 1},
		{"the first teller again", []session.Pin{second, first}, "9001/0001", 1},
		{"the first live pin", []session.Pin{none, second, first}, "", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, session.Choose(test.pins, test.subject))
		})
	}
}

// A service does with a store what the request path does: look up, choose, or decide and claim.
type service struct {
	t     *testing.T
	pins  *session.Memory
	clock *sessiontest.Clock
}

// request serves a request of a session and a teller, either may be empty, for which the rules would decide version. It
// returns the version that served.
func (s service) request(id, teller, version string) string {
	s.t.Helper()
	s.clock.Advance(time.Second)
	var keys []session.Key
	if id != "" {
		keys = append(keys, session.Key{Service: "counter", Attribute: "session", Value: id})
	}
	if teller != "" {
		keys = append(keys, session.Key{Service: "counter", Attribute: "teller", Value: teller})
	}
	found := make([]session.Pin, len(keys))
	s.pins.Lookup(keys, found, nil)
	if i := session.Choose(found, teller); i >= 0 {
		for _, pin := range found {
			if pin.Version != found[i].Version || pin.Subject != found[i].Subject {
				s.pins.Swap(keys, session.Pin{}, found[i], nil)
				break
			}
		}
		return found[i].Version
	}
	now := s.clock.Now()
	return s.pins.Claim(keys, session.Pin{
		Version: version, Subject: teller, Start: now, Idle: 30 * time.Minute, End: now.Add(10 * time.Hour),
	}, nil).Version
}

// TestSessionContract walks the contract's sequences. Each line is a request: who, what the rules say by now, and which
// version must serve.
func TestSessionContract(t *testing.T) {
	t.Parallel()
	type step struct {
		session, teller, decided, want, because string
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"anonymous login page, session cookie, teller", []step{
			{"", "", "v1", "v1", "anonymous: decided each time"},
			{"", "", "v2", "v2", "anonymous: decided each time"},
			{"s1", "", "v1", "v1", "the session begins"},
			{"s1", "", "v2", "v1", "provisional, but it holds while nobody has logged in"},
			{"s1", "t1", "v2", "v2", "the subject appears: decided once more"},
			{"s1", "t1", "v1", "v2", "then fixed"},
			{"s1", "", "v1", "v2", "a request that does not name the teller belongs to the session too"},
		}},
		{"teller, then session", []step{
			{"", "t1", "v2", "v2", "a session begins with whatever key comes first"},
			{"s1", "t1", "v1", "v2", "the teller's pin is written under the session"},
			{"s1", "", "v1", "v2", "where it is found"},
		}},
		{"session id renewed at login", []step{
			{"s1", "t1", "v1", "v1", "the session begins"},
			{"s2", "t1", "v2", "v1", "a new id of the same teller"},
			{"s2", "", "v2", "v1", "is now pinned itself"},
		}},
		{"two tellers on one cookie", []step{
			{"s1", "t1", "v1", "v1", "the first teller"},
			{"s1", "t2", "v2", "v2", "the second sits down: decided once more"},
			{"s1", "t2", "v1", "v2", "then fixed"},
			{"s1", "t1", "v2", "v1", "the first comes back to his own version"},
			{"s1", "t2", "v1", "v2", "and the second to hers"},
		}},
		{"one teller at two terminals", []step{
			{"s1", "t1", "v1", "v1", "the first terminal"},
			{"s2", "t1", "v2", "v1", "the second: the same person, the same version"},
			{"s1", "t1", "v2", "v1", "and back"},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			clock := sessiontest.NewClock()
			s := service{t, session.NewMemory(1000, clock.Now), clock}
			for i, step := range test.steps {
				require.Equal(t, step.want, s.request(step.session, step.teller, step.decided), "step %d: %s", i+1, step.because)
			}
		})
	}
}
