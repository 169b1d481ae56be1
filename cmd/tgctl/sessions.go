package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

// A selection is which sessions are meant.
type selection struct{ service, version, branch, under string }

func (s *selection) flags(cmd *cobra.Command, version string) {
	flags := cmd.Flags()
	flags.StringVar(&s.service, "service", "", "only of this service")
	flags.StringVar(&s.version, version, "", "only on this version")
	flags.StringVar(&s.branch, "branch", "", "only of this branch, as `ENTITY/BRANCH`")
	flags.StringVar(&s.under, "under", "", "only of this branch and all beneath it in its organisation, as `ENTITY/BRANCH`")
}

func (s *selection) query() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{"service": s.service, "version": s.version, "branch": s.branch, "under": s.under} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// sessions is the command that shows the drain ledger.
func (t *tool) sessions() *cobra.Command {
	var chosen selection
	var by string
	var older time.Duration
	var limit int
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List who is still on what, oldest session first (排空账)",
		Long: `Lists live sessions, oldest first, or with --by how many there are on each version, or in each branch (网点) of a version.
A branch is given as ENTITY/BRANCH. --branch means it alone, --under everything beneath it too.

Where sessions are in Redis all of them are read for it, slowly, so that Redis notices little: a million takes a minute
or two. Redis unreachable is unknown, never zero: the command ends with 7.`,
		Example: `  tgctl sessions --service counter --version v1
  tgctl sessions --service counter --version v1 --by branch
  tgctl sessions move 6f1c2a v2 --reason '票据打印'
  tgctl sessions move --service counter --from v1 --to v2 --branch 9001/3201 --reason 'v1 goes tonight'
  tgctl sessions end 6f1c2a`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit is %d; give at least 1", limit)
			}
			query := chosen.query()
			if by != "" {
				if by != "version" && by != "branch" {
					return usagef("--by is %s; give version or branch", by)
				}
				if older != 0 {
					return usagef("--by counts sessions of every age; leave out --older-than")
				}
				query.Set("by", by)
				return t.countSessions(cmd.Context(), query)
			}
			if older != 0 {
				query.Set("olderThan", older.String())
			}
			all, err := t.listSessions(cmd.Context(), query, limit)
			if err != nil {
				return err
			}
			err = t.print(all, func(w io.Writer) { t.writeSessions(w, all.Sessions) })
			if err == nil && all.Next != "" {
				t.say("tgctl: there are more; see them with a larger --limit, or narrow down with --service, --version, --branch")
			}
			return err
		},
	}
	chosen.flags(cmd, "version")
	flags := cmd.Flags()
	flags.DurationVar(&older, "older-than", 0, "only sessions that began longer ago than `DURATION`, such as 2h")
	flags.StringVar(&by, "by", "", "count instead: by version or by branch")
	flags.IntVar(&limit, "limit", 100, "how many at most")
	complete(cmd, "by", "version", "branch")
	cmd.AddCommand(t.endSessions(), t.moveSessions(), t.movesOfSessions())
	return cmd
}

func (t *tool) listSessions(ctx context.Context, query url.Values, limit int) (*api.Sessions, error) {
	all := new(api.Sessions)
	for {
		query.Set("limit", strconv.Itoa(min(limit-len(all.Sessions), 1000)))
		var page api.Sessions
		if err := t.askCounted(ctx, call{path: api.SessionsPath + "?" + query.Encode()}, &page); err != nil {
			return nil, err
		}
		all.Sessions, all.Next = append(all.Sessions, page.Sessions...), page.Next
		if all.Next == "" || len(all.Sessions) >= limit || len(page.Sessions) == 0 {
			return all, nil
		}
		query.Set("after", all.Next)
	}
}

func (t *tool) countSessions(ctx context.Context, query url.Values) error {
	var counts api.SessionCounts
	if err := t.askCounted(ctx, call{path: api.SessionCountsPath + "?" + query.Encode()}, &counts); err != nil {
		return err
	}
	return t.print(&counts, func(w io.Writer) {
		header, branches := []string{"SERVICE", "VERSION", "SESSIONS", "OLDEST"}, query.Get("by") == "branch"
		if branches {
			header = []string{"SERVICE", "VERSION", "BRANCH", "SESSIONS", "OLDEST"}
		}
		rows := newTable(header...)
		for _, c := range counts.Counts {
			cells := []string{c.Service, c.Version, c.Branch, strconv.Itoa(c.Sessions), t.moment(c.Oldest)}
			if !branches {
				cells = append(cells[:2:2], cells[3:]...)
			}
			rows.add(cells...)
		}
		rows.write(w)
	})
}

// askCounted is ask for what takes a count of all sessions: while that is under way it asks again.
func (t *tool) askCounted(ctx context.Context, what call, value any) error {
	line := t.line()
	defer line.done()
	for {
		_, err := t.client.ask(ctx, what, value)
		var refusal *api.Error
		if !errors.As(err, &refusal) || refusal.Code != api.CodeCounting {
			return err
		}
		line.show("%s", refusal.Detail)
		select {
		case <-ctx.Done():
			return interrupted("nothing was changed")
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// interrupted ends an invocation that somebody has interrupted.
func interrupted(left string) error {
	return &failure{exitInterrupted, errors.New("interrupted: " + left)}
}

func (t *tool) writeSessions(w io.Writer, sessions []api.Session) {
	rows := newTable("ID", "SERVICE", "VERSION", "BRANCH", "SUBJECT", "ENDPOINT", "START", "LAST SEEN", "LATEST END")
	for i := range sessions {
		s := &sessions[i]
		endpoint := ""
		if s.Endpoint.IsValid() {
			endpoint = s.Endpoint.String()
		}
		rows.add(s.ID, s.Service, s.Version, s.Branch, s.Subject, endpoint, t.moment(s.Start), t.moment(s.LastSeen),
			t.moment(s.Latest))
	}
	rows.write(w)
}

func (t *tool) endSessions() *cobra.Command {
	b := bulk{tool: t, done: "ended"}
	cmd := &cobra.Command{
		Use:   "end ID | --service SERVICE --from VERSION --reason TEXT",
		Short: "End a session, or all of a version: their next requests are decided anew",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return b.run(cmd.Context())
			}
			if err := b.alone(); err != nil {
				return err
			}
			answer, err := t.client.do(cmd.Context(), call{
				method: "DELETE", path: api.SessionPath(args[0]), change: t.by(b.reason),
			})
			if err != nil {
				return err
			}
			t.say("session %s has ended", args[0])
			return answer.Body.Close()
		},
	}
	b.flags(cmd)
	return cmd
}

func (t *tool) moveSessions() *cobra.Command {
	b := bulk{tool: t, done: "moved"}
	cmd := &cobra.Command{
		Use:   "move ID VERSION | --service SERVICE --from VERSION --to VERSION --reason TEXT",
		Short: "Put a session, or all of a version, on another version from the next request on",
		Long: `Puts one session on another version, or all sessions of a version, those of a branch (网点) with --branch, and those of a
branch and all beneath it with --under. The version they go to must be active. Every replica knows at once. --dry-run says
how many there are. A move that was interrupted is begun again and goes on with what is left. Who did it, why, and how many
sessions it was stays readable: tgctl sessions moves.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && b.to == "":
				return usagef("say with --to where the sessions go, or name one session and a version")
			case len(args) == 0:
				return b.run(cmd.Context())
			case len(args) == 1:
				return usagef("tgctl sessions move takes a session and a version; tgctl sessions lists them")
			}
			if err := b.alone(); err != nil {
				return err
			}
			answer, err := t.client.do(cmd.Context(), call{
				method: "POST", path: api.MovePath(args[0]), change: t.by(b.reason),
			}.with(api.MoveRequest{Version: args[1]}))
			if err != nil {
				return err
			}
			t.say("session %s is on %s from its next request on", args[0], args[1])
			return answer.Body.Close()
		},
	}
	b.flags(cmd)
	cmd.Flags().StringVar(&b.to, "to", "", "active version that they go to")
	return cmd
}

// A bulk is a move, or an end, of many sessions.
type bulk struct {
	*tool
	chosen     selection
	to, reason string
	dryRun     bool
	done       string // what is said of them afterwards
}

func (b *bulk) flags(cmd *cobra.Command) {
	b.chosen.flags(cmd, "from")
	cmd.Flags().StringVar(&b.reason, "reason", "", "why, for the trail; required for many")
	cmd.Flags().BoolVar(&b.dryRun, "dry-run", false, "only say how many there are")
}

// alone refuses what has no meaning for a single session.
func (b *bulk) alone() error {
	if b.chosen != (selection{}) || b.to != "" || b.dryRun {
		return usagef("one session is named by its ID alone: leave out --service, --from, --to, --branch, --under and --dry-run")
	}
	return nil
}

// run works through the sessions, a call at a time, until a look from the beginning finds none left.
func (b *bulk) run(ctx context.Context) error {
	switch {
	case b.chosen.service == "" || b.chosen.version == "":
		return usagef("say with --service and --from whose sessions are meant")
	case b.reason == "" && !b.dryRun:
		return usagef("say with --reason why, for those who read the trail")
	}
	request := api.MovesRequest{
		Service: b.chosen.service, From: b.chosen.version, To: b.to, Branch: b.chosen.branch, Under: b.chosen.under, DryRun: b.dryRun,
	}
	var result api.MovesResult
	ask := func() error {
		return b.askCounted(ctx, call{method: "POST", path: api.MovesPath, change: b.by(b.reason)}.with(request), &result)
	}
	if b.dryRun {
		if err := ask(); err != nil {
			return err
		}
		return b.print(&result, func(w io.Writer) {
			fmt.Fprintf(w, "%s would be %s\n", count(result.Sessions, "session"), b.done)
		})
	}
	line := b.line()
	defer line.done()
	total := 0
	for !result.Finished {
		err := ask()
		if ctx.Err() != nil {
			line.done()
			return interrupted(fmt.Sprintf("%s %s; the same command goes on with what is left", count(total, "session"), b.done))
		}
		if err != nil {
			line.done()
			if total > 0 {
				b.say("tgctl: %s %s before; the same command goes on with what is left", count(total, "session"), b.done)
			}
			return err
		}
		total = result.Total
		request.ID, request.After = result.ID, result.Next
		line.show("%s %s", count(total, "session"), b.done)
	}
	line.done()
	return b.print(&result, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", count(total, "session"), b.done) })
}

// movesOfSessions is the command that shows the trail.
func (t *tool) movesOfSessions() *cobra.Command {
	return &cobra.Command{
		Use:   "moves",
		Short: "Show who moved and ended sessions, and why, the latest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all api.Moves
			if _, err := t.client.ask(cmd.Context(), call{path: api.MovesPath}, &all); err != nil {
				return err
			}
			return t.print(&all, func(w io.Writer) {
				rows := newTable("TIME", "AUTHOR", "SERVICE", "FROM", "TO", "BRANCH", "SESSIONS", "STATE", "REASON")
				for _, m := range all.Moves {
					to, state, branch := m.To, "finished", m.Branch
					if to == "" {
						to = "(ended)"
					}
					if !m.Finished {
						state = "unfinished"
					}
					if m.Under != "" {
						branch = "under " + m.Under
					}
					rows.add(t.moment(m.Began), m.Author, m.Service, m.From, to, branch, strconv.Itoa(m.Sessions), state, m.Reason)
				}
				rows.write(w)
			})
		},
	}
}
