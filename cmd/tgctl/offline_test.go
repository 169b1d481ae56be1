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

// TestOffline holds what tgctl itself says of offline commands. shows is a regular expression on stdout followed by
// stderr; the words of faults and steps are held by the tests of the packages that find them.
func TestOffline(t *testing.T) {
	t.Parallel()
	const rulesFile, faulty, data = "testdata/offline/rules.yaml", "testdata/offline/faulty.yaml", "testdata/offline/"
	inOrder := `^` + rulesFile + `: 0 problems, 0 warnings\n$`
	tests := []struct {
		name  string
		code  int
		shows string
		lists bool // brought along
		args  []string
	}{
		{"in order", exitDone, inOrder, true, []string{"check", rulesFile}},
		{"without lists", exitNo, rulesFile + `:15:43: .*: 2 problems, 0 warnings\ntgctl: checked without lists and ` +
			`organisations; bring them with --list and --organisation, or ask the server with --server-side\n$`, false,
			[]string{"check", rulesFile}},
		{"faulty", exitNo, `^` + faulty + `:3:14: services\[counter\].default: .*; .*\n` + faulty + `:7:102: .*\n` + faulty +
			`: 2 problems, 0 warnings\n$`, true, []string{"check", faulty}},
		{"faulty as YAML", exitNo, `\nvalid: false\nproblems:\n  - path: services\[counter\].default\n    line: 3\n`, true,
			[]string{"check", faulty, "-o", "yaml"}},
		{"list in JSON", exitDone, inOrder, false, []string{"check", rulesFile, "--list",
			"pilot-tellers=" + data + "tellers.json", "--organisation", "9001=" + data + "branches.csv"}},
		{"list without header, attribute named", exitDone, inOrder, false, []string{"check", rulesFile, "--list",
			"pilot-tellers=teller:" + data + "tellers-without-header.csv", "--organisation", "9001=" + data + "branches.csv"}},
		{"list without header", exitUsage, `^tgctl: ` + data + `tellers-without-header.csv does not begin with a header line ` +
			`that names a declared attribute; give --list pilot-tellers=ATTRIBUTE:` + data + `tellers-without-header.csv with ` +
			`one of legalEntity, branch, teller or session\n$`, false,
			[]string{"check", rulesFile, "--list", "pilot-tellers=" + data + "tellers-without-header.csv"}},
		{"list without name", exitUsage, `^tgctl: --list tellers.csv is not NAME=FILE or NAME=ATTRIBUTE:FILE\n$`, false,
			[]string{"check", rulesFile, "--list", "tellers.csv"}},
		{"list and organisation that are wrong", exitUsage, `tellers-without-header.csv has 1 problem:\n` + data +
			`tellers-without-header.csv:1:1: .*\n` + data + `loop.csv has 1 problem:\n` + data + `loop.csv:2:1: `, false,
			[]string{"check", rulesFile, "--list", "pilot-tellers=legalEntity:" + data + "tellers-without-header.csv",
				"--organisation", "9001=" + data + "loop.csv"}},
		{"settings that are wrong", exitUsage, `^tgctl: ` + data + `settings-faulty.yaml has 1 problem:\n` + data +
			`settings-faulty.yaml:4:5: frontends\[counter\].colour: `, false,
			[]string{"check", rulesFile, "--settings", data + "settings-faulty.yaml"}},
		{"pilot teller", exitDone, `^counter → v2 because rule pilot-branches \(priority 200\) matched\n\n` +
			`identity   branch=9001/3201 legalEntity=9001 teller=9001/0001\n\nsteps\n  1\. .*` +
			`  ✓ pilot-branches \(priority 200\)  decided\n    ✓ .*\n      ✓ .*9001/3201`, true,
			[]string{"explain", "--file", rulesFile, "--branch", "3201", "--teller", "0001", "--host", "Counter.Bank:8080",
				"--path", "/teller/%71uery/../x/?y=1"}},
		{"another teller", exitDone, `^counter → v1 by default: no rule matched\n\nidentity   branch=9001/3201 ` +
			`legalEntity=9002 teller=9002/0002\n.*  ✗ pilot-branches \(priority 200\)\n`, true,
			[]string{"explain", "--file", rulesFile, "--branch", "9001/3201", "--teller", "0002", "--legal-entity", "9002"}},
		{"tester", exitDone, `^counter → v2 because a tester asked for it\n`, true,
			[]string{"explain", "--file", rulesFile, "--forced", "v2"}},
		{"tester who is refused", exitNo, `^counter → refused \(.*\), wanted v3 because a tester asked for it\n`, true,
			[]string{"explain", "--file", rulesFile, "--forced", "v3"}},
		{"no service", exitNo, `^tgctl: no service matches frontend "atm", host "" and path "/": the client would get 404 ` +
			`no_service; the document has counter\n$`, true, []string{"explain", "--file", rulesFile, "--frontend", "atm"}},
		{"service of another name", exitNo, `^tgctl: there is no service "atm"; the document has counter\n$`, true,
			[]string{"explain", "--file", rulesFile, "--service", "atm"}},
		{"undeclared attribute", exitUsage, `^tgctl: attribute "terminal" is not declared; declared are legalEntity, branch, ` +
			`teller and session. Give the settings that declare it with --settings\n$`, true,
			[]string{"explain", "--file", rulesFile, "--attr", "terminal=T1"}},
		{"value that is none", exitUsage, `^tgctl: teller: `, true, []string{"explain", "--file", rulesFile, "--attr",
			"teller=0\x001"}},
		{"path without slash", exitUsage, `^tgctl: --path teller does not begin with a slash; write it as in a request: ` +
			`/teller/query\n$`, true, []string{"explain", "--file", rulesFile, "--path", "teller"}},
		{"source that is none", exitUsage, `^tgctl: --source branch is not an IP address\n$`, true,
			[]string{"explain", "--file", rulesFile, "--source", "branch"}},
		{"faulty document", exitUsage, `^tgctl: ` + faulty + ` has 2 problems:\n` + faulty + `:3:14: `, true,
			[]string{"explain", "--file", faulty}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := test.args
			if test.lists {
				args = append(args, withLists...)
			}
			got := chinese.run(args...)
			require.Equal(t, test.code, got.code, got.out+got.err)
			require.Regexp(t, "(?s)"+test.shows, got.out+got.err)
		})
	}
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
