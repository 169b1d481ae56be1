package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
	"tellergate/internal/build"
	"tellergate/rules"
)

// version is the command that says which build this is, and the family that puts versions in other states.
func (t *tool) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Drain, enable or disable a version (版本); alone: print the version of tgctl",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			about := map[string]string{
				"version": build.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
			}
			return t.print(about, func(w io.Writer) {
				fmt.Fprintf(w, "tgctl %s (%s, %s)\n", about["version"], about["go"], about["platform"])
			})
		},
	}
	cmd.AddCommand(t.drain(), t.enable(), t.disable())
	return cmd
}

// setState puts a version in another state.
func (t *tool) setState(ctx context.Context, o *write, service, version, state string) (*api.WriteResult, error) {
	tag, err := o.ifMatch(ctx, t.client)
	if err != nil {
		return nil, err
	}
	result := new(api.WriteResult)
	_, err = t.client.ask(ctx, call{
		method: "PUT", path: api.VersionStatePath(service, version), ifMatch: tag, change: t.by(o.reason),
	}.with(api.VersionState{State: state}), result)
	if err != nil {
		return nil, refusedFile("version "+version+" of "+service, liveRules, err)
	}
	return result, nil
}

func (t *tool) enable() *cobra.Command {
	var o write
	cmd := &cobra.Command{
		Use:     "enable SERVICE VERSION",
		Aliases: []string{"undrain"},
		Short:   "Make a version active again: it takes new sessions",
		Long: `Changes the state of the version to active, that one word of the rule document; its comments stay. Also called undrain.
Sessions that were decided anew meanwhile stay where they are.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: t.completeServiceVersion,
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := t.setState(cmd.Context(), &o, args[0], args[1], rules.StateActive)
			if err != nil {
				return err
			}
			return t.printWrite(liveRules, result)
		},
	}
	o.flags(cmd)
	return cmd
}

func (t *tool) disable() *cobra.Command {
	var o write
	var yes bool
	cmd := &cobra.Command{
		Use:   "disable SERVICE VERSION",
		Short: "Take a version out of service: its sessions are decided anew",
		Long: `Changes the state of the version to disabled, that one word of the rule document; its comments stay. Nobody is sent to
it any more, and its live sessions are decided anew at their next request. The command says how many there are and asks;
with --yes it does not. To wait until they have ended by themselves, drain it first.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: t.completeServiceVersion,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := t.confirmDisable(cmd.Context(), args[0], args[1]); err != nil {
					return err
				}
			}
			result, err := t.setState(cmd.Context(), &o, args[0], args[1], rules.StateDisabled)
			if err != nil {
				return err
			}
			return t.printWrite(liveRules, result)
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask, however many sessions are decided anew")
	return cmd
}

// confirmDisable says how many sessions a version has, and asks where there are any.
func (t *tool) confirmDisable(ctx context.Context, service, version string) error {
	query := url.Values{"service": {service}, "version": {version}}
	var counts api.SessionCounts
	many := "it is not known how many live sessions"
	err := t.askCounted(ctx, call{path: api.SessionCountsPath + "?" + query.Encode()}, &counts)
	var f *failure
	switch {
	case err == nil:
		n := 0
		for _, c := range counts.Counts {
			n += c.Sessions
		}
		if n == 0 {
			return nil
		}
		many = count(n, "live session")
	case errors.As(err, &f) && f.code == exitUnknown:
	default:
		return err
	}
	if !interactive(t.in) {
		return usagef("%s of %s %s will be decided anew at the next request: add --yes if that is meant", many, service, version)
	}
	fmt.Fprintf(t.messages, "%s of %s %s will be decided anew at the next request. Disable it? [y/N] ", many, service, version)
	answer, _ := bufio.NewReader(t.in).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return &failure{exitNo, errors.New("nothing was changed")}
	}
	return nil
}

// interactive reports whether somebody can be asked.
func interactive(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // is such a device too, and answers nothing
	return err != nil || !os.SameFile(info, null)
}

func (t *tool) drain() *cobra.Command {
	var o write
	var wait bool
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "drain SERVICE VERSION",
		Short: "Send no new sessions to a version, and wait until its pods may go (排空)",
		Long: `Changes the state of the version to draining, that one word of the rule document; its comments stay. The sessions that
are on it stay; nobody new comes.

With --wait it then shows how many sessions are left until it can say that the version is safe to retire: two complete
counts in a row found nobody, and all the while every replica had the version draining for as long as copies of sessions
may be old, had written everything that it knew of sessions, and had no request under way to it. What is not known is in
the way: a Redis that does not answer, a replica that is late or has the version still active.

It ends with 0 if the version is safe to retire, with 1 or, where it is not known how many sessions are left, with 7 if it
is not within the time that --within gives, and with 130 if it is interrupted. The drain goes on in any case; tgctl version
enable takes it back.`,
		Example: `  tgctl version drain counter v1 --wait --reason 'v2 is everywhere'
  tgctl version drain counter v1 --wait --within 2h && kubectl delete deployment counter-v1`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: t.completeServiceVersion,
		RunE: func(cmd *cobra.Command, args []string) error {
			if within < 0 || within > 0 && !wait {
				return usagef("--within is how long --wait waits: give both, and a positive duration")
			}
			result, err := t.setState(cmd.Context(), &o, args[0], args[1], rules.StateDraining)
			if err != nil {
				return err
			}
			if !wait {
				return t.printWrite(liveRules, result)
			}
			t.warn(liveRules, result.Warnings)
			if result.Changed {
				t.say("version %s of %s drains since revision %d; interrupting this goes on draining", args[1], args[0], result.Revision)
			} else {
				t.say("version %s of %s drains already", args[1], args[0])
			}
			w := waiting{tool: t, service: args[0], version: args[1], within: within, replicas: map[string]api.Replica{}}
			return w.run(cmd.Context())
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the version is safe to retire")
	cmd.Flags().DurationVar(&within, "within", 0, "with --wait: give up after `DURATION`, such as 2h; 0: never")
	return cmd
}

// A waiting is somebody who waits for a version to drain.
type waiting struct {
	*tool
	service, version string
	within           time.Duration

	last     api.Drain
	lost     error                  // why nothing is known; nil: something is
	replicas map[string]api.Replica // as they were last seen
	told     string                 // the last line, where there is no terminal
	toldAt   time.Time
}

const (
	drainEvery = 2 * time.Second
	// tellEvery is how often the same is said again where there is no terminal.
	tellEvery = time.Minute
)

func (w *waiting) run(ctx context.Context) error {
	var over <-chan time.Time
	if w.within > 0 {
		over = time.After(w.within)
	}
	line := w.line()
	defer line.done()
	for {
		w.look(ctx)
		if w.lost == nil && w.last.Safe {
			line.done()
			return w.safe()
		}
		if ctx.Err() == nil {
			if line.to != nil {
				line.show("%s", w.text())
			} else {
				w.tell()
			}
		}
		select {
		case <-ctx.Done():
			line.done()
			return interrupted(fmt.Sprintf("the drain of %s %s goes on; the same command waits for it again, and tgctl version "+
				"enable %s %s takes it back", w.service, w.version, w.service, w.version))
		case <-over:
			line.done()
			return w.notSafe()
		case <-time.After(drainEvery):
		}
	}
}

// look asks how far it is. What cannot be asked is unknown, and asked again.
func (w *waiting) look(ctx context.Context) {
	var now api.Drain
	_, err := w.client.ask(ctx, call{path: api.DrainPath(w.service, w.version)}, &now)
	if w.lost = err; err != nil {
		return
	}
	w.last = now
	if now.Unknown == "" {
		for _, r := range now.Replicas {
			w.replicas[r.ID] = r
		}
	}
}

// text is how far it is, in one line.
func (w *waiting) text() string {
	left := "the sessions are being counted"
	switch {
	case w.lost != nil:
		return fmt.Sprintf("%s %s: unknown: %s", w.service, w.version, w.lost)
	case w.last.Unknown != "":
		return fmt.Sprintf("%s %s: unknown: %s", w.service, w.version, w.last.Unknown)
	case !w.last.Counted.IsZero():
		left = count(w.last.Sessions, "session") + " left"
		if w.last.Sessions > 0 {
			left += ", the oldest since " + w.moment(w.last.Oldest)
		}
	}
	if w.last.Counting != nil && *w.last.Counting > 0 {
		left += fmt.Sprintf(" (counting, %d %%)", *w.last.Counting)
	}
	var why []string
	for _, reason := range w.last.Waiting {
		if !strings.HasSuffix(reason, " live on "+w.version) { // said already
			why = append(why, reason)
		}
	}
	if len(why) > 0 {
		left += "; " + why[0]
		if len(why) > 1 {
			left += fmt.Sprintf(" (and %d more)", len(why)-1)
		}
	}
	return fmt.Sprintf("%s %s: %s", w.service, w.version, left)
}

// tell says how far it is if that has changed, and once a minute.
func (w *waiting) tell() {
	what := fmt.Sprint(w.lost != nil, w.last.Unknown != "", w.last.Counted.IsZero(), w.last.Sessions, w.last.Clean, len(w.last.Waiting))
	if what == w.told && time.Since(w.toldAt) < tellEvery {
		return
	}
	w.told, w.toldAt = what, time.Now()
	w.say("%s", w.text())
}

func (w *waiting) safe() error {
	still := map[string]bool{}
	for _, r := range w.last.Replicas {
		still[r.ID] = true
	}
	for id, r := range w.replicas {
		if !still[id] && r.Late {
			w.say("tgctl: replica %s (%s) went without a word, last heard of %s, and counts as dead; if it still runs, its sessions are not known",
				r.Name, id, w.moment(r.Seen))
		}
	}
	return w.print(&w.last, func(out io.Writer) {
		fmt.Fprintf(out, "%s %s is safe to retire: %s, nobody left at the last %d counts, %s\n", w.service, w.version,
			count(len(w.last.Replicas), "replica"), w.last.Clean, w.moment(w.last.Counted))
	})
}

func (w *waiting) notSafe() error {
	if w.lost != nil {
		return w.lost
	}
	if err := w.print(&w.last, func(out io.Writer) {
		fmt.Fprintf(out, "%s %s is not safe to retire:\n", w.service, w.version)
		for _, reason := range w.last.Waiting {
			fmt.Fprintf(out, "  %s\n", reason)
		}
	}); err != nil {
		return err
	}
	code := exitNo
	if w.last.Unknown != "" {
		code = exitUnknown
	}
	return &failure{code, fmt.Errorf("not safe within %s; the drain goes on", w.within)}
}
