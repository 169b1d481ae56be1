package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/rules"
)

func TestWriteAnalysis(t *testing.T) {
	t.Parallel()
	witness := rules.Witness{Attributes: map[string]string{"branch": "9001/3201", "channel": "ATM"}, Method: "GET",
		Path: "/", Source: "192.0.2.1", Headers: map[string]string{"X-A": "1"}}
	a := &rules.Analysis{
		Never:           []rules.Finding{{Service: "counter", Rule: "a", Why: "no request can"}},
		Shadowed:        []rules.Finding{{Service: "counter", Rule: "b", By: []string{"c", "d"}, Why: "taken"}},
		UnknownBranches: []rules.Finding{{Why: "list x holds 2"}},
		Unmentioned:     []rules.Unmentioned{{LegalEntity: "9001", Branches: 2, Of: 5, Examples: []string{"1", "2"}}},
		NotAnalysed:     []rules.Finding{{Service: "counter", Why: "too many"}},
	}
	for range analysisLines + 2 {
		a.Overlaps = append(a.Overlaps, rules.Overlap{Service: "counter", Before: "e", Rule: "f", Witness: witness})
	}
	a.MoreOverlaps, a.OverlapsAtLeast = 3, true
	var got strings.Builder
	writeAnalysis(&got, "rules.yaml", a)
	overlap := "rules.yaml: overlap: counter/f and e, which comes before it, send this request to different versions: " +
		"--branch 9001/3201 --attr channel=ATM --method GET --path / --source 192.0.2.1 --header 'X-A: 1'\n"
	require.Equal(t, "rules.yaml: never matches: counter/a: no request can\n"+
		"rules.yaml: shadowed: counter/b: taken (c, d)\n"+
		strings.Repeat(overlap, analysisLines)+
		"rules.yaml: overlap: and at least 5 more; -o json has 2 of them\n"+
		"rules.yaml: unknown branch: list x holds 2\n"+
		"rules.yaml: unmentioned: no rule names 2 of the 5 branches of 9001, for example 1, 2\n"+
		"rules.yaml: not analysed: counter: too many\n", got.String())
	writeAnalysis(&got, "rules.yaml", nil)
}
