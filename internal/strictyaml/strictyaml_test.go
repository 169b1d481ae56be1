package strictyaml

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

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
1:7: text: the truth value true stands where a text belongs; put it in quotes ("true"): leading zeros count`},
		{"date for a text", "text: 2026-11-24", `
1:7: text: the date 2026-11-24 stands where a text belongs; put it in quotes ("2026-11-24"): leading zeros count`},
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
		{"syntax", "text: a\nitems: [", `
2:1: the text is not YAML: did not find expected node content; check indentation, quotes and brackets there and just above`},
		{"not UTF-8", "text: a\n# \xff", `
2:3: byte 0xff at offset 10 is not UTF-8; save the text as UTF-8`},
		{"NUL", "text: a\x00", `
1:8: there is a NUL character at offset 7; save the text as UTF-8`},
		{"too deep", strings.Repeat("{items: [", 40) + strings.Repeat("]}", 40), ``},
		{"too large", strings.Repeat("# ten MB\n", 10<<20/9), `
the text has 10485756 bytes, and at most 8388608 are read; move long sets of values into lists`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o outer
			_, problems := Decode([]byte(c.text), &o)
			require.NotEmpty(t, problems)
			if c.want != "" {
				assert.Equal(t, strings.TrimPrefix(c.want, "\n"), problems.Error())
			}
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

// FuzzDecode: no text makes Decode panic, and every fault has a place inside the text, or none.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"text: a", "items: [{name: a, inner: {inner: {}}}]", "a: &a [*a]", "? {a: b}\n: c", "<<: x", "\t", "labels: {\"\": ''}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var o outer
		_, problems := Decode(text, &o)
		lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 2
		for _, p := range problems {
			if p.Line < 0 || p.Line > lines || p.Message == "" || p.Remedy == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}
