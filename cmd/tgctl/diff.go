package main

import (
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

// diff is the command that compares a file with what is live, or revisions with each other.
func (t *tool) diff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff FILE | N [M]",
		Short: "Compare a file with the live rules, or two revisions",
		Long: `With FILE (- for standard input): what applying the document would change.
With N: what changed from revision (修订) N to the latest; with M: to revision M. A number is always a revision: write
./5 for a file of that name.

Rule documents are compared in canonical form, so that differences of layout do not show. Ends with 1 if there are
differences, like diff(1), and with 5 if the file has faults.`,
		Example: "  tgctl diff rules.yaml\n  tgctl diff 4\n  tgctl diff 4 7",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := strconv.ParseUint(args[0], 10, 64)
			if err == nil {
				return t.diffRevisions(cmd, from, args[1:])
			}
			if len(args) == 2 {
				return usagef("%q is not the number of a revision; give one FILE, or revisions N M", args[0])
			}
			text, err := t.readFile(args[0])
			if err != nil {
				return err
			}
			result, err := t.checkThere(cmd.Context(), text)
			if err != nil {
				return refusedFile(args[0], args[0], err)
			}
			if !result.Valid {
				return &failure{exitRefused, &fileError{args[0], result.Problems}}
			}
			return t.printDiff(result.Changes, result.Changes)
		},
	}
}

func (t *tool) diffRevisions(cmd *cobra.Command, from uint64, rest []string) error {
	path := api.RevisionPath(from) + "/diff"
	if len(rest) == 1 {
		to, err := revisionNumber(rest[0])
		if err != nil {
			return err
		}
		path = api.DiffPath(from, to)
	}
	var answer api.Diff
	if _, err := t.client.ask(cmd.Context(), call{path: path}, &answer); err != nil {
		return err
	}
	return t.printDiff(&answer, answer.Parts)
}

// printDiff prints value, whose differences are parts, and answers "no" if there are any.
func (t *tool) printDiff(value any, parts []api.PartDiff) error {
	if err := t.print(value, func(w io.Writer) { writeChanges(w, parts) }); err != nil || len(parts) == 0 {
		return err
	}
	return no()
}

// revisionNumber reads the number of a revision from the command line.
func revisionNumber(arg string) (uint64, error) {
	n, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return 0, usagef("%q is not the number of a revision; give one that tgctl history shows", arg)
	}
	return n, nil
}
