// Command naive is what a capable person writes with fasthttp in an afternoon: a forwarder that looks a teller up in a
// map, keeps a session on a pod by a hash, sets X-Forwarded-For and logs. It shows what tellergate's care costs.
//
// It is not a proxy to use: it retries postings, knows no drain, and believes everybody.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"hash/maphash"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

func main() {
	logFile := flag.String("log", "", "access log")
	list := flag.String("list", "", "file of the tellers that are sent to version 2, one a line")
	pods := flag.String("pods", "", "addresses of the pods of version 1, a semicolon, those of version 2")
	files := flag.String("tls", "", "certificate, without the endings of its files, .pem and .key; empty: no TLS")
	flag.Parse()
	if err := run(*logFile, *list, *pods, *files); err != nil {
		log.Fatal(err)
	}
}

func run(logFile, list, pods, files string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	pilot := map[string]struct{}{}
	for teller := range strings.FieldsSeq(string(text)) {
		pilot[teller] = struct{}{}
	}
	var versions [2][]*fasthttp.HostClient
	for i, addresses := range strings.SplitN(pods, ";", len(versions)) {
		for address := range strings.SplitSeq(addresses, ",") {
			versions[i] = append(versions[i], &fasthttp.HostClient{Addr: address, MaxConns: 4096,
				NoDefaultUserAgentHeader: true, DisablePathNormalizing: true})
		}
	}
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f := &forwarder{pilot: pilot, versions: versions, seed: maphash.MakeSeed(), log: bufio.NewWriterSize(out, 64<<10)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &fasthttp.Server{Handler: f.handle, NoDefaultServerHeader: true, NoDefaultDate: true, MaxRequestBodySize: 1 << 30,
		ReadTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second}
	if files != "" {
		return server.ServeTLS(listener, files+".pem", files+".key")
	}
	return server.Serve(listener)
}

type forwarder struct {
	pilot    map[string]struct{}
	versions [2][]*fasthttp.HostClient
	seed     maphash.Seed

	mu   sync.Mutex // guards log and line
	log  *bufio.Writer
	line []byte
}

func (f *forwarder) handle(ctx *fasthttp.RequestCtx) {
	begin := time.Now()
	h := &ctx.Request.Header
	version := 0
	if _, ok := f.pilot[string(h.Peek("X-Teller-Id"))]; ok {
		version = 1
	}
	session := h.Peek("X-Session-Id")
	pods := f.versions[version]
	pod := pods[maphash.Bytes(f.seed, session)%uint64(len(pods))]
	h.Set("X-Forwarded-For", ctx.RemoteIP().String())
	if ctx.IsTLS() {
		ctx.Request.URI().SetScheme("http") // pods speak no TLS
	}
	closing := h.ConnectionClose()
	h.ResetConnectionClose()
	if err := pod.Do(&ctx.Request, &ctx.Response); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusBadGateway)
	}
	if closing {
		ctx.SetConnectionClose()
	}
	f.write(ctx, begin, version, pod.Addr, session)
}

func (f *forwarder) write(ctx *fasthttp.RequestCtx, begin time.Time, version int, pod string, session []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := begin.AppendFormat(f.line[:0], time.RFC3339Nano)
	b = append(append(b, ' '), ctx.RemoteAddr().String()...)
	b = append(append(b, ' '), ctx.Method()...)
	b = append(append(b, ' '), ctx.Path()...)
	b = append(append(b, ' '), session...)
	b = append(append(b, ' '), pod...)
	b = strconv.AppendInt(append(b, ' '), int64(version+1), 10)
	b = strconv.AppendInt(append(b, ' '), int64(ctx.Response.StatusCode()), 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(ctx.Response.Body())), 10)
	b = strconv.AppendInt(append(b, ' '), time.Since(begin).Microseconds(), 10)
	f.line = append(b, '\n')
	// A log that cannot be written is not this program's worry.
	_, _ = f.log.Write(f.line)
}
