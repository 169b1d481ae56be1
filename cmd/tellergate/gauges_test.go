package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/session"
)

// Counting sessions takes a fiftieth of the time at most, however often somebody scrapes, and says of when it is.
func TestSessionsAreNotCountedAtEveryScrape(t *testing.T) {
	now := time.Unix(1_764_000_000, 0)
	c := &sessionCollector{now: func() time.Time { return now }}
	counts, takes := 0, time.Second
	pins := func() ([]session.Count, error) {
		counts++
		now = now.Add(takes)
		return []session.Count{{Service: "counter", Version: "v1", Sessions: counts}}, nil
	}
	first := now
	for range 5 {
		found, counted := c.count(pins)
		require.Equal(t, 1, found[0].Sessions)
		require.Equal(t, first, counted)
		now = now.Add(9 * time.Second)
	}
	now = first.Add(51 * time.Second)
	takes = time.Millisecond
	found, counted := c.count(pins)
	require.Equal(t, 2, found[0].Sessions)
	require.Equal(t, first.Add(51*time.Second), counted)
	now = now.Add(50 * time.Millisecond)
	found, _ = c.count(pins)
	require.Equal(t, 3, found[0].Sessions, "few sessions are counted at once")
}
