package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// A step is one thing to try: a shell command and what its output must show. Steps build on each other.
type step struct {
	about   string
	command string
	expect  string // for people
	match   string // regular expression on the output, for --walk
}

// tour returns the steps with this run's addresses. The order matters: teller 0009 is pinned to v1 before the pilot
// grows, which is what the later steps show.
func (s *stage) tour() []step {
	url := "http://" + s.frontend
	tgctl := "bin/tgctl"
	if s.admin != defaultAdmin {
		tgctl += " --server http://" + s.admin
	}
	return []step{
		{
			about:   "A pilot teller in a pilot branch (网点 3201 lies under 支行 3200) is sent to v2:",
			command: "curl -s " + url + "/ -H 'X-Branch-Id: 3201' -H 'X-Teller-Id: 0001'",
			expect:  `"version":"v2"`, match: `"version":"v2"`,
		},
		{
			about:   "A colleague in the same branch who is not on the list stays on v1:",
			command: "curl -s " + url + "/ -H 'X-Branch-Id: 3201' -H 'X-Teller-Id: 0009'",
			expect:  `"version":"v1"`, match: `"version":"v1"`,
		},
		{
			about:   "Why? Ask without sending anything:",
			command: tgctl + " explain --branch 3201 --teller 0010",
			expect:  "v1 by default; the pilot rule failed because the teller is not in list pilot-tellers",
			match:   `(?s)v1.*pilot-tellers`,
		},
		{
			about:   "Another sub-branch is split by teller number, 30 % to v2, the same tellers every time:",
			command: "for t in $(seq 1000 1099); do curl -s " + url + "/ -H 'X-Branch-Id: 3301' -H \"X-Teller-Id: $t\"; done | grep -c '\"version\":\"v2\"'",
			expect:  "27: these hundred tellers, every time", match: `^27\n$`,
		},
		{
			about:   "Let the pilot grow to every teller below 支行 3200; tgctl shows what changes:",
			command: tgctl + " apply " + s.dir + "/rules-wider.yaml --reason 'pilot grows'",
			expect:  "a new revision", match: `(?i)revision 4`,
		},
		{
			about:   "The next new session obeys:",
			command: "curl -s " + url + "/ -H 'X-Branch-Id: 3201' -H 'X-Teller-Id: 0010'",
			expect:  `"version":"v2"`, match: `"version":"v2"`,
		},
		{
			about:   "The teller who was working before stays where the session started:",
			command: "curl -s " + url + "/ -H 'X-Branch-Id: 3201' -H 'X-Teller-Id: 0009'",
			expect:  `"version":"v1"`, match: `"version":"v1"`,
		},
		{
			about:   "Who is still on v1 there?",
			command: tgctl + " sessions --service counter --version v1 --branch 9001/3201",
			expect:  "one session, the oldest first", match: `(?m)v1.*9001/3201`,
		},
		{
			about:   "Something is wrong: everybody back to v1, now, working sessions too:",
			command: tgctl + " override counter v1 --pinned move --reason 'postings fail on v2'",
			expect:  "a new revision", match: `(?i)revision 5`,
		},
		{
			about:   "The pilot teller is moved at the next request:",
			command: "curl -s " + url + "/ -H 'X-Branch-Id: 3201' -H 'X-Teller-Id: 0001'",
			expect:  `"version":"v1"`, match: `"version":"v1"`,
		},
		{
			about:   "Lift the override, and put the rules back as they were at revision 3:",
			command: tgctl + " override lift counter && " + tgctl + " restore 3 --reason 'as before the pilot grew'",
			expect:  "a new revision each", match: `(?is)revision 6.*revision 7`,
		},
		{
			about:   "Who did what:",
			command: tgctl + " history",
			expect:  "seven revisions, newest first", match: `(?s)7.*pilot grows.*demonstration`,
		},
		{
			about:   "And the numbers:",
			command: "curl -s http://" + s.admin + "/metrics | grep ^tellergate_requests_total | grep -v ' 0$'",
			expect:  "requests by service, version, code and reason",
			match:   `tellergate_requests_total\{.*version="v2".*\} [1-9]`,
		},
	}
}

// print writes the tour for a person.
func (s *stage) print(w io.Writer) {
	fmt.Fprintf(w, `tellergate runs on its embedded defaults.
  channel requests   http://%s      (pods: two of v1, one of v2)
  admin API          http://%s/api/v1   OpenAPI: /api/v1/openapi.json
  this run's files   %s   (access.log, tellergate.log, rules.yaml; removed at the end)

Try, from another terminal in this folder, in this order:
`, s.frontend, s.admin, s.dir)
	for i, step := range s.tour() {
		fmt.Fprintf(w, "\n%2d. %s\n    %s\n    → %s\n", i+1, step.about, step.command, step.expect)
	}
	fmt.Fprintln(w, "\nCtrl-C ends everything.")
}

// walk runs every step and fails at the first that shows something else.
func (s *stage) walk(ctx context.Context, w io.Writer) error {
	steps := s.tour()
	for i, step := range steps {
		command := strings.ReplaceAll(step.command, "bin/tgctl", s.tgctl)
		cmd := exec.CommandContext(ctx, "bash", "-c", command)
		cmd.Env = append(os.Environ(), "LANG=C.UTF-8")
		out, err := cmd.CombinedOutput()
		fmt.Fprintf(w, "%2d. %s\n    %s\n%s", i+1, step.about, command, out)
		if err != nil {
			return fmt.Errorf("step %d: %s: %w", i+1, command, err)
		}
		if !regexp.MustCompile(step.match).Match(out) {
			return fmt.Errorf("step %d: %s: the output does not match %s", i+1, command, step.match)
		}
	}
	fmt.Fprintf(w, "all %d steps show what they should\n", len(steps))
	return nil
}
