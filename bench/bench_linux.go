package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
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
	settled           time.Duration
	first             bool // it may use the real-time class
	loop              *load.Loop
	tls               string // the certificate that contenders show, without its endings; empty: they speak no TLS
	report            report.Report
}

// measure runs everything that the options ask for and writes the result.
func measure(ctx context.Context, o options) (err error) {
	b := &bench{options: o, settled: settled}
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

	allowFiles()
	runtime.LockOSThread()
	runtime.GOMAXPROCS(2)  // the loop keeps one
	debug.SetGCPercent(-1) // between runs only
	if err := pinAll(b.loadCore); err != nil {
		return err
	}
	b.first = goFirst([]int{os.Getpid()}, true) == nil && goFirst([]int{os.Getpid()}, false) == nil
	if b.loop, err = load.NewLoop(2); err != nil {
		return err
	}
	defer b.loop.Close()
	b.report = report.Report{At: time.Now().UTC().Truncate(time.Second), Command: "go run ./bench " + strings.Join(os.Args[1:], " "),
		Commit: b.commit, Rounds: b.rounds, Window: b.window, Machine: describeMachine(b.proxyCore, b.loadCore)}
	b.report.Machine.First = b.first
	if b.report.Versions, err = b.versions(ctx); err != nil {
		return err
	}
	if b.profile != "" || b.trace != "" {
		return b.observe()
	}
	for _, s := range b.chosen() {
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), s.name)
		result, failed := b.scenario(ctx, &s)
		if failed != nil { // the others are worth having
			err = errors.Join(err, fmt.Errorf("scenario %s: %w", s.name, failed))
			result.NotBuilt = fmt.Sprintf("not measured, since it failed: %v", failed)
		}
		if ctx.Err() != nil {
			return err
		}
		b.report.Scenarios = append(b.report.Scenarios, result)
	}
	return errors.Join(err, b.publish())
}

// chosen returns the scenarios that the options ask for.
func (b *bench) chosen() []scenario {
	if b.quick {
		s := scenarios[0]
		s.contenders, s.loads, s.rounds = proxies, twoLoads, 1
		return []scenario{s}
	}
	if b.variant != "" {
		s := scenarios[0]
		s.contenders, s.loads, s.rounds = []string{tellergate, variant}, twoLoads, 1
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
		last, err := report.Read(resultsDir)
		if errors.Is(err, os.ErrNotExist) {
			fmt.Println("\nThere is no result of a full run to compare with.")
			return nil
		} else if err != nil {
			return err
		}
		fmt.Print("\n" + report.Compare(last, &b.report))
	}
	development := b.disturbed || b.only != "" || b.variant != ""
	if b.results == "" || development && b.results == resultsDir {
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
	result := report.Scenario{Name: s.name, Title: s.title, NotBuilt: s.notBuilt, Note: s.note, Subject: s.subject, Names: s.contenders,
		Rounds: min(b.rounds*max(s.rounds, 1), cmp.Or(s.atMost, 1000)), Bytes: s.reply + s.mix.Body, Disturbed: b.disturbed}
	if result.Subject == "" {
		result.Subject = tellergate
	}
	if s.notBuilt != "" {
		return result, nil
	}
	b.loop.SetReply(s.reply)
	if err := b.setTLS(s.tls); err != nil {
		return result, err
	}
	if slices.Equal(s.loads, []report.Load{report.Idle}) {
		err := b.idle(ctx, s, &result)
		return result, err
	}
	all, mixes, err := b.contend(s)
	defer stopAll(all)
	if err != nil {
		return result, err
	}
	order := rand.New(rand.NewPCG(1, uint64(len(s.name))))
	capacity := 0.0
	for _, kind := range s.loads {
		for round := range result.Rounds {
			order.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			for _, c := range all {
				if ctx.Err() != nil {
					return result, context.Cause(ctx)
				}
				if s.alone {
					if err := leaveAlone(c, all); err != nil {
						return result, err
					}
				}
				sample, err := b.undisturbed(s, c, mixes[c], kind, capacity, round)
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

// contend starts the scenario's contenders, each with the requests it will get. Whatever it returns has to be stopped.
func (b *bench) contend(s *scenario) (all []*contender, mixes map[*contender]*load.Mix, err error) {
	mixes = map[*contender]*load.Mix{}
	for _, name := range s.contenders {
		if b.only != "" && !slices.Contains(strings.Split(b.only, ";"), name) {
			continue
		}
		c, err := b.newContender(name)
		if err != nil {
			return all, mixes, err
		}
		all = append(all, c)
		o := s.mix
		o.Any = o.Any || c.blind
		mixes[c] = load.NewMix(o)
	}
	return all, mixes, nil
}

// leaveAlone freezes all contenders but one, so that nothing that they still do after their own runs falls into its.
func leaveAlone(c *contender, all []*contender) error {
	for _, other := range all {
		signal := syscall.SIGSTOP
		if other == c {
			signal = syscall.SIGCONT
		}
		if err := errors.Join(other.count(), other.signal(signal)); err != nil {
			return err
		}
	}
	return nil
}

func stopAll(all []*contender) {
	for _, c := range all {
		c.stop()
	}
}

// attempts is how often a run is made at most because other programs took part of the cores.
const attempts = 3

// undisturbed makes one run, and again where other programs disturbed it.
func (b *bench) undisturbed(s *scenario, c *contender, mix *load.Mix, kind report.Load, capacity float64, round int) (report.Sample, error) {
	for attempt := 1; ; attempt++ {
		sample, err := b.sample(s, c, mix, kind, capacity, round)
		sample.Attempt = attempt
		if err != nil || b.disturbed || attempt == attempts || !sample.WasDisturbed() {
			return sample, err
		}
	}
}

// sample makes one run.
func (b *bench) sample(s *scenario, c *contender, mix *load.Mix, kind report.Load, capacity float64, round int) (sample report.Sample,
	err error) {
	sample = report.Sample{Contender: c.name, Round: round, Load: kind}
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
	}
	if run.Rate > 0 {
		run.Warm *= time.Duration(max(s.warm, 1))
	}
	if run.Rate > 0 && !run.Each {
		run.Connections *= 2 // that a request finds a free one is not part of the proxy's latency
	}
	sample.Rate = run.Rate
	if err := c.emptyLog(); err != nil {
		return sample, err
	}
	swapping, err := b.beginSwaps(c)
	if err != nil {
		return sample, err
	}
	defer func() {
		if err := swapping.stop(); err != nil && sample.Why == "" {
			sample.Failed, sample.Why = sample.Failed+1, err.Error()
		}
	}()
	before, err := c.withoutRedis()
	if err != nil {
		return sample, err
	}
	runtime.GC()
	meter := meter{swaps: swapping}
	if run.Rate > 0 && b.first {
		everybody := append(c.all(), os.Getpid())
		if err := goFirst(everybody, true); err != nil {
			return sample, err
		}
		defer func() {
			if err := goFirst(everybody, false); err != nil && sample.Why == "" {
				sample.Failed, sample.Why = sample.Failed+1, err.Error()
			}
		}()
	}
	run.Begin = func() { meter.begin(b, c) }
	run.End = func() { meter.end(b, c) }
	result, err := b.loop.Do(run)
	if err := errors.Join(err, meter.err); err != nil {
		return sample, fmt.Errorf("%w\n%s", err, c.complaints())
	}
	meter.into(&sample, result)
	if after, err := c.withoutRedis(); err != nil {
		return sample, err
	} else if after > before {
		sample.Failed, sample.Why = sample.Failed+after-before, "went on without Redis"
	}
	if len(c.pids) > 0 {
		if sample.Memory, err = memory(c.pids); err != nil {
			return sample, err
		}
	}
	return sample, nil
}

// settled is how long tellergate is left alone before its memory is read: it gives back what it does not need once nothing
// has happened for up to half a minute. Others do not change.
const settled = 33 * time.Second

// settle has only the pods work until the contenders' memory can be read.
func (b *bench) settle(all []*contender) error {
	for _, c := range all {
		if c.admin != "" {
			return b.loop.Serve(b.settled)
		}
	}
	return b.loop.Serve(min(b.settled, 2*time.Second))
}

// idle measures what connections occupy that idle: fresh processes in each round, as many contenders at a time as this
// process may have descriptors for.
func (b *bench) idle(ctx context.Context, s *scenario, result *report.Scenario) error {
	together := int(openFiles()-spareFiles) / s.idle
	if together < 1 {
		return fmt.Errorf("%d idle connections need more than the %d open files that this process may have: ulimit -n", s.idle, openFiles())
	}
	for round := range result.Rounds {
		for names := range slices.Chunk(s.contenders, together) {
			some := *s
			some.contenders = names
			samples, err := b.idleRound(ctx, &some, round)
			if err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			result.Samples = append(result.Samples, samples...)
		}
	}
	return nil
}

// spareFiles are descriptors that this process needs for something else than idle connections.
const spareFiles = 2000

func (b *bench) idleRound(ctx context.Context, s *scenario, round int) ([]report.Sample, error) {
	all, mixes, err := b.contend(s)
	defer stopAll(all)
	if err != nil {
		return nil, err
	}
	samples, before := make([]report.Sample, len(all)), make([]int64, len(all))
	for i, c := range all {
		if err := c.count(); err != nil {
			return nil, err
		}
		// What a proxy needs once and for all, its sessions included, it has after this.
		samples[i] = report.Sample{Contender: c.name, Round: round, Attempt: 1, Load: report.Idle}
		for answered := 0; answered <= len(mixes[c].Requests); {
			warm, err := b.loop.Do(load.Run{Target: c.target, Mix: mixes[c], Connections: s.connections, Window: b.window})
			if err != nil {
				return nil, err
			}
			if warm.Failed > 0 {
				return nil, fmt.Errorf("%s: %d requests failed: %w", c.name, warm.Failed, warm.Why)
			}
			answered += warm.Answered
		}
	}
	if err := b.settle(all); err != nil {
		return nil, err
	}
	for i, c := range all {
		if before[i], err = memory(c.pids); err != nil {
			return nil, err
		}
	}
	held := make([]*load.Hold, len(all))
	for i, c := range all {
		if held[i], err = b.loop.Hold(c.target, mixes[c], s.idle); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		defer held[i].Release()
	}
	if err := b.settle(all); err != nil {
		return nil, err
	}
	for i, c := range all {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		sample := &samples[i]
		if sample.Memory, err = memory(c.pids); err != nil {
			return nil, err
		}
		sample.PerIdle = float64(sample.Memory-before[i]) / float64(s.idle)
		if lost := s.idle - held[i].Alive(); lost > 0 {
			sample.Failed, sample.Why = lost, fmt.Sprintf("%d of %d idle connections were closed", lost, s.idle)
		}
	}
	return samples, nil
}
