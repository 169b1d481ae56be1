package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

// mentions is the command that tells which rules speak of somebody.
func (t *tool) mentions() *cobra.Command {
	var branch, teller, entity, list string
	var limit int
	cmd := &cobra.Command{
		Use:   "mentions (--branch | --teller | --legal-entity | --list) VALUE",
		Short: "Tell which rules mention a branch, a teller, a legal entity or a list",
		Long: `Prints every test of the live rules that the branch (网点), teller (柜员) or legal entity (法人) meets, be it by name,
through a list (名单), through a branch above it or by its beginning, whatever else the rule demands; or every test that
names the list.`,
		Example: "  tgctl mentions --branch 9001/3201\n  tgctl mentions --list pilot-tellers",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{"branch": branch, "teller": teller, "legalEntity": entity, "list": list} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if len(query) != 2 {
				return usagef("tgctl mentions takes one of --branch, --teller, --legal-entity and --list")
			}
			var found api.Mentions
			if _, err := t.client.ask(cmd.Context(), call{path: api.MentionsPath + "?" + query.Encode()}, &found); err != nil {
				return err
			}
			return t.print(&found, func(w io.Writer) { writeMentions(w, &found) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&branch, "branch", "", "branch (网点), as ENTITY/BRANCH")
	flags.StringVar(&teller, "teller", "", "teller (柜员), as ENTITY/TELLER")
	flags.StringVar(&entity, "legal-entity", "", "legal entity (法人)")
	flags.StringVar(&list, "list", "", "list (名单)")
	flags.IntVar(&limit, "limit", 1000, "how many to print, at most 10000")
	return cmd
}

func writeMentions(w io.Writer, found *api.Mentions) {
	if len(found.Lists) > 0 {
		fmt.Fprintf(w, "in lists %s\n", strings.Join(found.Lists, ", "))
	}
	if len(found.Mentions) == 0 {
		fmt.Fprintln(w, "no rule mentions it")
		return
	}
	rows := newTable("SERVICE", "RULE", "PRIORITY", "TEST", "WHERE")
	for _, m := range found.Mentions {
		test := m.Test
		if m.Negated {
			test += " (must not hold)"
		}
		rows.add(m.Service, m.Rule, strconv.Itoa(m.Priority), test, m.Path)
	}
	rows.write(w)
	if found.More > 0 {
		fmt.Fprintf(w, "and %d more\n", found.More)
	}
}
