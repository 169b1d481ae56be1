package proxy

import (
	"bytes"
	"errors"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"tellergate/discovery"
	"tellergate/proxy/http1"
	"tellergate/proxy/upstream"
	"tellergate/rules"
	"tellergate/session"
)

// A request is the life of one request. It is pooled; everything in it is the property of the goroutine that serves
// the connection, and dies in release, after the answer's body has been written. Its strings are mostly views of the
// connection's buffer: see view.
type request struct {
	p        *Proxy
	frontend *frontend
	conn     *conn
	terms    *terms // the settings and
	table    *Table // the rules of this request, to its end
	front    *frontendTerms
	started  time.Time

	method           []byte
	minor            int    // HTTP/1.minor
	block            []byte // buffer of the header, where a body needs the connection's own
	fields           []field
	scratch          []byte // pairs, unescaped values
	target           []byte // what the pod will be asked for: the client's bytes
	rawPath          []byte
	rawQuery         []byte
	host             []byte
	requestID        []byte
	path             fasthttp.URI // normalises
	peer, client     netip.Addr
	forwardedTrusted bool
	trusted          bool     // the client may make claims
	plain            []string // attributes before pairs are joined
	framing          framing
	keepAlive        bool   // the client keeps the connection open
	closes           bool   // and has said that it does not
	upgrade          string // protocol that the pod is asked to switch to

	query    rules.Query
	service  *rules.CompiledService
	standing rules.Standing
	decision rules.Decision

	keys    []session.Key
	pins    []session.Pin // under keys
	held    int           // index of the pin that held at the beginning, or -1
	pin     session.Pin   // that the session has now
	subject string
	moved   string // what the client is told by movedHeader; empty: nothing
	wait    session.Wait

	head     []byte // what the pod is sent
	out      []byte // what the client is sent
	upload   upload
	exchange upstream.Exchange
	relay    func(*upstream.Answer) error // interim, bound once
	open     bool                         // exchange has to be closed
	begun    bool                         // bytes of the final answer have been sent
	status   int                          // of the answer
	bytesOut int64
	whole    bool         // the answer was sent to its end
	line     []byte       // of the access log; empty while there is none to write
	batch    *accessBatch // takes the line; nil: no access log
	turn     uint32       // where it counts
}

func newRequest(p *Proxy) *request {
	r := &request{p: p, plain: make([]string, p.schema.Len()), batch: p.access.batch(), turn: p.turn.Add(1)}
	r.query.Attributes = make([]string, p.schema.Len())
	r.query.Headers = r
	r.relay = r.interim
	return r
}

// begin makes r the next request of c.
func (r *request) begin(c *conn) {
	r.p, r.frontend, r.conn, r.peer = c.f.p, c.f, c, c.peer
	r.started = r.p.clock(c.at)
	r.terms, r.table = r.p.terms.Load(), r.p.table.Load()
	r.front = &r.terms.frontends[c.f.index]
	r.keepAlive, r.minor, r.held = true, 1, -1
	c.began.Store(momentOf(c.at))
}

// handle serves one request of which the header block, or the reason why there is none, is known. It reports whether the
// connection can carry another one; if not, it has to be left. A panic below it becomes a 500. In a turn a request that
// needs more of its client than has come is only read, and parked.
func (r *request) handle(block []byte, no *refusal, inTurn bool) (again bool) {
	defer r.recover(&again)
	if no == nil {
		no = r.read(block)
	}
	if no == nil || no == &malformedHost {
		// A load balancer polls with what it can say: HTTP/1.0 without a Host, often.
		if r.query.Path == r.frontend.healthPath && len(r.query.Path) > 0 {
			r.keepAlive = r.keepAlive && no == nil // else nobody has looked at its body
			again = r.health()
			r.release()
			return again
		}
	}
	if inTurn && no == nil && (!r.upload.body.Ended() || r.upgrade != "") {
		r.conn.parked = r
		return false
	}
	return r.complete(no)
}

// goOn serves a request that was parked.
func (r *request) goOn() (again bool) {
	defer r.recover(&again)
	return r.complete(nil)
}

// complete answers a request that has been read, or is refused.
func (r *request) complete(no *refusal) (again bool) {
	if no == nil {
		no = r.serve()
	}
	switch {
	case no != nil:
		again = r.refuse(no)
	case r.exchange.Answer.Status == 101:
		r.tunnel()
	default:
		again = r.reply()
	}
	r.finish()
	return again
}

// serve is the flow of a request. It returns nil once the answer's header is here, or the reason why there is none.
func (r *request) serve() *refusal {
	if !r.ready() {
		return &notReady
	}
	if r.service = r.table.rules.Match(&r.query); r.service == nil {
		return &noService
	}
	if no := r.agree(); no != nil {
		return no
	}
	if no := r.identify(); no != nil {
		return no
	}
	r.findTester()
	r.findSession()
	if no := r.decide(); no != nil {
		return no
	}
	r.prepare()
	if no := r.send(); no != nil {
		return no
	}
	r.remember()
	return nil
}

// read takes the request apart without believing any of it.
func (r *request) read(block []byte) *refusal {
	no := r.readLine(block)
	if no == nil {
		no = r.readFields(block[bytes.IndexByte(block, '\n')+1:], r.front.headerCount)
	}
	r.nameRequest()
	if no != nil {
		return no
	}
	r.findClient()
	if no := r.readFraming(); no != nil {
		return no
	}
	if no := r.readTarget(); no != nil {
		return no
	}
	r.query.Frontend = r.frontend.name
	r.query.Method = view(r.method)
	r.query.Source = r.client
	return r.limitBody()
}

// limitBody puts itself between the client's body and whoever reads it. A body that has come already needs no stream.
func (r *request) limitBody() *refusal {
	length := r.framing.length
	if limit := r.front.bodyBytes; limit > 0 && length > limit {
		return &bodyTooLarge
	}
	r.upload.begin(r, length)
	if length == 0 {
		return nil
	}
	body, ok := r.upload.body.Whole()
	if !ok {
		r.block = r.conn.in.Detach()
		r.upload.body.Begin(&r.conn.in, length)
		return nil
	}
	r.upload.bytes = int64(len(body))
	if limit := r.front.bodyBytes; limit > 0 && r.upload.bytes > limit {
		r.upload.overrun = true
		return &bodyTooLarge
	}
	r.exchange.Body = body
	r.framing.length = r.upload.bytes
	return nil
}

// findTester reads the version that a tester forces. The header is removed from every request, believed from few.
func (r *request) findTester() {
	if r.terms.testerHeader == "" || !r.client.IsValid() || !r.terms.testers.Contains(r.client) {
		return
	}
	if f := r.field(r.terms.testerHeader); f != nil {
		r.standing.Forced = view(f.value)
	}
}

// send has the request carried to a pod of the decided version, and to another version where nothing was executed
// because no connection could be made.
func (r *request) send() *refusal {
	x := &r.exchange
	x.Method, x.Head, x.Upgrade, x.Length = view(r.method), r.head, r.upgrade, r.framing.length
	x.Stream, x.Interim = nil, nil
	if !r.upload.body.Ended() {
		x.Stream = &r.upload
	}
	if r.minor == 1 {
		x.Interim = r.relay
	}
	x.Idempotent = r.hasSerial()
	for again := false; ; again = true {
		x.Pinned = r.standing.Pinned != "" && r.pin.Version == r.decision.Version.Name()
		x.Prefer, x.PreferUID = r.pin.Endpoint, r.pin.UID
		r.conn.watch(x, r.mayBeAbandoned())
		err := r.table.group(r.decision.Version, r.service).Do(x)
		r.head = x.Head
		if err == nil {
			r.conn.at, r.open = x.Answered, true
			return nil
		}
		r.conn.at = time.Now()
		r.conn.unwatch()
		unsent := errors.Is(err, upstream.ErrNotConnected) || errors.Is(err, upstream.ErrNoEndpoint)
		if unsent && !again {
			no, ok := r.decideAgain()
			if ok {
				x.Head = x.Head[:len(x.Head)-len(x.Body)]
				continue
			}
			if no != nil {
				return no
			}
		}
		return r.failed(err)
	}
}

// hasSerial reports whether a client that is believed gives the request one serial number by which pods know a repetition.
func (r *request) hasSerial() bool {
	name := r.service.SerialHeader()
	if name == "" || !r.trusted {
		return false
	}
	found := 0
	for i := range r.fields {
		if f := &r.fields[i]; equalFold(f.name, name) {
			if found++; len(f.value) == 0 {
				return false
			}
		}
	}
	return found == 1
}

// mayBeAbandoned reports whether a pod need not finish the request when its client has gone away.
func (r *request) mayBeAbandoned() bool {
	switch view(r.method) {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return r.p.abandonUnsafe
}

// failed translates what became of an exchange.
func (r *request) failed(err error) *refusal {
	switch {
	case r.upload.overrun:
		return &bodyTooLarge
	case errors.Is(err, upstream.ErrCancelled) && r.conn.hasGone():
		return &clientGone
	case errors.Is(err, upstream.ErrCancelled):
		return &upstreamTimeout
	case errors.Is(err, upstream.ErrClientBody):
		if r.upload.timedOut() {
			return &requestTimeout
		}
		return &requestBody
	case errors.Is(err, upstream.ErrNoEndpoint), errors.Is(err, upstream.ErrBusy):
		return &noEndpoint
	case errors.Is(err, upstream.ErrNotConnected):
		return &upstreamConnect
	case errors.Is(err, upstream.ErrTimeout):
		return &upstreamTimeout
	case errors.Is(err, upstream.ErrReset):
		return &upstreamReset
	case errors.Is(err, upstream.ErrBadResponse):
		return &upstreamInvalid
	}
	r.p.log.Error("a pod's answer was lost for a reason that has no code", zap.Error(err))
	return &internalError
}

// recover turns a panic into a 500, or into a cut connection where an answer has begun. The request's memory is left to
// the collector: nobody knows who still holds it.
func (r *request) recover(again *bool) {
	failure := recover()
	if failure == nil {
		return
	}
	r.p.panicked(failure, r.requestID)
	*again = false
	r.conn.at = time.Now()
	if r.open {
		r.open = false
		r.conn.unwatch()
		r.exchange.Cancel()
		r.exchange.Close()
	}
	if r.begun {
		r.conn.cut, r.conn.shaky = true, true
		return
	}
	r.refuse(&internalError)
	r.count()
}

// panicked counts and logs a panic of one request.
func (p *Proxy) panicked(failure any, requestID []byte) {
	p.metrics.panics.Inc()
	p.log.Error("a request made the gateway panic; this is a defect of tellergate, please report it",
		zap.Any("panic", failure), zap.ByteString("requestId", requestID), zap.ByteString("stack", debug.Stack()))
}

// keep takes down what the access log says of the request, while everything it refers to is alive.
func (r *request) keep(status int, no *refusal) {
	if no != nil {
		r.p.metrics.refused[no].Inc()
	}
	if r.batch != nil {
		r.line = r.appendAccess(r.line[:0], status, no)
	}
	r.status = status
}

// finish is the end of the request.
func (r *request) finish() {
	r.count()
	r.release()
}

// count makes the metrics and the access log tell of the request.
func (r *request) count() {
	took := r.p.clock(r.conn.at).Sub(r.started)
	if v := r.decision.Version; v != nil && r.decision.Refusal == rules.NotRefused && r.service != nil {
		r.table.tally(v, r.service).observe(r.turn, r.status, r.decision.Reason, took)
	}
	if r.wait.Spent > 0 {
		r.p.metrics.waited.observe(r.wait.Spent)
	}
	if len(r.line) > 0 {
		r.line = r.appendAccessEnd(r.line, took)
		r.p.access.send(r.batch, r.line)
		r.line = r.line[:0]
	}
}

// release forgets everything that refers to a connection or a generation and gives the request back.
func (r *request) release() {
	r.conn.began.Store(0)
	clear(r.fields)
	clear(r.plain)
	clear(r.query.Attributes)
	clear(r.keys[:cap(r.keys)])
	clear(r.pins[:cap(r.pins)])
	attributes := r.query.Attributes
	if r.block != nil {
		http1.Recycle(r.block)
		r.block = nil
	}
	r.frontend, r.conn, r.terms, r.table, r.front = nil, nil, nil, nil, nil
	r.fields, r.scratch, r.requestID = r.fields[:0], r.scratch[:0], r.requestID[:0]
	r.method, r.target, r.rawPath, r.rawQuery, r.host, r.upgrade = nil, nil, nil, nil, nil, ""
	r.trusted, r.forwardedTrusted, r.closes = false, false, false
	r.query = rules.Query{Attributes: attributes, Headers: r}
	r.service, r.standing, r.decision = nil, rules.Standing{}, rules.Decision{}
	r.keys, r.pins, r.held, r.pin, r.subject, r.moved = r.keys[:0], r.pins[:0], -1, session.Pin{}, "", ""
	r.wait = session.Wait{}
	r.framing = framing{}
	r.open, r.begun, r.status, r.bytesOut, r.whole = false, false, 0, 0, false
	r.upload.reset()
	r.exchange.Method, r.exchange.Head, r.exchange.Body, r.exchange.Stream = "", nil, nil, nil
	r.exchange.Answer.Reason, r.exchange.Endpoint, r.exchange.Attempts = nil, discovery.Endpoint{}, 0
	r.exchange.Answer.Status = 0
	r.head, r.out, r.line = smaller(r.head), smaller(r.out), smaller(r.line)
	r.p.requests.Put(r)
}

// smaller empties a buffer that is kept, and forgets one that has grown out of proportion.
func smaller(b []byte) []byte {
	if cap(b) > 64<<10 {
		return nil
	}
	return b[:0]
}
