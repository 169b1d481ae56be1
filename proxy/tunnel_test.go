package proxy

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// echoPod is a WebSocket pod by an independent library: it says every message back, in the same type.
func echoPod(t testing.TB, name string) string {
	return address(pod(t, name, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"teller"},
			CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(64 << 20)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			switch string(message) {
			case "who":
				message = []byte(name)
			case "go away":
				c.Close(4242, "teller window closed")
				return
			}
			if c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}))
}

func dialEcho(t testing.TB, g *gateway, lines ...string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, g.url+"/echo", &websocket.DialOptions{HTTPHeader: header(lines...),
		Subprotocols: []string{"teller"}, CompressionMode: websocket.CompressionContextTakeover})
	require.NoError(t, err)
	c.SetReadLimit(64 << 20)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

func TestWebSocketMessages(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(echoPod(t, "v1")))
	c := dialEcho(t, g)
	require.Equal(t, "teller", c.Subprotocol())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, size := range []int{0, 1, 125, 126, 127, 4095, 4096, 65535, 65536, 1 << 20, 16 << 20} {
		for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
			message := bytes.Repeat([]byte("7"), size)
			require.NoError(t, c.Write(ctx, kind, message))
			got, back, err := c.Read(ctx)
			require.NoError(t, err, size)
			require.Equal(t, kind, got)
			require.True(t, bytes.Equal(message, back), size)
		}
	}
	fragmented, err := c.Writer(ctx, websocket.MessageText)
	require.NoError(t, err)
	for range 100 {
		_, err = fragmented.Write(bytes.Repeat([]byte("x"), 10_000))
		require.NoError(t, err)
	}
	require.NoError(t, fragmented.Close())
	_, back, err := c.Read(ctx)
	require.NoError(t, err)
	require.Len(t, back, 1_000_000)
	reading := c.CloseRead(ctx)
	for range 3 {
		require.NoError(t, c.Ping(ctx))
	}
	require.NoError(t, reading.Err())
	require.Equal(t, 1.0, g.metric("tellergate_frontend_tunnels", "counter"))
}

func TestWebSocketCloseCodes(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(echoPod(t, "v1")))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := dialEcho(t, g)
	require.NoError(t, c.Write(ctx, websocket.MessageText, []byte("go away")))
	_, _, err := c.Read(ctx)
	var closed websocket.CloseError
	require.ErrorAs(t, err, &closed)
	require.Equal(t, websocket.CloseError{Code: 4242, Reason: "teller window closed"}, closed)
	c = dialEcho(t, g)
	require.NoError(t, c.Close(3001, "end of day"))
	require.Eventually(t, func() bool { return g.metric("tellergate_frontend_tunnels", "counter") == 0 }, patience, 5*time.Millisecond)
	require.Eventually(t, func() bool { return len(g.access.lines(t)) == 2 }, patience, 5*time.Millisecond)
	for _, line := range g.access.lines(t) {
		require.Equal(t, 101.0, line["status"])
		require.NotZero(t, line["bytesIn"])
		require.NotZero(t, line["bytesOut"])
	}
}

func TestWebSocketIsSticky(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), twoVersions(echoPod(t, "v1"), echoPod(t, "v2")))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.Equal(t, "v2", g.get("Cookie: JSESSIONID=a", pilotBranch))
	for range 3 {
		c := dialEcho(t, g, "Cookie: JSESSIONID=a", otherBranch)
		require.NoError(t, c.Write(ctx, websocket.MessageText, []byte("who")))
		_, who, err := c.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, "v2", string(who))
	}
	require.Equal(t, 3.0, g.metric("tellergate_frontend_tunnels", "counter"))
}

const handshake = "GET /echo HTTP/1.1\r\nHost: a\r\nX-Request-Id: r\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// upgrading is a pod that answers each connection's first request with these bytes and then does what script says.
func upgrading(t testing.TB, answer string, script func(c net.Conn, r *bufio.Reader, head string)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				r, head := bufio.NewReader(c), ""
				for !strings.HasSuffix(head, "\r\n\r\n") {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					head += line
				}
				io.WriteString(c, answer)
				script(c, r, head)
			}()
		}
	}()
	return l.Addr().String()
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n"

// dialRaw opens a connection to the gateway.
func (g *gateway) dialRaw() rawConn {
	g.t.Helper()
	c := dialWith(g.t, g.url, cmp.Or(g.client, trusting()))
	require.NoError(g.t, c.SetDeadline(time.Now().Add(patience)))
	g.t.Cleanup(func() { c.Close() })
	return c
}

// What follows the handshake is not HTTP any more: invalid frames pass untouched, and what a client sends before the
// 101 waits for it.
func TestTunnelPassesBytesUntouched(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 1)
	g := start(t, settings(), oneVersion(upgrading(t, switching+"early", func(c net.Conn, r *bufio.Reader, head string) {
		heads <- head
		io.Copy(c, r)
	})))
	c := g.dialRaw()
	noise := "\xff\x00\x8f\x7f GET / HTTP/1.1\r\n\r\n\n\n" + strings.Repeat("\x81\xfe", 50_000)
	_, err := io.WriteString(c, handshake+noise)
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+
		"early"+noise, string(all))
	require.Equal(t, g.atPod("GET /echo HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"+
		"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Request-Id: r\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), <-heads)
}

// A pod that does not switch answers like to any request, and bytes after the handshake are another request, not the
// tunnel's: tunnelling before the 101 is how requests are smuggled.
func TestNoTunnelWithout101(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 10)
	g := start(t, settings(), oneVersion(upgrading(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
		func(c net.Conn, r *bufio.Reader, head string) {
			rest, _ := io.ReadAll(r)
			seen <- string(rest)
		})))
	c := g.dialRaw()
	_, err := io.WriteString(c, handshake+"\x81\x05hello")
	require.NoError(t, err)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 400 "), "%q", all)
	g.stop()
	require.Empty(t, <-seen, "bytes of the client's went to the pod")
}

func TestTunnelNeedsTheProtocolAskedFor(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"another protocol": strings.Replace(switching, "WebSocket", "h2c", 1),
		"none":             strings.Replace(switching, "Upgrade: WebSocket\r\n", "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, settings(), oneVersion(upgrading(t, answer, func(net.Conn, *bufio.Reader, string) {})))
			c := g.dialRaw()
			_, err := io.WriteString(c, handshake)
			require.NoError(t, err)
			line, err := bufio.NewReader(c).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1 502 Bad Gateway\r\n", line)
		})
	}
}

func TestTunnelHalfClose(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(upgrading(t, switching, func(c net.Conn, r *bufio.Reader, _ string) {
		all, _ := io.ReadAll(r) // the client's end comes first
		fmt.Fprintf(c, "%d bytes", len(all))
	})))
	c := g.dialRaw()
	_, err := io.WriteString(c, handshake+"12345")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(all), "\r\n\r\n5 bytes"), "%q", all)
}

func TestTunnelIdle(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Frontends[0].Limits.TunnelIdle = 100 * time.Millisecond
	ended := make(chan struct{})
	g := start(t, s, oneVersion(upgrading(t, switching, func(c net.Conn, r *bufio.Reader, _ string) {
		io.Copy(io.Discard, r)
		close(ended)
	})))
	c := g.dialRaw()
	_, err := io.WriteString(c, handshake)
	require.NoError(t, err)
	_, _ = io.ReadAll(c)
	<-ended
	require.Eventually(t, func() bool {
		lines := g.access.lines(t)
		return len(lines) == 1 && lines[0]["cutShort"] == true
	}, patience, 5*time.Millisecond)
}

// A tunnel is in flight: shutdown waits for it as for any request, and ends it when the grace is over.
func TestShutdownEndsTunnels(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Shutdown.Grace = 200 * time.Millisecond
	g := start(t, s, oneVersion(echoPod(t, "v1")))
	c := dialEcho(t, g)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, c.Write(ctx, websocket.MessageText, []byte("who")))
	_, _, err := c.Read(ctx)
	require.NoError(t, err)
	started := time.Now()
	g.stop()
	require.GreaterOrEqual(t, time.Since(started), s.Shutdown.Grace)
	_, _, err = c.Read(ctx)
	require.Error(t, err)
	require.False(t, errors.Is(err, context.DeadlineExceeded))
}
