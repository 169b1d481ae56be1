package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pattern is a body of n bytes that is made and checked without being held.
type pattern struct{ at, n int }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	b = b[:min(len(b), p.n-p.at)]
	for i := range b {
		b[i] = byte((p.at + i) % 251)
	}
	p.at += len(b)
	return len(b), nil
}

// check reads a pattern of n bytes and says where it is not one.
func check(r io.Reader, n int) error {
	buffer, want := make([]byte, 64<<10), make([]byte, 64<<10)
	expected := &pattern{n: n}
	for {
		got, err := r.Read(buffer)
		if got > 0 {
			if _, short := io.ReadFull(expected, want[:got]); short != nil || string(want[:got]) != string(buffer[:got]) {
				return fmt.Errorf("wrong bytes before %d", expected.at)
			}
		}
		if err == io.EOF {
			if expected.at != n {
				return fmt.Errorf("%d bytes of %d", expected.at, n)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func TestLargeBodiesStream(t *testing.T) {
	const size = 64 << 20
	g := start(t, settings(), oneVersion(address(pod(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.Copy(w, &pattern{n: size})
			return
		}
		if err := check(r.Body, size); err != nil {
			fmt.Fprint(w, err)
			return
		}
		fmt.Fprint(w, "whole")
	}))))
	var peak atomic.Uint64
	stop, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	_, body := g.do(ask{method: http.MethodPost, body: &pattern{n: size}})
	require.Equal(t, "whole", body, "chunked upload")
	request, err := http.NewRequest(http.MethodPut, g.url, &pattern{n: size})
	require.NoError(t, err)
	request.ContentLength = size
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	require.Equal(t, "whole", string(text), "upload of known length")
	answer, err = http.Get(g.url)
	require.NoError(t, err)
	require.NoError(t, check(answer.Body, size), "download")
	answer.Body.Close()
	close(stop)
	<-sampled
	require.Less(t, peak.Load(), uint64(48<<20), "bodies are not held")
}

func TestBodyTooLarge(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Frontends[0].Limits.BodyBytes = 20000
	g := start(t, s, oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil {
			fmt.Fprint(w, n)
		}
	}))))
	_, body := g.do(ask{method: http.MethodPost, body: strings.NewReader(strings.Repeat("x", 20000))})
	require.Equal(t, "20000", body)
	status, code := g.code(ask{method: http.MethodPost, body: strings.NewReader(strings.Repeat("x", 20001))})
	require.Equal(t, 413, status)
	require.Equal(t, "body_too_large", code)
	answer := g.raw("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"4e21\r\n" + strings.Repeat("x", 20001) + "\r\n")
	require.Contains(t, answer, " 413 ")
	require.Contains(t, answer, "body_too_large")
	answer = g.raw("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 20001\r\n\r\n")
	require.True(t, strings.HasPrefix(answer, "HTTP/1.1 413 "), answer)
}

func TestEventStreamIsFlushedAsItComes(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	g := start(t, settings(), oneVersion(address(pod(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		w.WriteHeader(200)
		control.Flush()
		for event := range next {
			fmt.Fprintf(w, "data: %s\n\n", event)
			control.Flush()
		}
	}))))
	ended := sync.OnceFunc(func() { close(next) })
	defer ended()
	client := &http.Client{Timeout: patience}
	answer, err := client.Get(g.url)
	require.NoError(t, err, "the header comes before the first event")
	defer answer.Body.Close()
	reader := bufio.NewReader(answer.Body)
	for i := range 3 {
		next <- fmt.Sprint(i)
		line, err := reader.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("data: %d\n", i), line)
		_, _ = reader.ReadString('\n')
	}
	ended()
	_, err = io.ReadAll(reader)
	require.NoError(t, err)
}

func TestAnswerCutShortIsNotACleanEnd(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, settings(), oneVersion(record(t, answer).listener.Addr().String()))
			got, err := http.Get(g.url)
			if err == nil { // a short beginning may not have left before the end became known
				_, err = io.ReadAll(got.Body)
				got.Body.Close()
			}
			require.Error(t, err)
			require.Eventually(t, func() bool {
				lines := g.access.lines(t)
				return len(lines) == 1 && lines[0]["cutShort"] == true
			}, patience, 10*time.Millisecond)
		})
	}
}

// A pod that ends while the client's body is still to come is the pod's failure, whatever the client is doing: sending,
// or waiting for the teller.
func TestPodEndsWhileTheBodyIsComing(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(upgrading(t, "", func(net.Conn, *bufio.Reader, string) {})))
	for _, body := range []string{
		"Content-Length: 1000000\r\n\r\namount=100",
		"Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000),
		"Transfer-Encoding: chunked\r\n\r\na\r\namount=100\r\n",
	} {
		answer := g.raw("POST / HTTP/1.1\r\nHost: counter\r\n" + body)
		require.Contains(t, answer, "HTTP/1.1 502 ")
		require.Contains(t, answer, `"upstream_reset"`)
		require.Contains(t, answer, "Connection: close\r\n")
	}
}
