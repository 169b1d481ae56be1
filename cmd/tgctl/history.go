package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

// history is the command that lists revisions.
func (t *tool) history() *cobra.Command {
	var before uint64
	var limit int
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List revisions (修订), newest first: who changed what, when and why",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit is %d; give at least 1", limit)
			}
			var all api.Revisions
			for next := before; ; next = all.Next {
				path := fmt.Sprintf("%s?limit=%d", api.RevisionsPath, min(limit-len(all.Revisions), 500))
				if next > 0 {
					path += fmt.Sprintf("&before=%d", next)
				}
				var page api.Revisions
				if _, err := t.client.ask(cmd.Context(), call{path: path}, &page); err != nil {
					return err
				}
				all.Head, all.Next, all.Revisions = page.Head, page.Next, append(all.Revisions, page.Revisions...)
				if all.Next == 0 || len(all.Revisions) >= limit || len(page.Revisions) == 0 {
					break
				}
			}
			err := t.print(&all, func(w io.Writer) {
				rows := newTable("REVISION", "TIME", "AUTHOR", "CHANGED", "REASON")
				for i := range all.Revisions {
					r := &all.Revisions[i]
					rows.add(strconv.FormatUint(r.Seq, 10), t.moment(r.At), r.Author, strings.Join(r.Changed, ","), r.Reason)
				}
				rows.write(w)
			})
			if err == nil && all.Next > 0 {
				t.say("tgctl: there are older ones; see them with tgctl history --before %d", all.Next)
			}
			return err
		},
	}
	cmd.Flags().Uint64Var(&before, "before", 0, "only revisions older than `N`")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many at most")
	return cmd
}

// moment is a point in time as people read it.
func (t *tool) moment(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.In(t.zone).Format("2006-01-02 15:04:05")
}

// restore is the command that makes a new revision out of an old one.
func (t *tool) restore() *cobra.Command {
	var o write
	var parts []string
	cmd := &cobra.Command{
		Use:   "restore N",
		Short: "Put the rules back as they were in revision N",
		Long: `Makes a new revision (修订) whose rules are those of revision N; nothing of the history is lost. Other parts are
restored if they are named: rules, lists/NAME, organisations/ENTITY, overrides/SERVICE. A part that did not exist in
revision N is deleted.`,
		Example: "  tgctl restore 3 --reason 'as before the pilot grew'\n  tgctl restore 3 --part rules --part lists/pilot-tellers",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			tag, err := o.ifMatch(cmd.Context(), t.client)
			if err != nil {
				return err
			}
			var result api.RestoreResult
			_, err = t.client.ask(cmd.Context(), call{
				method: "POST", path: api.RestorePath(n), ifMatch: tag, change: t.by(o.reason),
			}.with(api.RestoreRequest{Parts: parts}), &result)
			if err != nil {
				return refusedFile("revision "+args[0], liveRules, err)
			}
			return t.printWrite(liveRules, &result.WriteResult)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringArrayVar(&parts, "part", nil, "what to restore instead of the rules alone; repeatable")
	return cmd
}
