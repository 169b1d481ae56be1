// Command quickstart is what `make run` starts: two versions of a demonstration channel service, each pod a process of
// its own, a tellergate on its embedded defaults, and a short tour.
//
// It is responsible for starting and ending these processes together and for the tour, which it prints or, with
// --walk, runs and checks. It contains nothing that a real installation needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	// The children ask to be killed when the thread that started them ends (see process.go), so that thread must be
	// the one that lasts as long as the program.
	runtime.LockOSThread()
	if len(os.Args) > 1 && os.Args[1] == "pod" {
		exit(runPod(os.Args[2:]))
	}
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory of the tellergate and tgctl programs")
	flag.StringVar(&o.frontend, "frontend", "127.0.0.1:8080", "address for the channel's requests; port 0 takes a free one")
	flag.StringVar(&o.admin, "admin", "127.0.0.1:9180", "address of the admin API; port 0 takes a free one")
	flag.IntVar(&o.pods, "pods", 9101, "first of three ports for the pods; 0 takes free ones where the frontend does")
	flag.BoolVar(&o.walk, "walk", false, "run the tour instead of printing it, and fail if a step shows something else")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q; see --help\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, o)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
