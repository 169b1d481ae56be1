package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"tellergate/bench/load"
)

// profiled is how long the gateway is profiled at each of two loads.
const profiled = 10 * time.Second

// writeProfile takes a CPU profile of the gateway, half of it at saturation and half at a rate that leaves it room, as
// it has in production. It is what the gateway is compiled with: cmd/tellergate/default.pgo.
func (b *bench) writeProfile() error {
	s := scenarios[0]
	b.loop.SetReply(s.reply)
	c, err := b.newContender(tellergate)
	if err != nil {
		return err
	}
	defer c.stop()
	mix := load.NewMix(s.mix)
	run := load.Run{Target: c.target, Mix: mix, Connections: s.connections, Window: b.warm}
	warm, err := b.loop.Do(run)
	if err != nil {
		return err
	}
	taken := make(chan error, 1)
	go func() { taken <- c.fetchProfile(b.profile, 2*profiled) }()
	run.Window = profiled
	for _, rate := range []float64{0, 0.5 * float64(warm.Answered) / warm.Window.Seconds()} {
		run.Rate = rate
		result, err := b.loop.Do(run)
		if err != nil {
			return err
		}
		fmt.Printf("%d requests, %d failed, %.0f per second\n", result.Answered, result.Failed, float64(result.Answered)/result.Window.Seconds())
	}
	return <-taken
}

// fetchProfile asks tellergate's admin listener for a CPU profile.
func (c *contender) fetchProfile(file string, d time.Duration) error {
	answer, err := http.Get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", c.admin, int(d.Seconds())))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the profile was refused: %s", answer.Status)
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
