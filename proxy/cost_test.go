package proxy

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkRequest(b *testing.B) {
	g := start(b, settings(), twoVersions(record1(b), record1(b)))
	b.ReportAllocs()
	exchange(b, g.url, b.Loop)
}

// BenchmarkRequests is BenchmarkRequest for 32 clients at once for each processor: what they share shows in -cpu 1,2 with
// -mutexprofile and -blockprofile.
func BenchmarkRequests(b *testing.B) {
	g := start(b, settings(), twoVersions(record1(b), record1(b)))
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) { exchange(b, g.url, pb.Next) })
}

// exchange sends requests on one connection as long as more wants.
func exchange(b *testing.B, url string, more func() bool) {
	c := dial(b, url)
	defer c.Close()
	request := fmt.Appendf(nil, "GET /teller/balance?account=1 HTTP/1.1\r\nHost: counter.bank.example\r\nAccept: */*\r\n"+
		"X-Branch-Id: 0002\r\nX-Teller-Id: 7\r\nX-Request-Id: abc\r\nCookie: JSESSIONID=%s\r\n\r\n", c.LocalAddr())
	reader := bufio.NewReader(c)
	for more() {
		if _, err := c.Write(request); err != nil {
			b.Error(err)
			return
		}
		answer := 0
		for {
			line, err := reader.ReadSlice('\n')
			if err != nil {
				b.Error(err)
				return
			}
			if answer++; len(line) == 2 {
				break
			}
		}
		if _, err := reader.Discard(2); err != nil {
			b.Error(err)
			return
		}
	}
}

// record1 is a pod that answers every request on kept connections without allocating, so that a benchmark measures the
// gateway.
func record1(b testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				buffer := make([]byte, 8<<10)
				for {
					n, err := c.Read(buffer)
					if err != nil {
						return
					}
					if n >= 4 && string(buffer[n-4:n]) == "\r\n\r\n" {
						if _, err := c.Write(quickAnswer); err != nil {
							return
						}
					}
				}
			})
		}
	})
	b.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

var quickAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
