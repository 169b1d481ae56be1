package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A Goal is what tellergate wants to be beside another program, or by itself: the median of a metric in a scenario.
type Goal struct {
	Scenario, Metric string
	To               string  // the contender that the ratio is to; empty: the figure itself
	Must, Aim        float64 // at most where smaller is better, else at least; Must 0: reported only
}

// Goals are those of docs/design/0008.
var Goals = []Goal{
	{"small", "cpu", "HAProxy", 1.10, 1.00},
	{"small", "cpu", "nginx", 1.20, 1.00},
	{"small", "cpu", "naive fasthttp", 1.10, 0.97},
	{"small", "cpu", "TCP forwarder", 0, 1.10},
	{"small", "saturation", "HAProxy", 0.90, 1.00},
	{"small", "saturation", "nginx", 0.85, 1.00},
	{"small", "p99half", "HAProxy", 1.50, 1.00},
	{"16k", "cpu", "HAProxy", 1.20, 1.00},
	{"1m", "cpu", "HAProxy", 1.20, 1.00},
	{"idle", "idle", "", 6, 2},
}

// words of the summary, by language.
type words struct {
	head, met, missed, none, made, least, most string
	titles                                     map[string]string // by scenario and metric
}

var languages = map[string]words{
	"en": {
		head: "| | to | median (lowest … highest) | must | aim |", met: "met", missed: "**missed**", none: "not measurable on this machine",
		least: "≥", most: "≤",
		made: "Ratios of tellergate to the others in the same round, commit %s on %s, %d cores, %s. " +
			"All scenarios, how it is measured and what counts: [bench/results](%s/result.md), [bench](bench/README.md).",
		titles: map[string]string{
			"small cpu": "CPU per request, 300 B replies, at 50 % load", "small saturation": "requests/s at saturation, one core",
			"small p99half": "p99 at 50 % load", "16k cpu": "CPU per request, 16 KiB replies", "1m cpu": "CPU per request, 1 MiB replies",
			"idle idle": "memory per idle connection, KiB",
		},
	},
	"zh": {
		head: "| | 对比 | 中位数（最低 … 最高） | 必须 | 目标 |", met: "达到", missed: "**未达到**", none: "在这台机器上无法测量",
		least: "≥", most: "≤",
		made: "同一轮中 tellergate 与其他程序之比，提交 %s，%s，%d 核，%s。" +
			"全部场景、测量方法与有效规则：[bench/results](%s/result.md)、[bench](bench/README.md)。",
		titles: map[string]string{
			"small cpu": "50 % 负载下每个请求的 CPU（应答 300 B）", "small saturation": "单核饱和时每秒请求数",
			"small p99half": "50 % 负载下的 p99", "16k cpu": "每个请求的 CPU（应答 16 KiB）", "1m cpu": "每个请求的 CPU（应答 1 MiB）",
			"idle idle": "每个空闲连接的内存，KiB",
		},
	},
}

// Summary prints how the report stands to the goals, as Markdown in English (en) or Chinese (zh). dir is where the report
// was written.
func (r *Report) Summary(language, dir string) string {
	w := languages[language]
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n|---|---|---:|---|---|\n", w.head)
	for _, g := range Goals {
		at := slices.IndexFunc(r.Scenarios, func(s Scenario) bool { return s.Name == g.Scenario })
		of := slices.IndexFunc(Metrics, func(m Metric) bool { return m.Name == g.Metric })
		if at < 0 {
			continue
		}
		s, m := &r.Scenarios[at], Metrics[of]
		found, to := s.Figure(m, s.Subject), "–"
		if g.To != "" {
			found, to = s.Ratio(m, g.To), g.To
		}
		sign := w.most
		if !m.Smaller {
			sign = w.least
		}
		limit := func(limit float64) string {
			switch text := fmt.Sprintf("%s %.2f", sign, limit); {
			case limit == 0:
				return "–"
			case found.Count == 0:
				return text
			case m.Smaller && found.Median <= limit, !m.Smaller && found.Median >= limit:
				return text + ", " + w.met
			default:
				return text + ", " + w.missed
			}
		}
		text := w.none
		if found.Count > 0 {
			text = found.text()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", w.titles[g.Scenario+" "+g.Metric], to, text, limit(g.Must),
			strings.ReplaceAll(limit(g.Aim), "*", ""))
	}
	fmt.Fprintf(&b, "\n"+w.made+"\n", r.Commit, r.Machine.CPU, r.Machine.Cores, r.At.Format("2006-01-02"), dir)
	return b.String()
}

// Marks of the place in a document that belongs to the summary.
const (
	begins = "<!-- bench: made by make bench-readme -->\n"
	ends   = "<!-- /bench -->\n"
)

// Insert returns the document with the summary in its place.
func (r *Report) Insert(document []byte, language, dir string) ([]byte, error) {
	before, rest, ok := bytes.Cut(document, []byte(begins))
	_, after, closed := bytes.Cut(rest, []byte(ends))
	if !ok || !closed {
		return nil, errors.New("there is no place for the summary: a line " + strings.TrimSpace(begins) + ", and a line " +
			strings.TrimSpace(ends) + " after it")
	}
	return slices.Concat(before, []byte(begins), []byte(r.Summary(language, dir)), []byte(ends), after), nil
}

// Documents are the files that hold a summary, with their languages.
var Documents = map[string]string{"README.md": "en", "README.zh-CN.md": "zh"}

// UpdateDocuments puts the summary of the result in dir into the documents of the current directory.
func UpdateDocuments(dir string) error {
	r, err := Read(dir)
	if err != nil {
		return err
	}
	for name, language := range Documents {
		text, err := os.ReadFile(name)
		if err == nil {
			text, err = r.Insert(text, language, dir)
		}
		if err == nil {
			err = os.WriteFile(name, text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
