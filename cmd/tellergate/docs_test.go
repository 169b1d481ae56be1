package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tellergate/config"
	"tellergate/rules"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestDocumentedRulesCompile compiles every rule document that the documentation and the quickstart show.
func TestDocumentedRulesCompile(t *testing.T) {
	texts := map[string]string{}
	for _, file := range []string{"README.md", "README.zh-CN.md", "docs/rules.md"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		require.NoError(t, err)
		blocks := yamlBlock.FindAllStringSubmatch(string(text), -1)
		require.NotEmpty(t, blocks, file)
		for _, block := range blocks {
			texts[file] = block[1]
		}
	}
	files, err := filepath.Glob("../../deploy/quickstart/demo/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		texts[file] = string(text)
	}

	settings, err := config.Load("")
	require.NoError(t, err)
	organisation, err := rules.NewOrganisation([]rules.Branch{{Code: "3000"}, {Code: "3200", Parent: "3000"}, {Code: "3300", Parent: "3000"}})
	require.NoError(t, err)
	inputs := rules.Inputs{
		Schema:        schemaOf(settings),
		Lists:         map[string]*rules.List{"pilot-tellers": rules.NewList("teller", []string{"9001/0001"})},
		Organisations: map[string]*rules.Organisation{"9001": organisation},
	}
	for name, text := range texts {
		document, err := rules.Parse([]byte(text))
		require.NoError(t, err, name)
		_, err = rules.Compile(document, inputs)
		require.NoError(t, err, name)
	}
}

// TestReadmeTourIsTheTour: what README tells to type is what make run prints and make smoke runs.
func TestReadmeTourIsTheTour(t *testing.T) {
	source, err := os.ReadFile("../../deploy/quickstart/tour.go")
	require.NoError(t, err)
	unspaced := strings.NewReplacer(`" + url + "`, "http://127.0.0.1:8080", `tgctl + " `, `"bin/tgctl `, " && ", "\n").Replace(string(source))
	for _, file := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		require.NoError(t, err)
		commands := 0
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "curl ") || strings.HasPrefix(line, "bin/tgctl ") {
				commands++
				assert.Contains(t, unspaced, strings.TrimPrefix(line, "bin/tgctl "), file)
			}
		}
		assert.GreaterOrEqual(t, commands, 7, file)
	}
}

// TestMetricsInTheManualExist: every metric that docs/operations.md names is served by the real program.
func TestMetricsInTheManualExist(t *testing.T) {
	v1 := servePods(t, "v1", 1)
	r := start(t, t.TempDir(), settings(t.TempDir(), ""))
	r.PutRules(splitDocument(v1, v1, 0, pinned))
	r.Get(newClient(t, 1), "/", "X-Teller-Id", "1")
	_, served := r.Call("GET", "/metrics", "", nil)
	dir := t.TempDir()
	_, secure := start(t, dir, secureSettings(t, dir)).Call("GET", "/metrics", "", nil)
	served = append(served, secure...)
	manual, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	names := regexp.MustCompile(`tellergate_[a-z_]+`).FindAllString(string(manual), -1)
	require.Greater(t, len(names), 10)
	for _, name := range names {
		if strings.HasPrefix(name, "tellergate_redis_") { // served only where sessions are in Redis
			assert.True(t, slices.ContainsFunc(redisMetrics, func(m redisMetric) bool {
				return strings.Contains(m.desc.String(), name)
			}), name)
			continue
		}
		assert.Contains(t, string(served), "# TYPE "+name+" ")
	}
	for _, secret := range []string{"branch=", "teller=", "9001"} {
		assert.NotContains(t, string(served), secret)
	}
}
