package proxy

import (
	"encoding/binary"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unsafe"
)

// An accessLog writes one JSON line for each request. A request builds its line in a buffer of its own and appends it, in
// one piece, to a batch in memory; one goroutine writes the batches out. Where it cannot keep up, lines are dropped and
// counted; requests never wait for the log. A nil *accessLog is off.
//
// There are several batches so that cores do not share one. Lines of different batches may stand in the log out of the
// order of their times.
type accessLog struct {
	to      io.Writer
	batches []accessBatch
	turn    atomic.Uint32 // hands out batches
	limit   int           // lines that a batch may hold
	dropped atomic.Uint64

	wake    chan struct{} // a batch has its first line
	full    chan struct{} // a batch is half full
	closing chan struct{}
	once    sync.Once // closes closing
	torn    bool      // the last write ended in the midst of a line
}

// An accessBatch is what waits for the writer.
type accessBatch struct {
	mu     sync.Mutex
	text   []byte // guarded by mu; whole lines
	lines  int    // guarded by mu; in text
	closed bool   // guarded by mu
	spare  []byte // the writer's
	_      [128]byte
}

const (
	// gatherLines is how long the writer lets a batch grow, so that a write carries many lines.
	gatherLines = 50 * time.Millisecond
	// keptBatch is the largest buffer that is used again.
	keptBatch = 4 << 20
)

func newAccessLog(to io.Writer, buffer int) *accessLog {
	batches := max(min(runtime.GOMAXPROCS(0), buffer/1024), 1)
	return &accessLog{
		to:      to,
		batches: make([]accessBatch, batches),
		limit:   max(buffer/batches, 1),
		wake:    make(chan struct{}, 1),
		full:    make(chan struct{}, 1),
		closing: make(chan struct{}),
	}
}

// batch returns the batch that a request object appends to as long as it lives. Request objects are pooled by core, and
// so are, very nearly, batches.
func (l *accessLog) batch() *accessBatch {
	if l == nil {
		return nil
	}
	return &l.batches[int(l.turn.Add(1))%len(l.batches)]
}

// appendAccess appends the part of a line that is known before the answer is sent, while everything it speaks of is
// alive. It is the one place where what a request's buffers hold outlives it.
func (r *request) appendAccess(b []byte, status int, no *refusal) []byte {
	b = r.started.AppendFormat(append(b, `{"time":"`...), time.RFC3339Nano)
	b = appendMember(append(b, '"'), "requestId", view(r.requestID))
	b = appendMember(b, "frontend", r.frontend.name)
	b = append(b, `,"client":"`...)
	if r.client.IsValid() {
		b = r.client.AppendTo(b)
	}
	b = appendMember(append(b, '"'), "method", r.query.Method)
	b = appendMember(b, "path", r.query.Path)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(status), 10)
	if no != nil {
		b = appendMember(b, "code", no.code)
	}
	if r.service != nil {
		b = appendMember(b, "service", r.service.Name())
	}
	if v := r.decision.Version; v != nil {
		b = appendMember(b, "version", v.Name())
		if w := r.decision.Wanted; w != nil && w != v {
			b = appendMember(b, "wanted", w.Name())
		}
		if r.decision.Rule != "" {
			b = appendMember(b, "rule", r.decision.Rule)
		}
		b = appendMember(b, "reason", r.decision.Reason.String())
		if r.decision.Bucket >= 0 {
			b = strconv.AppendInt(append(b, `,"bucket":`...), int64(r.decision.Bucket), 10)
		}
	}
	if r.service != nil {
		b = strconv.AppendUint(append(b, `,"revision":`...), r.table.revision, 10)
	}
	if at := r.exchange.Endpoint.Addr; at.IsValid() {
		b = append(at.AppendTo(append(b, `,"endpoint":"`...)), '"')
	}
	b = strconv.AppendInt(append(b, `,"attempts":`...), int64(r.exchange.Attempts), 10)
	b = append(b, `,"identity":`...)
	opening := byte('{')
	for i := range r.terms.attributes {
		if value := r.query.Attributes[i]; value != "" {
			a := &r.terms.attributes[i]
			b = appendText(append(b, opening, '"'), a.name)
			b = append(a.appendLogged(append(b, `":"`...), value), '"')
			opening = ','
		}
	}
	if opening == '{' {
		b = append(b, '{')
	}
	return append(b, '}')
}

// appendAccessEnd appends the rest of the line: what is known when the answer has been sent.
func (r *request) appendAccessEnd(b []byte, took time.Duration) []byte {
	b = strconv.AppendInt(append(b, `,"bytesIn":`...), r.upload.bytes, 10)
	b = strconv.AppendInt(append(b, `,"bytesOut":`...), r.bytesOut, 10)
	if !r.whole {
		b = append(b, `,"cutShort":true`...)
	}
	b = appendSeconds(append(b, `,"connectSeconds":`...), r.exchange.Connect)
	b = appendSeconds(append(b, `,"headerSeconds":`...), r.exchange.Header)
	b = appendSeconds(append(b, `,"totalSeconds":`...), took)
	return append(b, "}\n"...)
}

// appendMember appends a member of an object that is not its first.
func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(appendText(b, value), '"')
}

// appendText appends s as the inside of a JSON string. What is not UTF-8 becomes U+FFFD.
func appendText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	plain := 0 // s[plain:i] needs no escaping
	for i := plainWords(s); i < len(s); {
		c := s[i]
		if ' ' <= c && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[plain:i]...), "\ufffd"...)
				plain = i + size
			}
			i += size
			continue
		}
		b = append(b, s[plain:i]...)
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		i++
		plain = i
	}
	return append(b, s[plain:]...)
}

// plainWords returns how many bytes at the beginning of s, eight at a time, need no escaping: ASCII without controls,
// quotes and backslashes.
func plainWords(s string) int {
	const (
		each = 0x0101010101010101
		high = 0x80 * each
	)
	i := 0
	for b := unsafe.Slice(unsafe.StringData(s), len(s)); len(b)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		// A subtraction that borrows leaves the high bit set; one that borrows from its neighbour only makes this too careful.
		if (w|(w-' '*each)|((w^'"'*each)-each)|((w^'\\'*each)-each))&high != 0 {
			break
		}
	}
	return i
}

// appendSeconds appends a duration in seconds, to the microsecond.
func appendSeconds(b []byte, d time.Duration) []byte {
	micros := max(d, 0).Microseconds()
	b = append(strconv.AppendInt(b, micros/1e6, 10), '.')
	for unit := int64(1e5); unit > 0; unit /= 10 {
		b = append(b, '0'+byte(micros/unit%10))
	}
	return b
}

// appendLogged appends a value of the attribute, masked where the settings say so. Of a pair only the value is masked:
// the outer attribute has a member, and a mask, of its own.
func (a *attributeTerms) appendLogged(b []byte, value string) []byte {
	if !a.masked {
		return appendText(b, value)
	}
	if a.within >= 0 {
		if outer, inner, ok := strings.Cut(value, "/"); ok {
			b, value = append(appendText(b, outer), '/'), inner
		}
	}
	return appendMasked(b, value)
}

// appendMasked appends the first and the last character of a value.
func appendMasked(b []byte, value string) []byte {
	_, first := utf8.DecodeRuneInString(value)
	_, last := utf8.DecodeLastRuneInString(value)
	if len(value) <= first+last {
		return append(b, "***"...)
	}
	b = append(appendText(b, value[:first]), "***"...)
	return appendText(b, value[len(value)-last:])
}

// send gives a whole line to the writer, or drops it. The line is copied.
func (l *accessLog) send(to *accessBatch, line []byte) {
	to.mu.Lock()
	if to.closed || to.lines >= l.limit {
		to.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	to.text = append(to.text, line...)
	to.lines++
	lines := to.lines
	to.mu.Unlock()
	if lines == 1 {
		signal(l.wake)
	}
	if lines == l.limit/2 {
		signal(l.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// close lets run end after what was sent before; lines of requests that outlive it are counted as dropped.
func (l *accessLog) close() {
	if l != nil {
		l.once.Do(func() { close(l.closing) })
	}
}

// run writes batches until close. While there are no lines it sleeps.
func (l *accessLog) run() {
	if l == nil {
		return
	}
	growing := time.NewTimer(gatherLines)
	defer growing.Stop()
	for {
		select {
		case <-l.wake:
		case <-l.closing:
			l.write(true)
			return
		}
		growing.Reset(gatherLines)
		select {
		case <-growing.C:
		case <-l.full:
		case <-l.closing:
		}
		l.write(false)
	}
}

// write writes out what every batch holds; the last time, batches take nothing more.
func (l *accessLog) write(last bool) {
	for i := range l.batches {
		b := &l.batches[i]
		b.mu.Lock()
		text, lines := b.text, b.lines
		b.text, b.lines, b.spare, b.closed = b.spare[:0], 0, nil, last
		b.mu.Unlock()
		if len(text) > 0 {
			l.put(text, lines)
		}
		if cap(text) <= keptBatch {
			b.spare = text
		}
	}
}

// put writes lines. A log that cannot be written (a full disk) must not end the replica: the lines are lost, and the
// next ones are tried again, on a line of their own.
func (l *accessLog) put(text []byte, lines int) {
	if l.torn {
		if _, err := l.to.Write([]byte{'\n'}); err != nil {
			l.dropped.Add(uint64(lines))
			return
		}
		l.torn = false
	}
	if n, err := l.to.Write(text); err != nil {
		l.torn = n > 0 && text[n-1] != '\n'
		written := 0
		for _, c := range text[:n] {
			if c == '\n' {
				written++
			}
		}
		l.dropped.Add(uint64(lines - written))
	}
}
