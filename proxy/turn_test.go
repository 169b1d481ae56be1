package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echoing answers with the path and the body of the request.
func echoing(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s", r.URL.Path, body)
}

// A connection that carries requests of all kinds, in two pieces that are cut anywhere, gets all answers in their order.
func TestTurnsEndAndBeginAnywhere(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(address(pod(t, "v1", echoing))))
	const requests = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" +
		"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" +
		"GET /-/lb HTTP/1.1\r\nHost: a\r\n\r\n" +
		"\r\nPOST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" +
		"GET /4 HTTP/1.1\r\nHost: a\r\nX-Branch-Id: 1\r\nX-Branch-Id: 2\r\n\r\n" +
		"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for at := 0; at <= len(requests); at++ {
		c := g.dialRaw()
		answers := bufio.NewReader(c)
		_, err := io.WriteString(c, requests[:at])
		require.NoError(t, err)
		if at > len("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n") { // the rest comes when an answer has been given
			_, err = answers.Peek(1)
			require.NoError(t, err)
		}
		_, err = io.WriteString(c, requests[at:])
		require.NoError(t, err)
		var got []string
		for range 6 {
			answer, err := http.ReadResponse(answers, nil)
			require.NoError(t, err, "cut at %d, after %q", at, got)
			body, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			text, _, _ := strings.Cut(string(body), ",")
			got = append(got, strings.TrimSpace(text))
		}
		require.Equal(t, []string{"/1", "/2 hello", `{"status":"ok"}`, "/3 abc", `{"code":"claim_duplicated"`, "/5"}, got, "cut at %d", at)
		_, err = answers.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		c.Close()
	}
}

// Requests that fill the buffer to its last byte, or nearly, leave nothing behind that nobody looks for.
func TestTurnsWithAFullBuffer(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(address(pod(t, "v1", echoing))))
	c := g.dialRaw()
	answers := bufio.NewReader(c)
	for size := 4096 - 2; size <= 4096+2; size++ {
		first := "GET /1 HTTP/1.1\r\nHost: a\r\nX-Fill: \r\n\r\n"
		first = strings.Replace(first, "X-Fill: ", "X-Fill: "+strings.Repeat("x", size-len(first)), 1)
		_, err := io.WriteString(c, first+"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		for _, want := range []string{"/1 ", "/2 "} {
			answer, err := http.ReadResponse(answers, nil)
			require.NoError(t, err, "%d bytes", size)
			body, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			require.Equal(t, want, string(body), "%d bytes", size)
		}
	}
}

// A client that ends its side together with its request gets the answer, and its connection does not stay.
func TestEndThatComesWithTheRequest(t *testing.T) {
	t.Parallel()
	g := start(t, settings(), oneVersion(address(pod(t, "v1", echoing))))
	for range 50 {
		c := g.dialRaw()
		// The GET of a client that has closed its side may be abandoned.
		_, err := io.WriteString(c, "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		all, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(all), "\r\n\r\n/1 "), string(all))
		c.Close()
	}
	require.Eventually(t, func() bool { return g.frontends[0].open() == 0 }, patience, time.Millisecond)
}

// What nobody has looked at since the last answer is found by the sweep: here the end comes while the request is at its pod.
func TestEndThatComesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	g := start(t, settings(), oneVersion(address(pod(t, "v1", func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-answer
	}))))
	c := g.dialRaw()
	defer c.Close()
	_, err := io.WriteString(c, "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	require.NoError(t, err)
	<-asked
	require.NoError(t, c.CloseWrite())
	close(answer)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(all), "\r\n\r\nv1"), string(all))
	require.Eventually(t, func() bool { return g.frontends[0].open() == 0 }, patience, time.Millisecond)
}
