package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTableAlignsWhatTheTerminalShows(t *testing.T) {
	t.Parallel()
	rows := newTable("REVISION", "AUTHOR", "REASON")
	rows.add("7", "王小明", "试点扩大")
	rows.add("6", "operator", "line\nbreak\x1b[31m")
	rows.add("5", "e\u0301ric", "")
	var b strings.Builder
	rows.write(&b)
	require.Equal(t, "REVISION  AUTHOR    REASON\n"+
		"7         王小明    试点扩大\n"+
		"6         operator  line break [31m\n"+
		"5         e\u0301ric      -\n", b.String())
}

func TestDisplayWidth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "v1": 2, "网点": 4, "Ａ": 2, "e\u0301": 1, "ﾃ": 1, "→": 1, "\ufeffx": 1, "한글": 4,
	} {
		require.Equal(t, want, displayWidth(text), "%q", text)
	}
}

func TestYAMLOfJSON(t *testing.T) {
	t.Parallel()
	got, err := yamlOf([]byte(`{"seq":18446744073709551615,"values":["0001","no","true","网点","1e3",""," x","a: b","2026-11-24","12:30",` +
		`"line\nbreak"],"none":null,"yes":true,"empty":[],"object":{},"nested":[{"b":1,"a":2}],"half":0.5}`))
	require.NoError(t, err)
	require.Equal(t, `seq: 18446744073709551615
values:
  - "0001"
  - "no"
  - "true"
  - 网点
  - "1e3"
  - ""
  - ' x'
  - 'a: b'
  - "2026-11-24"
  - "12:30"
  - |-
    line
    break
none: null
"yes": true
empty: []
object: {}
nested:
  - b: 1
    a: 2
half: 0.5
`, string(got))
}

func TestCounts(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1 value", count(1, "value"))
	require.Equal(t, "0 problems", count(0, "problem"))
	require.Equal(t, "3 branches", count(3, "branch"))
	require.Equal(t, "a, b or c", series([]string{"a", "b", "c"}, "or"))
	require.Equal(t, "a", series([]string{"a"}, "or"))
}
