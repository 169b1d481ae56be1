package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

// sessions is the command that shows the drain ledger.
func (t *tool) sessions() *cobra.Command {
	var service, version, branch string
	var limit int
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List who is still on what, oldest session first (排空账)",
		Long: `Lists the sessions of the replica that is asked, oldest first. A branch (网点) is given as ENTITY/BRANCH and stands
for itself, not for what is beneath it.`,
		Example: `  tgctl sessions --service counter --version v1
  tgctl sessions move 6f1c2a v2
  tgctl sessions end 6f1c2a`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit is %d; give at least 1", limit)
			}
			query := url.Values{}
			for name, value := range map[string]string{"service": service, "version": version, "branch": branch} {
				if value != "" {
					query.Set(name, value)
				}
			}
			var all api.Sessions
			for {
				query.Set("limit", strconv.Itoa(min(limit-len(all.Sessions), 1000)))
				var page api.Sessions
				path := api.SessionsPath + "?" + query.Encode()
				if _, err := t.client.ask(cmd.Context(), call{path: path}, &page); err != nil {
					return err
				}
				all.Sessions, all.Next = append(all.Sessions, page.Sessions...), page.Next
				if all.Next == "" || len(all.Sessions) >= limit || len(page.Sessions) == 0 {
					break
				}
				query.Set("after", all.Next)
			}
			err := t.print(&all, func(w io.Writer) { t.writeSessions(w, all.Sessions) })
			if err == nil && all.Next != "" {
				t.say("tgctl: there are more; see them with a larger --limit, or narrow down with --service, --version, --branch")
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&service, "service", "", "only of this service")
	flags.StringVar(&version, "version", "", "only on this version")
	flags.StringVar(&branch, "branch", "", "only of this branch, as `ENTITY/BRANCH`")
	flags.IntVar(&limit, "limit", 100, "how many at most")
	cmd.AddCommand(t.endSession(), t.moveSession())
	return cmd
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

func (t *tool) endSession() *cobra.Command {
	return &cobra.Command{
		Use:   "end ID",
		Short: "End a session: its next request is decided anew",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := t.client.do(cmd.Context(), call{
				method: "DELETE", path: api.SessionPath(args[0]), change: t.by(""),
			})
			if err != nil {
				return err
			}
			t.say("session %s has ended", args[0])
			return answer.Body.Close()
		},
	}
}

func (t *tool) moveSession() *cobra.Command {
	return &cobra.Command{
		Use:   "move ID VERSION",
		Short: "Put a session on another version from its next request on",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := t.client.do(cmd.Context(), call{
				method: "POST", path: api.MovePath(args[0]), change: t.by(""),
			}.with(api.MoveRequest{Version: args[1]}))
			if err != nil {
				return err
			}
			t.say("session %s is on %s from its next request on", args[0], args[1])
			return answer.Body.Close()
		},
	}
}

// status is the command that says whether the replica is ready.
func (t *tool) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether the replica is ready and which revision runs",
		Long:  "Shows readiness and the replicas (副本) with the revision each of them runs. Ends with 1 if it is not ready.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var both struct {
				api.Readiness
				api.Replicas
			}
			_, err := t.client.ask(cmd.Context(), call{path: api.ReadyPath, also: 503}, &both.Readiness)
			if err != nil {
				return err
			}
			if _, err = t.client.ask(cmd.Context(), call{path: api.ReplicasPath}, &both.Replicas); err != nil {
				return err
			}
			err = t.print(&both, func(w io.Writer) { t.writeStatus(w, &both.Readiness, both.Replicas.Replicas) })
			if err == nil && !both.Ready {
				return no()
			}
			return err
		},
	}
}

func (t *tool) writeStatus(w io.Writer, ready *api.Readiness, replicas []api.Replica) {
	if ready.Ready {
		fmt.Fprintln(w, "ready")
	} else {
		fmt.Fprintln(w, "not ready")
	}
	for _, missing := range ready.Missing {
		fmt.Fprintf(w, "  missing: %s\n", missing)
	}
	for _, note := range ready.Notes {
		fmt.Fprintf(w, "  note: %s\n", note)
	}
	fmt.Fprintln(w)
	rows := newTable("REPLICA", "PROGRAM", "REVISION", "SINCE", "LATEST", "FAILING")
	for i := range replicas {
		r := &replicas[i]
		rows.add(r.Name, r.Version, strconv.FormatUint(r.Revision, 10), t.moment(r.Since), strconv.FormatUint(r.Head, 10),
			r.Failing)
	}
	rows.write(w)
}
