// Command tellergate is the gateway: it composes frontends, rules, sessions, pods and the admin API into one process
// and owns its start, reload and shutdown.
//
// It contains no behaviour of its own beyond that: what it hands from one part to another, it declares in adapt.go.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"tellergate/config"
	"tellergate/internal/build"
	"tellergate/internal/problem"
)

// Exit codes. 2 is also what package flag uses for bad flags.
const (
	exitFailed = 1 // could not start, or a part failed while running
	exitUsage  = 2 // flags or settings: nothing was started
)

const usage = `tellergate: canary traffic routing for bank channel systems

  tellergate [--settings FILE]        run; without a file on the embedded defaults
  tellergate settings                 print the embedded defaults, commented: a start for your own file
  tellergate check --settings FILE    check a settings file and exit
  tellergate version                  print the version

SIGHUP reads the settings again, SIGTERM drains and ends, SIGINT ends without waiting for the load balancer.
`

func main() {
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

// command runs one invocation and returns its exit code.
func command(args []string, stdout, stderr io.Writer) int {
	verb := "run"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		verb, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("tellergate", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	file := flags.String("settings", "", "settings file; empty: the embedded defaults")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "tellergate: unexpected argument %q\n\n%s", flags.Arg(0), usage)
		return exitUsage
	}

	switch verb {
	case "version":
		fmt.Fprintln(stdout, "tellergate", build.Version)
		return 0
	case "settings":
		_, _ = stdout.Write(config.Default()) // nothing to be done about a closed pipe
		return 0
	case "check", "run":
	default:
		fmt.Fprintf(stderr, "tellergate: there is no command %q\n\n%s", verb, usage)
		return exitUsage
	}

	settings, err := config.Load(*file)
	if err != nil {
		printProblems(stderr, *file, err)
		return exitUsage
	}
	if verb == "check" {
		fmt.Fprintf(stdout, "%s: no problems\n", name(*file))
		return 0
	}
	if err := run(*file, settings, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "tellergate:", err)
		return exitFailed
	}
	return 0
}

func name(file string) string {
	if file == "" {
		return "embedded defaults"
	}
	return file
}

// printProblems prints every fault of a settings file on a line that begins with the file's name, as editors like it.
func printProblems(w io.Writer, file string, err error) {
	var list problem.List
	if !errors.As(err, &list) {
		fmt.Fprintln(w, "tellergate:", err)
		return
	}
	for _, p := range list {
		fmt.Fprintf(w, "%s:%s\n", name(file), p)
	}
}
