package rules

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
)

var update = flag.Bool("update", false, "renew the expectations in testdata")

// expect compares got with the golden file, or renews it.
func expect(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func corpus(t testing.TB, pattern string) (names []string, texts [][]byte) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		texts = append(texts, text)
	}
	return names, texts
}

func TestBadDocuments(t *testing.T) {
	t.Parallel()
	names, texts := corpus(t, "testdata/bad/*.yaml")
	for i, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			d, err := Parse(texts[i])
			if err == nil {
				_, err = Compile(d, testInputs(t))
			}
			var problems problem.List
			require.True(t, errors.As(err, &problems), "%v", err)
			for _, p := range problems {
				require.NotZero(t, p.Line, "%s", p)
				require.NotEmpty(t, p.Remedy, "%s", p)
			}
			expect(t, strings.TrimSuffix(name, ".yaml")+".want", problems.Error()+"\n")
		})
	}
}

func TestGoodDocuments(t *testing.T) {
	t.Parallel()
	names, texts := corpus(t, "testdata/good/*.yaml")
	for i, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			d, err := Parse(texts[i])
			require.NoError(t, err)
			set, err := Compile(d, testInputs(t))
			require.NoError(t, err)
			base := strings.TrimSuffix(name, ".yaml")
			expect(t, base+".warnings", set.Warnings().Error()+"\n")
			expect(t, base+".printed", string(d.Print()))
			requirePrints(t, d)
		})
	}
}

// requirePrints checks that both forms of a document read back as an equivalent one, and that printing is stable.
func requirePrints(t *testing.T, d *Document) {
	t.Helper()
	printed := d.Print()
	again, err := Parse(printed)
	require.NoError(t, err, "%s", printed)
	require.Equal(t, canonical(d), canonical(again), "%s", printed)
	require.Equal(t, string(printed), string(again.Print()))

	text, err := json.Marshal(d)
	require.NoError(t, err)
	again, err = Parse(text)
	require.NoError(t, err, "%s", text)
	require.Equal(t, canonical(d), canonical(again), "%s", text)
	require.Equal(t, string(printed), string(again.Print()))
}

// canonical returns a deep copy with the defaults that Print leaves out, and without places.
func canonical(d *Document) Document {
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	var out Document
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	for i := range out.Services {
		s := &out.Services[i]
		if s.Match.PathPrefix == "/" {
			s.Match.PathPrefix = ""
		}
		for j := range s.Versions {
			if s.Versions[j].State == StateActive {
				s.Versions[j].State = ""
			}
		}
		if s.Sessions != nil {
			if s.Sessions.Idle == Duration(DefaultIdle) {
				s.Sessions.Idle = 0
			}
			if s.Sessions.Absolute == Duration(DefaultAbsolute) {
				s.Sessions.Absolute = 0
			}
			if s.Sessions.End != nil && len(s.Sessions.End.Paths) == 0 {
				s.Sessions.End = nil
			}
		}
	}
	return out
}

func TestOverridesAgainstTheDocument(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		override map[string]Override
		want     string
	}{
		{"unknown service", map[string]Override{"atm": {Version: "v1", Pinned: PinnedMove}},
			`overrides[atm]: an override is in force for service "atm", which the document does not have; ` +
				`lift the override first, or keep the service`},
		{"unknown version", map[string]Override{"counter": {Version: "v9", Pinned: PinnedMove}},
			`overrides[counter].version: an override sends everybody to version "v9", which service "counter" does not ` +
				`have; lift the override first, or keep the version`},
		{"not active", map[string]Override{"counter": {Version: "v3", Pinned: PinnedKeep}},
			`overrides[counter].version: an override sends everybody to version "v3" of service "counter", which is ` +
				`draining; lift the override first, or make the version active`},
		{"pinned", map[string]Override{"counter": {Version: "v1", Pinned: "stay"}},
			`overrides[counter].pinned: "stay" says nothing about pinned sessions; write "move" or "keep"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := testInputs(t)
			in.Overrides = test.override
			set, err := Compile(counter(), in)
			require.EqualError(t, err, test.want)
			require.Nil(t, set)
		})
	}
}

func TestSettingsAgainstTheDocument(t *testing.T) {
	t.Parallel()
	d := counter(Rule{Name: "pilot", When: &Condition{Attribute: "branch", Under: ptr("9001/3200")},
		Then: Outcome{Version: "v2"}})
	d.Services[0].Sessions = nil
	d.Services[0].Versions[1].Pods = Pods{Kubernetes: &KubernetesPods{Namespace: "bank", Service: "counter", Port: "http"}}
	in := testInputs(t)
	in.Schema = NewSchema([]Attribute{{Name: "branch"}}, nil, false)
	_, err := Compile(d, in)
	require.EqualError(t, err, strings.Join([]string{
		"services[counter].versions[v2].pods.kubernetes: this replica does not watch Kubernetes; write static addresses",
		"services[counter].rules[pilot].when.under: under needs to know the legal entity of a branch; " +
			"declare branch within legalEntity in the process settings; legalEntity may consist of a default alone",
	}, "\n"))
}
