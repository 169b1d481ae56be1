package upstream

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/discovery"
)

func manyEndpoints(n int) *discovery.PodSet {
	var set []discovery.Endpoint
	for i := range n {
		set = append(set, endpointAt(fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), "u", discovery.Active))
	}
	return discovery.NewPodSet(discovery.NewEndpointSet(set))
}

func TestChoiceAllocatesNothing(t *testing.T) {
	g := NewPool(testOptions()).Group(manyEndpoints(100))
	g.Usable()
	x := &Exchange{Prefer: netip.MustParseAddrPort("10.0.0.7:80"), PreferUID: "u"}
	now := time.Now().UnixNano()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		c := choice{view: g.current()}
		if c.preferred(x, now) < 0 || c.next(g.random, now) < 0 || !g.Usable() {
			panic("no endpoint")
		}
	}))
}

// repeat answers every request with the same bytes and allocates nothing.
func repeat(answer string) func(*pod, net.Conn, *bufio.Reader) {
	out := []byte(answer)
	return func(p *pod, c net.Conn, r *bufio.Reader) {
		for {
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					break
				}
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

const typical = "HTTP/1.1 200 OK\r\nServer: counter\r\nDate: Tue, 24 Nov 2026 02:00:00 GMT\r\n" +
	"Content-Type: application/json\r\nX-Serial: 20261124000017\r\n"

func smallExchange() *Exchange {
	x := newExchange("GET", "/teller/balance?account=1")
	withLine(x, "X-Branch-Id: 0001")
	withLine(x, "X-Teller-Id: 000017")
	withLine(x, "Accept: application/json")
	return x
}

func TestSmallExchangeAllocatesNothing(t *testing.T) {
	most := 0.0
	if raceDetector {
		most = 4 // sync.Pool drops at random
	}
	body := strings.Repeat("x", 200)
	for name, answer := range map[string]string{
		"fixed length": typical + "Content-Length: 200\r\n\r\n" + body,
		"chunked":      typical + coding + "\r\n64\r\n" + body[:100] + "\r\n64\r\n" + body[100:] + "\r\n0\r\n\r\n",
		"no body":      "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := startPod(t, repeat(answer))
			g := testPool(t, testOptions()).Group(podSet(p.addr))
			x := smallExchange()
			run := func() {
				if err := g.Do(x); err != nil {
					panic(err)
				}
				if _, ok := x.Whole(); !ok {
					panic("the body has not come at once")
				}
				x.Close()
			}
			run()
			require.LessOrEqual(t, testing.AllocsPerRun(500, run), most)
		})
	}
}

func BenchmarkChoice(b *testing.B) {
	for _, n := range []int{1, 2, 10, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			g := NewPool(testOptions()).Group(manyEndpoints(n))
			now := time.Now().UnixNano()
			b.ReportAllocs()
			for b.Loop() {
				c := choice{view: g.current()}
				c.next(g.random, now)
			}
		})
	}
}

func BenchmarkDo(b *testing.B) {
	for _, bench := range []struct{ name, answer string }{
		{"fixed-200B", typical + "Content-Length: 200\r\n\r\n" + strings.Repeat("x", 200)},
		{"chunked-200B", typical + coding + "\r\nc8\r\n" + strings.Repeat("x", 200) + "\r\n0\r\n\r\n"},
		{"fixed-64KiB", typical + "Content-Length: 65536\r\n\r\n" + strings.Repeat("x", 65536)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p := startPod(b, repeat(bench.answer))
			g := testPool(b, testOptions()).Group(podSet(p.addr))
			x := smallExchange()
			buffer := make([]byte, 32<<10)
			b.ReportAllocs()
			for b.Loop() {
				if err := g.Do(x); err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := x.Read(buffer); err != nil {
						break
					}
				}
				x.Close()
			}
		})
	}
}
