package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"tellergate/bench/load"
	"tellergate/bench/report"
)

// A bench is one command's measurements. Everything happens on one goroutine that has locked its thread.
type bench struct {
	options
	dir               string // removed at the end
	self              string // programs
	tellergate, naive string
	loop              *load.Loop
	report            report.Report
}

// measure runs everything that the options ask for and writes the result.
func measure(ctx context.Context, o options) (err error) {
	b := &bench{options: o}
	if b.quick {
		b.rounds, b.window, b.warm, b.results = 3, 1500*time.Millisecond, 300*time.Millisecond, ""
	}
	// Where memory is a file system, logs cost what they cost the proxies and not what a disk makes of them.
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	if b.dir, err = os.MkdirTemp(parent, "tellergate-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.build(ctx); err != nil {
		return err
	}

	runtime.LockOSThread()
	debug.SetGCPercent(-1) // between runs only
	if err := pinAll(b.loadCore); err != nil {
		return err
	}
	if b.loop, err = load.NewLoop(2); err != nil {
		return err
	}
	defer b.loop.Close()
	b.report = report.Report{At: time.Now().UTC().Truncate(time.Second), Command: "go run ./bench " + strings.Join(os.Args[1:], " "),
		Commit: b.commit, Rounds: b.rounds, Window: b.window, Machine: describeMachine(b.proxyCore, b.loadCore)}
	if b.report.Versions, err = b.versions(ctx); err != nil {
		return err
	}
	if b.profile != "" {
		return b.writeProfile()
	}
	for _, s := range b.chosen() {
		result, err := b.scenario(ctx, &s)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		b.report.Scenarios = append(b.report.Scenarios, result)
	}
	return b.publish()
}

// chosen returns the scenarios that the options ask for.
func (b *bench) chosen() []scenario {
	if b.quick {
		s := scenarios[0]
		s.contenders, s.loads = proxies, twoLoads
		return []scenario{s}
	}
	if b.variant != "" {
		s := scenarios[0]
		s.contenders, s.loads = []string{tellergate, variant}, twoLoads
		return []scenario{s}
	}
	if b.scenarios == "" {
		return scenarios
	}
	var chosen []scenario
	for name := range strings.SplitSeq(b.scenarios, ",") {
		chosen = append(chosen, *scenarioNamed(name))
	}
	return chosen
}

// publish prints the table and writes the result, or, of a quick run, compares it with the last one written.
func (b *bench) publish() error {
	fmt.Print(b.report.Markdown())
	if b.quick {
		last, err := report.Read("bench/results")
		if errors.Is(err, os.ErrNotExist) {
			fmt.Println("\nThere is no result of a full run to compare with.")
			return nil
		} else if err != nil {
			return err
		}
		fmt.Print("\n" + report.Compare(last, &b.report))
	}
	if b.results == "" || b.disturbed || b.variant != "" {
		return nil
	}
	return b.report.Write(b.results)
}

// build makes the programs under test out of the tree.
func (b *bench) build(ctx context.Context) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.tellergate, b.naive = filepath.Join(b.dir, "tellergate"), filepath.Join(b.dir, "naive")
	for _, program := range []string{"./cmd/tellergate", "./bench/naive"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.dir+"/", program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
	}
	return nil
}

// versions asks the contenders who they are.
func (b *bench) versions(ctx context.Context) (map[string]string, error) {
	found := map[string]string{tellergate: b.commit}
	for name, command := range map[string][]string{haproxy: {"haproxy", "-v"}, nginx: {"nginx", "-v"}} {
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s cannot be run; make bench installs it: %w", name, err)
		}
		found[name], _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/valyala/fasthttp" {
				found[naive] = module.Path + " " + module.Version
			}
		}
	}
	return found, nil
}

// scenario measures one scenario: first everybody's capacity, then everybody at shares of what all of them can do.
func (b *bench) scenario(ctx context.Context, s *scenario) (report.Scenario, error) {
	result := report.Scenario{Name: s.name, Title: s.title, NotBuilt: s.notBuilt, Subject: s.subject, Names: s.contenders,
		Bytes: s.reply + s.mix.Body, Disturbed: b.disturbed}
	if result.Subject == "" {
		result.Subject = tellergate
	}
	if s.notBuilt != "" {
		return result, nil
	}
	b.loop.SetReply(s.reply)
	var all []*contender
	mixes := map[*contender]*load.Mix{}
	defer func() {
		for _, c := range all {
			c.stop()
		}
	}()
	for _, name := range s.contenders {
		c, err := b.newContender(name)
		if err != nil {
			return result, err
		}
		all = append(all, c)
		o := s.mix
		o.Any = o.Any || c.blind
		mixes[c] = load.NewMix(o)
	}
	order := rand.New(rand.NewPCG(1, uint64(len(s.name))))
	capacity := 0.0
	for _, kind := range s.loads {
		for round := range b.rounds {
			order.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			for _, c := range all {
				if ctx.Err() != nil {
					return result, context.Cause(ctx)
				}
				sample, err := b.sample(s, c, mixes[c], kind, capacity, round)
				if err != nil {
					return result, fmt.Errorf("%s, %s, round %d: %w", c.name, kind, round, err)
				}
				result.Samples = append(result.Samples, sample)
			}
		}
		if kind == report.Saturation {
			capacity = result.Capacity()
		}
	}
	return result, nil
}

// sample makes one run.
func (b *bench) sample(s *scenario, c *contender, mix *load.Mix, kind report.Load, capacity float64, round int) (report.Sample, error) {
	sample := report.Sample{Contender: c.name, Round: round, Load: kind}
	if err := c.count(); err != nil {
		return sample, err
	}
	run := load.Run{Target: c.target, Mix: mix, Connections: s.connections, Each: s.mix.Close, Warm: b.warm, Window: b.window,
		Seed: uint64(round)}
	switch kind {
	case report.Half:
		run.Rate = 0.5 * capacity
	case report.High:
		run.Rate = 0.8 * capacity
	case report.Idle:
		return b.idle(s, c, mix, sample)
	}
	if run.Rate > 0 && !run.Each {
		run.Connections *= 2 // that a request finds a free one is not part of the proxy's latency
	}
	sample.Rate = run.Rate
	if err := c.emptyLog(); err != nil {
		return sample, err
	}
	if c.name == withSwaps || c.name == withListSwaps {
		begin := c.swap
		if c.name == withListSwaps {
			begin = c.swapList
		}
		swapping := begin()
		defer func() {
			if err := swapping.stop(); err != nil && sample.Why == "" {
				sample.Failed, sample.Why = sample.Failed+1, err.Error()
			}
		}()
	}
	runtime.GC()
	var meter meter
	run.Begin = func() { meter.begin(b, c) }
	run.End = func() { meter.end(b, c) }
	result, err := b.loop.Do(run)
	if err = errors.Join(err, meter.err); err != nil {
		return sample, fmt.Errorf("%w\n%s", err, c.complaints())
	}
	meter.into(&sample, result)
	if len(c.pids) > 0 {
		if sample.Memory, err = memory(c.pids); err != nil {
			return sample, err
		}
	}
	return sample, nil
}

// idle measures what connections occupy that idle.
func (b *bench) idle(s *scenario, c *contender, mix *load.Mix, sample report.Sample) (report.Sample, error) {
	// What a proxy needs once and for all, it has after this.
	warm, err := b.loop.Do(load.Run{Target: c.target, Mix: mix, Connections: s.connections, Window: b.window})
	if err != nil {
		return sample, err
	}
	if err := b.loop.Serve(time.Second); err != nil {
		return sample, err
	}
	before, err := memory(c.pids)
	if err != nil {
		return sample, err
	}
	held, err := b.loop.Hold(c.target, mix, s.idle)
	if err != nil {
		return sample, err
	}
	defer held.Release()
	if err := b.loop.Serve(2 * time.Second); err != nil {
		return sample, err
	}
	sample.Memory, err = memory(c.pids)
	sample.PerIdle = float64(sample.Memory-before) / float64(s.idle)
	sample.Failed, sample.PerSecond = warm.Failed, float64(warm.Answered)/warm.Window.Seconds()
	if lost := s.idle - held.Alive(); lost > 0 {
		sample.Failed, sample.Why = lost, fmt.Sprintf("%d of %d idle connections were closed", lost, s.idle)
	}
	return sample, err
}
