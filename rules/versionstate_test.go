package rules

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSetState(t *testing.T) {
	t.Parallel()
	const pods = `pods: {static: ["10.0.0.1:80"]}`
	tests := []struct{ name, text, state, want string }{
		{"block", "# 规则\nservices:\n  - name: counter # 柜面\n    default: v1\n    versions:\n      - name: v1\n        " + pods +
			"\n      - name: v2   # canary\n        # its pods\n        " + pods + "\n# end\n", "draining",
			"# 规则\nservices:\n  - name: counter # 柜面\n    default: v1\n    versions:\n      - name: v1\n        " + pods +
				"\n      - name: v2   # canary\n        state: draining\n        # its pods\n        " + pods + "\n# end\n"},
		{"block, the name is last", "services:\n- name: counter\n  default: v1\n  versions:\n  - {name: v1, " + pods + "}\n  - " + pods +
			"\n    name: v2", "disabled",
			"services:\n- name: counter\n  default: v1\n  versions:\n  - {name: v1, " + pods + "}\n  - " + pods +
				"\n    name: v2\n    state: disabled"},
		{"braces", "services: [{name: counter, default: v1, versions: [{name: v1, " + pods + "}, {" + pods + ", name: 'v2' }]}]\n", "draining",
			"services: [{name: counter, default: v1, versions: [{name: v1, " + pods + "}, {" + pods + ", name: 'v2', state: draining }]}]\n"},
		{"it is there", "services:\n- name: counter\n  default: v1\n  versions:\n  - {name: 一, " + pods + "}\n  - {state: draining, name: v2, " + pods +
			"} # 排空\n", "active",
			"services:\n- name: counter\n  default: v1\n  versions:\n  - {name: 一, " + pods + "}\n  - {state: active, name: v2, " + pods +
				"} # 排空\n"},
		{"it is there, in quotes", "services:\n- name: counter\n  versions:\n  - {state: \"draining\", name: v2, " + pods + "}\n", "disabled",
			"services:\n- name: counter\n  versions:\n  - {state: \"disabled\", name: v2, " + pods + "}\n"},
		{"CRLF", "services:\r\n- name: counter\r\n  versions:\r\n  - name: v2\r\n    " + pods + "\r\n", "draining",
			"services:\r\n- name: counter\r\n  versions:\r\n  - name: v2\r\n    state: draining\r\n    " + pods + "\r\n"},
		{"JSON", `{"services":[{"name":"counter","default":"v1","versions":[{"name":"v2","pods":{"static":["10.0.0.1:80"]}}]}]}`, "draining",
			`{"services":[{"name":"counter","default":"v1","versions":[{"name":"v2", "state": "draining","pods":{"static":["10.0.0.1:80"]}}]}]}`},
		{"it is so already", "services: [{name: counter, versions: [{name: v2, " + pods + "}]}]", "active",
			"services: [{name: counter, versions: [{name: v2, " + pods + "}]}]"},
		{"a byte order mark", "\ufeffservices: [{name: counter, versions: [{name: v2, " + pods + "}]}]", "draining",
			"\ufeffservices: [{name: counter, versions: [{name: v2, state: draining, " + pods + "}]}]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			document, err := Parse([]byte(test.text))
			require.NoError(t, err)
			got, err := SetState([]byte(test.text), document, "counter", "v2", test.state)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestSetStateRefuses(t *testing.T) {
	t.Parallel()
	text := []byte("services: [{name: counter, versions: [{name: v2}]}]")
	document, err := Parse(text)
	require.NoError(t, err)
	_, err = SetState(text, document, "counters", "v2", StateDraining)
	require.EqualError(t, err, `the document has no service "counters"`)
	_, err = SetState(text, document, "counter", "v3", StateDraining)
	require.EqualError(t, err, `service "counter" has no version "v3"`)
	odd := []byte("services: [{name: counter, versions: [{name: \"v\\x32\"}]}]")
	document, err = Parse(odd)
	require.NoError(t, err)
	_, err = SetState(odd, document, "counter", "v2", StateDraining)
	require.EqualError(t, err, `the state of version "v2" stands in the document in a way that cannot be edited by itself: `+
		`change it by hand and apply the document`)
}

// FuzzSetState: whatever the text, an edit changes the state and nothing else, or is refused.
func FuzzSetState(f *testing.F) {
	f.Add([]byte("services:\n- name: counter\n  versions:\n  - name: v2 # c\n    fallback: v1\n"), "counter", "v2")
	f.Add([]byte(`{"services":[{"name":"counter","versions":[{"name":"v2","state":"disabled"}]}]}`), "counter", "v2")
	f.Fuzz(func(t *testing.T, text []byte, service, version string) {
		document, err := Parse(text)
		if err != nil {
			return
		}
		edited, err := SetState(text, document, service, version, StateDraining)
		if err != nil {
			return
		}
		if _, err := Parse(edited); err != nil {
			t.Fatalf("%q became %q: %v", text, edited, err)
		}
	})
}
