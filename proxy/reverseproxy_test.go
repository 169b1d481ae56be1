package proxy

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// reverseProxyCases are what the tests of net/http/httputil's ReverseProxy are about and no other table has, thought anew
// for a proxy whose bytes count.
func reverseProxyCases() []rawCase {
	const status = "HTTP/1.1 200 OK|"
	cases := []rawCase{
		get("9110-10.1.4 TE in two lines, nominated", "Connection: TE|TE: foo|Te: bar, trailers|"),
		get("9110-7.6.1 nominated in two lines with an upgrade nobody names", "Connection: Upgrade, X-Token|Connection: X-Some|X-Some: 1|X-Token: 1|"),
		get("9110-7.6.1 an empty Connection beside one that nominates", "Connection: |Connection: X-Some|X-Some: 1|"),
		get("9110-7.6.1 everything at once", "Connection: keep-alive, TE|TE: trailers|Proxy-Connection: x|Upgrade: foo|Keep-Alive: 1|"),
		from("9110-7.6.1 nominated in two lines of an answer", status+"Connection: Upgrade, X-Token|Connection: X-Some|X-Some: 1|X-Token: 1|Content-Length: 2||ok", plain),
		from("9110-7.6.1 an empty Connection in an answer", status+"Connection: |Connection: X-Some|X-Some: 1|Content-Length: 2||ok", plain),
		from("9110-6.6.2 Trailers is no special name", status+"Trailers: x|Content-Length: 2||ok", status+"Trailers: x|Content-Length: 2||ok"),
		from("9110-6.5 a trailer that was not announced", status+"Transfer-Encoding: chunked||2|ok|0|X-Late: 1|X-Later: 2||",
			status+"Transfer-Encoding: chunked||2|ok|0|X-Late: 1|X-Later: 2||"),
		from("9110-6.5 announced and another", status+"Trailer: X-Late|Transfer-Encoding: chunked||2|ok|0|X-Late: 1|X-Other: 2||",
			status+"Trailer: X-Late|Transfer-Encoding: chunked||2|ok|0|X-Late: 1|X-Other: 2||"),
		from("9110-6.5 announced and none", status+"Trailer: X-Late|Transfer-Encoding: chunked||2|ok|0||", plain),
		from("9110-15.2 fields of an interim answer are not the final one's", "HTTP/1.1 103 Early Hints|Link: </a>|X-Hint: 1||"+plain,
			"HTTP/1.1 103 Early Hints|Link: </a>|X-Hint: 1||"+plain),
		from("9110-15.5.5 404 with a trailer", "HTTP/1.1 404 Not Found|Transfer-Encoding: chunked||2|no|0|X-Late: 1||",
			"HTTP/1.1 404 Not Found|Transfer-Encoding: chunked||2|no|0|X-Late: 1||"),
		invalid("9110-15.2 an interim answer that is none", "HTTP/1.1 100 Continue|X : 1||"+plain),
		invalid("9110-15.2 interim answers without end", strings.Repeat("HTTP/1.1 100 Continue||", 9)),
		{name: "9112-9.6 nothing is executed after close", send: "GET / HTTP/1.1|Host: a|Connection: close|X-Request-Id: $||GET /evil HTTP/1.1|Host: a|X-Request-Id: $||",
			pod: "GET / HTTP/1.1|Host: a|~|", want: "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok", ends: true},
	}
	for i, query := range []string{"a=1&a=2;b=3", "a=1&a=%zz&b=3", "a=%zz", strings.Repeat("a=1&", 5000) + "a=1", "=&&;", "a=%u4e2d", "?a=b?"} {
		cases = append(cases, rawCase{name: "9110-4.2.2 query as it came " + string(rune('a'+i)), send: "GET /?" + query + " HTTP/1.1|Host: a|X-Request-Id: $||",
			pod: "GET /?" + query + " HTTP/1.1|Host: a|~|"})
	}
	return cases
}

func TestReverseProxyTable(t *testing.T) {
	t.Parallel()
	runTable(t, settings(), nil, "rp", reverseProxyCases())
}

// allCases are the byte-exact ones of every table.
func allCases() []rawCase {
	var all []rawCase
	for _, cases := range [][]rawCase{requestLines(), hosts(), fieldLines(), hopByHopFields(), bodies(), answerHeads(), answerBodies(),
		reverseProxyCases()} {
		all = append(all, cases...)
	}
	return all
}

// shown says for what others hold a proxy to which of our cases or tests hold ours to it. A name that ends in a colon or
// not at all may be the beginning of several.
var shown = map[string]map[string]string{
	"ReverseProxy of net/http/httputil": {
		"a request and its answer, fields of both, cookies, repeated values": "9110-5.3 repeated",
		"hop-by-hop fields of a request":                                     "9110-7.6.1 everything at once",
		"TE in several lines":                                                "9110-10.1.4 TE in two lines",
		"fields that Connection names, in a request":                         "9110-7.6.1 nominated in two lines with",
		"fields that Connection names, in an answer":                         "9110-7.6.1 nominated in two lines of an answer",
		"an empty Connection":                                                "9110-7.6.1 an empty Connection beside",
		"an empty Connection in an answer":                                   "9110-7.6.1 an empty Connection in an answer",
		"trailers, announced and not":                                        "9110-6.5 announced and another",
		"a trailer nobody announced":                                         "9110-6.5 a trailer that was not announced",
		"a pod that hangs up":                                                "TestErrorsOfPods",
		"X-Forwarded-For is continued for whom it is believed":               "TestForwardedHeaders",
		"X-Forwarded-For is begun anew for whom it is not":                   "9110-7.6.1 removed: X-Forwarded-For",
		"the query passes":                                                   "9110-4.2.2 query as it came",
		"queries that are read in two ways: here nothing but the raw one":    "9110-4.2.2 query as it came a",
		"what comes is flushed at once":                                      "TestTricklingBodyIsFlushed",
		"the header is flushed before a body":                                "TestEventStreamIsFlushedAsItComes",
		"a client that goes away cancels":                                    "TestClientGone",
		"no body where there was none":                                       "9112-6.2 none",
		"no User-Agent where there was none":                                 "TestNothingIsInventedInRequests",
		"a User-Agent as it came":                                            "9110-10.1.5 User-Agent",
		"a body that is posted":                                              "9112-6.2 length",
		"a panic in the midst of a body":                                     "TestPanicBecomes500",
		"an answer that cannot be read":                                      "9112-4 another protocol",
		"a body cut short":                                                   "9112-8 cut in a length",
		"buffers are given back":                                             "TestIdleConnectionMemory",
		"a WebSocket":                                                        "TestWebSocketMessages",
		"a WebSocket whose client goes away":                                 "TestWebSocketCloseCodes",
		"one side of a tunnel ends":                                          "TestTunnelHalfClose",
		"an upgrade to another protocol than was asked for":                  "TestTunnelNeedsTheProtocolAskedFor",
		"a tunnel that fails":                                                "TestTunnelIdle",
		"interim answers and their fields":                                   "9110-15.2 fields of an interim answer",
		"interim answers pass":                                               "9110-15.2 103 twice",
		"a pod that is not there and a client that waits for 100":            "TestContinueIsOursAndComesAfterTheDecision",
	},
	"RFC 9112": {
		"2.2 message parsing, line ends, empty lines": "9112-2.2 bare LF after the request line",
		"2.3 version":                   "9112-2.3",
		"3 request line":                "9112-3 two spaces",
		"3.1 method":                    "9112-3.1",
		"3.2 target and Host":           "9112-3.2 target",
		"3.2.1 origin form":             "9112-3.2.1",
		"3.2.2 absolute form":           "9112-3.2.2",
		"3.2.3 authority form":          "9112-3.2.3",
		"3.2.4 asterisk form":           "9112-3.2.4",
		"3.3 reconstructing the target": "TestMatchingByHostAndPrefix",
		"4 status line":                 "9112-4",
		"5.1 field lines":               "9112-5.1 space before the colon",
		"5.2 obsolete folding, of requests and answers": "9112-5.2 folded",
		"6 body by its framing":                         "9112-6.2 body that looks like a request",
		"6.1 transfer coding":                           "9112-6.1 coding",
		"6.2 content length":                            "9112-6.2 leading zeros",
		"6.3 length of the body, in its order":          "9112-6.3 until the end of the connection",
		"6.3 more than the length":                      "9112-6.3 more than the length",
		"7.1 chunked coding":                            "9112-7.1 chunks",
		"7.1.1 chunk extensions":                        "9112-7.1.1 extension",
		"7.1.2 trailer section":                         "9112-7.1.2 trailers that may not pass",
		"7.1.3 decoding chunks":                         "9112-7.1 several chunks",
		"7.2 compression codings are not known":         "9112-6.1 gzip, chunked",
		"7.4 TE":                                        "9110-7.6.1 removed: TE",
		"8 messages cut short, of pods":                 "9112-8 cut between chunks",
		"8 messages cut short, of clients":              "TestClientBodyFails",
		"9.2 one answer for each request, in order":     "9112-9.3.2 pipelined",
		"9.3 persistence":                               "9112-9.3 HTTP/1.0 keep-alive",
		"9.3.1 requests that are sent again":            "TestResetBeforeAnswer",
		"9.3.2 pipelining":                              "9112-9.3.2 pipelined after a body",
		"9.4 how many connections":                      "TestConnectionCaps",
		"9.5 failures and time":                         "TestDeadlinesOfClients",
		"9.5 idle connections that pods close":          "TestUnsafeRequestsKeepOutOfTheWayOfClosingPods",
		"9.6 tear-down":                                 "9112-9.6 nothing is executed after close",
		"9.6 tear-down while the client still sends":    "TestRefusalIsReadAlthoughBytesWereLeft",
	},
}

func TestEveryConcernIsShown(t *testing.T) {
	t.Parallel()
	cases := allCases()
	source, err := exec.Command("sh", "-c", "cat *_test.go */*_test.go").Output()
	require.NoError(t, err)
	for who, concerns := range shown {
		for concern, name := range concerns {
			found := strings.Contains(string(source), "func "+name+"(")
			for i := range cases {
				found = found || strings.HasPrefix(cases[i].name, name)
			}
			require.True(t, found, "%s: %s: there is no case or test %q", who, concern, name)
		}
	}
}
