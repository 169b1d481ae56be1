package rules

import (
	"errors"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
)

// FuzzParseCompile: whatever the text, there is a document or a list of problems, and a document prints to itself.
func FuzzParseCompile(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/good/*.yaml"} {
		_, texts := corpus(f, pattern)
		for _, text := range texts {
			f.Add(text)
		}
	}
	in := testInputs(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		var problems problem.List
		if err != nil {
			require.True(t, errors.As(err, &problems))
			return
		}
		requirePrints(t, d)
		set, err := Compile(d, in)
		if err != nil {
			require.True(t, errors.As(err, &problems))
			return
		}
		q := fullQuery()
		if service := set.Match(q); service != nil {
			decision := service.Decide(q, Standing{Keyed: true}, nil)
			require.Equal(t, decision.Version.Name(), service.Explain(q, Standing{Keyed: true}, nil).Version)
		}
	})
}

// TestDocumentedExample compiles the examples of docs/rules.md.
func TestDocumentedExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/rules.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		d, err := Parse(block[1])
		require.NoError(t, err)
		compiled(t, d, testInputs(t))
		requirePrints(t, d)
	}
}

func TestPrintQuotes(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", " ", "0012", "1e3", "0x1f", "+1", "-1", ".5", "1_000", "12:30", "2026-11-24", "true", "No", "y", "NULL", "~", ".inf",
		"a: b", "a #b", "#a", "- a", "[a]", "{a}", "*a", "&a", "!a", "%a", "@a", "`a", `"a"`, "'a'", `a\b`, "a\tb", "a\nb",
		"a\u2028b", "\ufeffa", "\U0001f600", "\u0085", "\x7f", "网点", "<<", "=", "9001/0001", "/a", "a-b.c_d",
	} {
		d := counter(Rule{Name: "pilot", When: &Condition{Attribute: "channel", Is: ptr(value)}, Then: Outcome{Version: "v2"}})
		again, err := Parse(d.Print())
		require.NoError(t, err, "%q", value)
		require.Equal(t, value, *again.Services[0].Rules[0].When.Is)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for written, printed := range map[string]string{
		"30m": "30m", "30m0s": "30m", "90m": "1h30m", "10h": "10h", "10h0m1s": "10h0m1s", "1500ms": "1.5s", "45s": "45s",
		"1h10m": "1h10m", "20m": "20m", "0s": "0s",
	} {
		var d Duration
		require.NoError(t, d.UnmarshalText([]byte(written)))
		require.Equal(t, printed, d.String(), written)
	}
	require.Error(t, new(Duration).UnmarshalText([]byte("30")))
}
