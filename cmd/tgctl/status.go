package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

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

// replicas is the command that shows who shares the sessions.
func (t *tool) replicas() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replicas",
		Short: "Show the replicas that share the sessions (副本)",
		Long: `Shows every replica that shares the sessions: which revision it runs since when, when it was last heard of, up to when
all that it knew of sessions is written, and which versions take no new sessions there. The one that is asked stands
first, marked *. One that is late has not been heard of for ten seconds: nothing is known of what it does. With sessions
in process there is one.`,
		Example: "  tgctl replicas\n  tgctl replicas forget 7XKWQ2M5",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all api.Replicas
			if _, err := t.client.ask(cmd.Context(), call{path: api.ReplicasPath}, &all); err != nil {
				return err
			}
			if err := t.print(&all, func(w io.Writer) { t.writeReplicas(w, all.Replicas) }); err != nil {
				return err
			}
			if all.Unknown != "" {
				return &failure{exitUnknown, fmt.Errorf("the other replicas are not known: %s", all.Unknown)}
			}
			return nil
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "forget ID",
		Short: "Forget a replica that is dead",
		Long: `Takes a replica out of the register, so that nobody waits for it any more. Do so only if it is known to be dead: of one
that still serves and cannot reach Redis the sessions are lost to sight. One that lives and can registers again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := t.client.do(cmd.Context(), call{method: "DELETE", path: api.ReplicaPath(args[0]), change: t.by("")})
			if err != nil {
				return err
			}
			t.say("replica %s is forgotten", args[0])
			return answer.Body.Close()
		},
	})
	return cmd
}

func (t *tool) writeReplicas(w io.Writer, replicas []api.Replica) {
	rows := newTable("REPLICA", "ID", "PROGRAM", "REVISION", "SINCE", "HEARD", "WRITTEN UP TO", "NOT ACTIVE", "NOTE")
	for i := range replicas {
		r := &replicas[i]
		name, note := r.Name, r.Failing
		if r.Self {
			name += " *"
		}
		if r.Late {
			note = strings.TrimPrefix(note+"; late: what it does is unknown", "; ")
		}
		var resting []string
		for _, v := range r.Resting {
			resting = append(resting, v.Service+"/"+v.Version)
		}
		rows.add(name, r.ID, r.Version, strconv.FormatUint(r.Revision, 10), t.moment(r.Since), t.moment(r.Seen), t.moment(r.Flushed),
			strings.Join(resting, ","), note)
	}
	rows.write(w)
}
