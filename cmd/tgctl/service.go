package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
	"tellergate/rules"
)

// services is the command that shows what runs.
func (t *tool) services() *cobra.Command {
	return &cobra.Command{
		Use:   "services [NAME]",
		Short: "Show versions, their pods and the sessions they keep",
		Long: `Shows every version (版本) of every service (渠道服务), or of the named one with each of its endpoints. Sessions are
those of the replica that is asked.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: t.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				var s api.ServiceStatus
				if _, err := t.client.ask(cmd.Context(), call{path: api.ServicePath(args[0])}, &s); err != nil {
					return err
				}
				return t.print(&s, func(w io.Writer) { writeService(w, &s) })
			}
			var all api.Services
			if _, err := t.client.ask(cmd.Context(), call{path: api.ServicesPath}, &all); err != nil {
				return err
			}
			return t.print(&all, func(w io.Writer) { writeServices(w, &all) })
		},
	}
}

func writeServices(w io.Writer, all *api.Services) {
	rows := newTable("SERVICE", "VERSION", "STATE", "ENDPOINTS", "SESSIONS", "NOTE")
	for i := range all.Services {
		s := &all.Services[i]
		for j := range s.Versions {
			v := &s.Versions[j]
			rows.add(s.Name, v.Name, v.State, fmt.Sprintf("%d/%d", usable(v.Endpoints), len(v.Endpoints)),
				sessionsOf(v), note(s, v))
		}
	}
	rows.write(w)
}

// usable counts the endpoints that could be sent a request.
func usable(endpoints []api.Endpoint) int {
	n := 0
	for _, e := range endpoints {
		if e.Usable {
			n++
		}
	}
	return n
}

// note is what is special about a version.
func note(s *api.ServiceStatus, v *api.VersionStatus) string {
	var notes []string
	if s.Default == v.Name {
		notes = append(notes, "default")
	}
	if s.Override != nil && s.Override.Version == v.Name {
		notes = append(notes, "override")
	}
	if v.Fallback != "" {
		notes = append(notes, "falls back to "+v.Fallback)
	}
	if !v.Usable {
		notes = append(notes, "unusable")
	}
	return strings.Join(notes, ", ")
}

func writeService(w io.Writer, s *api.ServiceStatus) {
	fmt.Fprintf(w, "service    %s\nmatch      %s\ndefault    %s\nrules      %d\n", s.Name, matchText(&s.Match), s.Default,
		s.Rules)
	if s.Override != nil {
		fmt.Fprintf(w, "override   %s\n", overrideText(s.Override))
	}
	fmt.Fprintln(w)
	rows := newTable("VERSION", "STATE", "SESSIONS", "ENDPOINT", "ENDPOINT STATE", "USABLE", "IN FLIGHT", "NOTE")
	for i := range s.Versions {
		v := &s.Versions[i]
		if len(v.Endpoints) == 0 {
			rows.add(v.Name, v.State, sessionsOf(v), "", "", "", "", note(s, v))
		}
		for _, e := range v.Endpoints {
			able := "yes"
			if !e.Usable {
				able = "no"
			}
			rows.add(v.Name, v.State, sessionsOf(v), e.Address.String(), e.State, able,
				strconv.Itoa(e.InFlight), note(s, v))
		}
	}
	rows.write(w)
}

// matchText says which requests belong to a service.
func matchText(m *rules.Match) string {
	any := func(words []string) string {
		if len(words) == 0 {
			return "any"
		}
		return strings.Join(words, ",")
	}
	prefix := m.PathPrefix
	if prefix == "" {
		prefix = "/"
	}
	return fmt.Sprintf("frontend %s, host %s, path %s", any(m.Frontends), any(m.Hosts), prefix)
}

// override is the command that pulls and lifts the emergency lever.
func (t *tool) override() *cobra.Command {
	var pinned, reason string
	cmd := &cobra.Command{
		Use:   "override SERVICE VERSION --pinned move|keep --reason TEXT",
		Short: "Send everybody of a service to one version, now (紧急切换)",
		Long: `Sends everybody of the service to the version until the override is lifted, whatever the rules say.
With --pinned move, sessions that are pinned elsewhere move at their next request and stay there when the override is
lifted. With --pinned keep they stay where they are, and only new sessions go to the version.`,
		Example: `  tgctl override counter v1 --pinned move --reason 'postings fail on v2'
  tgctl override lift counter --reason 'fixed'`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: t.completeServiceVersion,
		RunE: func(cmd *cobra.Command, args []string) error {
			if pinned != rules.PinnedMove && pinned != rules.PinnedKeep {
				return usagef("say with --pinned what happens to sessions on other versions: move or keep")
			}
			if strings.TrimSpace(reason) == "" {
				return usagef("say with --reason why, for those who read the history")
			}
			var result api.WriteResult
			_, err := t.client.ask(cmd.Context(), call{
				method: "PUT", path: api.OverridePath(args[0]), change: t.by(reason),
			}.with(rules.Override{Version: args[1], Pinned: pinned, Reason: reason}), &result)
			if err != nil {
				return refusedFile("override of "+args[0], liveRules, err)
			}
			return t.printWrite(liveRules, &result)
		},
	}
	cmd.Flags().StringVar(&pinned, "pinned", "", "what happens to sessions pinned elsewhere: move or keep")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	complete(cmd, "pinned", rules.PinnedMove, rules.PinnedKeep)
	var lifted write
	lift := &cobra.Command{
		Use:               "lift SERVICE",
		Short:             "End the override of a service",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: t.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			var result api.WriteResult
			_, err := t.client.ask(cmd.Context(), call{
				method: "DELETE", path: api.OverridePath(args[0]), change: t.by(lifted.reason),
			}, &result)
			if err != nil {
				return refusedFile("override of "+args[0], liveRules, err)
			}
			return t.printWrite(liveRules, &result)
		},
	}
	lifted.reasonFlag(lift)
	cmd.AddCommand(lift)
	return cmd
}

// sessionsOf is the number of live sessions, a question mark where nobody knows it now.
func sessionsOf(v *api.VersionStatus) string {
	if v.SessionsUnknown {
		return "?"
	}
	return strconv.Itoa(v.Sessions)
}
