package session_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
)

// TestRetirement begins with a version that is safe to retire, and takes one thing away each time.
func TestRetirement(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 22, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	replica := func(at time.Time, name string) session.Replica {
		return session.Replica{ID: name + "-1234567", Name: name, Revision: 7, Seen: at, Flushed: at, Freshness: time.Minute, Since: ago(time.Hour),
			Versions: []session.Running{
				{Service: "counter", Version: "v1", Resting: ago(10 * time.Minute)},
				{Service: "counter", Version: "v2", Active: true},
			}}
	}
	registry := func(at time.Time) session.Registry {
		return session.Registry{Since: ago(time.Hour), Now: at, Replicas: []session.Replica{replica(at, "gate-1"), replica(at, "gate-2")}}
	}
	census := func(began, ended time.Duration) session.Census {
		return session.Census{Began: ago(began), Ended: ago(ended), Before: registry(ago(began)), After: registry(ago(ended)),
			Counts: []session.Count{{Service: "counter", Version: "v2", Sessions: 9}, {Service: "loans", Version: "v1", Sessions: 9}}}
	}
	tests := []struct {
		name    string
		spoil   func(w *session.Watch)
		waiting []string
		clean   int
	}{
		{"nothing is in the way", func(*session.Watch) {}, nil, 2},
		{"its rules do not have the version any more", func(w *session.Watch) {
			for _, r := range []*session.Registry{&w.Registry, &w.Last[0].Before, &w.Last[0].After, &w.Last[1].Before, &w.Last[1].After} {
				r.Replicas[1].Versions = r.Replicas[1].Versions[1:]
			}
		}, nil, 2},
		{"the store does not answer", func(w *session.Watch) { w.Unknown = errors.New("Redis is away") },
			[]string{"how many sessions are left is unknown: Redis is away"}, 0},
		{"nothing has been counted", func(w *session.Watch) { w.Last = nil },
			[]string{"none of 2 complete counts found nobody; the next is under way"}, 0},
		{"one count is not enough", func(w *session.Watch) { w.Last = w.Last[1:] },
			[]string{"one of 2 complete counts found nobody; the next is under way"}, 1},
		{"a session is left", func(w *session.Watch) {
			w.Last[1].Counts = append(w.Last[1].Counts, session.Count{Service: "counter", Version: "v1", Branch: "9001/1", Sessions: 1})
		}, []string{"1 session is live on v1"}, 0},
		{"a session was left", func(w *session.Watch) {
			w.Last[0].Counts = append(w.Last[0].Counts, session.Count{Service: "counter", Version: "v1", Sessions: 1})
		}, []string{"one of 2 complete counts found nobody; the next is under way"}, 1},
		{"a replica is late", func(w *session.Watch) { w.Registry.Replicas[1].Seen = ago(11 * time.Second) },
			[]string{"replica gate-2 was last heard of 11s ago: what it does is unknown; if it is dead, tgctl replicas forget gate-2-1234567"}, 2},
		{"a replica was late when a count began", func(w *session.Watch) { w.Last[0].Before.Replicas[0].Seen = ago(time.Minute) },
			[]string{"one of 2 complete counts found nobody; the next is under way"}, 1},
		{"a replica was late when a count ended", func(w *session.Watch) { w.Last[1].After.Replicas[0].Seen = ago(time.Minute) },
			[]string{"none of 2 complete counts found nobody; the next is under way"}, 0},
		{"a replica has it active", func(w *session.Watch) { w.Registry.Replicas[0].Versions[0].Active = true },
			[]string{"version v1 is active on replica gate-1, which runs revision 7: drain it there too"}, 2},
		{"a replica drains it since a moment", func(w *session.Watch) { w.Registry.Replicas[0].Versions[0].Resting = ago(59 * time.Second) },
			[]string{"replica gate-1 drains it for 59s of the 1m0s that copies of sessions may be old"}, 2},
		{"the longest freshness of any counts", func(w *session.Watch) { w.Registry.Replicas[1].Freshness = time.Hour },
			[]string{"replica gate-1 drains it for 10m0s of the 1h0m0s that copies of sessions may be old",
				"replica gate-2 drains it for 10m0s of the 1h0m0s that copies of sessions may be old"}, 2},
		{"a replica has unwritten pins", func(w *session.Watch) { w.Registry.Replicas[0].Flushed = ago(9*time.Minute + time.Second) },
			[]string{"replica gate-1 has not written everything it knows of sessions: the last time it had was 9m1s ago"}, 2},
		{"a replica has never written all", func(w *session.Watch) { w.Registry.Replicas[0].Flushed = time.Time{} },
			[]string{"replica gate-1 has not written everything it knows of sessions: it has not done so yet"}, 2},
		{"a request is under way", func(w *session.Watch) { w.Registry.Replicas[1].Versions[0].InFlight = 2 },
			[]string{"2 requests are in flight to v1 from replica gate-2"}, 2},
		{"nobody is registered", func(w *session.Watch) { w.Registry.Replicas = nil },
			[]string{"no replica is registered: nothing is known of any"}, 2},
		{"the register is new", func(w *session.Watch) { w.Registry.Since = ago(3 * time.Second) },
			[]string{"the register of replicas is new: whoever runs is in it in 7s"}, 2},
		{"two of one name", func(w *session.Watch) {
			w.Registry.Replicas[0].Name = "gate-2"
			w.Registry.Replicas[0].Versions[0].InFlight = 1
		}, []string{"1 request is in flight to v1 from replica gate-2 (gate-1)"}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := session.Watch{Now: now, Registry: registry(now), Last: []session.Census{census(40*time.Second, 30*time.Second), census(20*time.Second, 10*time.Second)}}
			test.spoil(&w)
			verdict := session.Retirement("counter", "v1", &w)
			require.Equal(t, session.Verdict{Safe: test.waiting == nil, Clean: test.clean, Waiting: test.waiting}, verdict)
		})
	}
}

func TestAlone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 22, 0, 0, 0, time.UTC)
	pins := session.NewMemory(100, func() time.Time { return now })
	resting := now
	alone := session.NewAlone(pins, func() session.Replica {
		return session.Replica{Name: "here", Started: now, Versions: []session.Running{{Service: "counter", Version: "v1", Resting: resting}}}
	})
	key := []session.Key{{Service: "counter", Attribute: "session", Value: "a"}}
	pins.Swap(key, session.Pin{}, session.Pin{Version: "v1", Start: now, Idle: time.Hour, End: now.Add(time.Hour)}, nil)
	verdict := func() session.Verdict {
		w := alone.Watch()
		return session.Retirement("counter", "v1", &w)
	}
	require.Equal(t, []string{"1 session is live on v1"}, verdict().Waiting)
	pins.End(key)
	now = now.Add(time.Second)
	require.False(t, verdict().Safe)
	require.False(t, verdict().Safe, "looking twice at the same moment is not two counts")
	now = now.Add(time.Second)
	require.Equal(t, session.Verdict{Safe: true, Clean: 2}, verdict())

	for i := range 250 {
		require.NoError(t, alone.NoteMove(session.Move{ID: fmt.Sprint(i), Began: now.Add(time.Duration(i) * time.Second), Sessions: 1}))
	}
	require.NoError(t, alone.NoteMove(session.Move{ID: "249", Began: now.Add(249 * time.Second), Sessions: 5}))
	moves, err := alone.Moves()
	require.NoError(t, err)
	require.Len(t, moves, 200)
	require.Equal(t, 5, moves[0].Sessions)
	require.Equal(t, "50", moves[199].ID)
}
