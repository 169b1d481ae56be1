package admin

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnifiedDiff(t *testing.T) {
	t.Parallel()
	numbered := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintf(&b, "%d\n", i)
		}
		return b.String()
	}
	for _, c := range []struct{ name, before, after, want string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"from nothing", "", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"to nothing", "a\n", "", "@@ -1,1 +0,0 @@\n-a\n"},
		{"one line", "a\nb\nc\n", "a\nB\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
		{"context of three lines", numbered(1, 9), strings.Replace(numbered(1, 9), "5\n", "", 1),
			"@@ -2,7 +2,6 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n"},
		{"far differences are two hunks", numbered(1, 20), "0\n" + numbered(1, 19),
			"@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -17,4 +18,3 @@\n 17\n 18\n 19\n-20\n"},
		{"near differences are one", numbered(1, 8), "0\n" + numbered(2, 7) + "9\n",
			"@@ -1,8 +1,8 @@\n-1\n+0\n 2\n 3\n 4\n 5\n 6\n 7\n-8\n+9\n"},
	} {
		require.Equal(t, c.want, unifiedDiff(c.before, c.after), c.name)
	}
}

// TestEditsLeadFromOneTextToTheOther over random texts of few different lines, where many paths are equally short.
func TestEditsLeadFromOneTextToTheOther(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func() []string {
		lines := make([]string, random.IntN(12))
		for i := range lines {
			lines[i] = string(rune('a' + random.IntN(3)))
		}
		return lines
	}
	for range 5000 {
		a, b := text(), text()
		checkEdits(t, a, b, lineEdits(a, b))
	}
}

// TestGreatDifferencesAreOneBlock: beyond maxEdits no shortest way is looked for, but the answer stays true.
func TestGreatDifferencesAreOneBlock(t *testing.T) {
	t.Parallel()
	a, b := make([]string, 2*maxEdits), make([]string, 2*maxEdits)
	for i := range a {
		a[i], b[i] = fmt.Sprint("a", i), fmt.Sprint("b", i)
	}
	edits := lineEdits(a, b)
	checkEdits(t, a, b, edits)
	require.Equal(t, byte('-'), edits[0].op)
	require.Equal(t, byte('+'), edits[len(edits)-1].op)
}

func checkEdits(t *testing.T, a, b []string, edits []lineEdit) {
	t.Helper()
	var before, after []string
	for _, e := range edits {
		if e.op != '+' {
			before = append(before, e.line)
		}
		if e.op != '-' {
			after = append(after, e.line)
		}
	}
	require.Equal(t, append([]string{}, a...), append([]string{}, before...), "%v %v", a, b)
	require.Equal(t, append([]string{}, b...), append([]string{}, after...), "%v %v", a, b)
}

func TestQuality(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]float64{
		"text/csv":                            1,
		"*/*":                                 1,
		"text/*;q=0.5":                        0.5,
		"application/json":                    0,
		"*/*;q=0.1, text/csv;q=0":             0,
		"text/*;q=0.2, text/csv;q=0.7, */*":   0.7,
		"nonsense;;, text/csv":                1,
		"application/json, text/csv; q=maybe": 0,
	} {
		require.InDelta(t, want, quality(accept, "text/csv"), 1e-9, accept)
	}
}
