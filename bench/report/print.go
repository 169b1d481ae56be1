package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names of the files that Write makes.
const (
	jsonFile     = "result.json"
	markdownFile = "result.md"
	chartFile    = "result.svg"
)

// Write makes the report's files in a directory, which it makes where it is missing.
func (r *Report) Write(dir string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		jsonFile: append(text, '\n'), markdownFile: []byte(r.Markdown()), chartFile: []byte(r.Chart()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Read reads what Write made.
func Read(dir string) (*Report, error) {
	text, err := os.ReadFile(filepath.Join(dir, jsonFile))
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", jsonFile, err)
	}
	return r, nil
}

// figure prints a figure with three digits that matter.
func figure(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (s Spread) text() string {
	if s.Count == 0 {
		return "*not measurable*"
	}
	return fmt.Sprintf("%s (%s … %s)", figure(s.Median), figure(s.Low), figure(s.High))
}

// Markdown prints the report: for each scenario the figures and the ratios, and why some are missing.
func (r *Report) Markdown() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "# Side by side\n\nMade by `%s` at %s, commit %s: rounds of %s, interleaved.\n\n", r.Command,
		r.At.Format("2006-01-02 15:04 UTC"), r.Commit, r.Window)
	fmt.Fprintf(&b, "%s, %d cores, %d MiB, Linux %s, %s. The proxy under test alone on core %d (hardware threads %s), pods and "+
		"generator on core %d.\n\n", m.CPU, m.Cores, m.MemoryMiB, m.Kernel, m.Go, m.ProxyCore, m.Siblings, m.LoadCore)
	if m.First {
		b.WriteString("Where a rate was kept, all of them ran in a real-time class (SCHED_RR): what else wakes up on the machine once in a while " +
			"is not in the latencies.\n\n")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "- %s: %s\n", name, r.Versions[name])
	}
	b.WriteString("\nEach cell is the median over the rounds, and in parentheses the lowest and the highest. A ratio is of the " +
		"two runs of the same round. How it is measured, and what counts: [bench/README.md](../README.md).\n")
	for i := range r.Scenarios {
		r.Scenarios[i].markdown(&b)
	}
	return b.String()
}

func (s *Scenario) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n", s.Title)
	if s.NotBuilt != "" {
		fmt.Fprintf(b, "*%s*\n", s.NotBuilt)
		return
	}
	var why []string
	table := func(head string, names []string, cell func(Metric, string) Spread, unit bool) { // unit: figures, not ratios
		if len(names) == 0 {
			return
		}
		fmt.Fprintf(b, "| %s | %s |\n|---|%s\n", head, strings.Join(names, " | "), strings.Repeat("---:|", len(names)))
		for _, m := range Metrics {
			cells := make([]string, 0, len(names))
			found := false
			for _, name := range names {
				spread := cell(m, name)
				found = found || spread.Count > 0 || spread.Why != notMeasured
				text := spread.text()
				if spread.Count == 0 && spread.Why == notMeasured {
					text = "–"
				} else if spread.Count == 0 && unit {
					why = append(why, fmt.Sprintf("%s, %s: %s", m.Title, name, spread.Why))
				}
				cells = append(cells, text)
			}
			if !found {
				continue
			}
			title := m.Title
			if unit {
				title += ", " + m.Unit
			}
			fmt.Fprintf(b, "| %s | %s |\n", title, strings.Join(cells, " | "))
		}
		b.WriteByte('\n')
	}
	table("", s.Names, s.Figure, true)
	others := slices.DeleteFunc(slices.Clone(s.Names), func(name string) bool { return name == s.Subject })
	table("ratio: "+s.Subject+" to", others, s.Ratio, false)
	if s.Note != "" {
		b.WriteString(s.Note + "\n\n")
	}
	fmt.Fprintf(b, "%d rounds. ", s.Rounds)
	b.WriteString(s.generatorCost() + "\n")
	if s.Disturbed {
		b.WriteString("\n**Made while other programs were running: for development, not for comparison.**\n")
	}
	if len(why) > 0 {
		b.WriteString("\nNot measurable on this machine, the last reason each:\n\n")
		for _, line := range why {
			fmt.Fprintf(b, "- %s\n", line)
		}
	}
}

// generatorCost says what the other side of the measurement needed itself.
func (s *Scenario) generatorCost() string {
	var cost, late []float64
	for i := range s.Samples {
		if sample := &s.Samples[i]; sample.Load == Half && sample.wrong(s.Disturbed) == "" {
			cost, late = append(cost, float64(sample.LoadCPU)/1e3), append(late, float64(sample.Late)/1e3)
		}
	}
	if len(cost) == 0 {
		return ""
	}
	return fmt.Sprintf("Generator and pods together took %s µs of CPU per request; 99 %% of the requests left within %s µs after they were due.",
		spread(cost, "").text(), spread(late, "").text())
}

// Compare prints how the ratios of a report stand to those of an earlier one, for the scenarios that both have.
func Compare(before, now *Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Ratios, against those of %s (commit %s):\n\n", before.At.Format("2006-01-02 15:04 UTC"), before.Commit)
	for i := range now.Scenarios {
		s := &now.Scenarios[i]
		at := slices.IndexFunc(before.Scenarios, func(o Scenario) bool { return o.Name == s.Name })
		if at < 0 {
			continue
		}
		for _, m := range Metrics {
			for _, name := range s.Names {
				then, today := before.Scenarios[at].Ratio(m, name), s.Ratio(m, name)
				if name == s.Subject || then.Count == 0 || today.Count == 0 {
					continue
				}
				verdict := ""
				// Outside of everything that was seen then, and by more than a twentieth.
				if worse := today.Median / then.Median; m.Smaller && today.Median > then.High && worse > 1.05 ||
					!m.Smaller && today.Median < then.Low && worse < 0.95 {
					verdict = "  WORSE"
				}
				fmt.Fprintf(&b, "%-26s to %-18s %5s, was %s%s\n", m.Title, name, figure(today.Median), then.text(), verdict)
			}
		}
	}
	return b.String()
}
