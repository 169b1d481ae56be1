package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	clockEvery = 10 * time.Second
	quantum    = 500 * time.Millisecond // a smaller change of the offset is noise of the network
	tooFar     = 2 * time.Second        // an offset that operators are warned of
)

// keep compares clocks, and while requests do without Redis asks whether it is back.
func (s *Store) keep(ctx context.Context) {
	clock := time.NewTicker(clockEvery)
	defer clock.Stop()
	probe := time.NewTicker(s.o.Probe)
	defer probe.Stop()
	s.compareClocks(ctx)
	server := s.learnServer(ctx)
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
			if !s.line.breaker.open() {
				s.compareClocks(ctx)
			}
		case <-probe.C:
			since := s.line.breaker.since.Load()
			if since == 0 {
				continue
			}
			if err := s.line.probe(ctx); err != nil {
				s.stats.lastError.Store(err.Error())
				if !told && ctx.Err() == nil {
					told = true
					s.o.Warn("Redis does not answer: sessions go on by the copies that this replica has, new ones by the rules; " +
						"last error: " + err.Error())
				}
				continue
			}
			s.compareClocks(ctx)
			missing := time.Time{} // everything may be
			switch now := s.learnServer(ctx); {
			case now == "":
			case now == server && s.o.Mode != Cluster: // it was late, and has lost nothing
				missing = s.now().Add(-time.Since(time.Unix(0, since)) - recent)
			default:
				server = now
			}
			s.staleUntil.Store(s.now().UnixNano())
			s.line.breaker.close()
			s.reassert(ctx, missing)
			told = false
			s.o.Warn("Redis answers again; it was away since " + time.Unix(0, since).UTC().Format(time.RFC3339))
		}
	}
}

// learnServer finds out whether a new session can be claimed without a script, and returns what the server calls its run;
// it is another one after a start or a fail-over. Empty: it does not say.
func (s *Store) learnServer(ctx context.Context) (run string) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	info, err := s.client.Info(ctx, "server").Result()
	if err != nil {
		return "" // the script does it
	}
	for line := range strings.Lines(info) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			major, _, _ := strings.Cut(version, ".")
			n, _ := strconv.Atoi(major)
			s.setGet.Store(n >= 7)
		}
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "run_id:"); ok {
			run = id
		}
	}
	return run
}

// compareClocks measures how far Redis's clock is ahead of ours. Times in Redis are by its clock.
func (s *Store) compareClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	ask := s.o.ServerTime
	if ask == nil {
		ask = func(ctx context.Context) (time.Time, error) { return s.client.Time(ctx).Result() }
	}
	before := s.now()
	theirs, err := ask(ctx)
	if err != nil {
		return
	}
	after := s.now()
	if after.Sub(before) > 2*quantum {
		return // half of it may be the error
	}
	offset := theirs.Sub(before.Add(after.Sub(before) / 2))
	previous := time.Duration(s.measured.Swap(int64(offset)))
	if (offset - s.ahead()).Abs() > quantum {
		s.offset.Store(int64(offset))
	}
	if offset.Abs() > tooFar && previous.Abs() <= tooFar {
		side := "ahead of"
		if offset < 0 {
			side = "behind"
		}
		s.o.Warn(fmt.Sprintf("Redis's clock is %s %s this machine's: sessions are corrected by it, but set the clocks",
			offset.Abs().Round(time.Millisecond), side))
	}
}
