package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
	"tellergate/rules"
)

// editList is the command that adds values to a list or removes some; verb is add or remove.
func (t *tool) editList(verb string) *cobra.Command {
	var o write
	var file, encoding string
	short, preposition := "Add values to a list", "to"
	if verb == "remove" {
		short, preposition = "Remove values from a list", "from"
	}
	cmd := &cobra.Command{
		Use:   verb + " NAME [VALUE …] [--file FILE]",
		Short: short,
		Long: short + ` as one revision (修订); all others stay. Values are given on the command line or as the lines of a CSV
file: of an attribute declared within another ENTITY/VALUE, in a file also two columns ENTITY,VALUE. A header line is
allowed. Values that change nothing are counted and are no error.`,
		Example:           fmt.Sprintf("  tgctl list %s pilot-tellers 9001/0001 9001/0002 --reason '%s %s the pilot'", verb, verb, preposition),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: t.completeLists,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name, values := cmd.Context(), args[0], args[1:]
			var all api.Lists
			answer, err := t.client.ask(ctx, call{path: api.ListsPath}, &all)
			if err != nil {
				return err
			}
			attribute := ""
			for _, l := range all.Lists {
				if l.Name == name {
					attribute = l.Attribute
				}
			}
			if file != "" {
				more, err := t.readValues(file, encoding, attribute)
				if err != nil {
					return err
				}
				values = append(values, more...)
			}
			if len(values) == 0 {
				return usagef("tgctl list %s takes values, or a file of them with --file", verb)
			}
			edit := api.ListEdit{Add: values}
			if verb == "remove" {
				edit = api.ListEdit{Remove: values}
			}
			return t.sendEdit(ctx, name, answer.Header.Get(api.ETagHeader), edit, &o)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&file, "file", "", "read values from `FILE`, - for standard input")
	encodingFlag(cmd, &encoding)
	return cmd
}

func (t *tool) sendEdit(ctx context.Context, name, tag string, edit api.ListEdit, o *write) error {
	if o.revision >= 0 {
		tag = api.ETag(uint64(o.revision))
	}
	var result api.WriteResult
	_, err := t.client.ask(ctx, call{
		method: "PATCH", path: api.ListPath(name), ifMatch: tag, change: t.by(o.reason),
	}.with(edit), &result)
	if err != nil {
		return refusedFile("list "+name, liveRules, err)
	}
	return t.printWrite(liveRules, &result)
}

// readValues reads the values of a CSV file of one or two columns.
func (t *tool) readValues(file, encoding, attribute string) ([]string, error) {
	text, err := t.readFile(file)
	if err != nil {
		return nil, err
	}
	text, known, err := rules.DecodeText(text, encoding)
	if !known {
		return nil, usagef("--encoding %s is not known; give utf-8, gb18030 or gbk", encoding)
	}
	if err != nil {
		return nil, inFile(file, err)
	}
	lines := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff")))
	lines.FieldsPerRecord = -1
	var values []string
	for first := true; ; first = false {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, usagef("%s is not CSV: %w", file, err)
		}
		if len(record) > 2 {
			line, _ := lines.FieldPos(0)
			return nil, usagef("%s:%d: the line has %d columns; a line is a value, or ENTITY,VALUE", file, line, len(record))
		}
		last := strings.TrimSpace(record[len(record)-1])
		if first && (strings.EqualFold(last, attribute) || strings.HasSuffix(last, "/"+attribute)) {
			continue
		}
		values = append(values, strings.Join(record, "/"))
	}
}

// wereOrWas is the verb of n things.
func wereOrWas(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}
