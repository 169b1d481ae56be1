package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A layer is a set of packages that may import what lies in the layers it names, and nothing else of ours.
type layer struct {
	name     string
	packages []string // import paths below the module, without it; a trailing /… takes everything beneath
	may      []string // names of layers
	because  string   // why everything else is forbidden
}

// law is read from the top: the first layer that holds a package is its layer.
var law = []layer{
	{"leaves", []string{"internal/problem", "internal/strictyaml", "internal/build", "internal/memory", "internal/seen", "internal/pace",
		"internal/block"}, []string{"leaves"},
		"leaves are shared by everybody, so what they import everybody imports"},
	{"roots", []string{"rules", "discovery", "session", "store", "config"}, []string{"leaves"},
		"domain roots are pure vocabulary and logic and must be testable and readable without each other"},
	{"middle", []string{"internal/content", "internal/live"}, []string{"leaves", "roots", "middle"},
		"what reads and applies revisions must not know who asks for it or what it drives"},
	{"wire", []string{"admin/api"}, []string{"leaves", "roots"},
		"the wire types are linked into the command line, which must stay free of the server"},
	{"conformance", []string{"store/storetest", "session/sessiontest"}, []string{"leaves", "roots"},
		"a conformance suite serves every adapter and so knows none"},
	{"grammar", []string{"proxy/http1", "proxy/socket"}, nil,
		"the grammar of HTTP and the calls on sockets serve both sides and must know neither"},
	{"upstream", []string{"proxy/upstream"}, []string{"leaves", "roots", "grammar"},
		"the way to the pods must not depend on how requests come in"},
	{"proxy", []string{"proxy"}, []string{"leaves", "roots", "grammar", "upstream"},
		"the data plane must not know the admin API or any adapter: it is handed what it needs by cmd"},
	{"admin", []string{"admin"}, []string{"leaves", "roots", "middle", "wire"},
		"the admin API must not know the data plane or any adapter: it is handed what it needs by cmd"},
	{"adapters", []string{"store/…", "session/…", "discovery/…"}, []string{"leaves", "roots"},
		"an adapter connects one domain root to one outside thing"},
	{"cluster", []string{"internal/kubetest"}, nil,
		"the tests against a real cluster know the gateway as a program only"},
	{"house", []string{"internal/architecture/…"}, nil,
		"the tests of the house look at the code from outside"},
	{"programs", []string{"cmd/…", "deploy/…", "bench/…"},
		[]string{"leaves", "roots", "middle", "wire", "grammar", "upstream", "proxy", "admin", "adapters", "programs"},
		"programs compose; nothing may import them"},
}

// soleImporters says which package alone may import a client library outside tests, and its sub-packages.
var soleImporters = map[string][]string{
	"github.com/valyala/fasthttp":         {"proxy", "bench/naive"},
	"github.com/danielgtaylor/huma/v2":    {"admin"},
	"github.com/hashicorp/golang-lru/v2":  {"session/redis"},
	"github.com/gaissmai/bart":            {"proxy"},
	"github.com/spf13/cobra":              {"cmd/tgctl"},
	"go.yaml.in/yaml/v3":                  {"internal/strictyaml", "rules", "cmd/tgctl"},
	"github.com/redis/go-redis/v9":        {"session/redis", "store/redis"},
	"k8s.io/api":                          {"discovery/kubernetes"},
	"k8s.io/apimachinery":                 {"discovery/kubernetes"},
	"k8s.io/client-go":                    {"discovery/kubernetes"},
	"k8s.io/klog/v2":                      {"discovery/kubernetes"},
	"github.com/prometheus/client_golang": {"proxy", "cmd/tellergate"},
	"golang.org/x/sys":                    {"proxy/upstream"},
	"go.uber.org/zap":                     {"proxy", "admin", "cmd/tellergate"},
}

type pkg struct {
	ImportPath   string
	Doc          string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

const module = "tellergate"

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Name,Imports,TestImports,XTestImports", module+"/...")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		require.NoError(t, err, "%s", exit.Stderr)
	}
	require.NoError(t, err)
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		all = append(all, p)
	}
	require.Greater(t, len(all), 10, "go list found too few packages to be believed")
	return all
}

func holds(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		beneath, wild := strings.CutSuffix(pattern, "…")
		return path == strings.TrimSuffix(beneath, "/") || wild && strings.HasPrefix(path, beneath)
	})
}

func layerOf(path string) (layer, bool) {
	for _, l := range law {
		if holds(l.packages, path) {
			return l, true
		}
	}
	return layer{}, false
}

// ours strips the module from an import path; ok is false for other modules.
func ours(path string) (string, bool) { return strings.CutPrefix(path, module+"/") }

func TestImportLaw(t *testing.T) {
	for _, p := range packages(t) {
		path, ok := ours(p.ImportPath)
		require.True(t, ok, "%s: packages live below the module", p.ImportPath)
		from, ok := layerOf(path)
		if !ok {
			t.Errorf("%s is in no layer: name it in the law, and in docs/design/0001", path)
			continue
		}
		for _, imported := range p.Imports {
			target, ok := ours(imported)
			if !ok {
				continue
			}
			to, ok := layerOf(target)
			if !ok || !slices.Contains(from.may, to.name) {
				t.Errorf("%s (%s) imports %s (%s): %s", path, from.name, target, to.name, from.because)
			}
		}
	}
}

func TestTestsDoNotJoinAdminAndProxy(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := ours(p.ImportPath)
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			target, _ := ours(imported)
			if (path == "admin" && holds([]string{"proxy/…"}, target)) || (holds([]string{"proxy/…"}, path) && target == "admin") {
				t.Errorf("%s's tests import %s: what needs both is a test of cmd", path, target)
			}
		}
	}
}

func TestClientLibrariesHaveOneImporter(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := ours(p.ImportPath)
		for _, imported := range p.Imports {
			for library, importers := range soleImporters {
				if (imported == library || strings.HasPrefix(imported, library+"/")) && !slices.Contains(importers, path) {
					t.Errorf("%s imports %s: only %s may, so that the library can be replaced in one place",
						path, imported, strings.Join(importers, " and "))
				}
			}
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: its doc comment must begin with %q and say what it is responsible for and what it is not",
				p.ImportPath, want)
		}
	}
}
