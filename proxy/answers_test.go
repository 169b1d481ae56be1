package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// from is a GET of which the pod's answer is the case.
func from(name, answer, want string) rawCase {
	return rawCase{name: name, send: "GET / HTTP/1.1|Host: a|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|", answer: answer, want: want}
}

// invalid is an answer that must not be passed on. The client's connection is none the worse for it.
func invalid(name, answer string) rawCase { return from(name, answer, "=upstream_invalid") }

func with(method string, c rawCase) rawCase {
	c.send, c.pod = strings.Replace(c.send, "GET", method, 1), strings.Replace(c.pod, "GET", method, 1)
	return c
}

func answerHeads() []rawCase {
	const status = "HTTP/1.1 200 OK|"
	passes := func(name, lines string) rawCase {
		return from(name, status+lines+"Content-Length: 2||ok", status+lines+"Content-Length: 2||ok")
	}
	removed := func(name, lines string) rawCase {
		return from(name, status+lines+"Content-Length: 2||ok", plain)
	}
	cases := []rawCase{
		passes("9112-4 plain", ""),
		passes("9110-5.3 order, spelling, repetition", "x-B: 1|X-A: 2|x-b: 3|"),
		passes("6265 several Set-Cookie", "Set-Cookie: a=1; Path=/|Set-Cookie: b=2, c|"),
		passes("9110-5.5 obs-text", "X: 总\xe4|"),
		passes("9110-5.5 empty value", "X: |"),
		passes("9110-6.6.1 Date as the pod says", "Date: Tue, 24 Nov 2026 02:00:00 GMT|"),
		passes("9110-10.2.4 Server as the pod says", "Server: tomcat|"),
		passes("9110-15.4 Location", "Location: http://elsewhere/|"),
		passes("9110-8.3 odd Content-Type", "Content-Type: ???|"),
		passes("9110-7.6.3 Via", "Via: 1.1 pod|"),
		removed("9110-7.6.1 keep-alive", "Connection: keep-alive|Keep-Alive: timeout=5|"),
		removed("9110-7.6.1 nominated", "Connection: X-Secret|X-Secret: 1|"),
		removed("9110-7.6.1 nominated twice", "Connection: X-A, x-b|X-A: 1|X-B: 2|"),
		removed("9110-7.6.1 nominated after", "X-A: 1|Connection: X-A|"),
		removed("9110-7.6.1 Proxy-Connection", "Proxy-Connection: close|"),
		removed("9110-7.6.1 Proxy-Authenticate", "Proxy-Authenticate: Basic|"),
		removed("9110-7.6.1 TE", "TE: gzip|"),
		removed("9110-7.8 Upgrade offered", "Connection: Upgrade|Upgrade: h2c|"),
		removed("9110-6.6.2 Trailer without chunks", "Trailer: X-Sum|"),
		removed("9112-5 white space around a length", ""),
		{name: "9110-7.6.1 cannot be nominated", send: "GET / HTTP/1.1|Host: a|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|",
			answer: status + "Connection: Content-Length, Set-Cookie, Content-Type|Set-Cookie: a=b|Content-Type: x|Content-Length: 2||ok",
			want:   status + "Set-Cookie: a=b|Content-Type: x|Content-Length: 2||ok"},
		from("9112-4 no reason", "HTTP/1.1 200|Content-Length: 2||ok", plain),
		from("9112-4 empty reason", "HTTP/1.1 200 |Content-Length: 2||ok", plain),
		from("9112-4 reason of several words", "HTTP/1.1 200 All is well!|Content-Length: 2||ok", "HTTP/1.1 200 All is well!|Content-Length: 2||ok"),
		from("9112-4 reason in another tongue", "HTTP/1.1 200 好|Content-Length: 2||ok", "HTTP/1.1 200 好|Content-Length: 2||ok"),
		from("9110-2.5 HTTP/1.0 pod", "HTTP/1.0 200 OK|Content-Length: 2||ok", plain),
		from("9110-2.5 HTTP/1.0 pod keeps the connection", "HTTP/1.0 200 OK|Connection: keep-alive|Content-Length: 2||ok", plain),
		from("9112-9.6 the pod closes", "HTTP/1.1 200 OK|Connection: close|Content-Length: 2||ok", plain),
		invalid("9112-4 another protocol", "SSH-2.0-OpenSSH_9.2||"),
		invalid("9112-4 HTTP/2.0", "HTTP/2.0 200 OK||"),
		invalid("9112-4 HTTP/1.2", "HTTP/1.2 200 OK|Content-Length: 2||ok"),
		invalid("9112-4 HTTP/0.9", "hello||"),
		invalid("9112-4 lower case", "http/1.1 200 OK||"),
		invalid("9112-4 no status", "HTTP/1.1 OK||"),
		invalid("9112-4 two digits", "HTTP/1.1 20 OK||"),
		invalid("9112-4 four digits", "HTTP/1.1 2000 OK||"),
		invalid("9112-4 below 100", "HTTP/1.1 099 OK|Content-Length: 0||"),
		invalid("9112-4 a sign", "HTTP/1.1 +20 OK||"),
		invalid("9112-4 two spaces", "HTTP/1.1  200 OK||"),
		invalid("9112-4 a tab", "HTTP/1.1\t200 OK||"),
		invalid("9112-4 control in the reason", "HTTP/1.1 200 O\x01K|Content-Length: 2||ok"),
		invalid("9112-4 bare CR in the reason", "HTTP/1.1 200 O\rK|Content-Length: 2||ok"),
		invalid("9112-2.2 bare LF", "HTTP/1.1 200 OK\nContent-Length: 2||ok"),
		invalid("9112-2.2 bare LF between fields", "HTTP/1.1 200 OK|X: 1\nContent-Length: 2||ok"),
		invalid("9112-2.2 bare CR in a value", "HTTP/1.1 200 OK|X: 1\rY: 2|Content-Length: 2||ok"),
		invalid("9112-2.2 empty line first", "|HTTP/1.1 200 OK|Content-Length: 2||ok"),
		invalid("9112-5.1 space before the colon", "HTTP/1.1 200 OK|Content-Length : 2||ok"),
		invalid("9112-5.2 folded", "HTTP/1.1 200 OK|X: 1| 2|Content-Length: 2||ok"),
		invalid("9112-5.2 folded by a tab", "HTTP/1.1 200 OK|X: 1|\t2|Content-Length: 2||ok"),
		invalid("9112-5 no colon", "HTTP/1.1 200 OK|what|Content-Length: 2||ok"),
		invalid("9112-5 no name", "HTTP/1.1 200 OK|: x|Content-Length: 2||ok"),
		invalid("9110-5.4 header over 64 KiB", "HTTP/1.1 200 OK|X: "+strings.Repeat("x", 65<<10)+"|Content-Length: 2||ok"),
		passes("9110-5.4 header of 50 KiB", "X: "+strings.Repeat("x", 50<<10)+"|"),
	}
	for c := range byte(0x20) {
		if c != '\t' && c != '\r' && c != '\n' {
			cases = append(cases, invalid(fmt.Sprintf("9110-5.5 %#02x in a value", c), "HTTP/1.1 200 OK|X: 1"+string([]byte{c})+"2|Content-Length: 2||ok"))
		}
	}
	for _, c := range "\"(),/;<=>?@[\\]{} \x00\x7fü" {
		cases = append(cases, invalid(fmt.Sprintf("9110-5.1 %q in a name", c), "HTTP/1.1 200 OK|X"+string(c)+"Y: 1|Content-Length: 2||ok"))
	}
	for _, code := range []string{"200", "201", "202", "203", "206", "207", "226", "299", "300", "301", "302", "303", "307", "308", "399", "400", "401", "403",
		"404", "405", "407", "409", "410", "412", "418", "422", "429", "451", "499", "500", "501", "502", "503", "504", "505", "599", "600", "999"} {
		cases = append(cases, from("9110-15 status "+code, "HTTP/1.1 "+code+" X|Content-Length: 2||ok", "HTTP/1.1 "+code+" X|Content-Length: 2||ok"))
	}
	return cases
}

func answerBodies() []rawCase {
	const status = "HTTP/1.1 200 OK|"
	long := strings.Repeat("x", 100_000)
	closes := func(c rawCase) rawCase { c.close = true; return c }
	cut := func(c rawCase) rawCase { c.close, c.cut = true, true; return c }
	cases := []rawCase{
		from("9112-6.3 empty", status+"Content-Length: 0||", status+"Content-Length: 0||"),
		from("9112-6.3 long", status+"Content-Length: 100000||"+long, status+"Content-Length: 100000||"+long),
		from("9112-6.2 leading zeros", status+"Content-Length: 002||ok", plain),
		from("9112-7.1 chunked", status+"Transfer-Encoding: chunked||2|ok|0||", plain),
		from("9112-7.1 Chunked", status+"Transfer-Encoding: Chunked||2|ok|0||", plain),
		from("9112-7.1 several chunks", status+"Transfer-Encoding: chunked||1|o|01;x=\"y\"|k|0||", plain),
		from("9112-7.1 chunked and empty", status+"Transfer-Encoding: chunked||0||", status+"Content-Length: 0||"),
		from("9112-7.1.2 trailer", status+"Trailer: X-Sum|Transfer-Encoding: chunked||2|ok|0|X-Sum: 1||",
			status+"Trailer: X-Sum|Transfer-Encoding: chunked||2|ok|0|X-Sum: 1||"),
		from("9112-7.1.2 trailers that may not pass", status+"Transfer-Encoding: chunked||2|ok|0|Set-Cookie: a=b|Content-Length: 9|X-Branch-Id: 7|Connection: close|X-Ok: 1||",
			status+"Transfer-Encoding: chunked||2|ok|0|X-Ok: 1||"),
		closes(from("9112-6.3 until the end of the connection", status+"|all there is", status+"Transfer-Encoding: chunked||c|all there is|0||")),
		closes(from("9112-6.3 HTTP/1.0 until the end", "HTTP/1.0 200 OK||all there is", status+"Transfer-Encoding: chunked||c|all there is|0||")),
		from("9112-6.3 more than the length", status+"Content-Length: 2||okHTTP/1.1 200 OK|Content-Length: 4||evil", plain),
		from("9112-6.3 more after the last chunk", status+"Transfer-Encoding: chunked||2|ok|0||HTTP/1.1 200 OK|Content-Length: 4||evil", plain),
		with("HEAD", from("9110-9.3.2 HEAD", status+"Content-Length: 100||", status+"Content-Length: 100||")),
		with("HEAD", from("9110-9.3.2 HEAD without a length", status+"|", status+"|")),
		with("HEAD", from("9110-9.3.2 HEAD chunked", status+"Transfer-Encoding: chunked||", status+"|")),
		with("HEAD", from("9110-9.3.2 HEAD with a body", status+"Content-Length: 2||ok", status+"Content-Length: 2||")),
		with("HEAD", from("9110-9.3.2 HEAD of 404", "HTTP/1.1 404 Not Found|Content-Length: 9||", "HTTP/1.1 404 Not Found|Content-Length: 9||")),
		from("9110-15.3.5 204", "HTTP/1.1 204 No Content||", "HTTP/1.1 204 No Content||"),
		from("9110-15.3.5 204 with a length", "HTTP/1.1 204 No Content|Content-Length: 0||", "HTTP/1.1 204 No Content||"),
		from("9110-15.3.5 204 with a body", "HTTP/1.1 204 No Content|Content-Length: 2||ok", "HTTP/1.1 204 No Content||"),
		from("9110-15.3.5 204 chunked", "HTTP/1.1 204 No Content|Transfer-Encoding: chunked||0||", "HTTP/1.1 204 No Content||"),
		from("9110-15.4.5 304", "HTTP/1.1 304 Not Modified|ETag: x||", "HTTP/1.1 304 Not Modified|ETag: x||"),
		from("9110-15.4.5 304 with a length", "HTTP/1.1 304 Not Modified|Content-Length: 77||", "HTTP/1.1 304 Not Modified|Content-Length: 77||"),
		from("9110-15.4.5 304 with a body", "HTTP/1.1 304 Not Modified|Content-Length: 2||ok", "HTTP/1.1 304 Not Modified|Content-Length: 2||"),
		from("9110-15.2.1 100 unasked", "HTTP/1.1 100 Continue||"+plain, plain),
		from("9110-15.2 103", "HTTP/1.1 103 Early Hints|Link: </a>||"+plain, "HTTP/1.1 103 Early Hints|Link: </a>||"+plain),
		from("9110-15.2 103 twice", "HTTP/1.1 103 Early Hints|Link: </a>||HTTP/1.1 103 Early Hints|Link: </b>||"+plain,
			"HTTP/1.1 103 Early Hints|Link: </a>||HTTP/1.1 103 Early Hints|Link: </b>||"+plain),
		from("9110-15.2 102 and 103", "HTTP/1.1 102 Processing||HTTP/1.1 103 Early Hints||"+plain, "HTTP/1.1 102 Processing||HTTP/1.1 103 Early Hints||"+plain),
		from("9110-15.2 interim with hop-by-hop fields", "HTTP/1.1 103 Early Hints|Connection: X-A|X-A: 1|Content-Length: 5|X-B: 1||"+plain,
			"HTTP/1.1 103 Early Hints|X-B: 1||"+plain),
		from("9110-15.2.2 101 unasked", "HTTP/1.1 101 Switching Protocols|Upgrade: x|Connection: Upgrade||", "=upstream_invalid"),
		{name: "9110-15.2 103 never to HTTP/1.0", send: "GET / HTTP/1.0|Host: a|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|",
			answer: "HTTP/1.1 103 Early Hints||" + plain, want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
		{name: "9112-7.1 chunked and long to HTTP/1.0", send: "GET / HTTP/1.0|Host: a|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|",
			answer: status + "Transfer-Encoding: chunked||186a0|" + long + "|0|X-Sum: 1||", want: status + "Connection: close||" + long, ends: true},
		{name: "9112-7.1 chunked and short to HTTP/1.0", send: "GET / HTTP/1.0|Host: a|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|",
			answer: status + "Transfer-Encoding: chunked||2|ok|0||", want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
		cut(from("9112-8 cut in a length", status+"Content-Length: 100||short", status+"Content-Length: 100||short")),
		cut(from("9112-8 cut in a chunk", status+"Transfer-Encoding: chunked||64|short", status+"Transfer-Encoding: chunked||5|short|")),
		cut(from("9112-8 cut between chunks", status+"Transfer-Encoding: chunked||5|short|", status+"Transfer-Encoding: chunked||5|short|")),
		cut(from("9112-8 cut before the trailers' end", status+"Transfer-Encoding: chunked||5|short|0|X: 1|", status+"Transfer-Encoding: chunked||5|short|")),
		closes(from("9112-8 cut in the header", status+"Content-Le", "=upstream_reset")),
		closes(from("9112-8 cut after the header's first line", status, "=upstream_reset")),
	}
	for _, length := range []string{"2|Content-Length: 2", "2|Content-Length: 3", "2, 2", "+2", "-2", "0x2", "", "2 2", "99999999999999999999"} {
		cases = append(cases, invalid("9112-6.3 length "+length, status+"Content-Length: "+length+"||ok"))
	}
	for _, coding := range []string{"identity", "gzip, chunked", "chunked, chunked", "chunked|Transfer-Encoding: chunked", "xchunked", "", "gzip",
		"chunked|Content-Length: 2"} {
		cases = append(cases, invalid("9112-6.1 coding "+coding, status+"Transfer-Encoding: "+coding+"||2|ok|0||"))
	}
	cases = append(cases,
		invalid("9112-6.1 length and chunked", status+"Content-Length: 2|Transfer-Encoding: chunked||2|ok|0||"),
		invalid("9112-6.1 HTTP/1.0 chunked", "HTTP/1.0 200 OK|Transfer-Encoding: chunked||2|ok|0||"))
	for _, chunks := range []string{"|", "-2|ok|0||", "0x2|ok|0||", " 2|ok|0||", "2\nok|0||", "2 |ok|0||", "2;a\x01|ok|0||", "fffffffffffffffff|ok|0||", "g|ok|0||"} {
		cases = append(cases, cut(from("9112-7.1 chunks "+chunks, status+"Transfer-Encoding: chunked||"+chunks, status+"Transfer-Encoding: chunked||")))
	}
	for _, chunks := range []string{"2|okay|0||", "2|ok\n0||", "2|ok0||", "2|ok|-1||", "2|ok|0|X : 1||", "2|ok|0|what||"} {
		cases = append(cases, cut(from("9112-7.1 later chunks "+chunks, status+"Transfer-Encoding: chunked||"+chunks, status+"Transfer-Encoding: chunked||2|ok|")))
	}
	return cases
}

func TestAnswerTable(t *testing.T) {
	t.Parallel()
	for name, cases := range map[string][]rawCase{"head": answerHeads(), "body": answerBodies()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runTable(t, settings(), nil, "a"+name, cases)
		})
	}
}
