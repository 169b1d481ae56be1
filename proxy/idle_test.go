package proxy

import (
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a terminal costs between two requests: its socket, a goroutine and no buffer. The figure holds the test's own end
// of the connection too.
func TestIdleConnectionMemory(t *testing.T) {
	const connections = 1000
	s := settings()
	s.Frontends[0].Limits.Connections = 2 * connections
	g := start(t, s, oneVersion(record1(t)))
	var clients [connections]net.Conn
	inUse := func() uint64 {
		debug.FreeOSMemory()
		debug.FreeOSMemory() // what pools hold falls at the second collection, and stacks shrink
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := inUse()
	answer := make([]byte, 1024)
	for i := range clients {
		c := dial(t, g.url)
		defer c.Close()
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nCookie: JSESSIONID=x\r\n\r\n")
		require.NoError(t, err)
		n, err := c.Read(answer)
		require.NoError(t, err)
		require.Contains(t, string(answer[:n]), "200 OK")
		clients[i] = c
	}
	each := int64(inUse()-before) / connections
	t.Logf("%d bytes for each idle connection, both ends", each)
	most := int64(8 << 10)
	if *overTLS {
		most = 28 << 10 // most of it in crypto/tls, at both ends
	}
	if !raceDetector { // it doubles everything
		require.Less(t, each, most)
	}
}
