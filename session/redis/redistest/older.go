package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Older starts a server behind a proxy that makes it answer as one before Redis 7 does: SET with NX and GET together is
// a syntax error, and INFO says version, or the server's own where that is empty. It returns the proxy's address. Redis
// 6 itself cannot be installed beside 7 from Debian; everything else is the real server.
func Older(t testing.TB, version string) (address string, behind *Server) {
	t.Helper()
	behind = Single(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &older{version: version, to: behind.Address, open: make(map[net.Conn]struct{})}
	p.all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.closed = true
		for conn := range p.open {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.all.Wait()
	})
	return listener.Addr().String(), behind
}

type older struct {
	version, to string
	all         sync.WaitGroup
	mu          sync.Mutex
	open        map[net.Conn]struct{} // guarded by mu
	closed      bool                  // guarded by mu
}

// keep has conn closed at the end at the latest.
func (p *older) keep(conn net.Conn) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
	}
	p.open[conn] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, conn)
		_ = conn.Close()
	}
}

// serve passes on one command and its reply after the other; after SUBSCRIBE, everything as it comes.
func (p *older) serve(client net.Conn) {
	defer p.keep(client)()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer p.keep(server)()
	in, out := bufio.NewReader(client), bufio.NewReader(server)
	for {
		command, err := readReply(in)
		if err != nil {
			return
		}
		name := strings.ToUpper(command)
		if strings.Contains(name, "\r\nSUBSCRIBE\r\n") {
			if _, err := io.WriteString(server, command); err != nil {
				return
			}
			p.all.Go(func() {
				_, _ = io.Copy(client, out)
				_ = client.Close()
			})
			_, _ = io.Copy(server, in)
			return
		}
		reply := "-ERR syntax error\r\n"
		if !(strings.HasPrefix(name, "*7\r\n$3\r\nSET\r\n") && strings.Contains(name, "\r\nNX\r\n") && strings.Contains(name, "\r\nGET\r\n")) {
			if _, err := io.WriteString(server, command); err != nil {
				return
			}
			if reply, err = readReply(out); err != nil {
				return
			}
			reply = p.dated(reply)
		}
		if _, err := io.WriteString(client, reply); err != nil {
			return
		}
	}
}

var saysVersion = regexp.MustCompile(`redis_version:[0-9.]+`)

// dated gives INFO's reply the version.
func (p *older) dated(reply string) string {
	if p.version == "" || !strings.HasPrefix(reply, "$") || !saysVersion.MatchString(reply) {
		return reply
	}
	_, body, _ := strings.Cut(reply, "\r\n")
	body = saysVersion.ReplaceAllString(strings.TrimSuffix(body, "\r\n"), "redis_version:"+p.version)
	return fmt.Sprintf("$%s\r\n%s\r\n", strconv.Itoa(len(body)), body)
}
