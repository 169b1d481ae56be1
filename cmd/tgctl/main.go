// Command tgctl is the operator's command line of tellergate: it checks, explains, applies and rolls back rules, and
// shows what runs.
//
// It is responsible for turning arguments into calls of the admin API (package admin/api) and answers into text, JSON
// or YAML. Checking and explaining a file works without a server, on the code the server itself uses. It decides
// nothing and keeps no state.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t := &tool{in: os.Stdin, out: os.Stdout, messages: os.Stderr, env: os.Getenv, account: account, zone: time.Local}
	code := t.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// account is the OS user's name, or "" if it is not known.
func account() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// A tool is one invocation: where it reads and writes, and what the global flags say. in, out and messages are the
// three standard streams; account returns the name that changes are made under unless TGCTL_AUTHOR says another.
type tool struct {
	in       io.Reader
	out      io.Writer // data
	messages io.Writer // everything that is not data
	env      func(string) string
	account  func() string
	zone     *time.Location // in which times are shown

	server  string
	output  string
	timeout time.Duration
	client  *client // set before any command runs
}

// run executes one command line and returns the exit code.
func (t *tool) run(ctx context.Context, args []string) int {
	root := t.root()
	root.SetArgs(args)
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.messages)
	return t.exit(root.ExecuteContext(ctx))
}

const rootHelp = `tgctl speaks with the admin API of a running tellergate: who gets which version (版本), why, and since when.

Checking and explaining a file need no server. Data goes to stdout, everything else to stderr.

Exit codes:
  0  done, or the answer is yes
  1  the answer is no: check found problems, diff found differences, explain ends in a refusal, status is not ready,
     a version is not safe to retire within the time given
  2  the command line is wrong, or a file that it names cannot be used
  3  conflict: somebody else made a revision (修订) in between
  4  the server cannot be reached or did not answer in time
  5  the server refused or failed
  6  the change is stored, but the replica that was asked does not run it yet
  7  unknown: the store of sessions does not answer, so nobody can say how many there are
  130  interrupted while waiting; what was begun goes on

Environment:
  TGCTL_SERVER  address of the admin API, where --server is not given
  TGCTL_AUTHOR  who makes a change, instead of the OS user; it is a claim that nobody checks yet`

// root builds the command tree.
func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "tgctl",
		Short:             "See and change who gets which version of a channel service",
		Long:              rootHelp,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { return t.prepare() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&t.server, "server", "", "address of the admin API (default $TGCTL_SERVER or "+defaultServer+")")
	flags.StringVarP(&t.output, "output", "o", outputTable, "form of what is printed: table, json or yaml")
	flags.DurationVar(&t.timeout, "timeout", time.Minute, "how long one call may take")
	complete(root, "output", outputTable, outputJSON, outputYAML)
	root.AddGroup(
		&cobra.Group{ID: groupRules, Title: "Rules and what they use:"},
		&cobra.Group{ID: groupHistory, Title: "Revisions:"},
		&cobra.Group{ID: groupRunning, Title: "What runs:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	grouped := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
		}
		root.AddCommand(commands...)
	}
	grouped(groupRules, t.check(), t.get(), t.apply(), t.diff(), t.explain(), t.impact(), t.mentions(), t.list(), t.organisation())
	grouped(groupHistory, t.history(), t.restore())
	grouped(groupRunning, t.services(), t.version(), t.sessions(), t.override(), t.replicas(), t.status())
	grouped(groupOther, t.completion())
	return root
}

// Groups of commands in the help.
const (
	groupRules   = "rules"
	groupHistory = "history"
	groupRunning = "running"
	groupOther   = "other"
)

// prepare checks the global flags and opens the client.
func (t *tool) prepare() error {
	if err := checkOutput(t.output); err != nil {
		return err
	}
	if t.timeout <= 0 {
		return usagef("--timeout is %s; give a positive duration such as 30s", t.timeout)
	}
	address := t.server
	if address == "" {
		address = t.env("TGCTL_SERVER")
	}
	c, err := newClient(address, t.timeout)
	if err != nil {
		return err
	}
	t.client = c
	return nil
}

// complete offers words as completions of a flag.
func complete(cmd *cobra.Command, flag string, words ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic("BUG: " + err.Error())
	}
}

// family returns a command that only has sub-commands.
func family(use, short, long string, members ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long}
	cmd.AddCommand(members...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given := "nothing"
		if len(args) > 0 {
			given = args[0]
		}
		names := make([]string, 0, len(members))
		for _, m := range members {
			names = append(names, m.Name())
		}
		return usagef("%s takes one of %s, not %s; see %s --help", cmd.CommandPath(), series(names, "or"), given,
			cmd.CommandPath())
	}
	return cmd
}
