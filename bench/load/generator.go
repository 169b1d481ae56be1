//go:build linux

package load

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// A Run is one measurement.
type Run struct {
	Target      netip.AddrPort
	Mix         *Mix
	Connections int           // at once
	Each        bool          // a new connection for each request, which its Mix must ask to close
	Rate        float64       // requests per second, due whatever becomes of those before; 0: the next as soon as one is answered
	Warm        time.Duration // before the window that is measured
	Window      time.Duration
	Seed        uint64
	// Begin and End are called on the Loop's thread at the ends of the window.
	Begin, End func()
}

// A Result is what came of a Run, in its window.
type Result struct {
	Answered  int           // right answers
	Window    time.Duration // as it really was
	Latency   Histogram     // from when a request was due to the last byte of its answer
	Failed    int           // connections that failed under a request, and answers that are not the pods'
	Why       error         // the first of those
	Wrong     int           // answered by the wrong version
	Wandered  int           // answered by another pod than the session's requests before
	Closed    int           // connections that the proxy asked to close with an answer
	Unstarted int           // due in the window and never sent: the proxy was far behind
	Late      Histogram     // from when a request was due to when it was sent
}

// A run is a Run in progress.
type run struct {
	Run
	l      *Loop
	to     peer
	result *Result

	free  []*socket // clients without a request, the one that idles longest first
	all   []*socket
	queue []time.Duration // due and not yet sent, from first on
	first int
	open  int // sockets

	from, until time.Duration // the window
	usual       int           // the size of the last answer that came in one piece, which the next one very likely has
	usualBody   int
	sending     bool
}

// Do carries out a run.
func (l *Loop) Do(o Run) (*Result, error) {
	r := &run{Run: o, l: l, to: peerOf(o.Target), result: new(Result)}
	l.run, l.unreadable = r, nil
	defer func() {
		for _, s := range r.all {
			if l.sockets[s.fd] == s {
				l.drop(s)
			}
		}
		l.run = nil
	}()
	if !o.Each {
		for range o.Connections {
			s, err := r.connect()
			if err != nil {
				return nil, err
			}
			r.free = append(r.free, s)
		}
	}
	start := l.now()
	r.from, r.until, r.sending = start+o.Warm, start+o.Warm+o.Window, true
	var err error
	if o.Rate > 0 {
		err = r.paced(start)
	} else {
		err = r.closed()
	}
	if err == nil {
		err = r.settle()
	}
	if l.unreadable != nil && r.result.Why == nil {
		r.result.Failed++
		r.result.Why = fmt.Errorf("a pod could not read a request: %w", l.unreadable)
	}
	return r.result, err
}

// closed keeps every connection busy.
func (r *run) closed() error {
	if r.Each {
		for range r.Connections {
			if err := r.start(r.l.now()); err != nil {
				return err
			}
		}
	}
	var clock window
	for {
		now := r.l.now()
		if clock.pass(r, now) {
			return nil
		}
		for len(r.free) > 0 {
			if err := r.start(now); err != nil {
				return err
			}
		}
		if err := r.l.turn(r.until - now); err != nil {
			return err
		}
	}
}

// paced sends requests when they are due. While no connection is free they wait, and their waiting counts.
func (r *run) paced(start time.Duration) error {
	due := newSchedule(r.Rate, r.Seed)
	var clock window
	for {
		now := r.l.now()
		if clock.pass(r, now) {
			return nil
		}
		for start+due.next() <= now {
			r.queue = append(r.queue, start+due.next())
			due.advance()
		}
		for r.first < len(r.queue) && (len(r.free) > 0 || r.Each && r.open < r.Connections) {
			at := r.queue[r.first]
			r.first++
			r.sent(at)
			if err := r.start(at); err != nil {
				return err
			}
		}
		if r.first == len(r.queue) {
			r.queue, r.first = r.queue[:0], 0
		}
		if err := r.l.turn(max(min(start+due.next(), r.until)-r.l.now(), 0)); err != nil {
			return err
		}
	}
}

// sent notes how late a request leaves.
func (r *run) sent(due time.Duration) {
	if due >= r.from {
		r.result.Late.Add(r.l.now() - due)
	}
}

// start sends a request over the connection that has been free longest, or a new one.
func (r *run) start(due time.Duration) error {
	if r.Each {
		s, err := r.connect()
		if err != nil {
			return err
		}
		return r.ask(s, due)
	}
	s := r.free[0]
	r.free = r.free[1:]
	return r.ask(s, due)
}

// A window calls Begin and End when their time has come.
type window struct{ begun bool }

// pass reports whether the window is over.
func (w *window) pass(r *run, now time.Duration) bool {
	if !w.begun && now >= r.from {
		w.begun = true
		r.from, r.until = now, now+r.Run.Window // whole, however late it begins
		if r.Begin != nil {
			r.Begin()
		}
	}
	if now < r.until {
		return false
	}
	r.sending = false
	r.result.Window = now - r.from
	if r.End != nil {
		r.End()
	}
	for _, due := range r.queue[r.first:] {
		if due >= r.from {
			r.result.Unstarted++
		}
	}
	return true
}

// settle waits for the answers still under way, so that the next run finds a quiet proxy.
func (r *run) settle() error {
	busy := func() bool {
		for _, s := range r.all {
			if s.request >= 0 && r.l.sockets[s.fd] == s {
				return true
			}
		}
		return false
	}
	for end := r.l.now() + 2*time.Second; r.l.now() < end && busy(); {
		if err := r.l.turn(20 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) connect() (*socket, error) {
	fd, err := dial(&r.to)
	if err != nil {
		return nil, err
	}
	s := &socket{fd: fd, kind: client, request: -1}
	r.remember(s)
	r.open++
	if err := r.l.add(s); err != nil {
		return nil, err
	}
	return s, r.l.secure(s)
}

// remember keeps a socket so that the run's end finds it, in the place of one that is gone where there is one.
func (r *run) remember(s *socket) {
	if r.Each && len(r.all) >= 4*r.Connections {
		live := r.all[:0]
		for _, old := range r.all {
			if r.l.sockets[old.fd] == old {
				live = append(live, old)
			}
		}
		r.all = live
	}
	r.all = append(r.all, s)
}

func (r *run) ask(s *socket, due time.Duration) error {
	s.request, s.due = r.Mix.next(), due
	s.rest, s.head = 0, s.head[:0]
	if !s.say(r.Mix.Requests[s.request]) {
		return r.fail(s, fmt.Errorf("the connection was lost before the request was sent"))
	}
	return nil
}

// ready goes on with a client's connection.
func (r *run) ready(s *socket, ended bool) error {
	if !s.flush() {
		return r.fail(s, fmt.Errorf("the connection was lost while the request was sent"))
	}
	for {
		n, errno := s.hear(r.l.scratch)
		switch {
		case errno == syscall.EAGAIN:
			return nil
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return r.fail(s, fmt.Errorf("reading the answer: %w", errno))
		case n == 0:
			if s.request < 0 && r.Each { // as asked
				return r.gone(s)
			}
			return r.fail(s, fmt.Errorf("the proxy closed the connection"))
		}
		if err := r.receive(s, r.l.scratch[:n]); err != nil {
			return err
		}
		if n < len(r.l.scratch) && !ended && s.tls == nil || r.l.sockets[s.fd] != s {
			return nil
		}
	}
}

// receive takes bytes of an answer.
func (r *run) receive(s *socket, b []byte) error {
	switch {
	case s.request < 0:
		return r.fail(s, fmt.Errorf("an answer that nobody asked for: %.80q", b))
	case s.rest > 0:
		if len(b) > s.rest {
			return r.fail(s, errTooLong)
		}
		if s.rest -= len(b); s.rest == 0 {
			return r.answered(s)
		}
		return nil
	case len(s.head) > 0:
		s.head = append(s.head, b...)
		b = s.head
	}
	total, body := r.usual, r.usualBody
	if len(b) != total {
		var ok bool
		var err error
		if total, body, ok, err = sizeOf(b, false); err != nil {
			return r.fail(s, err)
		}
		if !ok || len(b) < total-body+marks {
			if len(s.head) == 0 {
				s.head = append(s.head, b...)
			}
			return nil
		}
		if s.closes = asksToClose(b[:total-body]); len(b) == total && !s.closes {
			r.usual, r.usualBody = total, body
		}
	}
	const success = "HTTP/1.1 200"
	if len(b) < len(success) || string(b[:len(success)]) != success {
		return r.fail(s, fmt.Errorf("an error instead of an answer: %.300q", b))
	}
	if len(b) > total {
		return r.fail(s, errTooLong)
	}
	copy(s.marks[:], b[total-body:])
	s.head = s.head[:0]
	if s.rest = total - len(b); s.rest == 0 {
		return r.answered(s)
	}
	return nil
}

var errTooLong = errors.New("an answer that is longer than it says")

// answered takes down an answer that is complete.
func (r *run) answered(s *socket) error {
	now := r.l.now()
	i := s.request
	s.request = -1
	m := r.Mix
	inWindow := r.sending && now >= r.from
	if want := m.Versions[i]; want != 0 && s.marks[markVersion] != want {
		r.result.Wrong++
	} else if inWindow {
		r.result.Answered++
	}
	if m.Sticky {
		if had := m.pods[i]; had != 0 && had != s.marks[markPod] && inWindow {
			r.result.Wandered++
		}
		m.pods[i] = s.marks[markPod]
	}
	if s.due >= r.from {
		r.result.Latency.Add(now - s.due)
	}
	switch {
	case r.Each:
		return nil
	case s.closes:
		r.result.Closed++
		return r.replace(s)
	}
	r.free = append(r.free, s)
	return nil
}

// gone closes a client. A closed loop of single connections begins the next one at once.
func (r *run) gone(s *socket) error {
	r.l.drop(s)
	r.open--
	if r.Each && r.Rate == 0 && r.sending {
		return r.start(r.l.now())
	}
	return nil
}

// maxFailures ends a run that has gone wrong for good.
const maxFailures = 1000

// fail counts a failed request and replaces its connection.
func (r *run) fail(s *socket, why error) error {
	if r.result.Failed++; r.result.Why == nil {
		r.result.Why = why
	}
	if r.result.Failed > maxFailures {
		return fmt.Errorf("too many failures, the first: %w", r.result.Why)
	}
	s.request = -1
	if r.Each {
		return r.gone(s)
	}
	return r.replace(s)
}

// replace puts a new connection in the place of one that carries nothing more.
func (r *run) replace(s *socket) error {
	r.l.drop(s)
	r.free = slices.DeleteFunc(r.free, func(f *socket) bool { return f == s })
	fresh, err := r.connect()
	if err != nil {
		return err
	}
	r.free = append(r.free, fresh)
	return nil
}

// A Hold is connections that have had one answer each and idle.
type Hold struct {
	l       *Loop
	sockets []*socket
}

// Hold opens n connections, has each send one request, and leaves them open.
func (l *Loop) Hold(target netip.AddrPort, mix *Mix, n int) (*Hold, error) {
	h := &Hold{l: l}
	to := peerOf(target)
	for range n {
		fd, err := dial(&to)
		if err != nil {
			h.Release()
			return nil, err
		}
		s := &socket{fd: fd, kind: held}
		h.sockets = append(h.sockets, s)
		if err := errors.Join(l.add(s), l.secure(s)); err != nil {
			h.Release()
			return nil, err
		}
		if l.tls != nil && len(h.sockets)%500 == 0 {
			runtime.GC() // what handshakes leave: while runs go nothing collects it
		}
		if !s.say(mix.Requests[mix.next()]) {
			h.Release()
			return nil, fmt.Errorf("connection %d was refused", len(h.sockets))
		}
		for end := l.now() + 5*time.Second; s.rest == 0; {
			if l.sockets[fd] != s || l.now() > end {
				h.Release()
				return nil, fmt.Errorf("connection %d of %d had no answer", len(h.sockets), n)
			}
			if len(s.out) > 0 && !s.flush() {
				l.drop(s)
				continue
			}
			if err := l.turn(time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// Alive returns how many are still open.
func (h *Hold) Alive() int {
	n := 0
	for _, s := range h.sockets {
		if h.l.sockets[s.fd] == s {
			n++
		}
	}
	return n
}

// Release closes them.
func (h *Hold) Release() {
	for _, s := range h.sockets {
		if s.fd < len(h.l.sockets) && h.l.sockets[s.fd] == s {
			h.l.drop(s)
		}
	}
}
