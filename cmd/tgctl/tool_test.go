package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "renew the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An invocation is what one run of tgctl left.
type invocation struct {
	code     int
	out, err string
}

// A terminal runs tgctl with a given environment and standard input.
type terminal struct {
	env map[string]string
	in  string
}

func (e terminal) run(args ...string) invocation {
	var out, messages bytes.Buffer
	t := &tool{
		in: strings.NewReader(e.in), out: &out, messages: &messages, zone: time.UTC,
		env:     func(name string) string { return e.env[name] },
		account: func() string { return "operator" },
	}
	code := t.run(context.Background(), args)
	if t.client != nil {
		t.client.http.CloseIdleConnections()
	}
	return invocation{code, out.String(), messages.String()}
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "%s differs; renew it with go test -update if that is right", file)
}

func TestHelpOfEveryCommand(t *testing.T) {
	var all strings.Builder
	var visit func(path []string, cmd *cobra.Command)
	visit = func(path []string, cmd *cobra.Command) {
		got := terminal{}.run(append(path, "--help")...)
		require.Equal(t, exitDone, got.code)
		require.Empty(t, got.err)
		all.WriteString("$ tgctl " + strings.Join(append(path, "--help"), " ") + "\n" + got.out + "\n")
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" {
				visit(append(path[:len(path):len(path)], sub.Name()), sub)
			}
		}
	}
	visit(nil, new(tool).root())
	golden(t, "help.txt", all.String())
}

func TestUsage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want string
	}{
		{name: "unknown command", args: []string{"aply"},
			want: "tgctl: unknown command \"aply\" for \"tgctl\"\n\nDid you mean this?\n\tapply\n\n"},
		{name: "unknown flag", args: []string{"check", "--lists", "x"}, want: "tgctl: unknown flag: --lists\n"},
		{name: "no file", args: []string{"check"}, want: "tgctl: accepts 1 arg(s), received 0\n"},
		{name: "family alone", args: []string{"list"},
			want: "tgctl: tgctl list takes one of get, put, add, remove or delete, not nothing; see tgctl list --help\n"},
		{name: "family with another", args: []string{"list", "drop"},
			want: "tgctl: tgctl list takes one of get, put, add, remove or delete, not drop; see tgctl list --help\n"},
		{name: "output", args: []string{"history", "-o", "xml"},
			want: "tgctl: -o xml is not a form of output; give table, json or yaml\n"},
		{name: "timeout", args: []string{"history", "--timeout", "0s"},
			want: "tgctl: --timeout is 0s; give a positive duration such as 30s\n"},
		{name: "server", args: []string{"history"}, env: map[string]string{"TGCTL_SERVER": "ftp://gate"},
			want: "tgctl: \"ftp://gate\" is not the address of an admin API; give one such as http://127.0.0.1:9180 with " +
				"--server or TGCTL_SERVER\n"},
		{name: "get something else", args: []string{"get", "rulez"},
			want: "tgctl: tgctl get takes rules, list NAME or organisation ENTITY, not rulez\n"},
		{name: "restore a word", args: []string{"restore", "latest"},
			want: "tgctl: \"latest\" is not the number of a revision; give one that tgctl history shows\n"},
		{name: "override without pinned", args: []string{"override", "counter", "v1", "--reason", "x"},
			want: "tgctl: say with --pinned what happens to sessions on other versions: move or keep\n"},
		{name: "override without reason", args: []string{"override", "counter", "v1", "--pinned", "move"},
			want: "tgctl: say with --reason why, for those who read the history\n"},
		{name: "attribute without value", args: []string{"explain", "--attr", "terminal"},
			want: "tgctl: --attr terminal is not NAME=VALUE\n"},
		{name: "attribute twice", args: []string{"explain", "--teller", "1", "--attr", "teller=2"},
			want: "tgctl: attribute teller is given twice; leave one out\n"},
		{name: "lists without file", args: []string{"explain", "--list", "a=b"},
			want: "tgctl: --settings, --list and --organisation go with --file, which asks no server; leave them out, or " +
				"give the document with --file FILE\n"},
		{name: "lists with server-side", args: []string{"check", "rules.yaml", "--server-side", "--list", "a=b"},
			want: "tgctl: --server-side uses the server's own settings, lists and organisations; leave out --settings, " +
				"--list and --organisation\n"},
		{name: "file that is not there", args: []string{"apply", "nowhere.yaml"},
			want: "tgctl: open nowhere.yaml: no such file or directory\n"},
		{name: "shell", args: []string{"completion", "csh"},
			want: "tgctl: there is no completion for csh; give bash, zsh or fish\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := terminal{env: test.env}.run(test.args...)
			require.Equal(t, invocation{exitUsage, "", test.want}, got)
		})
	}
}

func TestVersionAndCompletion(t *testing.T) {
	t.Parallel()
	got := terminal{}.run("version")
	require.Equal(t, exitDone, got.code)
	require.True(t, strings.HasPrefix(got.out, "tgctl unknown (go"), got.out)
	got = terminal{}.run("version", "-o", "json")
	require.Contains(t, got.out, `"version": "unknown"`)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		got := terminal{}.run("completion", shell)
		require.Equal(t, exitDone, got.code)
		require.Contains(t, got.out, "tgctl")
		require.Empty(t, got.err)
	}
}
