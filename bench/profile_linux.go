package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"tellergate/bench/load"
)

// profiled is how long the gateway is profiled at each of two loads; traced is how long it is traced, in whole seconds.
const (
	profiled = 10 * time.Second
	traced   = 3 * time.Second
)

// observe has tellergate take a CPU profile of itself, half of it at saturation and half at a rate that leaves it room, as
// it has in production, or an execution trace at that rate. It is the subject of the first scenario chosen.
func (b *bench) observe() error {
	s := b.chosen()[0]
	b.loop.SetReply(s.reply)
	c, err := b.newContender(cmp.Or(s.subject, tellergate))
	if err != nil {
		return err
	}
	defer c.stop()
	mix := load.NewMix(s.mix)
	run := load.Run{Target: c.target, Mix: mix, Connections: s.connections, Window: time.Second}
	warm, err := b.loop.Do(run)
	if err != nil {
		return err
	}
	half := 0.5 * float64(warm.Answered) / warm.Window.Seconds()
	file, what, rates := b.profile, fmt.Sprintf("profile?seconds=%d", int((2*profiled).Seconds())), []float64{0, half}
	run.Window = profiled
	if b.trace != "" {
		file, what, rates = b.trace, fmt.Sprintf("trace?seconds=%d", int(traced.Seconds())), []float64{half}
		run.Window, run.Connections = traced+time.Second, 2*run.Connections
	}
	swapping, err := b.beginSwaps(c)
	if err != nil {
		return err
	}
	taken := make(chan error, 1)
	go func() { taken <- c.fetch(file, what) }()
	for _, rate := range rates {
		run.Rate = rate
		result, err := b.loop.Do(run)
		if err != nil {
			return err
		}
		fmt.Printf("%d requests, %d failed, %.0f per second\n", result.Answered, result.Failed, float64(result.Answered)/result.Window.Seconds())
	}
	return errors.Join(<-taken, swapping.stop())
}

// fetch writes what tellergate's admin listener says of it to a file.
func (c *contender) fetch(file, what string) error {
	answer, err := http.Get(c.admin + "/debug/pprof/" + what)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("tellergate refuses %s: %s", what, answer.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, answer.Body); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
