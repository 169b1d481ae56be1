package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A body that comes, but more slowly than limits.bodyRate, is given up after a grace; one that is fast enough is not,
// however long it takes. Both where the body is gathered before the pod is asked and where it is streamed.
func TestBodyRate(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Frontends[0].Limits.BodyRate = 1000
	whole := make(chan int64, 10)
	g := gatewayUnbound(t, s)
	g.frontends[0].rateGrace = 300 * time.Millisecond
	g.serve(oneVersion(address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil {
			whole <- n
		}
	}))))
	for name, framing := range map[string]string{
		"gathered": "Content-Length: 8000", "streamed": "Content-Length: 100000", "in chunks": "Transfer-Encoding: chunked",
	} {
		head := "POST / HTTP/1.1\r\nHost: a\r\n" + framing + "\r\n\r\n"
		piece := func(n int) string {
			if name == "in chunks" {
				return fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("x", n))
			}
			return strings.Repeat("x", n)
		}
		t.Run(name+" too slow", func(t *testing.T) {
			t.Parallel()
			c, began := g.dialRaw(), time.Now()
			_, err := io.WriteString(c, head)
			require.NoError(t, err)
			done := make(chan struct{})
			defer func() { c.Close(); <-done }()
			go func() {
				defer close(done)
				for range 500 { // 50 bytes a second
					if _, err := io.WriteString(c, piece(1)); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			r := bufio.NewReader(c)
			expectLine(t, r, "HTTP/1.1 408 Request Timeout")
			require.Contains(t, expectHead(t, r), "Connection: close")
			require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
		})
		t.Run(name+" fast enough", func(t *testing.T) {
			t.Parallel()
			c := g.dialRaw()
			_, err := io.WriteString(c, head)
			require.NoError(t, err)
			size, end := 100_000, ""
			switch name {
			case "gathered":
				size = 8000
			case "in chunks":
				end = "0\r\n\r\n"
			}
			for range 10 { // 80 kB a second at the least, for longer than the grace
				_, err := io.WriteString(c, piece(size/10))
				require.NoError(t, err)
				time.Sleep(50 * time.Millisecond)
			}
			_, err = io.WriteString(c, end)
			require.NoError(t, err)
			expectLine(t, bufio.NewReader(c), "HTTP/1.1 200 OK")
		})
	}
	t.Cleanup(func() {
		require.Len(t, whole, 3, "a body that was given up is no whole one to the pod")
	})
}
