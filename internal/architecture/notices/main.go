// Command notices writes THIRD_PARTY_NOTICES: the licence texts of every module that is linked into a program we ship,
// on any platform we ship for. With -check it compares instead of writing, and exits 1 if the file is out of date.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

var (
	programs      = []string{"./cmd/tellergate", "./cmd/tgctl"}
	architectures = []string{"amd64", "arm64", "loong64", "mips64le"}
)

func main() {
	check := flag.Bool("check", false, "compare with the file instead of writing it")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: notices [-check] FILE")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *check); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

func run(file string, check bool) error {
	modules, err := linked()
	if err != nil {
		return err
	}
	// The standard library is linked too. Its version is left out so that a patch release changes nothing here.
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("asking for the root of the Go installation: %w", err)
	}
	modules = append(modules, module{Path: "Go standard library", Dir: strings.TrimSpace(string(root))})
	want, err := render(modules)
	if err != nil {
		return err
	}
	if !check {
		return os.WriteFile(file, want, 0o644)
	}
	have, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return fmt.Errorf("%s is out of date: run make generate and commit it", file)
	}
	return nil
}

type module struct{ Path, Version, Dir string }

// linked returns the modules, other than ours, that the programs link on some architecture, sorted by path.
func linked() ([]module, error) {
	byPath := map[string]module{}
	for _, arch := range architectures {
		cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, programs...)...)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("listing the packages for %s: %w", arch, err)
		}
		for dec := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct{ Module *module }
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			if p.Module != nil && p.Module.Path != "tellergate" {
				byPath[p.Module.Path] = *p.Module
			}
		}
	}
	modules := make([]module, 0, len(byPath))
	for _, m := range byPath {
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return modules, nil
}

// render prints every module with the licence and notice files at its root. A module without one is an error: it must
// not be shipped before somebody has looked.
func render(modules []module) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("tellergate is distributed with the following modules, each under its own licence.\n")
	b.WriteString("The source code of each is available under its module path and version.\n")
	for _, m := range modules {
		entries, err := os.ReadDir(m.Dir)
		if err != nil {
			return nil, err
		}
		found := false
		for _, e := range entries {
			name := strings.ToUpper(e.Name())
			if e.IsDir() || !(strings.HasPrefix(name, "LICEN") || strings.HasPrefix(name, "NOTICE") || strings.HasPrefix(name, "COPYING")) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
			if err != nil {
				return nil, err
			}
			found = true
			rule := strings.Repeat("=", 80)
			title := strings.Join(strings.Fields(m.Path+" "+m.Version), " ")
			fmt.Fprintf(&b, "\n%s\n%s (%s)\n%s\n\n", rule, title, e.Name(), rule)
			for line := range strings.Lines(string(text)) {
				b.WriteString(strings.TrimRight(line, " \t\r\n"))
				b.WriteByte('\n')
			}
		}
		if !found {
			return nil, fmt.Errorf("%s %s has no licence file at its root", m.Path, m.Version)
		}
	}
	return b.Bytes(), nil
}
