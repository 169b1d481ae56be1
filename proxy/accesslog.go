package proxy

import (
	"bufio"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// An accessLog writes one JSON line for each request, off the request's path: requests put entries into a bounded
// channel, one goroutine writes them. Where it cannot keep up, lines are dropped and counted; requests never wait.
// A nil *accessLog is off.
type accessLog struct {
	entries chan *accessEntry
	pool    sync.Pool
	dropped atomic.Uint64
	to      io.Writer
	out     *bufio.Writer // to to
	core    zapcore.Core
	fields  []zapcore.Field // of the line being written

	mu     sync.RWMutex // guards closed against send
	closed bool
}

// An accessEntry holds copies of everything that its line says, because requests' buffers die before it is written.
type accessEntry struct {
	text []byte // backs the strings below

	at                                time.Time
	requestID, frontend, method, path string
	service, version, wanted, rule    string // names of a generation, which are not copied
	reason, code                      string
	bucket                            int
	revision                          uint64
	endpoint                          netip.AddrPort
	client                            netip.Addr
	attempts, status                  int
	identity                          []namedValue
	bytesIn, bytesOut                 int64
	cutShort                          bool
	connect, header, total            time.Duration
}

type namedValue struct{ name, value string }

func newAccessLog(to io.Writer, buffer int) *accessLog {
	out := bufio.NewWriterSize(to, 64<<10)
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey: "time", EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	})
	return &accessLog{
		entries: make(chan *accessEntry, max(buffer, 1)),
		pool:    sync.Pool{New: func() any { return new(accessEntry) }},
		to:      to,
		out:     out,
		core:    zapcore.NewCore(encoder, zapcore.AddSync(out), zapcore.InfoLevel),
	}
}

// keep copies what the line will say. It is the one place where a request's bytes outlive it.
func (l *accessLog) keep(r *request, status int, no *refusal) *accessEntry {
	e := l.pool.Get().(*accessEntry)
	*e = accessEntry{text: e.text[:0], identity: e.identity[:0], at: r.started, bucket: -1, status: status}
	e.requestID = e.copy(view(r.requestID))
	e.frontend = r.frontend.name
	e.method = e.copy(r.query.Method)
	e.path = e.copy(r.query.Path)
	e.client = r.client
	if no != nil {
		e.code = no.code
	}
	if r.service != nil {
		e.service = r.service.Name()
		e.revision = r.table.revision
	}
	if v := r.decision.Version; v != nil {
		e.version = v.Name()
		e.reason = r.decision.Reason.String()
		e.rule = r.decision.Rule
		e.bucket = r.decision.Bucket
		if w := r.decision.Wanted; w != nil && w != v {
			e.wanted = w.Name()
		}
	}
	e.endpoint = r.exchange.Endpoint.Addr
	e.attempts = r.exchange.Attempts
	e.connect, e.header = r.exchange.Connect, r.exchange.Header
	for i := range r.terms.attributes {
		if value := r.query.Attributes[i]; value != "" {
			a := &r.terms.attributes[i]
			e.identity = append(e.identity, namedValue{a.name, e.value(a, value)})
		}
	}
	return e
}

// copy appends s to the entry's own text. Where the text has to grow, strings made before keep the old one alive.
func (e *accessEntry) copy(s string) string {
	start := len(e.text)
	e.text = append(e.text, s...)
	return view(e.text[start:])
}

// value copies an attribute's value, masked where the settings say so. Of a pair only the value is masked: the outer
// attribute has a line, and a mask, of its own.
func (e *accessEntry) value(a *attributeTerms, value string) string {
	if !a.masked {
		return e.copy(value)
	}
	if a.within >= 0 {
		if outer, inner, ok := strings.Cut(value, "/"); ok {
			return e.copy(outer + "/" + mask(inner))
		}
	}
	return e.copy(mask(value))
}

// mask keeps the first and the last character.
func mask(value string) string {
	first, size := utf8.DecodeRuneInString(value)
	last, lastSize := utf8.DecodeLastRuneInString(value)
	if len(value) <= size+lastSize {
		return "***"
	}
	return string(first) + "***" + string(last)
}

// send hands the entry to the writer, or drops it.
func (l *accessLog) send(e *accessEntry) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		l.dropped.Add(1)
		return
	}
	select {
	case l.entries <- e:
	default:
		l.dropped.Add(1)
		l.pool.Put(e)
	}
}

// close lets run end after what was sent before; entries of requests that outlive it are counted as dropped.
func (l *accessLog) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.entries)
	}
}

// run writes entries until close and flushes whenever there is nothing to write.
func (l *accessLog) run() {
	if l == nil {
		return
	}
	for e := range l.entries {
		if err := l.write(e); err != nil {
			l.dropped.Add(1)
		}
		l.pool.Put(e)
		if len(l.entries) == 0 {
			l.flush()
		}
	}
	l.flush()
}

// flush hands on what has been written. A log that cannot be written (a full disk) must not end the replica: what was
// buffered is lost, at least one line, and bufio is made to forget the error so that the next line is tried again.
func (l *accessLog) flush() {
	if err := l.out.Flush(); err != nil {
		l.dropped.Add(1)
		l.out.Reset(l.to)
	}
}

func (l *accessLog) write(e *accessEntry) error {
	f := append(l.fields[:0],
		zap.String("requestId", e.requestID),
		zap.String("frontend", e.frontend),
		zap.Stringer("client", e.client),
		zap.String("method", e.method),
		zap.String("path", e.path),
		zap.Int("status", e.status),
	)
	for _, s := range [...]namedValue{
		{"code", e.code}, {"service", e.service}, {"version", e.version}, {"wanted", e.wanted}, {"rule", e.rule},
		{"reason", e.reason},
	} {
		if s.value != "" {
			f = append(f, zap.String(s.name, s.value))
		}
	}
	if e.bucket >= 0 && e.version != "" {
		f = append(f, zap.Int("bucket", e.bucket))
	}
	if e.service != "" {
		f = append(f, zap.Uint64("revision", e.revision))
	}
	if e.endpoint.IsValid() {
		f = append(f, zap.Stringer("endpoint", e.endpoint))
	}
	f = append(f,
		zap.Int("attempts", e.attempts),
		zap.Object("identity", identityValues(e.identity)),
		zap.Int64("bytesIn", e.bytesIn),
		zap.Int64("bytesOut", e.bytesOut),
	)
	if e.cutShort {
		f = append(f, zap.Bool("cutShort", true))
	}
	f = append(f,
		zap.Duration("connectSeconds", e.connect),
		zap.Duration("headerSeconds", e.header),
		zap.Duration("totalSeconds", e.total),
	)
	l.fields = f
	return l.core.Write(zapcore.Entry{Time: e.at}, f)
}

// identityValues prints attributes as one object.
type identityValues []namedValue

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (v identityValues) MarshalLogObject(to zapcore.ObjectEncoder) error {
	for _, a := range v {
		to.AddString(a.name, a.value)
	}
	return nil
}
