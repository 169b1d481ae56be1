package rules

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExplanations holds the words that operators read to what they should be.
func TestExplanations(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/everything.yaml")
	require.NoError(t, err)
	d, err := Parse(text)
	require.NoError(t, err)
	pilot, other, missing := fullQuery(), fullQuery(), fullQuery()
	pilot.Host, other.Host, missing.Host = "a.bank.example", "a.bank.example", "a.bank.example"
	other.Attributes = []string{"9001", "9001/4000", "9001/0009", "5F3A9C", "手机银行"}
	missing.Attributes = make([]string, 5)
	missing.Headers = nil
	move := map[string]Override{"counter": {Version: "v1", Pinned: PinnedMove, Reason: "loan totals are wrong"}}
	tests := []struct {
		name      string
		query     *Query
		standing  Standing
		overrides map[string]Override
		down      down
	}{
		{"pilot", pilot, Standing{Keyed: true}, nil, nil},
		{"split", other, Standing{Keyed: true, Pinned: "v4"}, nil, nil},
		{"nothing-known", missing, Standing{}, nil, nil},
		{"pinned", pilot, Standing{Keyed: true, Pinned: "v3"}, nil, nil},
		{"override", pilot, Standing{Keyed: true, Pinned: "v2"}, move, nil},
		{"tester", pilot, Standing{Forced: "v4"}, nil, nil},
		{"no-endpoint", pilot, Standing{Keyed: true}, nil, down{1: true}},
		{"nothing-usable", pilot, Standing{Keyed: true}, nil, down{0: true, 1: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := testInputs(t)
			in.Overrides = test.overrides
			explanation := compiled(t, d, in).Match(test.query).Explain(test.query, test.standing, test.down)
			var got strings.Builder
			out := json.NewEncoder(&got)
			out.SetEscapeHTML(false)
			out.SetIndent("", "  ")
			require.NoError(t, out.Encode(explanation))
			expect(t, "testdata/explain/"+test.name+".json", got.String())
		})
	}
}
