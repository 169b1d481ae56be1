package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
	"tellergate/internal/problem"
	"tellergate/rules"
)

// check is the command that finds faults in a rule document.
func (t *tool) check() *cobra.Command {
	var against offline
	var serverSide bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Find every fault of a rule document; changes nothing",
		Long: `Checks the rule document in FILE (- for standard input) and prints every fault with its place and remedy.
Ends with 1 if there are faults; warnings do not count.

` + offlineHelp + `

With --server-side the server checks it against its own settings, lists, organisations and overrides, and says what
applying the document would change.`,
		Example: `  tgctl check rules.yaml --list pilot-tellers=tellers.csv --organisation 9001=branches.csv
  tgctl check rules.yaml --server-side`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if serverSide && against.given() {
				return usagef("--server-side uses the server's own settings, lists and organisations; leave out " +
					"--settings, --list and --organisation")
			}
			text, err := t.readFile(args[0])
			if err != nil {
				return err
			}
			var result *api.CheckResult
			if serverSide {
				result, err = t.checkThere(cmd.Context(), text)
			} else {
				result, err = t.checkHere(text, &against)
			}
			if err != nil {
				return refusedFile(args[0], args[0], err)
			}
			return t.printCheck(args[0], result, !serverSide && len(against.lists)+len(against.organisations) == 0)
		},
	}
	against.flags(cmd)
	cmd.Flags().BoolVar(&serverSide, "server-side", false, "let the server check, against what is live")
	return cmd
}

// checkHere checks without a server.
func (t *tool) checkHere(text []byte, against *offline) (*api.CheckResult, error) {
	_, in, err := against.load(t)
	if err != nil {
		return nil, err
	}
	result := new(api.CheckResult)
	document, set, err := compile(text, in)
	var list problem.List
	switch {
	case errors.As(err, &list):
		result.Problems = list
	case err != nil:
		return nil, err
	default:
		result.Valid, result.Warnings = true, set.Warnings()
		result.Analysis = rules.Analyse(document, in, set)
	}
	return result, nil
}

// compile is what the server does with a document that is sent to it.
func compile(text []byte, in rules.Inputs) (*rules.Document, *rules.RuleSet, error) {
	document, err := rules.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	set, err := rules.Compile(document, in)
	return document, set, err
}

// checkThere lets the server check.
func (t *tool) checkThere(ctx context.Context, text []byte) (*api.CheckResult, error) {
	result := new(api.CheckResult)
	_, err := t.client.ask(ctx, call{
		method: "POST", path: api.RulesCheckPath, contentType: api.YAML,
		body: bytes.NewReader(text), size: int64(len(text)),
	}, result)
	return result, err
}

// printCheck prints the result of a check; bare tells that no lists and organisations were given.
func (t *tool) printCheck(file string, result *api.CheckResult, bare bool) error {
	err := t.print(result, func(w io.Writer) {
		writeProblems(w, file, "", result.Problems)
		writeProblems(w, file, "warning", result.Warnings)
		writeAnalysis(w, file, result.Analysis)
		writeChanges(w, result.Changes)
		fmt.Fprintf(w, "%s: %s, %s\n", file, count(len(result.Problems), "problem"), count(len(result.Warnings), "warning"))
	})
	if err != nil || result.Valid {
		return err
	}
	if bare {
		t.say("tgctl: checked without lists and organisations; bring them with --list and --organisation, or ask the " +
			"server with --server-side")
	}
	return no()
}
