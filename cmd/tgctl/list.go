package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
	"tellergate/rules"
)

// list is the family of commands about lists.
func (t *tool) list() *cobra.Command {
	return family("list", "Read, replace and delete lists (名单)",
		"A list (名单) is a named set of values of one attribute. Every change of it is one revision (修订).",
		t.getCommand("get [NAME]", "Print a list as CSV, or an overview of all", t.completeLists, t.getLists),
		t.putList(), t.editList("add"), t.editList("remove"), t.deleteCommand("delete NAME", "list", api.ListPath, t.completeLists))
}

// organisation is the family of commands about organisations.
func (t *tool) organisation() *cobra.Command {
	return family("organisation", "Read, replace and delete organisations (机构树)",
		"An organisation (机构树) is the tree of branches (分行 / 支行 / 网点) of one legal entity (法人). It is replaced whole.",
		t.getCommand("get [ENTITY]", "Print an organisation as CSV, or an overview of all", nil, t.getOrganisations),
		t.putOrganisation(), t.deleteCommand("delete ENTITY", "organisation", api.OrganisationPath, nil))
}

// get is the command that prints what is live.
func (t *tool) get() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "get [rules | list [NAME] | organisation [ENTITY]]",
		Short: "Print the live rules, a list or an organisation",
		Long: `Prints the rule document as it was written, comments included; with -o json its members. Lists (名单) and
organisations (机构树) are printed as CSV, with -o json as the JSON that the API knows; without a name, an overview.`,
		Example:   "  tgctl get > rules.yaml\n  tgctl get list pilot-tellers",
		Args:      cobra.MaximumNArgs(2),
		ValidArgs: []string{"rules", "list", "organisation"},
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "rules"
			if len(args) > 0 {
				what, args = args[0], args[1:]
			}
			switch {
			case what == "rules" && len(args) == 0:
				return t.getRules(cmd.Context(), file)
			case what == "list":
				return t.getLists(cmd.Context(), args, file)
			case what == "organisation":
				return t.getOrganisations(cmd.Context(), args, file)
			}
			return usagef("tgctl get takes rules, list NAME or organisation ENTITY, not %s",
				strings.Join(append([]string{what}, args...), " "))
		},
	}
	fileFlag(cmd, &file)
	return cmd
}

func fileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "file", "-", "write to `FILE` instead of standard output")
}

// getCommand is the get of a family.
func (t *tool) getCommand(use, short string, complete cobra.CompletionFunc,
	get func(ctx context.Context, args []string, file string) error,
) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: complete,
		RunE:              func(cmd *cobra.Command, args []string) error { return get(cmd.Context(), args, file) },
	}
	fileFlag(cmd, &file)
	return cmd
}

func (t *tool) getRules(ctx context.Context, file string) error {
	accept := api.YAML
	if t.output == outputJSON {
		accept = api.JSON
	}
	return t.download(ctx, api.RulesPath, accept, file)
}

func (t *tool) getLists(ctx context.Context, args []string, file string) error {
	if len(args) == 1 {
		return t.downloadTable(ctx, api.ListPath(args[0]), file)
	}
	var all api.Lists
	if _, err := t.client.ask(ctx, call{path: api.ListsPath}, &all); err != nil {
		return err
	}
	return t.print(&all, func(w io.Writer) {
		rows := newTable("LIST", "ATTRIBUTE", "VALUES", "USED BY")
		for _, l := range all.Lists {
			rows.add(l.Name, l.Attribute, strconv.Itoa(l.Values), strings.Join(l.UsedBy, ","))
		}
		rows.write(w)
	})
}

func (t *tool) getOrganisations(ctx context.Context, args []string, file string) error {
	if len(args) == 1 {
		return t.downloadTable(ctx, api.OrganisationPath(args[0]), file)
	}
	var all api.Organisations
	if _, err := t.client.ask(ctx, call{path: api.OrganisationsPath}, &all); err != nil {
		return err
	}
	return t.print(&all, func(w io.Writer) {
		rows := newTable("LEGAL ENTITY", "BRANCHES", "USED BY")
		for _, o := range all.Organisations {
			rows.add(o.LegalEntity, strconv.Itoa(o.Branches), strings.Join(o.UsedBy, ","))
		}
		rows.write(w)
	})
}

// downloadTable downloads a list or an organisation: CSV unless -o says otherwise.
func (t *tool) downloadTable(ctx context.Context, path, file string) error {
	switch t.output {
	case outputJSON:
		return t.download(ctx, path, api.JSON, file)
	case outputYAML:
		var raw json.RawMessage
		if _, err := t.client.ask(ctx, call{path: path}, &raw); err != nil {
			return err
		}
		text, err := yamlOf(raw)
		if err != nil {
			return err
		}
		return t.save(strings.NewReader(string(text)), file)
	}
	return t.download(ctx, path, api.CSV, file)
}

// download copies what the server sends into the file as it comes.
func (t *tool) download(ctx context.Context, path, accept, file string) error {
	answer, err := t.client.do(ctx, call{path: path, accept: accept})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var body io.Reader = answer.Body
	if file != "-" || isFile(t.out) { // on a terminal it would run into the data, in a pipe into what a pager shows
		shown := t.progress("received", answer.ContentLength)
		defer shown.done()
		body = shown.reading(body)
	}
	if err := t.save(body, file); err != nil {
		var local *os.PathError
		if errors.As(err, &local) {
			return err
		}
		return t.client.unreachable(http.MethodGet, err)
	}
	return nil
}

// save copies from into the file, or to standard output for "-". A file that cannot be completed is removed.
func (t *tool) save(from io.Reader, file string) error {
	if file == "-" {
		_, err := io.Copy(t.out, from)
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(file)
	}
	return err
}

func (t *tool) putList() *cobra.Command {
	var o write
	var attribute, file, encoding string
	cmd := &cobra.Command{
		Use:   "put NAME --file FILE [--attribute ATTRIBUTE]",
		Short: "Make the values in a CSV file the whole list",
		Long: `Replaces the list by the values in FILE, one a line; a header line is allowed. Values of an attribute declared
within another are ENTITY/VALUE, or two columns ENTITY,VALUE. A file FILE.json holds the JSON that the API knows.
A new list says with --attribute whose values it holds; an existing one keeps its attribute.`,
		Example:           "  tgctl list put pilot-tellers --attribute teller --file tellers.csv --reason 'second wave'",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: t.completeLists,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, path := cmd.Context(), api.ListPath(args[0])
			var all api.Lists
			answer, err := t.client.ask(ctx, call{path: api.ListsPath}, &all)
			if err != nil {
				return err
			}
			for _, l := range all.Lists {
				if attribute == "" && l.Name == args[0] {
					attribute = l.Attribute
				}
			}
			if !strings.HasSuffix(file, ".json") {
				if attribute == "" {
					return usagef("there is no list %s yet; say with --attribute whose values it holds, for example teller", args[0])
				}
				path += "?" + url.Values{"attribute": {attribute}}.Encode()
			}
			return t.put(ctx, path, file, encoding, answer.Header.Get(api.ETagHeader), &o)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&attribute, "attribute", "", "whose values these are")
	inputFlag(cmd, &file)
	encodingFlag(cmd, &encoding)
	return cmd
}

func (t *tool) putOrganisation() *cobra.Command {
	var o write
	var file, encoding string
	cmd := &cobra.Command{
		Use:   "put ENTITY --file FILE",
		Short: "Make the branches in a CSV file the whole organisation",
		Long: `Replaces the organisation of the legal entity by the branches in FILE, lines code,parent,name; a header line is
allowed, the topmost branches have no parent. A file FILE.json holds the JSON that the API knows.`,
		Example: "  tgctl organisation put 9001 --file branches.csv --reason 'two branches moved'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tag, err := t.client.head(cmd.Context())
			if err != nil {
				return err
			}
			return t.put(cmd.Context(), api.OrganisationPath(args[0]), file, encoding, tag, &o)
		},
	}
	o.flags(cmd)
	inputFlag(cmd, &file)
	encodingFlag(cmd, &encoding)
	return cmd
}

func encodingFlag(cmd *cobra.Command, encoding *string) {
	cmd.Flags().StringVar(encoding, "encoding", "utf-8", "how the characters of a CSV file are encoded: utf-8, gb18030 or gbk")
	complete(cmd, "encoding", "utf-8", "gb18030", "gbk")
}

func inputFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "file", "-", "read from `FILE` instead of standard input")
}

// put uploads a file on top of the revision that tag names, unless --if-revision names another.
func (t *tool) put(ctx context.Context, path, file, encoding, tag string, o *write) error {
	if o.revision >= 0 {
		tag = api.ETag(uint64(o.revision))
	}
	content, err := t.open(file)
	if err != nil {
		return err
	}
	defer content.body.Close()
	media := api.CSV
	if _, known, _ := rules.DecodeText(nil, encoding); !known {
		return usagef("--encoding %s is not known; give utf-8, gb18030 or gbk", encoding)
	}
	if !strings.EqualFold(encoding, "utf-8") {
		media += "; charset=" + encoding
	}
	if strings.HasSuffix(file, ".json") {
		media = api.JSON
	}
	shown := t.progress("sent", content.size)
	defer shown.done()
	var result api.WriteResult
	_, err = t.client.ask(ctx, call{
		method: "PUT", path: path, contentType: media, ifMatch: tag, change: t.by(o.reason),
		body: shown.reading(content.body), size: content.size,
	}, &result)
	shown.done()
	if err != nil {
		return refusedFile(file, liveRules, err)
	}
	return t.printWrite(liveRules, &result)
}

// deleteCommand is the delete of a family.
func (t *tool) deleteCommand(use, what string, path func(string) string, complete cobra.CompletionFunc) *cobra.Command {
	var o write
	cmd := &cobra.Command{
		Use:               use,
		Short:             fmt.Sprintf("Delete a %s that no rule uses", what),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			tag, err := o.ifMatch(cmd.Context(), t.client)
			if err != nil {
				return err
			}
			var result api.WriteResult
			_, err = t.client.ask(cmd.Context(), call{
				method: "DELETE", path: path(args[0]), ifMatch: tag, change: t.by(o.reason),
			}, &result)
			if err != nil {
				return refusedFile(what+" "+args[0], liveRules, err)
			}
			return t.printWrite(liveRules, &result)
		},
	}
	o.flags(cmd)
	return cmd
}
