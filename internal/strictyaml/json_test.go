package strictyaml

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// TestDecodeReadsWhatIsOnlyJSON: the YAML parser refuses each of these.
func TestDecodeReadsWhatIsOnlyJSON(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"escaped slash", `{"text":"a\/b"}`, "a/b"},
		{"escaped surrogates", `{"text":"\ud842\udfb7家村"}`, "𠮷家村"},
		{"colon on the next line", "{\"text\"\n:\n\"a\"}", "a"},
		{"a key of more than 1024 characters", `{"text":"a","labels":{"` + strings.Repeat("k", 2000) + `":"v"}}`, "a"},
		{"replacement character", `{"text":"\ufffd�"}`, "\ufffd\ufffd"},
		{"after a byte order mark", "\ufeff\r\n{\"text\":\"\\/\"}", "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o outer
			_, problems := Decode([]byte(c.text), &o)
			require.Empty(t, problems)
			assert.Equal(t, c.want, o.Text)
		})
	}
}

// FuzzJSON holds readJSON against encoding/json, and the place of every node against the text.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":[1,-2.5e3,true,null,"x\\\"y"],"":{"b":"\ud83d\ude00"}}`, "\r\n{\t\"网\" :\n\n [ ] , \"c\": \"点\" }", `{"a":"\ud800x"}`,
		`{"a":"\udc00"}`, `{"a":"\ufffd"}`, `{"a":1,"a":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !looksLikeJSON(text) || !json.Valid(text) || checkText(text) != nil {
			return
		}
		root, fault := readJSON(text)
		if fault != nil {
			require.Contains(t, strings.ToLower(string(text)), `\ud`)
			return
		}
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.UseNumber()
		var want any
		require.NoError(t, decoder.Decode(&want))
		require.Equal(t, want, plainValue(t, root, strings.Split(string(text), "\n")))
	})
}

// plainValue is a node as encoding/json gives it. It checks that the node stands where it says.
func plainValue(t *testing.T, n *yaml.Node, lines []string) any {
	first := string([]rune(lines[n.Line-1])[n.Column-1])
	switch n.Kind {
	case yaml.MappingNode:
		require.Equal(t, "{", first)
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			out[plainValue(t, n.Content[i], lines).(string)] = plainValue(t, n.Content[i+1], lines)
		}
		return out
	case yaml.SequenceNode:
		require.Equal(t, "[", first)
		out := []any{}
		for _, item := range n.Content {
			out = append(out, plainValue(t, item, lines))
		}
		return out
	}
	switch n.Tag {
	case "!!str":
		require.Equal(t, `"`, first)
		return n.Value
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true"
	}
	require.Equal(t, n.Value[:1], first)
	return json.Number(n.Value)
}
