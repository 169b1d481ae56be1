package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"tellergate/config"
)

// noticed are settings with a grace that no test waits for, all of it notice.
func noticed(notice time.Duration) *config.Settings {
	s := settings()
	s.Shutdown.Grace, s.Shutdown.TunnelNotice = time.Minute, notice
	return s
}

// stopSoon stops the gateway and fails if that takes the whole grace.
func stopSoon(t testing.TB, g *gateway) {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); g.stop() }()
	select {
	case <-ended:
	case <-time.After(3 * patience):
		t.Fatal("the shutdown waits for tunnels that have ended")
	}
}

// Both ends are told by a closing frame that an independent library takes for one, and the shutdown ends as soon as they
// have answered.
func TestShutdownTellsWebSockets(t *testing.T) {
	t.Parallel()
	atPod := make(chan error, 1)
	echo := address(pod(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, message, err := c.Read(context.Background())
			if err != nil {
				atPod <- err
				return
			}
			_ = c.Write(context.Background(), kind, message)
		}
	}))
	g := start(t, noticed(time.Hour), oneVersion(echo))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, g.url+"/", nil)
	require.NoError(t, err)
	defer c.CloseNow()
	require.NoError(t, c.Write(ctx, websocket.MessageText, []byte("hello")))
	_, _, err = c.Read(ctx)
	require.NoError(t, err)
	atClient := make(chan error, 1)
	go func() {
		_, _, err := c.Read(ctx)
		atClient <- err
	}()
	stopSoon(t, g)
	for _, err := range []error{<-atClient, <-atPod} {
		var closed websocket.CloseError
		require.ErrorAs(t, err, &closed)
		require.Equal(t, websocket.CloseError{Code: websocket.StatusGoingAway, Reason: goingAwayReason}, closed)
	}
	lines := g.access.lines(t)
	require.Len(t, lines, 1)
	require.Equal(t, true, lines[0]["cutShort"], "it was ended from here")
}

var clientClose = []byte{0x88, 0x80 | 2, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2} // 1000, masked

// unmask returns the payload of the one masked frame that b is.
func unmask(t testing.TB, b []byte) []byte {
	t.Helper()
	require.GreaterOrEqual(t, len(b), 6)
	require.Equal(t, byte(0x80), b[1]&0x80, "frames to the pod are masked")
	payload := bytes.Clone(b[6:])
	require.Len(t, payload, int(b[1]&0x7f))
	for i := range payload {
		payload[i] ^= b[2+i%4]
	}
	return payload
}

var toldClient = string(appendClose(nil, false))

// A closing frame is put between two frames, never into one, and nothing follows it.
func TestNoticeWaitsForTheEndOfAFrame(t *testing.T) {
	t.Parallel()
	atPod := make(chan []byte, 1)
	g := start(t, noticed(time.Hour), oneVersion(upgrading(t, switching+"\x82\x0a0123", func(c net.Conn, r *bufio.Reader, _ string) {
		told, _ := io.ReadAll(r) // the way to the pod is between two frames: it is told at once
		atPod <- told
		io.WriteString(c, "456789\x82\x02no")
	})))
	c := g.dialRaw()
	_, err := io.WriteString(c, handshake)
	require.NoError(t, err)
	r := bufio.NewReader(c)
	_, err = http.ReadResponse(r, nil)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() { defer close(ended); stopSoon(t, g) }()
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "\x82\x0a0123456789"+toldClient, string(all))
	told := <-atPod
	require.Equal(t, byte(0x88), told[0])
	require.Equal(t, uint16(goingAway), binary.BigEndian.Uint16(unmask(t, told)))
	_, err = c.Write(clientClose)
	require.NoError(t, err)
	<-ended
}

// A side that has closed already is not told twice.
func TestNoticeFollowsNoClosingFrame(t *testing.T) {
	t.Parallel()
	atPod := make(chan []byte, 1)
	g := start(t, noticed(time.Hour), oneVersion(upgrading(t, switching, func(c net.Conn, r *bufio.Reader, _ string) {
		told, _ := io.ReadAll(r)
		atPod <- told
	})))
	c := g.dialRaw()
	_, err := io.WriteString(c, handshake+string(clientClose))
	require.NoError(t, err)
	r := bufio.NewReader(c)
	_, err = http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return g.metric("tellergate_frontend_tunnels", "counter") == 1 }, patience, time.Millisecond)
	stopSoon(t, g)
	require.Equal(t, clientClose, <-atPod)
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, toldClient, string(all))
}

// Another protocol has no frames that could be known: its ends see the end of the stream.
func TestNoticeEndsStreamsOfOtherProtocols(t *testing.T) {
	t.Parallel()
	for name, noise := range map[string]string{"another protocol": "hello", "no frames": "\xff\xff\xff"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, request := switching, handshake
			if name == "another protocol" {
				answer = strings.Replace(switching, "WebSocket", "branch-link", 1)
				request = strings.Replace(handshake, "websocket", "branch-link", 1)
			}
			atPod := make(chan []byte, 1)
			g := start(t, noticed(time.Hour), oneVersion(upgrading(t, answer+noise, func(c net.Conn, r *bufio.Reader, _ string) {
				told, _ := io.ReadAll(r)
				atPod <- told
			})))
			c := g.dialRaw()
			_, err := io.WriteString(c, request+noise)
			require.NoError(t, err)
			r := bufio.NewReader(c)
			_, err = http.ReadResponse(r, nil)
			require.NoError(t, err)
			_, err = r.Peek(len(noise))
			require.NoError(t, err)
			go func() {
				io.Copy(io.Discard, r)
				c.Close()
			}()
			stopSoon(t, g)
			require.Equal(t, noise, string(<-atPod))
		})
	}
}

// Who does not answer a closing frame is cut when the grace is over.
func TestNoticeIsNotWaitedForEndlessly(t *testing.T) {
	t.Parallel()
	s := noticed(time.Hour)
	s.Shutdown.Grace = 300 * time.Millisecond
	released := make(chan struct{})
	g := start(t, s, oneVersion(upgrading(t, switching, func(net.Conn, *bufio.Reader, string) { <-released })))
	c := g.dialRaw()
	_, err := io.WriteString(c, handshake)
	require.NoError(t, err)
	r := bufio.NewReader(c)
	_, err = http.ReadResponse(r, nil)
	require.NoError(t, err)
	stopSoon(t, g)
	close(released)
	all, _ := io.ReadAll(r)
	require.Equal(t, toldClient, string(all))
}

// wsFrame builds a frame, of the shortest form of its length.
func wsFrame(first byte, masked bool, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, payload...)
}

// The end of every frame is found, however the bytes come in pieces.
func TestFramesAreFollowed(t *testing.T) {
	t.Parallel()
	for _, masked := range []bool{false, true} {
		var stream []byte
		ends := map[int]bool{0: true}
		for _, size := range []int{0, 1, 125, 126, 127, 300, 65535, 65536, 70_000, 0} {
			for _, first := range []byte{0x81, 0x02, 0x00, 0x80, 0xc2} {
				stream = append(stream, wsFrame(first, masked, bytes.Repeat([]byte{0x88}, size))...)
				ends[len(stream)] = true
			}
			stream = append(stream, wsFrame(0x89, masked, []byte("ping"))...)
			ends[len(stream)] = true
		}
		closing := len(stream)
		stream = append(stream, appendClose(nil, masked)...)
		for _, piece := range []int{1, 2, 3, 7, 13, 4096, len(stream)} {
			f := frames{masked: masked}
			for at := 0; at < closing; {
				n := f.next(stream[at:min(at+piece, closing)])
				at += n
				if n == 0 || ends[at] != f.between() || f.lost || f.closed {
					t.Fatalf("at %d in pieces of %d: %+v", at, piece, f)
				}
			}
			f.follow(stream[closing:])
			require.True(t, f.closed && f.between())
		}
	}
}

func TestFramesLoseTheirWay(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]string{
		"reserved opcode": "\x83\x00", "reserved control opcode": "\x8b\x00", "control frame in fragments": "\x09\x00",
		"long control frame": "\x89\x7e\x00\x7e", "masked where it must not be": "\x81\x80", "length of 64 bits": "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
		"HTTP": "HTTP/1.1 200 OK\r\n\r\n",
	} {
		var f frames
		f.follow([]byte(b))
		require.True(t, f.lost, name)
		f.follow(wsFrame(0x81, false, nil))
		require.True(t, f.lost && !f.between(), "%s: for good", name)
	}
	f := frames{masked: true}
	f.follow([]byte("\x81\x01a"))
	require.True(t, f.lost, "a client's frame without a mask")
}

// FuzzFrames: bytes are taken the same in one piece and in any two.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x02hi\x88\x02\x03\xe8"), uint(3), false)
	f.Add(wsFrame(0x82, true, bytes.Repeat([]byte("x"), 200)), uint(9), true)
	f.Fuzz(func(t *testing.T, b []byte, cut uint, masked bool) {
		whole, halves := frames{masked: masked}, frames{masked: masked}
		whole.follow(b)
		cut %= uint(len(b)) + 1
		halves.follow(b[:cut])
		halves.follow(b[cut:])
		require.Equal(t, whole, halves)
		if whole.between() {
			whole.closed = false
			whole.follow(appendClose(nil, masked))
			require.True(t, whole.closed && whole.between(), "a closing frame fits")
		}
	})
}
