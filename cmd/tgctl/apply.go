package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

// A write is what every changing command is told beside its subject.
type write struct {
	reason   string
	revision int64 // -1: whatever is the head
}

func (o *write) flags(cmd *cobra.Command) {
	o.reasonFlag(cmd)
	cmd.Flags().Int64Var(&o.revision, "if-revision", -1,
		"change only if revision `N` is still the latest, otherwise end with 3")
}

func (o *write) reasonFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for the history")
}

// ifMatch returns the entity tag to insist on: of the given revision, or of the head as it is now.
func (o *write) ifMatch(ctx context.Context, c *client) (string, error) {
	if o.revision >= 0 {
		return api.ETag(uint64(o.revision)), nil
	}
	return c.head(ctx)
}

// by says who makes the change: $TGCTL_AUTHOR, or the OS user.
func (t *tool) by(reason string) change {
	author := t.env("TGCTL_AUTHOR")
	if author == "" {
		author = t.account()
	}
	return change{author: oneLine(author), reason: reason}
}

// apply is the command that makes a document the live rules.
func (t *tool) apply() *cobra.Command {
	var o write
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make a rule document live and show what changed",
		Long: `Sends the rule document in FILE (- for standard input) as it is, comments included, and prints what changed.
A document with faults changes nothing. Overrides are not part of the document: applying one lifts none.

The latest revision is read first, so that a change which somebody makes at the same moment is not lost: the command
then ends with 3. With --if-revision the document is applied only on top of that very revision.`,
		Example: `  tgctl apply rules.yaml --reason 'pilot grows to 支行 3200'
  tgctl apply rules.yaml --dry-run`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := t.readFile(args[0])
			if err != nil {
				return err
			}
			if dryRun {
				return t.dryRun(cmd.Context(), args[0], text, o.revision)
			}
			tag, err := o.ifMatch(cmd.Context(), t.client)
			if err != nil {
				return err
			}
			var result api.WriteResult
			_, err = t.client.ask(cmd.Context(), call{
				method: "PUT", path: api.RulesPath, contentType: api.YAML, ifMatch: tag, change: t.by(o.reason),
				body: bytes.NewReader(text), size: int64(len(text)),
			}, &result)
			if err != nil {
				return refusedFile(args[0], args[0], err)
			}
			return t.printWrite(args[0], &result)
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change; end with 1 if there are faults")
	return cmd
}

// dryRun is apply without the change. revision is the one that --if-revision insists on, or -1.
func (t *tool) dryRun(ctx context.Context, file string, text []byte, revision int64) error {
	result, err := t.checkThere(ctx, text)
	if err != nil {
		return refusedFile(file, file, err)
	}
	if err := t.printCheck(file, result, false); err != nil {
		return err
	}
	if revision >= 0 && uint64(revision) != result.Revision {
		return &failure{exitConflict, fmt.Errorf("the latest revision is %d, not %d; see what changed with tgctl diff %d",
			result.Revision, revision, revision)}
	}
	t.say("tgctl: dry run, nothing was changed; revision %d stays", result.Revision)
	return nil
}

// An upload is the content of a file on its way to the server, not read into memory.
type upload struct {
	body io.ReadCloser
	size int64 // -1 if it is not known
}

// open opens a file for an upload, or standard input for "-".
func (t *tool) open(file string) (*upload, error) {
	if file == "-" {
		return &upload{io.NopCloser(t.in), -1}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return &upload{f, -1}, nil
	}
	if info.Size() == 0 {
		f.Close()
		return &upload{io.NopCloser(bytes.NewReader(nil)), 0}, nil
	}
	return &upload{f, info.Size()}, nil
}
