package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
	"tellergate/rules"
)

// impact is the command that tells who would get another version.
func (t *tool) impact() *cobra.Command {
	var request api.ImpactRequest
	var population, encoding string
	var seen bool
	var from, to int64
	var given []string
	cmd := &cobra.Command{
		Use:   "impact [FILE] --population CSV|--seen",
		Short: "Tell who would get another version, and by which rule",
		Long: `Decides every identity of a population by the live rules and by the document in FILE (- for standard input), as for
a new session, and prints who changes version (版本): how many, by which rules, in which legal entities (法人) and
branches (网点). Instead of FILE, --from and --to name revisions (修订); --from also goes with FILE.

The population is CSV. A header line names attributes; without one, lines are branch,teller,legalEntity. Values are
ENTITY/VALUE, or VALUE beside the legal entity.

With --seen the population is whom the replica has served within the last day, as far as it remembers: up to 131,072
identities by their claims, each for the service that it asked for. Sessions and other handles are not remembered.`,
		Example: `  tgctl impact rules.yaml --population people.csv
  tgctl impact rules.yaml --seen
  tgctl impact --from 41 --to 42 --population people.csv --path /teller/loan`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if revisions := from >= 0 || to >= 0; (population == "") != seen || len(args) == 1 && to >= 0 || len(args) == 0 && !revisions {
				return usagef("tgctl impact takes a population or --seen, and a FILE or revisions with --from and --to")
			}
			request.Seen = seen
			var people []byte
			if !seen {
				var err error
				if people, err = t.population(population, encoding); err != nil {
					return err
				}
			}
			place := population
			if len(args) == 1 {
				document, err := t.readFile(args[0])
				if err != nil {
					return err
				}
				request.After.Document, place = string(document), args[0]
			}
			request.Before.Revision, request.After.Revision = revisionOf(from), revisionOf(to)
			q := question{headers: given}
			if err := q.gatherHeaders(); err != nil {
				return err
			}
			request.Headers = q.request.Headers
			shown := t.progress("sent", int64(len(people)))
			defer shown.done()
			what := call{method: "POST", path: api.ImpactPath, contentType: api.JSON, size: -1,
				body: withPopulation(&request, shown.reading(bytes.NewReader(people)))}
			var result api.ImpactResult
			if _, err := t.client.ask(cmd.Context(), what, &result); err != nil {
				return refusedFile(population, place, err)
			}
			return t.print(&result, func(w io.Writer) { writeImpact(w, &result) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&seen, "seen", false, "whom the replica has served within the last day")
	flags.StringVar(&population, "population", "", "identities, from `CSV`")
	encodingFlag(cmd, &encoding)
	flags.Int64Var(&from, "from", -1, "revision `N` before, instead of the latest")
	flags.Int64Var(&to, "to", -1, "revision `N` after, instead of FILE or the latest")
	flags.StringVar(&request.Service, "service", "", "only this service")
	flags.StringVar(&request.Frontend, "frontend", "", "frontend that the requests come in at")
	flags.StringVar(&request.Host, "host", "", "host name of the requests")
	flags.StringVar(&request.Path, "path", "/", "path of the requests")
	flags.StringVar(&request.Method, "method", "GET", "method of the requests")
	flags.StringVar(&request.Source, "source", "", "address of the clients")
	flags.StringArrayVar(&given, "header", nil, "header of the requests, as `'NAME: VALUE'`; repeatable")
	return cmd
}

// population reads the identities of a file.
func (t *tool) population(name, encoding string) ([]byte, error) {
	text, err := t.readFile(name)
	if err != nil {
		return nil, err
	}
	text, known, err := rules.DecodeText(text, encoding)
	if !known {
		return nil, usagef("--encoding %s is not known; give utf-8, gb18030 or gbk", encoding)
	}
	return text, inFile(name, err)
}

// withPopulation returns a request with a population, which may be empty, before its other members.
func withPopulation(request *api.ImpactRequest, population io.Reader) io.Reader {
	others, err := json.Marshal(request)
	if err != nil {
		panic("BUG: a request body that is not JSON: " + err.Error())
	}
	end := others[1:]
	if len(end) > 1 {
		end = append([]byte(","), end...)
	}
	return io.MultiReader(strings.NewReader(`{"population":"`), &quoted{from: population}, strings.NewReader(`"`), bytes.NewReader(end))
}

// revisionOf returns the revision that a flag names, nil if it was not given.
func revisionOf(n int64) *uint64 {
	if n < 0 {
		return nil
	}
	seq := uint64(n)
	return &seq
}

// impactRows is how many groups of one kind are printed; all are in the JSON.
const impactRows = 20

func writeImpact(w io.Writer, r *api.ImpactResult) {
	if s := r.Seen; s != nil {
		fmt.Fprintf(w, "replica %s remembers %s of the last day", s.Replica, identities(s.Held))
		if s.TooLong > 0 {
			fmt.Fprintf(w, ", %d of them too long to be looked at", s.TooLong)
		}
		fmt.Fprintln(w)
		if s.Held > s.Capacity/2 {
			fmt.Fprintf(w, "there may have been more: it holds %d at most\n", s.Capacity)
		}
	}
	for _, name := range r.OnlyBefore {
		fmt.Fprintf(w, "service %s exists only before\n", name)
	}
	for _, name := range r.OnlyAfter {
		fmt.Fprintf(w, "service %s exists only after\n", name)
	}
	for i := range r.Services {
		s := &r.Services[i]
		fmt.Fprintf(w, "%s: %d of %s change version\n", s.Service, s.Changed, identities(s.Identities))
		if s.Changed == 0 {
			continue
		}
		rows := newTable("FROM", "TO", "IDENTITIES", "RULE BEFORE", "RULE AFTER")
		for _, m := range s.Moves[:min(impactRows, len(s.Moves))] {
			rows.add(m.From, m.To, strconv.Itoa(m.Identities), m.RuleBefore, m.RuleAfter)
		}
		writeRows(w, rows, len(s.Moves), 0)
		writeGroups(w, "LEGAL ENTITY", s.LegalEntities, 0)
		writeGroups(w, "BRANCH", s.Branches, s.MoreBranches)
		e := s.Examples[0]
		fmt.Fprintf(w, "\nfor example %s: %s before, %s after\n",
			strings.Join(attributeWords(e.Attributes), " "), e.From, e.To)
	}
}

func identities(n int) string {
	if n == 1 {
		return "1 identity"
	}
	return fmt.Sprintf("%d identities", n)
}

func writeGroups(w io.Writer, title string, groups []rules.GroupImpact, more int) {
	fmt.Fprintln(w)
	rows := newTable(title, "CHANGED", "OF")
	for _, g := range groups[:min(impactRows, len(groups))] {
		rows.add(g.Value, strconv.Itoa(g.Changed), strconv.Itoa(g.Identities))
	}
	writeRows(w, rows, len(groups), more)
}

func writeRows(w io.Writer, rows *table, listed, more int) {
	rows.write(w)
	if more += max(0, listed-impactRows); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}
