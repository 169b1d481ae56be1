//go:build linux

// Command bench measures tellergate side by side with HAProxy, nginx and a naive forwarder, each alone on one core,
// with pods and the load generator on another one.
//
// It is responsible for starting the contenders with comparable work, for interleaving and repeating the runs, and for
// writing down what came of them. What counts, and what ratios say, is package report's; sending is package load's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"tellergate/bench/load"
	"tellergate/bench/report"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// resultsDir is where the committed result stands. What is made for development is not written there.
const resultsDir = "bench/results"

// options are the flags.
type options struct {
	quick     bool
	rounds    int
	window    time.Duration
	warm      time.Duration
	scenarios string
	results   string
	commit    string
	disturbed bool
	profile   string
	trace     string
	only      string
	readme    bool
	variant   string
	proxyCore int
	loadCore  int
}

func command(args []string) error {
	if len(args) == 2 && args[0] == "forward" {
		return forward(args[1])
	}
	if len(args) > 2 && args[0] == "replace" {
		return replace(args[1], args[2:], os.Stdin)
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "one minute: the first scenario, compared with the last full result; nothing is written")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each run is repeated; twice as often in the first scenario")
	flags.DurationVar(&o.window, "window", 2*time.Second, "how long a run is measured")
	flags.DurationVar(&o.warm, "warm", 500*time.Millisecond, "how long a run goes before it is measured")
	flags.StringVar(&o.scenarios, "scenarios", "", "names of the scenarios, separated by commas; empty: all")
	flags.StringVar(&o.results, "results", resultsDir, "directory for result.json, result.md, result.svg; empty: write nothing")
	flags.StringVar(&o.commit, "commit", "unknown", "what is being measured, for the result")
	flags.BoolVar(&o.disturbed, "disturbed", false, "let runs count that other programs disturb, for development")
	flags.StringVar(&o.profile, "profile", "", "write a CPU profile of tellergate under the first scenario to this file, and do nothing else")
	flags.StringVar(&o.trace, "trace", "", "write an execution trace of tellergate at half its capacity under the first scenario to this file, and do nothing else")
	flags.StringVar(&o.only, "contenders", "", "names of the contenders, separated by semicolons, for development; empty: those of the scenario")
	flags.BoolVar(&o.readme, "readme", false, "put the table of the last full result into the READMEs, and measure nothing")
	flags.StringVar(&o.variant, "variant", "", "compare the tree's tellergate with this other build of it under the first scenario")
	flags.IntVar(&o.proxyCore, "proxy-core", 1, "the core of the proxy under test")
	flags.IntVar(&o.loadCore, "load-core", 0, "the core of generator and pods")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if o.readme {
		return report.UpdateDocuments(o.results)
	}
	if o.proxyCore == o.loadCore || runtime.NumCPU() < 2 {
		return errors.New("the proxy needs a core of its own: give -proxy-core and -load-core two different ones")
	}
	for name := range strings.SplitSeq(o.scenarios, ",") {
		if o.scenarios != "" && scenarioNamed(name) == nil {
			return fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return measure(ctx, o)
}

// forward is the TCP forwarder: this program, as a process of its own.
func forward(target string) error {
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return load.Forward(ctx, to, func(at netip.AddrPort) { fmt.Println(at) })
}

func scenarioNamed(name string) *scenario {
	for i := range scenarios {
		if scenarios[i].name == name {
			return &scenarios[i]
		}
	}
	return nil
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}
