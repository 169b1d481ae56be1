package proxy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The strict parser of the tests. It is written from RFC 9112 alone and shares nothing with the code under test, so that
// both would have to be wrong in the same way. It accepts canonical messages only: what we send, not what one may accept.

// A message is one request or answer as it was on the wire.
type message struct {
	raw   string // all of it, framing included
	first string // request line or status line
	names []string
	field map[string]string // by name in lower case; several lines joined by ", "
	body  string            // decoded
}

// errShort: the message has not come to its end.
var errShort = errors.New("incomplete")

// parseStrict cuts one message off in. For an answer, request is the method that it answers; "" means that in holds
// requests.
func parseStrict(in, method string) (m message, rest string, err error) {
	head, after, found := strings.Cut(in, "\r\n\r\n")
	if !found {
		if strings.Contains(strings.ReplaceAll(in, "\r\n", ""), "\n") {
			return m, "", errors.New("a bare LF")
		}
		return m, "", errShort
	}
	lines := strings.Split(head, "\r\n")
	m.first, m.field = lines[0], make(map[string]string)
	if method == "" {
		err = checkRequestLine(m.first)
	} else {
		err = checkStatusLine(m.first)
	}
	if err != nil {
		return m, "", err
	}
	for _, line := range lines[1:] {
		if err := m.addField(line); err != nil {
			return m, "", err
		}
	}
	m.body, rest, err = m.cutBody(after, method)
	m.raw = in[:len(in)-len(rest)]
	return m, rest, err
}

func (m *message) addField(line string) error {
	name, value, found := strings.Cut(line, ": ")
	if !found && strings.HasSuffix(line, ":") {
		name, found = line[:len(line)-1], true
	}
	if !found || name == "" {
		return fmt.Errorf("field line %q", line)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return fmt.Errorf("field name %q", name)
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("field value %q", value)
		}
	}
	if value != strings.Trim(value, " \t") {
		return fmt.Errorf("white space around the value in %q", line)
	}
	key := strings.ToLower(name)
	m.names = append(m.names, key)
	if before, twice := m.field[key]; twice {
		if key == "content-length" || key == "transfer-encoding" || key == "host" {
			return fmt.Errorf("%s twice", name)
		}
		value = before + ", " + value
	}
	m.field[key] = value
	return nil
}

func checkRequestLine(line string) error {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[0] == "" || parts[2] != "HTTP/1.1" {
		return fmt.Errorf("request line %q", line)
	}
	if parts[1] != "*" && !strings.HasPrefix(parts[1], "/") {
		return fmt.Errorf("target %q", parts[1])
	}
	for i := range len(line) {
		if c := line[i]; c < ' ' || c >= 0x7f || c == '#' && i > len(parts[0]) {
			return fmt.Errorf("request line %q", line)
		}
	}
	return nil
}

func checkStatusLine(line string) error {
	if len(line) < len("HTTP/1.1 200 ") || line[:9] != "HTTP/1.1 " || line[12] != ' ' {
		return fmt.Errorf("status line %q", line)
	}
	for i := 9; i < 12; i++ {
		if line[i] < '0' || line[i] > '9' {
			return fmt.Errorf("status line %q", line)
		}
	}
	if line[9] < '1' || line[9] > '9' {
		return fmt.Errorf("status line %q", line)
	}
	return nil
}

// cutBody decodes the body by the rules of section 6.3.
func (m *message) cutBody(in, method string) (body, rest string, err error) {
	length, told := m.field["content-length"]
	coding, coded := m.field["transfer-encoding"]
	if told && coded {
		return "", "", errors.New("Content-Length and Transfer-Encoding")
	}
	if method == "" {
		if hosts := m.field["host"]; hosts == "" {
			return "", "", errors.New("no Host")
		}
	} else {
		status := m.first[9:12]
		if status[0] == '1' || status == "204" {
			if told || coded {
				return "", "", errors.New("framing of an answer that has no body")
			}
			return "", in, nil
		}
		if method == "HEAD" || status == "304" {
			return "", in, nil
		}
	}
	switch {
	case coded:
		if coding != "chunked" {
			return "", "", fmt.Errorf("coding %q", coding)
		}
		return cutChunks(in)
	case told:
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != length || n < 0 {
			return "", "", fmt.Errorf("length %q", length)
		}
		if int64(len(in)) < n {
			return "", "", errShort
		}
		return in[:n], in[n:], nil
	case method == "":
		return "", in, nil
	}
	return in, "", nil // until the end of the connection
}

func cutChunks(in string) (body, rest string, err error) {
	for {
		line, after, found := strings.Cut(in, "\r\n")
		if !found {
			return "", "", errShort
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil || strings.ToLower(line) != strconv.FormatUint(n, 16) {
			return "", "", fmt.Errorf("chunk size %q", line)
		}
		if n == 0 {
			return trailers(body, after)
		}
		if len(after) < int(n)+2 {
			return "", "", errShort
		}
		if after[n:n+2] != "\r\n" {
			return "", "", errors.New("chunk without an end")
		}
		body, in = body+after[:n], after[n+2:]
	}
}

func trailers(body, in string) (string, string, error) {
	m := message{field: make(map[string]string)}
	for {
		line, after, found := strings.Cut(in, "\r\n")
		if !found {
			return "", "", errShort
		}
		if line == "" {
			return body, after, nil
		}
		if err := m.addField(line); err != nil {
			return "", "", err
		}
		in = after
	}
}
