package report

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "renew testdata")

// example has a subject that is 20 % dearer than the one and not comparable with the other.
func example() *Report {
	r := &Report{
		At: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC), Command: "go run ./bench", Commit: "abc", Rounds: 3, Window: 3 * time.Second,
		Machine:  Machine{CPU: "a <fast> one", Cores: 2, Siblings: "1", MemoryMiB: 24000, Kernel: "6.1", Go: "go1.26", ProxyCore: 1},
		Versions: map[string]string{"HAProxy": "2.6", "tellergate": "abc"},
		Scenarios: []Scenario{
			{Name: "small", Title: "300 B & more", Subject: "tellergate", Names: []string{"tellergate", "HAProxy", "nginx"}},
			{Name: "tls", Title: "TLS", NotBuilt: "not built yet"},
		},
	}
	s := &r.Scenarios[0]
	for round, scale := range []float64{1, 1.1, 0.9} {
		for name, cost := range map[string]time.Duration{"tellergate": 12_000, "HAProxy": 10_000, "nginx": 9_000} {
			cpu := time.Duration(float64(cost) * scale)
			s.Samples = append(s.Samples,
				Sample{Contender: name, Round: round, Load: Saturation, PerSecond: 1e9 / float64(cpu), CPU: cpu, ProxyBusy: 0.99, LoadBusy: 0.9,
					Memory: 32 << 20},
				Sample{Contender: name, Round: round, Load: Half, Rate: 40_000, PerSecond: 40_000, CPU: cpu, P50: 5 * cpu, P99: 10 * cpu,
					P999: 50 * cpu, ProxyBusy: 0.5, LoadBusy: 0.6, LoadCPU: 8 * time.Microsecond, Late: 20 * time.Microsecond})
		}
	}
	for i := range s.Samples {
		if s.Samples[i].Contender == "nginx" && s.Samples[i].Load == Saturation {
			s.Samples[i].ProxyBusy, s.Samples[i].LoadBusy = 0.9, 0.99
		}
	}
	return r
}

func metric(t *testing.T, name string) Metric {
	t.Helper()
	for _, m := range Metrics {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("no metric %s", name)
	return Metric{}
}

func TestRatiosArePaired(t *testing.T) {
	t.Parallel()
	s := &example().Scenarios[0]
	got := s.Ratio(metric(t, "cpu"), "HAProxy")
	require.InDelta(t, 1.2, got.Median, 1e-3, "both of a round were slowed down alike")
	require.InDelta(t, got.Low, got.High, 1e-3)
	require.Equal(t, 3, got.Count)
	figure := s.Figure(metric(t, "cpu"), "HAProxy")
	require.InDelta(t, 10, figure.Median, 1e-9)
	require.InDelta(t, 9, figure.Low, 1e-9)
	require.InDelta(t, 11, figure.High, 1e-9)
}

func TestWhatDoesNotCount(t *testing.T) {
	t.Parallel()
	good := Sample{Rate: 100, PerSecond: 100, ProxyBusy: 0.96, LoadBusy: 0.99}
	for _, c := range []struct {
		name   string
		change func(*Sample)
		cpu    string // why CPU per request does not count
		rest   string
	}{
		{"full proxy", func(*Sample) {}, "", ""},
		{"free load", func(s *Sample) { s.ProxyBusy, s.LoadBusy = 0.5, 0.84 }, "", ""},
		{"neither", func(s *Sample) { s.ProxyBusy, s.LoadBusy = 0.94, 0.86 }, "", "94 % busy, the one of generator and pods 86 %"},
		{"failed", func(s *Sample) { s.Failed, s.Why = 2, "reset" }, "2 requests failed: reset", "2 requests failed: reset"},
		{"wrong", func(s *Sample) { s.Wrong = 1 }, "wrong version", "wrong version"},
		{"wandered", func(s *Sample) { s.Wandered = 1 }, "left their session's pod", "left their session's pod"},
		{"disturbed", func(s *Sample) { s.ProxyForeign = 0.06 }, "took 6 % of the proxy's core", "took 6 % of the proxy's core"},
		{"disturbed load", func(s *Sample) { s.LoadForeign = 0.5 }, "50 % of the other core", "50 % of the other core"},
		{"stolen", func(s *Sample) { s.Stolen = 0.1 }, "withheld 10 %", "withheld 10 %"},
		{"behind", func(s *Sample) { s.PerSecond = 90 }, "only 90 of 100", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := good
			c.change(&s)
			for name, want := range map[string]string{"cpu": c.cpu, "saturation": c.rest, "p99half": c.rest} {
				got := metric(t, name).invalid(&s, false)
				if want == "" {
					require.Empty(t, got, name)
				} else {
					require.Contains(t, got, want, name)
				}
			}
			if s.ProxyForeign > 0 {
				require.Empty(t, metric(t, "cpu").invalid(&s, true), "development lets it count")
			}
		})
	}
}

func TestCapacityIsWhatAllCanDo(t *testing.T) {
	t.Parallel()
	require.InEpsilon(t, 1e9/12_000, example().Scenarios[0].Capacity(), 1e-3)
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	got := example().Markdown()
	golden := filepath.Join("testdata", "result.md")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestChartIsWellFormed(t *testing.T) {
	t.Parallel()
	chart := example().Chart()
	for in := xml.NewDecoder(strings.NewReader(chart)); ; {
		if _, err := in.Token(); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
	}
	require.Contains(t, chart, "300 B &amp; more")
	require.Contains(t, chart, ">12.0<")
}

func TestWriteReadCompare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before := example()
	require.NoError(t, before.Write(dir))
	read, err := Read(dir)
	require.NoError(t, err)
	require.Equal(t, before, read)

	now := example()
	require.NotContains(t, Compare(read, now), "WORSE")
	for i := range now.Scenarios[0].Samples {
		if s := &now.Scenarios[0].Samples[i]; s.Contender == "tellergate" {
			s.CPU = s.CPU * 12 / 10
		}
	}
	require.Regexp(t, `CPU per request at 50 % +to HAProxy +1.44, was 1.20 \(1.20 … 1.20\)  WORSE`, Compare(read, now))
	_, err = Read(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSummary(t *testing.T) {
	t.Parallel()
	r := example()
	got := r.Summary("en", "bench/results")
	require.Contains(t, got, "| CPU per request, 300 B replies, at 50 % load | HAProxy | 1.20 (1.20 … 1.20) | ≤ 1.10, **missed** | ≤ 1.00, missed |")
	require.Contains(t, got, "| p99 at 50 % load | HAProxy | 1.20 (1.20 … 1.20) | ≤ 1.50, met | ≤ 1.00, missed |")
	require.Contains(t, got, "| requests/s at saturation, one core | nginx | not measurable on this machine | ≥ 0.85 | ≥ 1.00 |")
	require.Contains(t, r.Summary("zh", "bench/results"), "| 50 % 负载下的 p99 | HAProxy | 1.20 (1.20 … 1.20) | ≤ 1.50, 达到 | ≤ 1.00, 未达到 |")
	for _, g := range Goals {
		metric(t, g.Metric)
		for language, w := range languages {
			require.NotEmpty(t, w.titles[g.Scenario+" "+g.Metric], "%s in %s", g, language)
		}
	}
	_, err := r.Insert([]byte("no place"), "en", "bench/results")
	require.ErrorContains(t, err, "there is no place for the summary")
}

// TestDocumentsSayWhatWasMeasured holds the tables in the documents to the committed result.
func TestDocumentsSayWhatWasMeasured(t *testing.T) {
	t.Parallel()
	const root = "../.."
	r, err := Read(filepath.Join(root, "bench/results"))
	for name, language := range Documents {
		text, readErr := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, readErr)
		if errors.Is(err, os.ErrNotExist) {
			require.Contains(t, string(text), begins+"`make bench`\n"+ends, "%s shows figures, and there is no committed result", name)
			continue
		}
		require.NoError(t, err)
		want, err := r.Insert(text, language, "bench/results")
		require.NoError(t, err)
		require.Equal(t, string(want), string(text), "%s is not made of the committed result: make bench-readme", name)
	}
}
