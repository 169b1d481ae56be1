package main

import (
	"fmt"
	"io"
	"strings"

	"tellergate/admin/api"
	"tellergate/internal/problem"
	"tellergate/rules"
)

// writeChanges prints the parts that differ, each with what a person wants to know of it.
func writeChanges(w io.Writer, changes []api.PartDiff) {
	for _, part := range changes {
		fmt.Fprintf(w, "%s %s%s\n", part.Part, part.Change, summary(&part))
		switch {
		case part.Rules != "":
			io.WriteString(w, part.Rules)
			if !strings.HasSuffix(part.Rules, "\n") {
				io.WriteString(w, "\n")
			}
		case part.List != nil:
			writeExamples(w, "-", part.List.Removed, part.List.RemovedExamples)
			writeExamples(w, "+", part.List.Added, part.List.AddedExamples)
		case part.Organisation != nil:
			o := part.Organisation
			writeExamples(w, "-", o.Removed, o.RemovedExamples)
			writeExamples(w, "+", o.Added, o.AddedExamples)
			writeExamples(w, "~", o.Moved, o.MovedExamples)
		case part.Override != nil:
			writeOverride(w, "-", part.Override.Before)
			writeOverride(w, "+", part.Override.After)
		}
	}
}

// summary is what follows the name of a part on its line.
func summary(part *api.PartDiff) string {
	switch {
	case part.List != nil:
		text := fmt.Sprintf(": %s added, %d removed", count(part.List.Added, "value"), part.List.Removed)
		if part.List.AttributeBefore != "" {
			text += ", were values of " + part.List.AttributeBefore
		}
		return text
	case part.Organisation != nil:
		o := part.Organisation
		return fmt.Sprintf(": %s added, %d removed, %d moved, %d renamed", count(o.Added, "branch"), o.Removed, o.Moved,
			o.Renamed)
	case part.Part == rulesPart && part.Rules == "" && part.Change == api.PartChanged:
		return ": only comments or spelling differ"
	}
	return ""
}

// rulesPart is the part that holds the rule document.
const rulesPart = "rules"

func writeExamples(w io.Writer, sign string, total int, examples []string) {
	for _, example := range examples {
		fmt.Fprintf(w, "%s %s\n", sign, example)
	}
	if more := total - len(examples); more > 0 {
		fmt.Fprintf(w, "%s and %d more\n", sign, more)
	}
}

func writeOverride(w io.Writer, sign string, o *rules.Override) {
	if o != nil {
		fmt.Fprintf(w, "%s %s\n", sign, overrideText(o))
	}
}

func overrideText(o *rules.Override) string {
	text := "everybody to " + o.Version + ", pinned sessions stay"
	if o.Pinned == rules.PinnedMove {
		text = "everybody to " + o.Version + ", pinned sessions move"
	}
	if o.Reason != "" {
		text += ": " + oneLine(o.Reason)
	}
	return text
}

// printWrite prints what a change did. file is where the rule document stands, for the places of warnings.
func (t *tool) printWrite(file string, result *api.WriteResult) error {
	err := t.print(result, func(w io.Writer) {
		writeChanges(w, result.Changes)
		if result.Duplicates > 0 {
			fmt.Fprintf(w, "%s occurred more than once and %s merged\n", count(result.Duplicates, "value"), wereOrWas(result.Duplicates))
		}
		if result.Idle > 0 {
			fmt.Fprintf(w, "%s changed nothing: already there, or not there to remove\n", count(result.Idle, "value"))
		}
		switch {
		case !result.Changed:
			fmt.Fprintf(w, "nothing to change: revision %d is so already\n", result.Revision)
		case result.Applied:
			fmt.Fprintf(w, "revision %d is live\n", result.Revision)
		default:
			fmt.Fprintf(w, "revision %d is stored, not live\n", result.Revision)
		}
	})
	if err != nil {
		return err
	}
	t.warn(file, result.Warnings)
	return notApplied(result)
}

// warn says what is legal but probably not meant.
func (t *tool) warn(file string, warnings []problem.Problem) {
	writeProblems(t.messages, file, "warning", warnings)
}

// notApplied is the failure of a change that is stored and does not run.
func notApplied(result *api.WriteResult) error {
	if result.Applied || !result.Changed {
		return nil
	}
	why := strings.TrimSuffix(result.NotApplied, ".")
	if why == "" {
		why = "it has not been applied in time"
	}
	return &failure{exitNotApplied, fmt.Errorf(
		"revision %d is stored, but the replica that was asked does not run it yet: %s; see tgctl status",
		result.Revision, why)}
}
