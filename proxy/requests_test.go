package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// get is a request of a case with these header lines, at the pod without them.
func get(name, lines string) rawCase {
	return rawCase{name: name, send: "GET / HTTP/1.1|Host: a|" + lines + "X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|"}
}

// bad is a request that must be refused as malformed and reach nobody.
func bad(name, send string) rawCase { return rawCase{name: name, send: send, want: "=bad_request"} }

func requestLines() []rawCase {
	cases := []rawCase{
		get("9112-2.2 plain", ""),
		{name: "9112-2.2 one empty line before", send: "|GET / HTTP/1.1|Host: a|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|"},
		bad("9112-2.2 two empty lines before", "||GET / HTTP/1.1|Host: a||"),
		bad("9112-2.2 bare LF after the request line", "GET / HTTP/1.1\nHost: a||"),
		bad("9112-2.2 bare LF after a field", "GET / HTTP/1.1|Host: a\nX: 1||"),
		bad("9112-2.2 bare LF as the empty line", "GET / HTTP/1.1|Host: a|\n"),
		bad("9112-2.2 all LF", "GET / HTTP/1.1\nHost: a\n\n"),
		bad("9112-2.2 bare CR in the request line", "GET / HTTP/1.1\rX: 1|Host: a||"),
		bad("9112-2.2 bare CR in a value", "GET / HTTP/1.1|Host: a|X: 1\rY: 2||"),
		bad("9112-2.2 CR CR LF", "GET / HTTP/1.1\r|Host: a||"),
		bad("9112-2.2 white space before the first field", "GET / HTTP/1.1| X: 1|Host: a||"),
		bad("9112-2.2 tab before the first field", "GET / HTTP/1.1|\tX: 1|Host: a||"),
		bad("9112-2.2 LF before the request", "\nGET / HTTP/1.1|Host: a||"),
		bad("9112-2.2 space before the request", " GET / HTTP/1.1|Host: a||"),
		bad("9112-2.2 TLS to a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		bad("9112-2.3 no version", "GET /|Host: a||"),
		bad("9112-2.3 HTTP/0.9", "GET /||"),
		bad("9112-2.3 lower case", "GET / http/1.1|Host: a||"),
		bad("9112-2.3 mixed case", "GET / Http/1.1|Host: a||"),
		bad("9112-2.3 two digits", "GET / HTTP/1.10|Host: a||"),
		bad("9112-2.3 leading zero", "GET / HTTP/01.1|Host: a||"),
		bad("9112-2.3 no minor", "GET / HTTP/1.|Host: a||"),
		bad("9112-2.3 no dot", "GET / HTTP/11|Host: a||"),
		bad("9112-2.3 comma", "GET / HTTP/1,1|Host: a||"),
		bad("9112-2.3 another protocol", "GET / HTTQ/1.1|Host: a||"),
		bad("9112-2.3 a sign", "GET / HTTP/+1.1|Host: a||"),
		bad("9112-3 two spaces before the target", "GET  / HTTP/1.1|Host: a||"),
		bad("9112-3 two spaces after the target", "GET /  HTTP/1.1|Host: a||"),
		bad("9112-3 tabs", "GET\t/\tHTTP/1.1|Host: a||"),
		bad("9112-3 space at the end", "GET / HTTP/1.1 |Host: a||"),
		bad("9112-3 no target", "GET HTTP/1.1|Host: a||"),
		bad("9112-3 only a method", "GET|Host: a||"),
		bad("9112-3 space in the target", "GET /a b HTTP/1.1|Host: a||"),
		bad("9112-3.2 fragment", "GET /a#b HTTP/1.1|Host: a||"),
		bad("9112-3.2 escape cut short", "GET /% HTTP/1.1|Host: a||"),
		bad("9112-3.2 escape of one digit", "GET /%2 HTTP/1.1|Host: a||"),
		bad("9112-3.2 escape of no digits", "GET /%zz HTTP/1.1|Host: a||"),
		bad("9112-3.2 escape of half a digit", "GET /%2g HTTP/1.1|Host: a||"),
		bad("9112-3.2.1 no slash", "GET a HTTP/1.1|Host: a||"),
		bad("9112-3.2.1 only a query", "GET ?a HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 another host", "GET http://b/ HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 another port", "GET http://a:81/ HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 userinfo", "GET http://u@a/ HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 password", "GET http://u:p@a/ HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 another scheme", "GET ftp://a/ HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 file", "GET file:///etc/passwd HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 no scheme", "GET ://a/ HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 one slash", "GET http:/a HTTP/1.1|Host: a||"),
		bad("9112-3.2.2 no host", "GET http:/// HTTP/1.1|Host: a||"),
		{name: "9112-3.2.3 authority form", send: "CONNECT a:443 HTTP/1.1|Host: a|X-Request-Id: $||", want: "=not_implemented"},
		bad("9112-3.2.3 authority form of GET", "GET a:443 HTTP/1.1|Host: a||"),
		bad("9112-3.2.4 asterisk of GET", "GET * HTTP/1.1|Host: a||"),
		bad("9112-3.2.4 two asterisks", "OPTIONS ** HTTP/1.1|Host: a||"),
		{name: "9110-9.3.8 TRACE", send: "TRACE / HTTP/1.1|Host: a|X-Request-Id: $||", want: "=method_not_allowed"},
		{name: "9110-9.3.8 TRACE with a body", send: "TRACE / HTTP/1.1|Host: a|X-Request-Id: $|Content-Length: 44||GET /evil HTTP/1.1|Host: a|X-Evil: 123||",
			want: "=method_not_allowed", ends: true},
		{name: "9110-9.3.8 TRACE with a chunked body", send: "TRACE / HTTP/1.1|Host: a|X-Request-Id: $|Transfer-Encoding: chunked||0||",
			want: "=method_not_allowed", ends: true},
		{name: "9112-3.2 health without Host but with a body", want: "HTTP/1.1 200 OK|Content-Type: application/json; charset=utf-8|" +
			"Content-Length: 16|Connection: close||{\"status\":\"ok\"}\n", ends: true,
			send: "POST /-/lb HTTP/1.0|Connection: keep-alive|Content-Length: 44||GET /evil HTTP/1.1|Host: a|X-Evil: 123||"},
		{name: "9112-3 preface of HTTP/2", send: "PRI * HTTP/2.0||SM||", want: "=version_not_supported"},
	}
	for _, version := range []string{"HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"} {
		cases = append(cases, rawCase{name: "9110-2.5 " + version, send: "GET / " + version + "|Host: a||",
			want: "=version_not_supported"})
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "get", "M-SEARCH", "a!#$%&'*+-.^_`1"} {
		c := rawCase{name: "9110-9.1 " + method, send: method + " / HTTP/1.1|Host: a|X-Request-Id: #||", pod: method + " / HTTP/1.1|Host: a|~|"}
		if strings.Contains(method, "$") {
			method = strings.ReplaceAll(method, "$", "")
			c.send, c.pod = method+" / HTTP/1.1|Host: a|X-Request-Id: #||", method+" / HTTP/1.1|Host: a|~|"
		}
		c.send = strings.Replace(c.send, "X-Request-Id: #", "X-Request-Id: $", 1)
		if method == "HEAD" {
			c.answer, c.want = "HTTP/1.1 200 OK|Content-Length: 2||", "HTTP/1.1 200 OK|Content-Length: 2||"
		}
		cases = append(cases, c)
	}
	for target, at := range map[string]string{
		"/": "", "/a/b": "", "//a//b": "", "/a/../b": "", "/a/./b": "", "/%2e%2e/b": "", "/a%2Fb": "", "/?": "", "/?a=b&c=%zz": "",
		"/a?b?c": "", "/;p=1": "", "/a%00b": "", "/a:b@c": "", "/!$&'()*+,=~": "", "/[a]": "", "/a\\b": "", "/\"<>^`{}": "",
		"http://a/": "/", "HTTP://A/x": "/x", "https://a/x?y": "/x?y", "http://a": "/", "http://a?y": "/?y", "http://a//x": "//x",
	} {
		if at == "" {
			at = target
		}
		target, at = strings.ReplaceAll(target, "$", ""), strings.ReplaceAll(at, "$", "")
		target, at = strings.ReplaceAll(target, "~", ""), strings.ReplaceAll(at, "~", "")
		cases = append(cases, rawCase{name: "9112-3.2 target " + strings.ReplaceAll(target, "/", ":"),
			send: "GET " + target + " HTTP/1.1|Host: a|X-Request-Id: $||", pod: "GET " + at + " HTTP/1.1|Host: a|~|"})
	}
	cases = append(cases, rawCase{name: "9112-3.2.4 asterisk of OPTIONS", send: "OPTIONS * HTTP/1.1|Host: a|X-Request-Id: $||",
		pod: "OPTIONS * HTTP/1.1|Host: a|~|"})
	for _, c := range []byte("\x00\x01\x07\x08\x0b\x0c\x1b\x1f\x7f\x80\xa0\xff") {
		cases = append(cases,
			bad(fmt.Sprintf("9112-3.2 %#02x in the target", c), "GET /"+string([]byte{c})+" HTTP/1.1|Host: a||"),
			bad(fmt.Sprintf("9112-3.1 %#02x in the method", c), "G"+string([]byte{c})+"T / HTTP/1.1|Host: a||"))
	}
	for _, c := range `"(),/:;<=>?@[\]{}` {
		cases = append(cases, bad(fmt.Sprintf("9112-3.1 %q in the method", c), "G"+string(c)+"T / HTTP/1.1|Host: a||"))
	}
	return cases
}

func hosts() []rawCase {
	var cases []rawCase
	for _, lines := range []string{
		"", "Host:|", "Host: |", "Host: a|Host: a|", "Host: a|host: b|", "Host: u@a|", "Host: u:p@a|", "Host: a b|", "Host: a/b|",
		"Host: a?b|", "Host: a#b|", "Host: a\\b|", "Host: a:b|", "Host: a:80:80|", "Host: a:-1|", "Host: a:123456|", "Host: :80|",
		"Host: [::1|", "Host: ::1|", "Host: [::1]x|", "Host: [::1]:x|", "Host: []|", "Host: [g::1]|", "Host: a\x80|", "Host: %zz|",
		"Host: <a>|", "Host: \"a\"|", "Host: http://a|",
	} {
		cases = append(cases, rawCase{name: "9110-7.2 " + strings.ReplaceAll(lines, "/", "(slash)"),
			send: "GET / HTTP/1.1|" + lines + "X-Request-Id: $||", want: "=host:bad_request"})
	}
	for _, host := range []string{"a.b", "A", "a:80", "a:", "a.", "a_b", "127.0.0.1:8080", "[::1]", "[::1]:80", "a%20b", "xn--fiqs8s", "a-b.c"} {
		cases = append(cases, rawCase{name: "9110-7.2 host " + host, send: "GET / HTTP/1.1|Host: " + host + "|X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: " + host + "|" + strings.Replace(added, "Host: a|", "Host: "+host+"|", 1) + "|"})
	}
	return cases
}

func fieldLines() []rawCase {
	keeps := func(name, line string) rawCase {
		c := get(name, line)
		c.pod = "GET / HTTP/1.1|Host: a|" + line + "~|"
		return c
	}
	cases := []rawCase{
		keeps("9112-5 order and spelling", "x-B: 1|X-A: 2|X-b: 3|"),
		keeps("9112-5 empty value", "X: |"),
		keeps("9112-5.5 obs-text", "X: 总行\xe4|"),
		keeps("9112-5 colon and quotes", "X: \"a:b\", (c)|"),
		keeps("9110-5.3 repeated", "X: 1|X: 2|X: 1|"),
		keeps("9110-5.1 unknown", "X-Something-New: 1|"),
		keeps("9110-11.6.2 Authorization", "Authorization: Basic dTpw|"),
		keeps("9110-12 negotiation", "Accept: */*|Accept-Encoding: gzip|Accept-Language: zh|"),
		keeps("9110-13 conditions", "If-None-Match: \"x\"|If-Modified-Since: Tue, 24 Nov 2026 02:00:00 GMT|"),
		keeps("9110-14.2 Range", "Range: bytes=0-1|"),
		keeps("9110-10.1.5 User-Agent", "User-Agent: terminal/1|"),
		keeps("9110-7.6.3 Via", "Via: 1.1 lb|"),
		keeps("9110-7.6.2 Max-Forwards", "Max-Forwards: 3|"),
		keeps("6265 Cookie as it came", "Cookie: a=\"b;c\"; JSESSIONID=x;;  =y|"),
		{name: "9112-5.1 white space around a value", send: "GET / HTTP/1.1|Host:\ta |X: \t 1 \t|X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: a|X: 1|~|"},
		bad("9112-5.1 space before the colon", "GET / HTTP/1.1|Host : a||"),
		bad("9112-5.1 tab before the colon", "GET / HTTP/1.1|Host: a|X\t: 1||"),
		bad("9112-5.2 folded", "GET / HTTP/1.1|Host: a|X: 1| 2||"),
		bad("9112-5.2 folded by a tab", "GET / HTTP/1.1|Host: a|X: 1|\t2||"),
		bad("9112-5.2 folded framing", "POST / HTTP/1.1|Host: a|Content-Length:| 5||hello"),
		bad("9112-5.2 folded end", "GET / HTTP/1.1|Host: a|X: 1| ||"),
		bad("9112-5 no colon", "GET / HTTP/1.1|Host: a|nonsense||"),
		bad("9112-5 no name", "GET / HTTP/1.1|Host: a|: 1||"),
		bad("9112-5 only a colon", "GET / HTTP/1.1|Host: a|:||"),
		{name: "9112-5.4 199 fields and Host", send: "GET / HTTP/1.1|Host: a|" + strings.Repeat("X: 1|", 198) + "X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: a|" + strings.Repeat("X: 1|", 198) + "~|"},
		{name: "9112-5.4 201 fields", send: "GET / HTTP/1.1|Host: a|" + strings.Repeat("X: 1|", 200) + "|", want: "=header_too_large"},
		{name: "9110-5.4 header larger than the limit", send: "GET / HTTP/1.1|Host: a|X: " + strings.Repeat("x", 40<<10) + "||",
			want: "=header_too_large"},
		{name: "9110-4.1 target larger than the limit", send: "GET /" + strings.Repeat("x", 40<<10) + " HTTP/1.1|Host: a||",
			want: "=header_too_large"},
		{name: "9110-5.4 header within the limit", send: "GET / HTTP/1.1|Host: a|X: " + strings.Repeat("x", 30<<10) + "|X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: a|X: " + strings.Repeat("x", 30<<10) + "|~|"},
	}
	for c := range byte(0x20) {
		if c == '\t' || c == '\r' || c == '\n' {
			continue
		}
		cases = append(cases, bad(fmt.Sprintf("9110-5.5 %#02x in a value", c), "GET / HTTP/1.1|Host: a|X: 1"+string([]byte{c})+"2||"))
	}
	cases = append(cases, bad("9110-5.5 0x7f in a value", "GET / HTTP/1.1|Host: a|X: 1\x7f2||"))
	for _, c := range "\"(),/;<=>?@[\\]{} \x00\x01\x0b\x1f\x7f\u0080ü" {
		cases = append(cases, bad(fmt.Sprintf("9110-5.1 %q in a name", c), "GET / HTTP/1.1|Host: a|X"+string(c)+"Y: 1||"))
	}
	for _, c := range "!#%&'*+-.^_`019az" {
		cases = append(cases, keeps(fmt.Sprintf("9110-5.1 %q may be in a name", c), "X"+string(c)+"Y: 1|"))
	}
	return cases
}

func hopByHopFields() []rawCase {
	var cases []rawCase
	for _, line := range []string{
		"Connection: keep-alive|", "Connection: X-Secret|X-Secret: 1|", "Connection: x-SECRET , Keep-Alive|X-Secret: 1|",
		"Connection: X-A|Connection: X-B|X-B: 1|X-A: 1|", "Connection: ,, X-A,|X-A: 1|", "Keep-Alive: timeout=5|",
		"Proxy-Connection: keep-alive|", "Proxy-Authorization: Basic eA==|", "Proxy-Authenticate: Basic|", "TE: trailers|",
		"TE: gzip|", "Upgrade: h2c|", "Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk|",
		"HTTP2-Settings: AAMAAABk|", "Connection: Upgrade|Upgrade: TLS/1.2|", "Connection: Upgrade|Upgrade: HTTP/2.0|",
		"Upgrade: websocket|", "Connection: Upgrade|", "Connection: Upgrade|Upgrade: a, b|", "Connection: Upgrade|Upgrade: a|Upgrade: b|",
		"Trailer: X-Sum|", "X-Forwarded-For: 1.2.3.4|", "X-Forwarded-Host: evil|", "X-Forwarded-Proto: https|", "X-Forwarded-Port: 1|",
		"X_Forwarded_For: 1.2.3.4|", "x-forwarded_for: 1.2.3.4|", "X-Real-IP: 1.2.3.4|", "X_Real_IP: 1.2.3.4|",
		"Forwarded: for=1.2.3.4|", "X-Tellergate-Version: |", "X_Tellergate_Version: |", "X-Tellergate-Pin: v9|", "X_TELLERGATE_PIN: v9|",
		"X_Branch_Id: 1|", "X-Branch_Id: 1|", "Expect: 100-continue|", "Connection: X-Forwarded-For, X-Request-Id, Host|",
	} {
		cases = append(cases, get("9110-7.6.1 removed: "+strings.ReplaceAll(line, "/", ":"), line))
	}
	for _, line := range []string{"Cookie: a=b|", "Authorization: x|", "X-Branch-Id: 1|", "X-Session-Id: 1|", "Content-Type: a|",
		"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01|", "Cache-Control: no-cache|"} {
		name, _, _ := strings.Cut(line, ":")
		c := get("9110-7.6.1 cannot be nominated: "+name, "Connection: "+name+"|"+line)
		c.pod = "GET / HTTP/1.1|Host: a|" + line + "~|"
		cases = append(cases, c)
	}
	return append(cases,
		rawCase{name: "9112-9.6 close", send: "GET / HTTP/1.1|Host: a|Connection: close|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|",
			want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
		rawCase{name: "9112-9.6 close among others", send: "GET / HTTP/1.1|Host: a|Connection: x, CLOSE|X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: a|~|", want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
		rawCase{name: "9112-9.3 HTTP/1.0", send: "GET / HTTP/1.0|Host: a|X-Request-Id: $||", pod: "GET / HTTP/1.1|Host: a|~|",
			want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
		rawCase{name: "9112-9.3 HTTP/1.0 keep-alive", send: "GET / HTTP/1.0|Host: a|Connection: keep-alive|X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: a|~|", want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: keep-alive||ok"},
		rawCase{name: "9112-9.3 HTTP/1.0 keep-alive and close", send: "GET / HTTP/1.0|Host: a|Connection: close, keep-alive|X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: a|~|", want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
		rawCase{name: "9112-3.2 HTTP/1.0 without Host", send: "GET / HTTP/1.0|X-Request-Id: $||", want: "=host:bad_request"},
		rawCase{name: "9112-9.3.2 pipelined", send: "GET /1 HTTP/1.1|Host: a|X-Request-Id: $||GET /2 HTTP/1.1|Host: a|X-Request-Id: $||",
			pod: "GET /1 HTTP/1.1|Host: a|~|GET /2 HTTP/1.1|Host: a|~|", want: plain + plain},
		rawCase{name: "9112-9.3.2 pipelined after a body", send: "POST /1 HTTP/1.1|Host: a|X-Request-Id: $|Content-Length: 5||helloGET /2 HTTP/1.1|Host: a|X-Request-Id: $||",
			pod: "POST /1 HTTP/1.1|Host: a|~Content-Length: 5||helloGET /2 HTTP/1.1|Host: a|~|", want: plain + plain},
	)
}

func bodies() []rawCase {
	post := func(name, framing, body, at string) rawCase {
		return rawCase{name: name, send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|" + framing + "|" + body,
			pod: "POST / HTTP/1.1|Host: a|~" + at}
	}
	cases := []rawCase{
		post("9112-6.2 length", "Content-Length: 5|", "hello", "Content-Length: 5||hello"),
		post("9112-6.2 zero", "Content-Length: 0|", "", "Content-Length: 0||"),
		post("9112-6.2 none", "", "", "|"),
		post("9112-6.2 leading zeros", "Content-Length: 005|", "hello", "Content-Length: 5||hello"),
		post("9112-6.2 white space around", "Content-Length: \t5 |", "hello", "Content-Length: 5||hello"),
		post("9112-6.2 name in another case", "cONTENT-lENGTH: 5|", "hello", "Content-Length: 5||hello"),
		post("9112-6.2 body that looks like a request", "Content-Length: 44|", "GET /evil HTTP/1.1|Host: a|X-Evil: 123||",
			"Content-Length: 44||GET /evil HTTP/1.1|Host: a|X-Evil: 123||"),
		post("9112-7.1 chunked", "Transfer-Encoding: chunked|", "5|hello|0||", "Content-Length: 5||hello"),
		post("9112-7.1 Chunked", "Transfer-Encoding: Chunked|", "5|hello|0||", "Content-Length: 5||hello"),
		post("9112-7.1 several chunks", "Transfer-Encoding: chunked|", "2|he|3|llo|0||", "Content-Length: 5||hello"),
		post("9112-7.1 empty", "Transfer-Encoding: chunked|", "0||", "Content-Length: 0||"),
		post("9112-7.1 size with zeros", "Transfer-Encoding: chunked|", "0005|hello|00||", "Content-Length: 5||hello"),
		post("9112-7.1 hexadecimal", "Transfer-Encoding: chunked|", "A|0123456789|0||", "Content-Length: 10||0123456789"),
		post("9112-7.1.1 extension", "Transfer-Encoding: chunked|", "5;a=b;c;d=\"e f\"|hello|0;x||", "Content-Length: 5||hello"),
		post("9112-7.1.2 trailer that may pass", "Transfer-Encoding: chunked|Trailer: X-Sum|", "5|hello|0|X-Sum: 1||", ""),
		post("9112-7.1.2 trailers that may not pass", "Transfer-Encoding: chunked|",
			"5|hello|0|Content-Length: 9|Host: b|X-Branch-Id: 7|X_Teller_Id: 7|X-Forwarded-For: 1|Connection: x|Cookie: a|Te: x|X-Tellergate-Pin: 1||",
			"Transfer-Encoding: chunked||5|hello|0||"),
		post("9110-8.6 body of GET kept", "Content-Length: 5|", "hello", "Content-Length: 5||hello"),
		{name: "9110-9.3.1 GET with a body", send: "GET / HTTP/1.1|Host: a|X-Request-Id: $|Content-Length: 5||hello",
			pod: "GET / HTTP/1.1|Host: a|~Content-Length: 5||hello"},
		{name: "9110-9.3.5 DELETE with a body", send: "DELETE / HTTP/1.1|Host: a|X-Request-Id: $|Content-Length: 5||hello",
			pod: "DELETE / HTTP/1.1|Host: a|~Content-Length: 5||hello"},
		{name: "9110-10.1.1 the body is here already", send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Expect: 100-Continue|Content-Length: 5||hello",
			pod: "POST / HTTP/1.1|Host: a|~Content-Length: 5||hello"},
		{name: "9110-10.1.1 another expectation", send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Expect: tea|Content-Length: 5||hello", want: "=expectation_failed"},
		{name: "9110-10.1.1 empty expectation", send: "GET / HTTP/1.1|Host: a|X-Request-Id: $|Expect:||", want: "=expectation_failed"},
		{name: "9110-10.1.1 more than the limit", send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Expect: 100-continue|Content-Length: 1048577||", want: "=body_too_large"},
		{name: "9110-15.5.14 length over the limit", send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Content-Length: 1048577||x", want: "=body_too_large"},
		{name: "9110-15.5.14 length far over the limit", send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Content-Length: 999999999999999999||x", want: "=body_too_large"},
		{name: "9112-6.1 HTTP/1.0 chunked", send: "POST / HTTP/1.0|Host: a|X-Request-Id: $|Transfer-Encoding: chunked||0||", want: "=bad_request"},
		{name: "9112-6.2 HTTP/1.0 length", send: "POST / HTTP/1.0|Host: a|X-Request-Id: $|Content-Length: 5||hello",
			pod: "POST / HTTP/1.1|Host: a|~Content-Length: 5||hello", want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
	}
	for i := range cases {
		if cases[i].name == "9112-7.1.2 trailer that may pass" {
			cases[i].pod = "POST / HTTP/1.1|Host: a|Trailer: X-Sum|~Transfer-Encoding: chunked||5|hello|0|X-Sum: 1||"
		}
		if cases[i].name == "9110-8.6 body of GET kept" {
			cases[i].name = "9110-8.6 body kept"
		}
	}
	for _, length := range []string{"5|Content-Length: 5", "5|Content-Length: 6", "5, 5", "5,5", "+5", "-5", "0x5", "5.0", "1e1", "5 5", "",
		"9999999999999999999", "18446744073709551621", "5;", "five", "５", "5\x0b", "\"5\"", ",5", "5,"} {
		cases = append(cases, rawCase{name: "9112-6.3 length " + length,
			send: "POST / HTTP/1.1|Host: a|Content-Length: " + length + "||hello", want: "=bad_request"})
	}
	for _, coding := range []string{"identity", "chunked, chunked", "chunked, gzip", "chunked, identity", "identity, chunked", "xchunked", "chunkedx",
		"chunked;q=1", "chunked,", "", "\"chunked\"", "chun ked", "gzip", "chunked|Transfer-Encoding: chunked", "gzip|Transfer-Encoding: chunked",
		"chunked|Transfer-Encoding: gzip", "chunked|Content-Length: 5", "\x0bchunked", "chunked\x00", "[chunked]", "c\thunked"} {
		cases = append(cases, bad("9112-6.1 coding "+coding, "POST / HTTP/1.1|Host: a|Transfer-Encoding: "+coding+"||0||"))
	}
	cases = append(cases,
		bad("9112-6.1 length before chunked", "POST / HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked||0||"),
		bad("9112-6.1 zero length and chunked", "POST / HTTP/1.1|Host: a|Content-Length: 0|Transfer-Encoding: chunked||0||"),
		rawCase{name: "9112-6.1 gzip, chunked", send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Transfer-Encoding: gzip, chunked||0||", want: "=not_implemented"},
		rawCase{name: "9112-6.1 foo, bar, chunked", send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Transfer-Encoding: foo, bar, chunked||0||", want: "=not_implemented"})
	for _, chunks := range []string{"|", "-5|hello|0||", "+5|hello|0||", "0x5|hello|0||", " 5|hello|0||", "5 |hello|0||", "5\t|hello|0||",
		"5\nhello|0||", "5|hello\n0||", "5|hello0||", "5|hell|0||", "5|helloo|0||", "g|hello|0||", "5;|hello|0||", "5 ;a|hello|0||",
		"5; a|hello|0||", "5;a= b|hello|0||", "5;a\x0b|hello|0||", "5;a=\"b|hello|0||", "5;a\rb|hello|0||", "5;a\nb|hello|0||", "5,|hello|0||",
		"fffffffffffffffff|hello|0||", "8000000000000000|hello|0||", "00000000000000005|hello|0||", "5|hello|0|X : 1||", "5|hello|0|: 1||",
		"5|hello|0|X: \x01||", "5|hello|0|nonsense||", "5|hello|0| X: 1||", "5|hello|0\n|", "5|hello|0|\n"} {
		cases = append(cases, rawCase{name: "9112-7.1 chunks " + chunks,
			send: "POST / HTTP/1.1|Host: a|X-Request-Id: $|Transfer-Encoding: chunked||" + chunks, want: "=request_body"})
	}
	return cases
}

func TestRequestTable(t *testing.T) {
	t.Parallel()
	for name, cases := range map[string][]rawCase{
		"line": requestLines(), "host": hosts(), "fields": fieldLines(), "hop": hopByHopFields(), "body": bodies(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runTable(t, settings(), nil, name, cases)
		})
	}
}
