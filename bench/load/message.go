package load

import (
	"bytes"
	"fmt"
	"strings"
)

// Marks are what every reply's body begins with, so that the generator sees who answered.
const (
	markVersion = 0 // '1' or '2'
	markPod     = 1 // 'a', 'b', …
	marks       = 2
)

// Reply builds what the pod of a version answers: size bytes in all, header included.
func Reply(version, pod byte, size int) []byte {
	head := func(length int) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\n"+
			"Date: Tue, 03 Nov 2026 08:00:00 GMT\r\nContent-Length: %d\r\n\r\n", length)
	}
	length := size - len(head(size))
	for len(head(length))+length < size {
		length++
	}
	if length < marks {
		panic(fmt.Sprintf("BUG: a reply of %d bytes has no room for its marks", size))
	}
	return append([]byte(head(length)+string(version)+string(pod)), bytes.Repeat([]byte("."), length-marks)...)
}

// A Mix is the requests that a run sends, in turn. Versions[i] is the mark of the version that Requests[i] must be
// answered by, or 0 for any. The generator writes into Requests where Stamp says so, and notes in Mix which pod each
// session had: a Mix belongs to one Loop.
type Mix struct {
	Requests [][]byte
	Versions []byte
	// Stamp is where 16 hexadecimal digits of each request are made unique before it is sent; 0 is nowhere.
	Stamp int
	// Sticky: a request must be answered by the pod that answered it before.
	Sticky bool

	pods  []byte // the pod's mark that answered each request last
	turn  int
	stamp uint64
}

// MixOptions say what the requests of a Mix are like.
type MixOptions struct {
	Count      int    // distinct requests, each of another teller and session
	Body       int    // bytes; 0 is a GET
	Anonymous  bool   // no session, no teller
	NewSession bool   // each request is a session never seen before
	Roams      bool   // a session's pod may change
	Close      bool   // each asks the proxy to close
	Any        bool   // the version is not checked
	Label      string // distinguishes sessions of different mixes
}

// Tellers is how many tellers there are; those with even numbers are on the list that sends them to version 2.
const Tellers = 200_000

// Teller is the number of the i-th teller.
func Teller(i int) string { return fmt.Sprintf("%06d", i%Tellers) }

// requestSize is the size of a request without body, in bytes.
const requestSize = 200

// NewMix builds requests of 200 bytes (and a body), from tellers spread evenly over all of them.
func NewMix(o MixOptions) *Mix {
	m := &Mix{Sticky: !o.Anonymous && !o.NewSession && !o.Roams && !o.Any, pods: make([]byte, o.Count)}
	stride := max(Tellers/o.Count, 1) | 1 // odd, so that both versions get their share
	for i := range o.Count {
		teller := i * stride % Tellers
		var b strings.Builder
		line := "GET /teller/balance HTTP/1.1\r\n"
		if o.Body > 0 {
			line = "POST /teller/posting HTTP/1.1\r\n"
		}
		b.WriteString(line + "Host: counter.bank.example\r\nX-Branch-Id: 3201\r\n")
		if !o.Anonymous {
			fmt.Fprintf(&b, "X-Teller-Id: %s\r\nX-Session-Id: ", Teller(teller))
			if o.NewSession {
				m.Stamp = b.Len()
			}
			fmt.Fprintf(&b, "%016x\r\n", len(o.Label)<<32+i)
		}
		if o.Body > 0 {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", o.Body)
		}
		if o.Close {
			b.WriteString("Connection: close\r\n")
		}
		const pad = "X-Pad: \r\n\r\n"
		b.WriteString("X-Pad: " + strings.Repeat("p", max(requestSize-b.Len()-len(pad), 0)) + "\r\n\r\n")
		b.WriteString(strings.Repeat("b", o.Body))
		m.Requests = append(m.Requests, []byte(b.String()))
		version := byte('1')
		switch {
		case o.Any:
			version = 0
		case !o.Anonymous && teller%2 == 0:
			version = '2'
		}
		m.Versions = append(m.Versions, version)
	}
	return m
}

// next returns the index of the request that is sent next, stamped.
func (m *Mix) next() int {
	i := m.turn
	if m.turn++; m.turn == len(m.Requests) {
		m.turn = 0
	}
	if m.Stamp > 0 {
		m.stamp++
		const digits = "0123456789abcdef"
		at, v := m.Requests[i][m.Stamp:m.Stamp+16], m.stamp
		for j := 15; j >= 4; j-- {
			at[j], v = digits[v&15], v>>4
		}
	}
	return i
}

// sizeOf returns how long a message is whose header stands in b, and how long its body is: ok is false while the header
// is not whole, an error says that its length is not a Content-Length, which neither side here ever needs.
func sizeOf(b []byte, request bool) (total, body int, ok bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, 0, false, nil
	}
	head := b[:end+2]
	found := false
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			for _, c := range bytes.TrimSpace(value) {
				if c < '0' || c > '9' || body > 1<<40 {
					return 0, 0, false, fmt.Errorf("unreadable length: %q", line)
				}
				body, found = body*10+int(c-'0'), true
			}
		case len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, 0, false, fmt.Errorf("a message of unknown length: %q", line)
		}
	}
	if !found && !request {
		return 0, 0, false, fmt.Errorf("a reply of unknown length: %q", head)
	}
	return end + 4 + body, body, true, nil
}

// asksToClose reports whether a header says Connection: close.
func asksToClose(head []byte) bool {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(bytes.TrimSpace(value), []byte("close")) {
			return true
		}
	}
	return false
}
