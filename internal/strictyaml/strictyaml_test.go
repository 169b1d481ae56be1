package strictyaml

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
)

type inner struct {
	Name   string    `yaml:"name"`
	Weight int       `yaml:"weight"`
	Tags   []string  `yaml:"tags"`
	Many   OneOrMany `yaml:"many"`
	Inner  *inner    `yaml:"inner"`
}

type outer struct {
	Text    string            `yaml:"text"`
	Flag    bool              `yaml:"flag"`
	Wait    time.Duration     `yaml:"wait"`
	Address netip.AddrPort    `yaml:"address"`
	Items   []inner           `yaml:"items"`
	Labels  map[string]string `yaml:"labels"`
	Order   []string          `yaml:",keys"`
	Unread  string
}

func TestDecode(t *testing.T) {
	var o outer
	source, problems := Decode([]byte(`
wait: 1h30m
text: '0012'
flag: true
address: "[::1]:80"
items:
  - {name: a, weight: -3, tags: [], many: one}
  - name: b
    many: [one, two]
    inner: {name: c}
labels: {k: v}
`), &o)
	require.Empty(t, problems)
	assert.Equal(t, outer{
		Text: "0012", Flag: true, Wait: 90 * time.Minute, Address: netip.MustParseAddrPort("[::1]:80"),
		Items: []inner{
			{Name: "a", Weight: -3, Tags: []string{}, Many: OneOrMany{"one"}},
			{Name: "b", Many: OneOrMany{"one", "two"}, Inner: &inner{Name: "c"}},
		},
		Labels: map[string]string{"k": "v"},
		Order:  []string{"wait", "text", "flag", "address", "items", "labels"},
	}, o)

	line, column := source.Position("items[b].inner.name")
	assert.Equal(t, []int{10, 19}, []int{line, column})
	line, column = source.Position("items[b].inner.weight.nothing")
	assert.Equal(t, []int{10, 12}, []int{line, column}, "the closest ancestor that has a place")
	line, column = source.Position("items[1].many[1]")
	assert.Equal(t, []int{9, 17}, []int{line, column}, "an index finds a named element as well")
	line, column = source.Position("items[7].name")
	assert.Equal(t, []int{7, 3}, []int{line, column}, "there is no such element")
	line, column = source.Position("nothing[x]")
	assert.Equal(t, []int{2, 1}, []int{line, column}, "there is no such key")
	line, column = (*Source)(nil).Position("items")
	assert.Equal(t, []int{0, 0}, []int{line, column})
}

func TestDecodeReadsJSONWithTabs(t *testing.T) {
	text, err := json.MarshalIndent(map[string]any{"text": "tab\t and \"quotes\" / 网点", "items": []any{map[string]any{"name": "a"}}}, "", "\t")
	require.NoError(t, err)
	var o outer
	_, problems := Decode(text, &o)
	require.Empty(t, problems)
	assert.Equal(t, "tab\t and \"quotes\" / 网点", o.Text)
	assert.Equal(t, "a", o.Items[0].Name)
}

func TestDecodeReadsNothing(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# only a comment\n", "\ufeff", "---\n"} {
		var o outer
		_, problems := Decode([]byte(text), &o)
		assert.Empty(t, problems, "%q", text)
		assert.Equal(t, outer{}, o)
	}
}

func TestDecodeReportsEveryFault(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"several at once, in the order of the text", "text: 0012\nflag: yes\nitems:\n  - name: a\n    weight: ten\n  - name: a\n    wieght: 3\n", `
1:7: text: the number 0012 stands where a text belongs; put it in quotes ("0012"): leading zeros count
2:7: flag: the text "yes" stands where true or false belongs; write true or false, without quotes
5:13: items[a].weight: the text "ten" stands where a whole number belongs; write a whole number in digits, without quotes
7:5: items[1].wieght: the key wieght is not known here; did you mean weight?`},
		{"unknown key far from all", "zzzzzz: 1", `
1:1: zzzzzz: the key zzzzzz is not known here; known keys are address, flag, items, labels, text, wait`},
		{"doubled key", "text: a\ntext: b", `
2:1: text: the key text is there already, in line 1; remove one of them`},
		{"truth value for a text", "text: true", `
1:7: text: the truth value true stands where a text belongs; put it in quotes ("true")`},
		{"date for a text", "text: 2026-11-24", `
1:7: text: the date 2026-11-24 stands where a text belongs; put it in quotes ("2026-11-24")`},
		{"null", "text:\nlabels: {a: ~}", `
1:6: text: there is no value here; give one, or leave the key out
2:13: labels.a: there is no value here; give one, or leave the key out`},
		{"sequence for a text", "text: [a]", `
1:7: text: a sequence stands where a text belongs; write a single value`},
		{"text for a sequence", "items: a", `
1:8: items: the text "a" stands where a sequence belongs; write [a, b] or one item a line with a dash`},
		{"text for a mapping", "items: [a]", `
1:9: items[0]: the text "a" stands where a mapping belongs; write keys with values: {key: value}`},
		{"duration without unit", "wait: 30", `
1:7: wait: the number 30 stands where a duration belongs; write a number with its unit, such as 30s, 5m or 1h30m`},
		{"unreadable text", "address: here", `
1:10: address: "here" is not readable: not an ip:port; correct the value`},
		{"number with a fraction", "items: [{weight: 1.5}]", `
1:18: items[0].weight: the number 1.5 stands where a whole number belongs; write a whole number in digits, without quotes`},
		{"anchor and alias", "text: &a x\nlabels: {b: *a}", `
1:7: text: anchors and aliases (& and *) are not read; write the value out
2:13: labels.b: anchors and aliases (& and *) are not read; write the value out`},
		{"merge key", "labels:\n  <<: {a: b}", `
2:3: labels: merge keys (<<) are not read; write the keys out`},
		{"tag", "text: !!str 12", `
1:7: text: tags like !!str are not read; leave the tag out`},
		{"second document", "text: a\n---\ntext: b", `
2:1: a second document begins here; keep one document in a file: remove the --- line`},
		{"anchor and tag of a key", "&a text: x\n!!str flag: true", `
1:1: anchors and aliases (& and *) are not read; write the value out
2:1: tags like !!str are not read; leave the tag out`},
		{"alias of nothing", "text: a\nlabels: *x", `
2:1: anchors and aliases (& and *) are not read; write the value out`},
		{"no key", "labels: {~: a}", `
1:10: labels: there is no key here; write one, or remove the value`},
		{"a key that is no word", "? [a]\n: b", `
1:3: a sequence stands where a key belongs; write a single word`},
		{"a key that cannot be printed", `"te\txt": a`, `
1:1: "te\txt": the key "te\txt" is not known here; did you mean text?`},
		{"a very long key", "? " + strings.Repeat("网", 2000) + "\n: b", `
1:3: ` + strings.Repeat("网", 60) + `…: the key ` + strings.Repeat("网", 60) + `… is not known here; known keys are address, flag, items, labels, text, wait`},
		{"a very long value", "flag: " + strings.Repeat("网", 2000), `
1:7: flag: the text "` + strings.Repeat("网", 60) + `…" stands where true or false belongs; write true or false, without quotes`},
		{"numbers in other writings", "items: [{weight: 010}, {weight: +1}, {weight: 0x1f}, {weight: 1_000}, {weight: '1'}]", `
1:18: items[0].weight: the number 010 is not written in plain digits; write 10
1:33: items[1].weight: the number +1 is not written in plain digits; write 1
1:47: items[2].weight: the number 0x1f stands where a whole number belongs; write a whole number in digits, without quotes
1:63: items[3].weight: the number 1_000 stands where a whole number belongs; write a whole number in digits, without quotes
1:80: items[4].weight: the text "1" stands where a whole number belongs; write a whole number in digits, without quotes`},
		{"number too large", "items: [{weight: 99999999999999999999}]", `
1:18: items[0].weight: the number 99999999999999999999 is too large; write a smaller number`},
		{"names that are no labels", "items: [{name: 'a]', x: 1}, {name: \"a\\tb\", x: 1}, {name: '', x: 1}, {name: 柜面, x: 1}, {name: 柜面, x: 1}]", `
1:22: items[0].x: the key x is not known here; known keys are inner, many, name, tags, weight
1:44: items[1].x: the key x is not known here; known keys are inner, many, name, tags, weight
1:62: items[2].x: the key x is not known here; known keys are inner, many, name, tags, weight
1:80: items[柜面].x: the key x is not known here; known keys are inner, many, name, tags, weight
1:98: items[4].x: the key x is not known here; known keys are inner, many, name, tags, weight`},
		{"JSON has places too", "{\n\t\"text\": 0.5,\n\t\"items\": [{\"网点\": 1, \"name\": null}],\n\t\"text\": \"\"\n}", `
2:10: text: the number 0.5 stands where a text belongs; put it in quotes ("0.5"): leading zeros count
3:13: items[0].网点: the key 网点 is not known here; known keys are inner, many, name, tags, weight
3:30: items[0].name: there is no value here; give one, or leave the key out
4:2: text: the key text is there already, in line 2; remove one of them`},
		{"JSON with half a surrogate pair", `{"text": "\ud842", "items": 1}`, `
1:10: there is half a surrogate pair in the text "\ud842"; write the character itself`},
		{"JSON that ends early", "{\n  \"text\": \"a\",\n  \"items\": [", `
3:1: the text is not YAML: did not find expected node content; check indentation, quotes and brackets there and just above`},
		{"quotes that do not end", "text: \"abc", `
1:1: the text is not YAML: found unexpected end of stream; check indentation, quotes and brackets there and just above`},
		{"indentation", "items:\n  - name: a\n b: c\n", `
3:1: the text is not YAML: did not find expected key; check indentation, quotes and brackets there and just above`},
		{"tab as indentation", "labels:\n\ta: b", `
2:1: the text is not YAML: found character that cannot start any token; check indentation, quotes and brackets there and just above`},
		{"colon in a value", "text: a: b", `
1:1: the text is not YAML: mapping values are not allowed in this context; check indentation, quotes and brackets there and just above`},
		{"control character", "text: a\nlabels: {网: \x07}", `
2:13: the character U+0007 must not stand in a text; remove it; in double quotes it may be written as an escape`},
		{"a second byte order mark", "\ufefftext: a\n\ufeffflag: true", `
2:1: the character U+FEFF must not stand in a text; remove it; in double quotes it may be written as an escape`},
		{"not UTF-8 after a byte order mark", "\ufeffte\xff", `
1:3: byte 0xff at offset 5 is not UTF-8; save the text as UTF-8`},
		{"GBK", "text: a\n# \xcd\xf8\xb5\xe3", `
2:3: byte 0xcd at offset 10 is not UTF-8; save the text as UTF-8`},
		{"UTF-16", "\xff\xfet\x00", `
1:1: byte 0xff at offset 0 is not UTF-8; save the text as UTF-8`},
		{"syntax", "text: a\nitems: [", `
2:1: the text is not YAML: did not find expected node content; check indentation, quotes and brackets there and just above`},
		{"not UTF-8", "text: a\n# \xff", `
2:3: byte 0xff at offset 10 is not UTF-8; save the text as UTF-8`},
		{"NUL", "text: a\x00", `
1:8: the character U+0000 must not stand in a text; remove it; in double quotes it may be written as an escape`},
		{"too deep for the parser", strings.Repeat("[", 20_000), `
1:1: the text is not YAML: exceeded max depth of 10000; check indentation, quotes and brackets there and just above`},
		{"too large", "# " + strings.Repeat("x", 64<<20), `
the text has 67108866 bytes, and at most 67108864 are read; move long sets of values into lists`},
		{"too many values", "items: [" + strings.Repeat("[],", 5<<20) + "]", `
the text has too many values: 10485762 bytes may begin one ([ { , : - ? and ends of lines), and at most 8388608 are read; move long sets of values into lists`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o outer
			_, problems := Decode([]byte(c.text), &o)
			require.NotEmpty(t, problems)
			assert.Equal(t, strings.TrimPrefix(c.want, "\n"), problems.Error())
		})
	}
}

func TestDecodeBoundsDepth(t *testing.T) {
	var v inner
	_, problems := Decode([]byte(strings.Repeat("{inner: ", 70)+"{}"+strings.Repeat("}", 70)), &v)
	require.Len(t, problems, 1)
	assert.Contains(t, problems[0].Message, "nested more than 64 levels")
}

func TestPlaceKeepsWhatIsKnown(t *testing.T) {
	var o outer
	source, _ := Decode([]byte("text: a"), &o)
	p := problem.Problem{Path: "text"}
	source.Place(&p)
	assert.Equal(t, []int{1, 7}, []int{p.Line, p.Column})
	p = problem.Problem{Path: "text", Line: 9, Column: 9}
	source.Place(&p)
	assert.Equal(t, 9, p.Line)
}

func TestPositionOfKeysWithDots(t *testing.T) {
	var o outer
	source, problems := Decode([]byte("labels: {app.bank.example/name: x, app: y}"), &o)
	require.Empty(t, problems)
	_, column := source.Position("labels.app.bank.example/name")
	assert.Equal(t, 33, column)
	_, column = source.Position("labels.app")
	assert.Equal(t, 41, column)
}

func TestDecodeBoundsProblems(t *testing.T) {
	var o outer
	_, problems := Decode([]byte("items: ["+strings.Repeat("x,", 100_000)+"]"), &o)
	require.Len(t, problems, maxProblems+1)
	assert.Equal(t, "more was found than is listed here; correct those above first", problems[maxProblems].String())
}

// TestDecodeBoundsMemory has long names above many values: a path for each would cost gigabytes.
func TestDecodeBoundsMemory(t *testing.T) {
	name := strings.Repeat("a", 1<<20)
	text := []byte("items: [{name: " + name + ", tags: [" + strings.Repeat("x,", 50_000) + "]}]")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var o outer
	_, problems := Decode(text, &o)
	runtime.ReadMemStats(&after)
	require.Empty(t, problems)
	require.Len(t, o.Items[0].Tags, 50_000)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(200<<20))
}

// breaks are the ends of lines to YAML.
var breaks = regexp.MustCompile("\r\n|[\n\r\u0085\u2028\u2029]")

// FuzzDecode: no text makes Decode panic, and every fault has a place inside the text, or none.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"text: a", "items: [{name: a, inner: {inner: {}}}]", "a: &a [*a]", "? {a: b}\n: c", "<<: x", "\t",
		"labels: {\"\": ''}", "{\"text\": \"\\u0000\", \"labels\": {\"\": 1}}", "text: a\n b\n  c: d", "text: |\n  a\nb", "\ufeff{\n}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var o outer
		_, problems := Decode(text, &o)
		lines := strings.Split(string(text), "\n")
		if plain := bytes.TrimPrefix(text, []byte(byteOrderMark)); !looksLikeJSON(plain) || !json.Valid(plain) {
			lines = breaks.Split(string(text), -1)
		}
		for _, p := range problems {
			require.NotEmpty(t, p.Message)
			require.NotEmpty(t, p.Remedy, p)
			if p.Line == 0 {
				require.Zero(t, p.Column, p)
				continue
			}
			require.LessOrEqual(t, p.Line, len(lines), p)
			require.LessOrEqual(t, p.Column, utf8.RuneCountInString(lines[p.Line-1])+1, p)
		}
	})
}
