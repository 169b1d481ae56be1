package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/config"
)

// Cases are written with | for CRLF and $ for the case's own request id; ~ stands for the four lines that tellergate adds
// to a request for host a from 127.0.0.1.
const added = "X-Forwarded-For: 127.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: a|X-Request-Id: $|"

// wire turns the notation into bytes.
func wire(s, id string) string {
	return strings.NewReplacer("|", "\r\n", "$", id).Replace(strings.ReplaceAll(s, "~", added))
}

// A rawCase is one exchange, byte by byte. After a request that is answered and kept alive another one follows on the
// same connection, at once: where it begins is where both sides must agree that the first one ended.
type rawCase struct {
	name string // the section of RFC 9110 or RFC 9112 first
	send string // what the client sends
	pod  string // what the pod gets, exactly; "" nothing
	// want is what the client gets, exactly; "" the plain answer, "=code" a refusal.
	want   string
	answer string // of the pod; "" the plain one
	close  bool   // the pod closes after its answer
	ends   bool   // the gateway ends the connection after this
	cut    bool   // the answer ends early: no more than want, and the end
}

const (
	plain     = "HTTP/1.1 200 OK|Content-Length: 2||ok"
	last      = "GET /last HTTP/1.1|Host: a|Connection: close|X-Request-Id: $-last||"
	lastAtPod = "GET /last HTTP/1.1|Host: a|X-Forwarded-For: 127.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: a|" +
		"X-Request-Id: $-last||"
	lastAnswer = "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok"
)

// A scriptedPod records what it is sent by request id and answers as the case says. What it cannot read strictly is a
// failure of the gateway.
type scriptedPod struct {
	listener net.Listener
	mu       sync.Mutex
	answers  map[string]*rawCase // by request id
	got      map[string][]string
	faults   []string
}

func startScripted(t testing.TB) *scriptedPod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &scriptedPod{listener: l, answers: make(map[string]*rawCase), got: make(map[string][]string)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return p
}

func (p *scriptedPod) serve(c net.Conn) {
	defer c.Close()
	in := ""
	buffer := make([]byte, 64<<10)
	for {
		m, rest, err := parseStrict(in, "")
		if errors.Is(err, errShort) {
			n, err := c.Read(buffer)
			if err != nil {
				return
			}
			in += string(buffer[:n])
			continue
		}
		p.mu.Lock()
		if err != nil {
			p.faults = append(p.faults, fmt.Sprintf("%v in %q", err, in))
			p.mu.Unlock()
			return
		}
		id := m.field["x-request-id"]
		p.got[id] = append(p.got[id], m.raw)
		script := p.answers[id]
		p.mu.Unlock()
		in = rest
		answer := plain
		if script != nil && script.answer != "" {
			answer = script.answer
		}
		if _, err := io.WriteString(c, wire(answer, id)); err != nil || script != nil && script.close {
			return
		}
	}
}

func (p *scriptedPod) received(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.got[id], "")
}

var freshID = regexp.MustCompile(`"requestId":"[0-9a-f]{32}"`)

// refusalBytes is the exact answer to a refused request, with the id masked where it is ours.
func refusalBytes(t testing.TB, code, id string, closing bool) string {
	t.Helper()
	for _, no := range refusals {
		if no.code != strings.TrimPrefix(code, "host:") || strings.HasPrefix(code, "host:") != (no == &malformedHost) {
			continue
		}
		text := fmt.Sprintf(`{"code":%q,"message":%q,"requestId":%q}`+"\n", no.code, no.message, id)
		extra, connection := "", ""
		if no.status == 405 {
			extra = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
		}
		if no.status == 503 {
			extra = "Retry-After: 1\r\n"
		}
		if no.closing || closing {
			connection = "Connection: close\r\n"
		}
		return string(appendStatus(nil, no.status, nil)) + extra +
			"Content-Type: application/json; charset=utf-8\r\nContent-Length: " + fmt.Sprint(len(text)) + "\r\n" + connection +
			"\r\n" + text
	}
	t.Fatalf("no refusal %q", code)
	return ""
}

func (c *rawCase) run(t *testing.T, g *gateway, p *scriptedPod, id string) {
	t.Helper()
	p.mu.Lock()
	p.answers[id] = c
	p.mu.Unlock()
	want := wire(c.want, id)
	ends := c.ends || c.cut
	if code, refused := strings.CutPrefix(c.want, "="); refused {
		asked := id
		if !strings.Contains(c.send, "$") {
			asked = strings.Repeat("0", 32)
		}
		want = refusalBytes(t, code, asked, c.ends)
		for _, no := range refusals {
			if no.code == strings.TrimPrefix(code, "host:") {
				ends = ends || no.closing
			}
		}
	} else if c.want == "" {
		want = wire(plain, id)
	}
	conn := g.dialRaw()
	defer conn.Close()
	if !ends {
		want += wire(lastAnswer, id)
	}
	_, err := io.WriteString(conn, wire(c.send, id)+wire(last, id))
	require.NoError(t, err)
	all, told, err := readAll(conn)
	if !c.cut {
		require.NoError(t, err)
		require.True(t, told, "no close_notify")
	} else if _, secure := conn.(*secureConn); secure {
		require.False(t, told, "a close_notify after an answer that was cut short")
	}
	got := freshID.ReplaceAllString(all, `"requestId":"`+strings.Repeat("0", 32)+`"`)
	require.Equal(t, want, got, "what the client got")
	require.Equal(t, g.atPod(wire(c.pod, id)), p.received(id), "what the pod got")
	if ends {
		require.Empty(t, p.received(id+"-last"), "the connection was in doubt")
	} else {
		require.Equal(t, g.atPod(wire(lastAtPod, id)), p.received(id+"-last"))
	}
}

// runTable runs cases beside each other through one gateway and one pod.
func runTable(t *testing.T, s *config.Settings, client *tls.Config, prefix string, cases []rawCase) {
	t.Helper()
	p := startScripted(t)
	s.Frontends[0].Limits.BodyBytes = 1 << 20
	g := start(t, s, oneVersion(p.listener.Addr().String()))
	g.client = client
	names := make(map[string]bool)
	t.Run("cases", func(t *testing.T) {
		for i := range cases {
			c := &cases[i]
			require.False(t, names[c.name], "two cases named %q", c.name)
			names[c.name] = true
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, g, p, fmt.Sprintf("%s%d", prefix, i))
			})
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.faults, "what reached the pod was not canonical HTTP/1.1")
	require.Equal(t, 0.0, g.metric("tellergate_panics_total"))
	t.Logf("%d cases", len(cases))
}
