package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A progress tells on one line of a terminal how much of a transfer is done, a few times a second. The zero value tells
// nothing.
type progress struct {
	to    io.Writer // nil: tell nothing
	verb  string
	total int64 // -1 if it is not known

	mu    sync.Mutex // guards the following: bodies are read on a goroutine of the HTTP client
	bytes int64
	last  time.Time
	shown bool
}

// progressEvery is how often a progress is told; nothing is told of transfers that are shorter.
const progressEvery = 200 * time.Millisecond

// progress returns a progress of total bytes, which tells nothing unless messages go to a terminal.
func (t *tool) progress(verb string, total int64) *progress {
	p := &progress{verb: verb, total: total, last: time.Now()}
	if f, ok := t.messages.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.to = f
		}
	}
	return p
}

// isFile reports whether what is written to w ends up in a file.
func isFile(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// reading counts what is read from r.
func (p *progress) reading(r io.Reader) io.Reader {
	if p.to == nil {
		return r
	}
	return readerFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		p.count(n)
		return n, err
	})
}

func (p *progress) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += int64(n)
	if time.Since(p.last) < progressEvery {
		return
	}
	p.last, p.shown = time.Now(), true
	const MiB = 1 << 20
	if p.total > 0 {
		fmt.Fprintf(p.to, "\r%s %.1f of %.1f MiB (%d %%)\x1b[K", p.verb, float64(p.bytes)/MiB, float64(p.total)/MiB,
			p.bytes*100/p.total)
		return
	}
	fmt.Fprintf(p.to, "\r%s %.1f MiB\x1b[K", p.verb, float64(p.bytes)/MiB)
}

// done wipes the line; it may be called more than once.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.to, "\r\x1b[K")
		p.shown = false
	}
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// A statusLine is one line of a terminal that is written over. Where messages do not go to a terminal it tells nothing.
type statusLine struct {
	to    io.Writer // nil: tell nothing
	shown bool
}

func (t *tool) line() *statusLine { return &statusLine{to: t.progress("", -1).to} }

// show replaces the line. format is printed with its arguments.
func (l *statusLine) show(format string, args ...any) {
	if l.to == nil {
		return
	}
	l.shown = true
	fmt.Fprintf(l.to, "\r%s\x1b[K", oneLine(fmt.Sprintf(format, args...)))
}

// done wipes the line; it may be called more than once.
func (l *statusLine) done() {
	if l.shown {
		fmt.Fprint(l.to, "\r\x1b[K")
		l.shown = false
	}
}
