package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/config"
)

func TestPublishUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	v1, v2 := application(t, "v1"), application(t, "v2")
	both := func(standard string) string {
		return fmt.Sprintf(`
services:
  - name: counter
    default: %s
    versions:
      - {name: v1, pods: {static: [%q]}}
      - {name: v2, pods: {static: [%q]}}
    sessions: {key: [session]}
`, standard, v1, v2)
	}
	g := start(t, settings(), both("v1"))
	require.Equal(t, "v1", g.get("Cookie: JSESSIONID=pinned"))
	var (
		revision atomic.Int64 // even: default v1, odd: v2; raised after Publish has returned
		sent     atomic.Int64
		clients  sync.WaitGroup
	)
	ctx, stop := context.WithCancel(t.Context())
	transport := transport(8)
	defer transport.CloseIdleConnections()
	failures := make(chan string, 8)
	for i := range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				before := revision.Load()
				request, _ := http.NewRequest(http.MethodGet, g.url, nil)
				if i%2 == 0 {
					request.Header.Set("Cookie", "JSESSIONID=pinned")
				}
				answer, err := transport.RoundTrip(request)
				if err != nil {
					failures <- err.Error()
					return
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				sent.Add(1)
				stable := revision.Load() == before && before%2 == 0 // before is even only while v1 is the default
				if err != nil || answer.StatusCode != 200 || i%2 == 0 && string(body) != "v1" ||
					i%2 == 1 && stable && string(body) != "v1" {
					failures <- fmt.Sprint(answer.StatusCode, string(body), err)
					return
				}
			}
		})
	}
	for i := range 40 {
		target := sent.Load() + 25
		require.Eventually(t, func() bool { return sent.Load() >= target || len(failures) > 0 }, patience, time.Millisecond)
		if i%2 == 0 {
			revision.Add(1)
			g.publish(both("v2"), nil)
		} else {
			g.publish(both("v1"), nil)
			revision.Add(1)
		}
	}
	stop()
	clients.Wait()
	close(failures)
	for failure := range failures {
		t.Error(failure)
	}
}

func TestShutdownLosesNoRequest(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Shutdown = config.Shutdown{Delay: 300 * time.Millisecond, Grace: patience}
	g := start(t, s, oneVersion(address(pod(t, "v1", nil))))
	slow := make(chan struct{})
	g.publish(oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-slow
		}
	}))), nil)
	inFlight := make(chan string, 1)
	go func() {
		answer, err := http.Get(g.url + "/slow")
		if err != nil {
			inFlight <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		inFlight <- string(body)
	}()
	transport := transport(4)
	defer transport.CloseIdleConnections()
	var clients sync.WaitGroup
	served, failures := atomic.Int64{}, make(chan error, 4)
	for range 4 {
		clients.Go(func() {
			for {
				answer, err := transport.RoundTrip(mustRequest(g.url + "/"))
				if err != nil {
					var op *net.OpError
					if !errors.As(err, &op) || op.Op != "dial" {
						failures <- err
					}
					return // the listener has closed
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil || string(body) != "v1" {
					failures <- fmt.Errorf("%d %q %w", answer.StatusCode, body, err)
					return
				}
				served.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return served.Load() > 100 }, patience, time.Millisecond)
	stopped := make(chan struct{})
	go func() { defer close(stopped); g.stop() }()
	require.Eventually(t, func() bool {
		answer, err := transport.RoundTrip(mustRequest(g.url + "/-/lb"))
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == 503 && answer.Close
	}, patience, time.Millisecond, "health says so while requests are still served")
	clients.Wait()
	close(slow)
	require.Equal(t, "v1", <-inFlight, "what was in flight is finished")
	<-stopped
	close(failures)
	for err := range failures {
		t.Error(err)
	}
}

func mustRequest(url string) *http.Request {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	return request
}

func TestReload(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(application(t, "v1"), application(t, "v2")))
	require.Equal(t, "v2", g.get(pilotBranch))
	require.NoError(t, g.reload(strangers()))
	require.Equal(t, "v1", g.get(pilotBranch), "nobody is trusted any more")
	fewer := settings()
	fewer.Identity = fewer.Identity[:2]
	require.ErrorContains(t, g.reload(fewer), "restart to change them")
	require.Equal(t, "v1", g.get(pilotBranch), "a bad reload changes nothing")
}
