package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"tellergate/rules"
)

// analysisLines is how many findings of one kind are printed; all are in the JSON.
const analysisLines = 20

// writeAnalysis prints what is true of the rules beyond each by itself, one finding a line.
func writeAnalysis(w io.Writer, file string, a *rules.Analysis) {
	if a == nil {
		return
	}
	writeFindings(w, file, "never matches", a.Never)
	writeFindings(w, file, "shadowed", a.Shadowed)
	lines := make([]string, len(a.Overlaps))
	for i, o := range a.Overlaps {
		lines[i] = fmt.Sprintf("%s/%s and %s, which comes before it, send this request to different versions: %s",
			o.Service, o.Rule, o.Before, witnessText(&o.Witness))
	}
	writeLines(w, file, "overlap", lines, a.MoreOverlaps, a.OverlapsAtLeast)
	writeFindings(w, file, "unknown branch", a.UnknownBranches)
	for _, u := range a.Unmentioned {
		fmt.Fprintf(w, "%s: unmentioned: no rule names %d of the %d branches of %s, for example %s\n", file, u.Branches, u.Of,
			u.LegalEntity, strings.Join(u.Examples[:min(3, len(u.Examples))], ", "))
	}
	writeFindings(w, file, "not analysed", a.NotAnalysed)
}

func writeFindings(w io.Writer, file, kind string, findings []rules.Finding) {
	lines := make([]string, len(findings))
	for i, f := range findings {
		place := f.Service
		if f.Rule != "" {
			place += "/" + f.Rule
		}
		if place != "" {
			place += ": "
		}
		lines[i] = place + f.Why
		if len(f.By) > 1 {
			lines[i] += " (" + strings.Join(f.By, ", ") + ")"
		}
	}
	writeLines(w, file, kind, lines, 0, false)
}

// writeLines prints the first lines and how many there are besides, of which more are in no output; atLeast says that
// there may be others that nobody found.
func writeLines(w io.Writer, file, kind string, lines []string, more int, atLeast bool) {
	for _, line := range lines[:min(analysisLines, len(lines))] {
		fmt.Fprintf(w, "%s: %s: %s\n", file, kind, oneLine(line))
	}
	unprinted := max(0, len(lines)-analysisLines)
	if unprinted+more == 0 {
		return
	}
	bound := ""
	if atLeast {
		bound = "at least "
	}
	fmt.Fprintf(w, "%s: %s: and %s%d more", file, kind, bound, unprinted+more)
	if unprinted > 0 {
		fmt.Fprintf(w, "; -o json has %d of them", unprinted)
	}
	fmt.Fprintln(w)
}

// witnessText prints a request as the flags of explain.
func witnessText(q *rules.Witness) string {
	words := attributeWords(q.Attributes)
	if q.Host != "" {
		words = append(words, "--host "+q.Host)
	}
	if q.Frontend != "" {
		words = append(words, "--frontend "+q.Frontend)
	}
	words = append(words, "--method "+q.Method, "--path "+q.Path, "--source "+q.Source)
	for _, name := range slices.Sorted(maps.Keys(q.Headers)) {
		words = append(words, fmt.Sprintf("--header '%s: %s'", name, q.Headers[name]))
	}
	return strings.Join(words, " ")
}

// attributeWords prints an identity as the flags of explain.
func attributeWords(attributes map[string]string) []string {
	flags := map[string]string{"branch": "--branch ", "teller": "--teller ", "legalEntity": "--legal-entity ", "session": "--session "}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		flag, ok := flags[name]
		if !ok {
			flag = "--attr " + name + "="
		}
		words = append(words, flag+attributes[name])
	}
	return words
}
