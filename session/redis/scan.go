package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// scan visits every key of a pin with its text, some of them twice, one at a time. goOn is asked after each step. The
// error says that it was not complete.
func (s *Store) scan(ctx context.Context, goOn func() error, visit func(name, text string)) error {
	var mu sync.Mutex
	walked := 0
	walk := func(ctx context.Context, client *goredis.Client) error {
		mu.Lock()
		walked++
		mu.Unlock()
		return s.walk(ctx, client, goOn, func(name, text string) {
			mu.Lock()
			defer mu.Unlock()
			visit(name, text)
		})
	}
	var err error
	switch client := s.client.(type) {
	case *goredis.ClusterClient:
		var before, after string
		var primaries int
		if before, primaries, err = slotsOf(ctx, client); err != nil {
			break
		}
		if err = client.ForEachMaster(ctx, walk); err != nil {
			client.ReloadState(ctx)
			break
		}
		if after, _, err = slotsOf(ctx, client); err == nil && (after != before || walked < primaries) {
			client.ReloadState(ctx)
			err = errors.New("slots of the cluster moved while they were being read")
		}
	case *goredis.Client:
		err = walk(ctx, client)
	}
	if err != nil && !errors.Is(err, errUnwanted) {
		return unknown(err)
	}
	return err
}

// slotsOf prints which primary holds which slots.
func slotsOf(ctx context.Context, client *goredis.ClusterClient) (text string, primaries int, err error) {
	//lint:ignore SA1019 CLUSTER SHARDS is of Redis 7; older servers are served too
	slots, err := client.ClusterSlots(ctx).Result()
	if err != nil {
		return "", 0, err
	}
	lines := make([]string, 0, len(slots))
	nodes := make(map[string]bool)
	for _, slot := range slots {
		if len(slot.Nodes) == 0 {
			return "", 0, fmt.Errorf("the slots %d to %d of the cluster have no primary", slot.Start, slot.End)
		}
		nodes[slot.Nodes[0].ID] = true
		lines = append(lines, fmt.Sprintf("%d-%d %s", slot.Start, slot.End, slot.Nodes[0].ID))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), len(nodes), nil
}

// walk scans one primary.
func (s *Store) walk(ctx context.Context, client *goredis.Client, goOn func() error, visit func(name, text string)) error {
	run, err := runOf(ctx, client)
	if err != nil {
		return err
	}
	if size, err := client.DBSize(ctx).Result(); err == nil {
		s.counting.of.Add(size)
	}
	for cursor := uint64(0); ; {
		names, texts, next, took, err := s.step(ctx, client, cursor)
		if err != nil {
			return err
		}
		began := time.Now()
		for i, text := range texts {
			if text != "" {
				visit(names[i], text)
			}
		}
		s.counting.seen.Add(int64(len(names)))
		if cursor = next; cursor == 0 {
			break
		}
		if err := goOn(); err != nil {
			return err
		}
		select {
		case <-time.After(rest*took - time.Since(began)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if now, err := runOf(ctx, client); err != nil {
		return err
	} else if now != run {
		return errors.New("another server answers than the one that was being read")
	}
	return nil
}

// step reads what is next at a cursor; took is how long Redis, and the way there, took.
func (s *Store) step(ctx context.Context, client *goredis.Client, cursor uint64) (names, texts []string, next uint64, took time.Duration, err error) {
	for attempt := range attempts {
		if attempt > 0 {
			select {
			case <-time.After(100 * time.Millisecond << attempt):
			case <-ctx.Done():
				return nil, nil, 0, 0, ctx.Err()
			}
		}
		if names, texts, next, took, err = s.stepOnce(ctx, client, cursor); err == nil {
			return names, texts, next, took, nil
		}
	}
	return nil, nil, 0, 0, err
}

func (s *Store) stepOnce(ctx context.Context, client *goredis.Client, cursor uint64) (names, texts []string, next uint64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	began := time.Now()
	names, next, err = client.Scan(ctx, cursor, keyPrefix+"*", scanKeys).Result()
	if err != nil || len(names) == 0 {
		return nil, nil, next, time.Since(began), err
	}
	replies := make([]*goredis.StringCmd, len(names))
	pipe := client.Pipeline()
	for i, n := range names {
		replies[i] = pipe.Get(ctx, n)
	}
	_, _ = pipe.Exec(ctx) // every reply is looked at
	took = time.Since(began)
	texts = make([]string, len(names))
	for i, r := range replies {
		if texts[i], err = r.Result(); replied(err) != nil { // what has expired since is absent
			return nil, nil, 0, 0, err
		}
	}
	return names, texts, next, took, nil
}

// runOf names the run of a server, which must be a primary.
func runOf(ctx context.Context, client *goredis.Client) (string, error) {
	info := func(section, field string) (string, error) {
		text, err := client.Info(ctx, section).Result()
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
				return value, nil
			}
		}
		return "", cmp.Or(err, fmt.Errorf("INFO %s has no %s", section, field))
	}
	role, err := info("replication", "role")
	if err != nil {
		return "", err
	}
	if role != "master" {
		return "", fmt.Errorf("a server that should be a primary is a %s", role)
	}
	return info("server", "run_id")
}
