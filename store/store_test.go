package store_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/store"
)

func example() store.Revision {
	return store.Revision{
		Seq: 7, Parent: 6, Author: "li.wei", Reason: "试点 3200", At: time.UnixMilli(1795500000123).UTC(),
		Parts: map[string]store.Digest{
			"rules": store.DigestOf([]byte("r")), "lists/pilot": store.DigestOf([]byte("p")),
		},
		Previous: store.DigestOf([]byte("parent")),
	}
}

// TestComputeHash holds the encoding fast: an auditor's program, or the next release, must get the same. The value was
// computed with Python's hashlib and struct from the description at ComputeHash.
func TestComputeHash(t *testing.T) {
	t.Parallel()
	r := example()
	require.Equal(t, "be05b5187657c976bc4945a94ac39763573d4b185c4e2fc80891b736735818b8", r.ComputeHash().String())
	r.Hash = store.DigestOf([]byte("anything"))
	require.Equal(t, "be05b5187657c976bc4945a94ac39763573d4b185c4e2fc80891b736735818b8", r.ComputeHash().String(), "the hash does not cover itself")
}

func TestComputeHashCoversEveryField(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*store.Revision)
	}{
		{"seq", func(r *store.Revision) { r.Seq++ }},
		{"parent", func(r *store.Revision) { r.Parent++ }},
		{"author", func(r *store.Revision) { r.Author = "li.wej" }},
		{"reason", func(r *store.Revision) { r.Reason = "" }},
		{"the border of author and reason", func(r *store.Revision) { r.Author, r.Reason = "li.wei试点", " 3200" }},
		{"at", func(r *store.Revision) { r.At = r.At.Add(time.Millisecond) }},
		{"a part's name", func(r *store.Revision) {
			r.Parts = map[string]store.Digest{"rules": r.Parts["rules"], "lists/pilos": r.Parts["lists/pilot"]}
		}},
		{"a part's content", func(r *store.Revision) { r.Parts["rules"] = store.DigestOf([]byte("R")) }},
		{"two contents exchanged", func(r *store.Revision) {
			r.Parts["rules"], r.Parts["lists/pilot"] = r.Parts["lists/pilot"], r.Parts["rules"]
		}},
		{"a part more", func(r *store.Revision) { r.Parts["x"] = store.Digest{} }},
		{"a part less", func(r *store.Revision) { delete(r.Parts, "rules") }},
		{"previous", func(r *store.Revision) { r.Previous[31]++ }},
	}
	original := example()
	seen := map[store.Digest]string{original.ComputeHash(): "the original"}
	for _, test := range tests {
		r := example()
		test.change(&r)
		hash := r.ComputeHash()
		require.Empty(t, seen[hash], "%s has the hash of another", test.name)
		seen[hash] = test.name
	}
}

func TestCheckNext(t *testing.T) {
	t.Parallel()
	head, _, err := store.Next(store.Revision{}, store.Change{Set: map[string][]byte{"rules": nil}}, time.Now())
	require.NoError(t, err)
	good, ok, err := store.Next(head, store.Change{Parent: 1, Delete: []string{"rules"}}, time.Now())
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, store.CheckNext(head, good))
	tests := []struct {
		name   string
		damage func(*store.Revision)
		want   string
	}{
		{"number", func(r *store.Revision) { r.Seq = 4 }, "its number is 4 and should be 2"},
		{"parent", func(r *store.Revision) { r.Parent = 0 }, "its parent is 0 and should be 1"},
		{"previous", func(r *store.Revision) { r.Previous = store.Digest{} },
			"it follows a revision with the hash " + store.Digest{}.String() + ", but the hash of revision 1 is " +
				head.Hash.String()},
		{"hash", func(r *store.Revision) { r.Hash = store.Digest{} },
			"its hash is " + store.Digest{}.String() + ", but its fields give " + good.Hash.String()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := good
			test.damage(&r)
			require.EqualError(t, store.CheckNext(head, r), test.want)
		})
	}
}

func TestNextRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change store.Change
		want   string
	}{
		{"another parent", store.Change{Parent: 3},
			"the change was made against revision 3 and the head is 0: the head revision has moved on"},
		{"author", store.Change{Author: "\xff"}, `the author "\xff" and the reason "" must be UTF-8`},
		{"reason", store.Change{Reason: "\xff"}, `the author "" and the reason "\xff" must be UTF-8`},
		{"part", store.Change{Set: map[string][]byte{"lists/\xff": nil}},
			`the name of a part is "lists/\xff": it must be UTF-8 and not empty`},
		{"nameless part", store.Change{Set: map[string][]byte{"": nil}},
			`the name of a part is "": it must be UTF-8 and not empty`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, ok, err := store.Next(store.Revision{}, test.change, time.Now())
			require.EqualError(t, err, test.want)
			require.False(t, ok)
		})
	}
}

func TestDigestText(t *testing.T) {
	t.Parallel()
	digest := store.DigestOf([]byte("x"))
	text, err := json.Marshal(digest)
	require.NoError(t, err)
	require.Equal(t, `"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"`, string(text))
	var back store.Digest
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, digest, back)
	require.EqualError(t, back.UnmarshalText([]byte("2d71")), `digest "2d71" has 4 characters instead of 64`)
	require.EqualError(t, back.UnmarshalText([]byte("xx711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")),
		"encoding/hex: invalid byte: U+0078 'x'")
}
