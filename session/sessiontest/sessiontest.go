// Package sessiontest is the conformance suite of pin stores: what every one must do alike. A store's test calls Run
// with a factory. The package knows no store, and tests neither bounds nor speed: those are each store's own.
package sessiontest

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
)

// Pins is what the request path asks of a store.
type Pins interface {
	Lookup(keys []session.Key, out []session.Pin, wait *session.Wait)
	Peek(keys []session.Key, out []session.Pin, wait *session.Wait)
	Claim(keys []session.Key, pin session.Pin, wait *session.Wait) session.Pin
	Swap(keys []session.Key, was, pin session.Pin, wait *session.Wait) bool
	End(keys []session.Key) int
}

// Ledger is what operators ask of a store.
type Ledger interface {
	Sessions(filter session.Filter, after string, limit int) (page []session.Session, next string, err error)
	Session(id string) (row session.Session, there bool, err error)
	EndID(id string) (bool, error)
	MoveID(id, version string) (bool, error)
	Counts() ([]session.Count, error)
}

// Store is a pin store.
type Store interface {
	Pins
	Ledger
}

// A Clock is a clock that only moves when it is told to. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

// NewClock returns a clock that stands at some moment.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

// A fixture is a store, its clock, and words for what tests do with them.
type fixture struct {
	Store
	clock *Clock
	late  func(idle time.Duration) time.Duration
}

// Run runs the suite. late is how much longer than idle a session may live in this store; nil: none. open returns an empty store with the given clock and closes it when the test ends.
func Run(t *testing.T, late func(idle time.Duration) time.Duration, open func(t *testing.T, now func() time.Time) Store) {
	if late == nil {
		late = func(time.Duration) time.Duration { return 0 }
	}
	tests := []struct {
		name string
		run  func(t *testing.T, f fixture)
	}{
		{"nothing is found in an empty store", testEmpty},
		{"a pin is found under each of its keys", testPinned},
		{"keys differ by service, attribute and value", testKeys},
		{"idle limit", testIdle},
		{"absolute limit", testAbsolute},
		{"looking without renewing", testPeek},
		{"the first claim wins", testClaim},
		{"a claim for another subject wins", testClaimSubject},
		{"one of many concurrent claims wins", testClaimRace},
		{"a pin is swapped only for the one that was read", testSwap},
		{"a key that is put again leaves its session", testRegroup},
		{"the end of sessions", testEnd},
		{"borrowed strings are copied", testBorrowed},
		{"the ledger selects", testFilter},
		{"the ledger is paged oldest first", testPages},
		{"the ledger's cursor is checked", testCursor},
		{"ending by ID", testEndID},
		{"moving by ID", testMoveID},
		{"finding by ID", testSession},
		{"counts", testCounts},
		{"a session's ID is its own and stays", testStableID},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			test.run(t, fixture{open(t, clock.Now), clock, late})
		})
	}
}

func (f fixture) counts() []session.Count {
	counts, err := f.Counts()
	if err != nil {
		panic(err)
	}
	return counts
}

func (f fixture) endID(id string) bool {
	ended, err := f.EndID(id)
	return ended && err == nil
}

func (f fixture) moveID(id, version string) bool {
	moved, err := f.MoveID(id, version)
	return moved && err == nil
}

func cookie(value string) session.Key {
	return session.Key{Service: "counter", Attribute: "session", Value: value}
}

func teller(value string) session.Key {
	return session.Key{Service: "counter", Attribute: "teller", Value: "9001/" + value}
}

// pin returns a pin that ends 30 minutes after it was last seen and 10 hours after now.
func (f fixture) pin(version, subject string) session.Pin {
	now := f.clock.Now()
	return session.Pin{
		Version:  version,
		Endpoint: netip.MustParseAddrPort("10.2.0.7:8080"),
		UID:      "pod-1",
		Subject:  subject,
		Branch:   "9001/3201",
		Revision: 7,
		Start:    now,
		Renewed:  now,
		Idle:     30 * time.Minute,
		End:      now.Add(10 * time.Hour),
	}
}

func (f fixture) lookup(keys ...session.Key) []session.Pin {
	out := make([]session.Pin, len(keys))
	f.Lookup(keys, out, nil)
	return out
}

func (f fixture) peek(keys ...session.Key) []session.Pin {
	out := make([]session.Pin, len(keys))
	f.Peek(keys, out, nil)
	return out
}

// versions returns the versions of the live pins under keys, "" where there is none, without renewing them.
func (f fixture) versions(keys ...session.Key) []string {
	var versions []string
	for _, pin := range f.peek(keys...) {
		versions = append(versions, pin.Version)
	}
	return versions
}

// equal compares pins field by field, times as moments: a store may keep them in another form.
func equal(t *testing.T, want, got session.Pin) {
	t.Helper()
	require.WithinDuration(t, want.Start, got.Start, 0)
	require.WithinDuration(t, want.Renewed, got.Renewed, 0)
	require.WithinDuration(t, want.End, got.End, 0)
	want.Start, want.Renewed, want.End = got.Start, got.Renewed, got.End
	require.Equal(t, want, got)
}

func testEmpty(t *testing.T, f fixture) {
	out := []session.Pin{f.pin("v1", ""), f.pin("v1", "")}
	f.Lookup([]session.Key{cookie("a"), teller("1")}, out, nil)
	require.Equal(t, make([]session.Pin, 2), out, "what out held is overwritten")
	out[0] = f.pin("v1", "")
	f.Peek([]session.Key{cookie("a"), teller("1")}, out, nil)
	require.Equal(t, make([]session.Pin, 2), out)
	require.Zero(t, f.End([]session.Key{cookie("a")}))
	f.Lookup(nil, nil, nil)
	f.Swap(nil, session.Pin{}, f.pin("v1", ""), nil)
	require.Equal(t, f.pin("v1", ""), f.Claim(nil, f.pin("v1", ""), nil), "without a key nothing is kept")
	require.Empty(t, f.counts())
}

func testPinned(t *testing.T, f fixture) {
	want := f.pin("v1", "9001/0001")
	f.Swap([]session.Key{cookie("a"), teller("1")}, session.Pin{}, want, nil)
	for _, got := range f.lookup(cookie("a"), teller("1")) {
		equal(t, want, got)
	}
	require.Equal(t, []string{"v1", "", "v1"}, f.versions(teller("1"), teller("2"), cookie("a")))

	// A swap for the zero pin does what it is told, whatever was there; Start is the caller's, Renewed the store's.
	f.clock.Advance(time.Minute)
	next := f.pin("v2", "9001/0002")
	next.Start = want.Start
	next.Renewed = time.Time{}
	f.Swap([]session.Key{cookie("a"), teller("1")}, session.Pin{}, next, nil)
	next.Renewed = f.clock.Now()
	for _, got := range f.peek(cookie("a"), teller("1")) {
		equal(t, next, got)
	}
}

func testKeys(t *testing.T, f fixture) {
	f.Swap([]session.Key{{Service: "counter", Attribute: "session", Value: "a"}}, session.Pin{}, f.pin("v1", ""), nil)
	f.Swap([]session.Key{{Service: "counter", Attribute: "teller", Value: "a"}}, session.Pin{}, f.pin("v2", ""), nil)
	f.Swap([]session.Key{{Service: "loans", Attribute: "session", Value: "a"}}, session.Pin{}, f.pin("v3", ""), nil)
	require.Equal(t, []string{"v1", "v2", "v3", "", "", ""}, f.versions(
		session.Key{Service: "counter", Attribute: "session", Value: "a"},
		session.Key{Service: "counter", Attribute: "teller", Value: "a"},
		session.Key{Service: "loans", Attribute: "session", Value: "a"},
		session.Key{Service: "loans", Attribute: "teller", Value: "a"},
		session.Key{Service: "counter", Attribute: "session", Value: "A"},
		session.Key{Service: "counter", Attribute: "session"},
	))
}

func testIdle(t *testing.T, f fixture) {
	f.Swap([]session.Key{cookie("a"), teller("1")}, session.Pin{}, f.pin("v1", ""), nil)
	for range 5 {
		f.clock.Advance(30*time.Minute - 1)
		found := f.lookup(cookie("a"))[0]
		require.Equal(t, "v1", found.Version, "one nanosecond before the limit it lives")
		require.WithinDuration(t, f.clock.Now(), found.Renewed, 0)
	}
	require.Equal(t, []string{"v1"}, f.versions(teller("1")), "renewing one key renews the session")
	f.clock.Advance(30*time.Minute + f.late(30*time.Minute))
	require.Equal(t, []string{"", ""}, f.versions(cookie("a"), teller("1")), "at the limit it has ended")
	require.Equal(t, make([]session.Pin, 2), f.lookup(cookie("a"), teller("1")))
	require.Zero(t, f.End([]session.Key{cookie("a"), teller("1")}))
	require.Empty(t, f.counts())
}

func testAbsolute(t *testing.T, f fixture) {
	pin := f.pin("v1", "")
	pin.End = f.clock.Now().Add(45 * time.Minute)
	f.Swap([]session.Key{cookie("a")}, session.Pin{}, pin, nil)
	f.clock.Advance(20 * time.Minute)
	require.Equal(t, "v1", f.lookup(cookie("a"))[0].Version)
	f.clock.Advance(25*time.Minute - 1)
	require.Equal(t, "v1", f.lookup(cookie("a"))[0].Version)
	f.clock.Advance(1)
	require.Equal(t, session.Pin{}, f.lookup(cookie("a"))[0], "no renewal goes beyond the end")
}

func testPeek(t *testing.T, f fixture) {
	want := f.pin("v1", "")
	f.Swap([]session.Key{cookie("a")}, session.Pin{}, want, nil)
	f.clock.Advance(29 * time.Minute)
	equal(t, want, f.peek(cookie("a"))[0])
	f.clock.Advance(time.Minute + f.late(30*time.Minute))
	require.Equal(t, session.Pin{}, f.peek(cookie("a"))[0])
}

func testClaim(t *testing.T, f fixture) {
	keys := []session.Key{cookie("a"), teller("1")}
	want := f.pin("v1", "9001/1")
	equal(t, want, f.Claim(keys, want, nil))
	f.clock.Advance(20 * time.Minute)
	won := f.Claim(keys, f.pin("v2", "9001/1"), nil)
	want.Renewed = f.clock.Now()
	equal(t, want, won)
	f.clock.Advance(20 * time.Minute)
	require.Equal(t, []string{"v1", "v1"}, f.versions(keys...), "the claim that lost was the session's request: it is renewed")

	// Only the first key is contended; what the others held gives way.
	f.Claim([]session.Key{cookie("b"), teller("1")}, f.pin("v2", "9001/1"), nil)
	require.Equal(t, []string{"v1", "v2", "v2"}, f.versions(cookie("a"), cookie("b"), teller("1")))

	// A dead pin holds nothing.
	f.clock.Advance(time.Hour)
	require.Equal(t, "v3", f.Claim(keys, f.pin("v3", "9001/1"), nil).Version)
	require.Equal(t, []string{"v3", "v3"}, f.versions(keys...))
}

func testClaimSubject(t *testing.T, f fixture) {
	f.Claim([]session.Key{cookie("a")}, f.pin("v1", ""), nil)
	require.Equal(t, "v2", f.Claim([]session.Key{cookie("a"), teller("1")}, f.pin("v2", "9001/1"), nil).Version,
		"a provisional pin gives way when the subject is known")
	require.Equal(t, "v3", f.Claim([]session.Key{cookie("a"), teller("2")}, f.pin("v3", "9001/2"), nil).Version,
		"another teller at the same terminal")
	require.Equal(t, []string{"v3", "v2", "v3"}, f.versions(cookie("a"), teller("1"), teller("2")))
}

func testClaimRace(t *testing.T, f fixture) {
	for round := range 20 {
		keys := []session.Key{cookie(fmt.Sprint(round)), teller(fmt.Sprint(round))}
		const requests = 8
		won := make([]string, requests)
		var all sync.WaitGroup
		for i := range requests {
			all.Go(func() { won[i] = f.Claim(keys, f.pin(fmt.Sprint("v", i), "9001/1"), nil).Version })
		}
		all.Wait()
		for _, version := range won {
			require.Equal(t, won[0], version)
		}
		require.Equal(t, []string{won[0], won[0]}, f.versions(keys...))
	}
}

func testRegroup(t *testing.T, f fixture) {
	f.Swap([]session.Key{cookie("a"), teller("1")}, session.Pin{}, f.pin("v1", "9001/1"), nil)
	f.clock.Advance(time.Second)
	f.Swap([]session.Key{cookie("a"), teller("2")}, session.Pin{}, f.pin("v2", "9001/2"), nil)
	require.Equal(t, []string{"v2", "v1", "v2"}, f.versions(cookie("a"), teller("1"), teller("2")))
	page, next, err := f.Sessions(session.Filter{}, "", 10)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, page, 2)
	require.Equal(t, []session.Key{teller("1")}, page[0].Keys)
	require.Equal(t, []session.Key{cookie("a"), teller("2")}, page[1].Keys)
	require.NotEqual(t, page[0].ID, page[1].ID)
	require.Equal(t, 1, f.End([]session.Key{teller("1")}))
	require.Equal(t, []string{"v2", "", "v2"}, f.versions(cookie("a"), teller("1"), teller("2")))
}

func testEnd(t *testing.T, f fixture) {
	f.Swap([]session.Key{cookie("a"), teller("1")}, session.Pin{}, f.pin("v1", ""), nil)
	f.Swap([]session.Key{cookie("b")}, session.Pin{}, f.pin("v1", ""), nil)
	f.Swap([]session.Key{cookie("c")}, session.Pin{}, f.pin("v1", ""), nil)
	require.Equal(t, 2, f.End([]session.Key{cookie("a"), cookie("b"), teller("9")}))
	require.Equal(t, []string{"", "", "", "v1"}, f.versions(cookie("a"), teller("1"), cookie("b"), cookie("c")),
		"a session ends under all its keys")
	require.Zero(t, f.End([]session.Key{cookie("a"), cookie("b")}))
	f.Swap([]session.Key{cookie("a")}, session.Pin{}, f.pin("v2", ""), nil)
	require.Equal(t, []string{"v2", ""}, f.versions(cookie("a"), teller("1")))
}

func testBorrowed(t *testing.T, f fixture) {
	buffer := []byte("session-1 9001/0001 9001/3201")
	view := func() (string, string, string) {
		s := borrow(buffer)
		return s[:9], s[10:19], s[20:]
	}
	id, subject, branch := view()
	pin := f.pin("v1", subject)
	pin.Branch = branch
	f.Swap([]session.Key{cookie(id)}, session.Pin{}, pin, nil)
	copy(buffer, "another-r equest/in the buffer")
	found := f.peek(cookie("session-1"))[0]
	require.Equal(t, "v1", found.Version)
	require.Equal(t, "9001/0001", found.Subject)
	require.Equal(t, "9001/3201", found.Branch)
}

func testSwap(t *testing.T, f fixture) {
	was := f.pin("v1", "9001/1")
	f.Swap([]session.Key{cookie("a")}, session.Pin{}, was, nil)
	next := was
	next.Version = "v2"
	require.True(t, f.Swap([]session.Key{cookie("a"), teller("1")}, was, next, nil), "and another key joins")
	require.Equal(t, []string{"v2", "v2"}, f.versions(cookie("a"), teller("1")))
	require.Len(t, f.all(t, session.Filter{}, 10), 1, "it is one session still")

	require.False(t, f.Swap([]session.Key{cookie("a")}, was, was, nil), "it has been moved to v2 meanwhile")
	require.True(t, f.moveID(f.idOf(t, cookie("a")), "v3"))
	require.False(t, f.Swap([]session.Key{cookie("a")}, next, was, nil), "an operator has moved it meanwhile")
	require.Equal(t, []string{"v3", "v3"}, f.versions(cookie("a"), teller("1")))

	next.Version, next.Endpoint, next.UID = "v3", session.Pin{}.Endpoint, ""
	other := next
	other.Subject = "9001/2"
	require.False(t, f.Swap([]session.Key{cookie("a")}, other, was, nil), "another subject's pin")
	require.True(t, f.Swap([]session.Key{cookie("new"), teller("1")}, next, next, nil), "any of the keys may hold it")
	first, second := next, next
	first.Endpoint, second.Endpoint = netip.MustParseAddrPort("10.2.0.5:80"), netip.MustParseAddrPort("10.2.0.6:80")
	require.True(t, f.Swap([]session.Key{cookie("a")}, next, first, nil))
	require.False(t, f.Swap([]session.Key{cookie("a")}, next, second, nil), "of two first answers the earlier gives the pod")
	next = first
	f.End([]session.Key{teller("1")})
	require.False(t, f.Swap([]session.Key{cookie("a"), teller("1"), cookie("new")}, next, next, nil), "it has ended meanwhile")
	require.Equal(t, []string{"", "", ""}, f.versions(cookie("a"), teller("1"), cookie("new")))

	f.Swap([]session.Key{cookie("b")}, session.Pin{}, was, nil)
	f.clock.Advance(time.Hour)
	require.False(t, f.Swap([]session.Key{cookie("b")}, was, was, nil), "it was idle for too long")
}
