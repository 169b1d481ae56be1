package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	withLists = []string{"--list", "pilot-tellers=testdata/offline/tellers.csv",
		"--organisation", "9001=testdata/offline/branches.csv"}
	chinese = terminal{env: map[string]string{"LC_ALL": "zh_CN.utf8"}}
)

// TestOffline holds the whole text of offline commands. The first line of each block is the command.
func TestOffline(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		code int
	}{
		{"in order", append([]string{"check", "testdata/offline/rules.yaml"}, withLists...), exitDone},
		{"without lists", []string{"check", "testdata/offline/rules.yaml"}, exitNo},
		{"faulty", append([]string{"check", "testdata/offline/faulty.yaml"}, withLists...), exitNo},
		{"faulty as YAML", append([]string{"check", "testdata/offline/faulty.yaml", "-o", "yaml"}, withLists...), exitNo},
		{"list in JSON", []string{"check", "testdata/offline/rules.yaml", "--list",
			"pilot-tellers=testdata/offline/tellers.json", "--organisation", "9001=testdata/offline/branches.csv"}, exitDone},
		{"list without header, attribute named", []string{"check", "testdata/offline/rules.yaml", "--list",
			"pilot-tellers=teller:testdata/offline/tellers-without-header.csv", "--organisation",
			"9001=testdata/offline/branches.csv"}, exitDone},
		{"list without header", []string{"check", "testdata/offline/rules.yaml", "--list",
			"pilot-tellers=testdata/offline/tellers-without-header.csv"}, exitUsage},
		{"list without name", []string{"check", "testdata/offline/rules.yaml", "--list", "tellers.csv"}, exitUsage},
		{"list and organisation that are wrong", []string{"check", "testdata/offline/rules.yaml", "--list",
			"pilot-tellers=legalEntity:testdata/offline/tellers-without-header.csv", "--organisation",
			"9001=testdata/offline/loop.csv"}, exitUsage},
		{"settings that are wrong", []string{"check", "testdata/offline/rules.yaml", "--settings",
			"testdata/offline/settings-faulty.yaml"}, exitUsage},
		{"pilot teller", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--branch", "3201", "--teller",
			"0001", "--host", "Counter.Bank:8080", "--path", "/teller/%71uery/../x/?y=1"}, withLists...), exitDone},
		{"another teller", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--branch", "9001/3201",
			"--teller", "0002", "--legal-entity", "9002"}, withLists...), exitDone},
		{"tester", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--forced", "v2"}, withLists...),
			exitDone},
		{"tester who is refused", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--forced", "v3"},
			withLists...), exitNo},
		{"no service", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--frontend", "atm"},
			withLists...), exitNo},
		{"service of another name", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--service", "atm"},
			withLists...), exitNo},
		{"undeclared attribute", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--attr",
			"terminal=T1"}, withLists...), exitUsage},
		{"value that is none", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--attr",
			"teller=0\x001"}, withLists...), exitUsage},
		{"path without slash", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--path", "teller"},
			withLists...), exitUsage},
		{"source that is none", append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--source", "branch"},
			withLists...), exitUsage},
		{"faulty document", append([]string{"explain", "--file", "testdata/offline/faulty.yaml"}, withLists...), exitUsage},
	}
	var all strings.Builder
	for _, test := range tests {
		got := chinese.run(test.args...)
		require.Equal(t, test.code, got.code, "%s: %s%s", test.name, got.out, got.err)
		all.WriteString("== " + test.name + "\n" + got.out)
		if got.err != "" {
			all.WriteString("-- stderr\n" + got.err)
		}
	}
	golden(t, "offline.txt", all.String())
}

func TestStandardInput(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/offline/faulty.yaml")
	require.NoError(t, err)
	stdin := terminal{in: string(text)}
	got := stdin.run("check", "-")
	require.Equal(t, exitNo, got.code)
	require.Contains(t, got.out, `-:3:14: services[counter].default: `)
}

func TestLocaleChoosesMarks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "C"}, false},
		{map[string]string{"LANG": "zh_CN.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "zh_CN.GB18030", "LC_CTYPE": "en_US.UTF-8"}, true},
	} {
		speaks := (&tool{env: func(name string) string { return test.env[name] }}).speaksUTF8()
		require.Equal(t, test.want, speaks, "%v", test.env)
	}
	got := chinese.run(append([]string{"explain", "--file", "testdata/offline/rules.yaml", "--ascii"}, withLists...)...)
	require.True(t, strings.HasPrefix(got.out, "counter -> v1 by default"), got.out)
}
