package sessiontest

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"tellergate/session"
)

// borrow returns a string that changes with buffer, as the strings of a request do once it has been answered.
func borrow(buffer []byte) string { return unsafe.String(unsafe.SliceData(buffer), len(buffer)) }

// all returns every session that filter selects, and fails unless the pages are in order.
func (f fixture) all(t *testing.T, filter session.Filter, limit int) []session.Session {
	t.Helper()
	var all []session.Session
	for after := ""; ; {
		page, next, err := f.Sessions(filter, after, limit)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), limit)
		all = append(all, page...)
		if next == "" {
			return all
		}
		require.Len(t, page, limit, "only the last page is short")
		after = next
	}
}

func (f fixture) put(version, branch string, keys ...session.Key) {
	pin := f.pin(version, "")
	pin.Branch = branch
	f.Swap(keys, session.Pin{}, pin, nil)
}

func testFilter(t *testing.T, f fixture) {
	loans := session.Key{Service: "loans", Attribute: "session", Value: "a"}
	f.put("v1", "9001/1", cookie("a"))
	f.clock.Advance(time.Second)
	f.put("v2", "9001/1", cookie("b"))
	f.put("v1", "9001/2", cookie("c"))
	f.put("v1", "9001/1", loans)
	f.put("v1", "9001/1", cookie("dead"))
	f.End([]session.Key{cookie("dead")})
	tests := []struct {
		filter session.Filter
		want   []session.Key
	}{
		{session.Filter{}, []session.Key{cookie("a"), cookie("b"), cookie("c"), loans}},
		{session.Filter{Service: "counter"}, []session.Key{cookie("a"), cookie("b"), cookie("c")}},
		{session.Filter{Version: "v1"}, []session.Key{cookie("a"), cookie("c"), loans}},
		{session.Filter{Branch: "9001/1"}, []session.Key{cookie("a"), cookie("b"), loans}},
		{session.Filter{Service: "counter", Version: "v1", Branch: "9001/1"}, []session.Key{cookie("a")}},
		{session.Filter{Service: "count"}, nil},
		{session.Filter{Branches: map[string]struct{}{"9001/2": {}, "9001/3": {}}}, []session.Key{cookie("c")}},
		{session.Filter{Branches: map[string]struct{}{}}, nil},
		{session.Filter{Service: "counter", Before: f.clock.Now()}, []session.Key{cookie("a")}},
	}
	for _, test := range tests {
		var got []session.Key
		for _, s := range f.all(t, test.filter, 10) {
			require.Len(t, s.Keys, 1)
			require.Equal(t, s.Keys[0].Service, s.Service)
			got = append(got, s.Keys[0])
		}
		require.ElementsMatch(t, test.want, got, "%+v", test.filter)
	}
}

func testPages(t *testing.T, f fixture) {
	var want []session.Key
	for i := range 23 {
		key := cookie(fmt.Sprint(i))
		f.put("v1", "", key, teller(fmt.Sprint(i)))
		want = append(want, key)
		f.clock.Advance(time.Second)
	}
	for _, limit := range []int{1, 2, 7, 22, 23, 24, 1000} {
		var got []session.Key
		for _, s := range f.all(t, session.Filter{}, limit) {
			require.Len(t, s.Keys, 2)
			got = append(got, s.Keys[0])
		}
		require.Equal(t, want, got, "pages of %d", limit)
	}

	// Sessions that begin or end between two pages disturb no other.
	first, next, err := f.Sessions(session.Filter{}, "", 10)
	require.NoError(t, err)
	f.End([]session.Key{cookie("3"), cookie("9"), cookie("12")})
	f.put("v1", "", cookie("new")) // may be seen or not
	second, _, err := f.Sessions(session.Filter{}, next, 100)
	require.NoError(t, err)
	var got []session.Key
	for _, s := range append(first, second...) {
		if s.Keys[0] != cookie("new") {
			got = append(got, s.Keys[0])
		}
	}
	require.Equal(t, append(want[:12:12], want[13:]...), got)

	// Sessions of the same moment are told apart by their ID.
	for i := range 23 {
		f.End([]session.Key{cookie(fmt.Sprint(i))})
	}
	f.End([]session.Key{cookie("new")})
	for i := range 20 {
		f.put("v1", "", cookie(fmt.Sprint("same", i)))
	}
	seen := make(map[string]bool)
	for _, s := range f.all(t, session.Filter{}, 3) {
		require.False(t, seen[s.ID])
		seen[s.ID] = true
	}
	require.Len(t, seen, 20)
}

func testCursor(t *testing.T, f fixture) {
	for _, cursor := range []string{"x", "12", ".", "x.y"} {
		_, _, err := f.Sessions(session.Filter{}, cursor, 10)
		require.EqualError(t, err, fmt.Sprintf("%q is not the cursor of a page of sessions: pass the value of next unchanged,"+
			" or none to begin with the oldest session", cursor))
	}
	_, _, err := f.Sessions(session.Filter{}, "", 0)
	require.EqualError(t, err, "a page of 0 sessions was asked for: ask for at least 1")
}

func (f fixture) idOf(t *testing.T, key session.Key) string {
	t.Helper()
	for _, s := range f.all(t, session.Filter{}, 100) {
		if s.Keys[0] == key {
			return s.ID
		}
	}
	require.Fail(t, "no such session", "%v", key)
	return ""
}

func testEndID(t *testing.T, f fixture) {
	f.put("v1", "", cookie("a"), teller("1"))
	f.put("v1", "", cookie("b"))
	id := f.idOf(t, cookie("a"))
	require.True(t, f.endID(id))
	require.Equal(t, []string{"", "", "v1"}, f.versions(cookie("a"), teller("1"), cookie("b")))
	require.False(t, f.endID(id), "it has ended")
	require.False(t, f.endID(""))
	b := f.idOf(t, cookie("b"))
	f.clock.Advance(time.Hour)
	require.False(t, f.endID(b), "it was idle for too long")
}

func testMoveID(t *testing.T, f fixture) {
	want := f.pin("v1", "9001/1")
	f.Swap([]session.Key{cookie("a"), teller("1")}, session.Pin{}, want, nil)
	f.put("v1", "", cookie("b"))
	id := f.idOf(t, cookie("a"))
	f.clock.Advance(time.Minute)
	require.True(t, f.moveID(id, "v2"))
	want.Version, want.Endpoint, want.UID, want.Moved = "v2", session.Pin{}.Endpoint, "", true
	for _, got := range f.peek(cookie("a"), teller("1")) {
		equal(t, want, got)
	}
	require.Equal(t, []string{"v1"}, f.versions(cookie("b")))
	require.Equal(t, id, f.idOf(t, cookie("a")), "a moved session keeps its name")
	f.put("v1", "", cookie("secret"))
	require.NotContains(t, f.idOf(t, cookie("secret")), "secret")
	require.False(t, f.moveID("0123456789abcdef", "v2"))
	f.clock.Advance(time.Hour)
	require.False(t, f.moveID(id, "v3"), "it was idle for too long")
}

func testSession(t *testing.T, f fixture) {
	f.put("v1", "9001/1", cookie("a"), teller("1"))
	f.put("v2", "", cookie("b"))
	got, ok, err := f.Session(f.idOf(t, cookie("a")))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "counter", got.Service)
	require.Equal(t, "v1", got.Pin.Version)
	require.Equal(t, []session.Key{cookie("a"), teller("1")}, got.Keys)
	_, ok, err = f.Session("0123456789abcdef")
	require.NoError(t, err)
	require.False(t, ok)
	f.clock.Advance(time.Hour)
	_, ok, err = f.Session(got.ID)
	require.NoError(t, err)
	require.False(t, ok, "it was idle for too long")
}

func testCounts(t *testing.T, f fixture) {
	begin := f.clock.Now()
	f.put("v2", "", session.Key{Service: "loans", Attribute: "session", Value: "a"})
	f.put("v1", "9001/1", cookie("a"), teller("1"))
	f.clock.Advance(time.Second)
	f.put("v1", "9001/1", cookie("b"))
	f.put("v1", "9001/2", cookie("d"))
	f.put("v2", "9001/1", cookie("c"))
	counts := f.counts()
	for i := range counts {
		counts[i].Oldest = counts[i].Oldest.UTC()
	}
	require.Equal(t, []session.Count{
		{Service: "counter", Version: "v1", Branch: "9001/1", Sessions: 2, Oldest: begin},
		{Service: "counter", Version: "v1", Branch: "9001/2", Sessions: 1, Oldest: begin.Add(time.Second)},
		{Service: "counter", Version: "v2", Branch: "9001/1", Sessions: 1, Oldest: begin.Add(time.Second)},
		{Service: "loans", Version: "v2", Sessions: 1, Oldest: begin},
	}, counts)
	require.Equal(t, []session.Count{
		{Service: "counter", Version: "v1", Sessions: 3, Oldest: begin},
		{Service: "counter", Version: "v2", Sessions: 1, Oldest: begin.Add(time.Second)},
		{Service: "loans", Version: "v2", Sessions: 1, Oldest: begin},
	}, session.Together(counts))
	f.clock.Advance(20 * time.Minute)
	f.lookup(cookie("b"))
	f.clock.Advance(20*time.Minute + f.late(30*time.Minute))
	counts = f.counts()
	require.Len(t, counts, 1)
	require.Equal(t, 1, counts[0].Sessions)
}

// testStableID: a session is called the same whatever becomes of its first key, and nobody else is ever called so.
func testStableID(t *testing.T, f fixture) {
	f.put("v1", "", cookie("a"), teller("1"))
	id := f.idOf(t, cookie("a"))
	f.clock.Advance(time.Second)
	f.put("v2", "", cookie("a")) // another session takes its first key
	all := f.all(t, session.Filter{}, 10)
	require.Len(t, all, 2)
	require.Equal(t, id, all[0].ID)
	require.Equal(t, []session.Key{teller("1")}, all[0].Keys)
	require.NotEqual(t, id, all[1].ID)
	found, there, err := f.Session(id)
	require.NoError(t, err)
	require.True(t, there)
	require.Equal(t, "v1", found.Pin.Version)
	require.True(t, f.moveID(id, "v3"))
	require.Equal(t, []string{"v2", "v3"}, f.versions(cookie("a"), teller("1")))
	require.True(t, f.endID(id))
	require.Equal(t, []string{"v2", ""}, f.versions(cookie("a"), teller("1")))
	require.False(t, f.endID(id), "the session that has its key now is another")
	require.False(t, f.endID("no such name"))
	require.Equal(t, []string{"v2"}, f.versions(cookie("a")))
}
