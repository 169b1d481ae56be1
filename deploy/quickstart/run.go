package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed demo
var demo embed.FS

type options struct {
	bin             string
	frontend, admin string
	pods            int
	walk            bool
}

// The places that the demonstration files and the embedded defaults name, replaced where the options say otherwise.
const (
	defaultFrontend = "127.0.0.1:8080"
	defaultAdmin    = "127.0.0.1:9180"
)

var defaultPods = []string{"127.0.0.1:9101", "127.0.0.1:9102", "127.0.0.1:9103"}

// A stage is the demonstration once everything has its place.
type stage struct {
	frontend, admin string
	pods            []string
	tellergate      string // programs, absolute
	tgctl           string
	dir             string // of this run: data, logs, rendered files
}

// run starts everything, prints or walks the tour, and ends everything when ctx does.
func run(ctx context.Context, o options) (err error) {
	s, err := prepare(o)
	if err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)

	var children []*process // ended in reverse, so that the gateway goes before its pods
	defer func() {
		for i := len(children) - 1; i >= 0; i-- {
			err = errors.Join(err, children[i].stop(15*time.Second))
		}
	}()
	logs := map[string]*os.File{}
	for _, name := range []string{"access.log", "tellergate.log", "pods.log"} {
		f, err := os.Create(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		logs[name] = f
	}

	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i, pod := range []struct{ name, version string }{{"counter-v1-a", "v1"}, {"counter-v1-b", "v1"}, {"counter-v2-a", "v2"}} {
		p, err := start(pod.name, logs["pods.log"], logs["pods.log"], s.dir, self,
			"pod", "--name", pod.name, "--version", pod.version, "--address", s.pods[i])
		if err != nil {
			return err
		}
		children = append(children, p)
	}
	var args []string
	if s.frontend != defaultFrontend || s.admin != defaultAdmin {
		if args, err = s.writeSettings(); err != nil {
			return err
		}
	}
	gateway, err := start("tellergate", logs["access.log"], logs["tellergate.log"], s.dir, s.tellergate, args...)
	if err != nil {
		return err
	}
	children = append(children, gateway)

	if err := s.await(ctx, gateway, "/healthz"); err != nil {
		return err
	}
	if err := s.seed(ctx); err != nil {
		return err
	}
	if err := s.await(ctx, gateway, "/readyz"); err != nil {
		return err
	}
	if o.walk {
		return s.walk(ctx, os.Stdout)
	}
	s.print(os.Stdout)
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping …")
		return nil
	case <-gateway.ended:
		return fmt.Errorf("tellergate has ended by itself:\n%s", tail(filepath.Join(s.dir, "tellergate.log")))
	}
}

// prepare settles addresses, makes the run's directory, and writes the demonstration files into it.
func prepare(o options) (*stage, error) {
	s := new(stage)
	var err error
	for name, program := range map[string]*string{"tellergate": &s.tellergate, "tgctl": &s.tgctl} {
		if *program, err = filepath.Abs(filepath.Join(o.bin, name)); err != nil {
			return nil, err
		}
		if _, err := os.Stat(*program); err != nil {
			return nil, fmt.Errorf("%w; run make build first, or name its directory with --bin", err)
		}
	}
	if s.frontend, err = settle("frontend", o.frontend); err != nil {
		return nil, err
	}
	if s.admin, err = settle("admin", o.admin); err != nil {
		return nil, err
	}
	anyPod := o.pods == 0 || strings.HasSuffix(o.frontend, ":0")
	for i := range defaultPods {
		port := o.pods + i
		if anyPod {
			port = 0
		}
		address, err := settle("pods", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return nil, err
		}
		s.pods = append(s.pods, address)
	}
	if s.dir, err = os.MkdirTemp("", "tellergate-quickstart-"); err != nil {
		return nil, err
	}
	files, err := demo.ReadDir("demo")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		text, err := demo.ReadFile("demo/" + f.Name())
		if err != nil {
			return nil, err
		}
		for i, address := range defaultPods {
			text = bytes.ReplaceAll(text, []byte(address), []byte(s.pods[i]))
		}
		if err := os.WriteFile(filepath.Join(s.dir, f.Name()), text, 0o600); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// settle proves that an address can be listened on and returns it, with a free port in the place of port 0.
func settle(flagName, address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%w; stop what listens there, or choose another place: make run ARGS='--%s %s'",
			err, flagName, map[bool]string{true: "19101", false: "127.0.0.1:0"}[flagName == "pods"])
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// writeSettings writes the embedded defaults with this run's addresses and returns the arguments that name the file.
func (s *stage) writeSettings() ([]string, error) {
	text, err := exec.Command(s.tellergate, "settings").Output()
	if err != nil {
		return nil, fmt.Errorf("asking tellergate for its default settings: %w", err)
	}
	for from, to := range map[string]string{defaultFrontend: s.frontend, defaultAdmin: s.admin} {
		if !bytes.Contains(text, []byte(from)) {
			return nil, fmt.Errorf("the default settings do not name %s", from)
		}
		text = bytes.ReplaceAll(text, []byte(from), []byte(to))
	}
	file := filepath.Join(s.dir, "tellergate.yaml")
	return []string{"--settings", file}, os.WriteFile(file, text, 0o600)
}

// await polls an endpoint of the admin API until it answers 200, for at most 20 s.
func (s *stage) await(ctx context.Context, gateway *process, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, fmt.Errorf("tellergate's %s did not turn 200 within 20 s", path))
	defer cancel()
	last := "no answer"
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+path, nil)
		if err != nil {
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			last = string(body)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), last)
		case <-gateway.ended:
			return fmt.Errorf("tellergate did not start:\n%s", tail(filepath.Join(s.dir, "tellergate.log")))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// seed writes the demonstration's organisation, list and rules, as an operator would.
func (s *stage) seed(ctx context.Context) error {
	for _, args := range [][]string{
		{"organisation", "put", "9001", "--file", filepath.Join(s.dir, "organisation-9001.csv"), "--reason", "demonstration"},
		{"list", "put", "pilot-tellers", "--attribute", "teller", "--file", filepath.Join(s.dir, "pilot-tellers.csv"), "--reason", "demonstration"},
		{"apply", filepath.Join(s.dir, "rules.yaml"), "--reason", "demonstration"},
	} {
		cmd := exec.CommandContext(ctx, s.tgctl, args...)
		cmd.Env = append(os.Environ(), "TGCTL_SERVER=http://"+s.admin)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("tgctl %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// tail returns the last lines of a log file, or why there are none.
func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}
