package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"tellergate/proxy/upstream"
	"tellergate/rules"
	"tellergate/session"
)

// A request is the life of one request. It is pooled; everything in it is the property of the goroutine that serves
// the connection, and dies in end, after the answer's body has been written. Its strings are mostly views of fasthttp's
// buffers: see view.
type request struct {
	p        *Proxy
	frontend *frontend
	ctx      *fasthttp.RequestCtx
	terms    *terms // the settings and
	table    *Table // the rules of this request, to its end
	front    *frontendTerms
	started  time.Time

	fields           []field
	scratch          []byte // pairs, unescaped values
	target           []byte // what the pod will be asked for: the client's bytes
	rawQuery         []byte
	host             []byte
	requestID        []byte
	peer, client     netip.Addr
	forwardedTrusted bool
	trusted          bool     // the client may make claims
	plain            []string // attributes before pairs are joined

	query    rules.Query
	service  *rules.CompiledService
	standing rules.Standing
	decision rules.Decision

	keys    []session.Key
	pins    []session.Pin // under keys
	held    int           // index of the pin that held at the beginning, or -1
	pin     session.Pin   // that the session has now
	subject string

	upload   upload
	exchange upstream.Exchange
	answer   fasthttp.Response // the pod's
	download download
	entry    *accessEntry // nil: no access log
}

func newRequest(p *Proxy) *request {
	r := &request{p: p, plain: make([]string, p.schema.Len())}
	r.query.Attributes = make([]string, p.schema.Len())
	r.query.Headers = r
	return r
}

// handle serves one request; it is fasthttp's handler. A panic below it becomes a 500.
func (f *frontend) handle(ctx *fasthttp.RequestCtx) {
	r := f.p.requests.Get().(*request)
	r.p, r.frontend, r.ctx = f.p, f, ctx
	r.started = f.p.now()
	r.terms, r.table = f.p.terms.Load(), f.p.table.Load()
	r.front = &r.terms.frontends[f.index]
	defer r.recover()
	if f.p.draining.Load() {
		ctx.SetConnectionClose()
	}
	if string(ctx.Path()) == f.healthPath {
		f.health(ctx)
		r.release()
		return
	}
	no := r.serve()
	if f.p.draining.Load() {
		ctx.SetConnectionClose()
	}
	if no != nil {
		r.refuse(no)
	}
}

// serve is the flow of a request. It returns nil once the answer is ready to be written, which ends the request when it
// is done, or the reason why there is none.
func (r *request) serve() *refusal {
	if no := r.read(); no != nil {
		return no
	}
	if r.table == nil {
		return &notReady
	}
	if r.service = r.table.rules.Match(&r.query); r.service == nil {
		return &noService
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
	r.reply()
	return nil
}

// read takes the request apart without believing any of it.
func (r *request) read() *refusal {
	h := &r.ctx.Request.Header
	no := r.readFields(h.RawHeaders(), r.front.headerCount)
	r.nameRequest()
	if no != nil {
		return no
	}
	if protocol := string(h.Protocol()); protocol != "HTTP/1.1" && protocol != "HTTP/1.0" {
		return &badRequest
	}
	r.peer = peerOf(r.ctx.RemoteAddr())
	r.findClient()
	if no := r.readTarget(); no != nil {
		return no
	}
	r.query.Frontend = r.frontend.name
	r.query.Method = view(h.Method())
	r.query.Source = r.client
	return r.limitBody()
}

// limitBody puts itself between the client's body and whoever reads it.
func (r *request) limitBody() *refusal {
	limit := r.front.bodyBytes
	length := r.ctx.Request.Header.ContentLength()
	if limit > 0 && int64(length) > limit {
		return &bodyTooLarge
	}
	if body := r.ctx.Request.BodyStream(); body != nil {
		r.upload = upload{in: body, conn: r.ctx.Conn(), idle: r.frontend.bodyIdle, limit: limit}
		r.ctx.Request.SetBodyStream(&r.upload, length)
	}
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
	// The answer's header inherits from the server's the wish for no invented headers.
	r.ctx.Response.Header.CopyTo(&r.answer.Header)
	r.exchange = upstream.Exchange{Request: &r.ctx.Request, Response: &r.answer}
	for again := false; ; again = true {
		r.exchange.Pinned = r.standing.Pinned != "" && r.pin.Version == r.decision.Version.Name()
		r.exchange.Prefer, r.exchange.PreferUID = r.pin.Endpoint, r.pin.UID
		err := r.table.group(r.decision.Version, r.service).Do(&r.exchange)
		if err == nil {
			return nil
		}
		unsent := errors.Is(err, upstream.ErrNotConnected) || errors.Is(err, upstream.ErrNoEndpoint)
		if unsent && !again && r.decideAgain() {
			continue
		}
		return r.failed(err)
	}
}

// failed translates what became of an exchange.
func (r *request) failed(err error) *refusal {
	switch {
	case r.upload.overrun:
		return &bodyTooLarge
	case errors.Is(err, upstream.ErrClientBody):
		var timeout net.Error
		if errors.As(r.upload.err, &timeout) && timeout.Timeout() {
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

// reply hands the pod's answer to fasthttp. From here on the request ends when fasthttp closes the body.
func (r *request) reply() {
	cleanAnswer(&r.answer.Header)
	response := &r.ctx.Response
	closing := response.ConnectionClose()
	length := r.answer.Header.ContentLength()
	r.answer.Header.CopyTo(&response.Header)
	if closing {
		response.SetConnectionClose()
	}
	r.download.in = r.answer.BodyStream()
	r.download.r = r
	if r.download.in == nil {
		body := r.answer.Body()
		r.download.bytes = int64(len(body))
		if len(body) > 0 || !r.ctx.IsHead() {
			response.SetBody(body)
		}
		r.download.ended = true
		r.end(response.StatusCode(), nil)
		return
	}
	r.keep(response.StatusCode(), nil)
	// An event stream's reader waits for the header even if no event comes for long.
	response.ImmediateHeaderFlush = hasPrefixFold(response.Header.ContentType(), "text/event-stream")
	response.SetBodyStream(&r.download, length)
}

// refuse answers with an error of ours and ends the request.
func (r *request) refuse(no *refusal) {
	if len(r.requestID) == 0 {
		r.requestID = appendRequestID(r.requestID)
	}
	no.write(r.ctx, r.requestID)
	r.end(no.status, no)
}

// recover turns a panic into a 500. The request's memory is left to the collector: nobody knows who still holds it.
func (r *request) recover() {
	failure := recover()
	if failure == nil {
		return
	}
	r.p.metrics.panics.Inc()
	r.p.log.Error("a request made the gateway panic; this is a defect of tellergate, please report it",
		zap.Any("panic", failure), zap.ByteString("requestId", r.requestID), zap.ByteString("stack", debug.Stack()))
	r.p.metrics.refused[&internalError].Inc()
	internalError.write(r.ctx, r.requestID)
}

// end counts and logs the request and gives its memory back.
func (r *request) end(status int, no *refusal) {
	r.keep(status, no)
	r.finish()
}

// keep takes down what the access log says of the request, while everything it refers to is alive.
func (r *request) keep(status int, no *refusal) {
	if no != nil {
		r.p.metrics.refused[no].Inc()
	}
	if r.p.access != nil {
		r.entry = r.p.access.keep(r, status, no)
	}
	r.download.status = status
}

// finish is the end of the answer's body.
func (r *request) finish() {
	took := r.p.now().Sub(r.started)
	if v := r.decision.Version; v != nil && r.decision.Refusal == rules.NotRefused && r.service != nil {
		r.table.counters(v, r.service).observe(r.download.status, r.decision.Reason, took)
	}
	if r.entry != nil {
		r.entry.bytesIn, r.entry.bytesOut = r.upload.bytes, r.download.bytes
		r.entry.cutShort = !r.download.ended
		r.entry.total = took
		r.p.access.send(r.entry)
	}
	r.release()
}

// release forgets everything that refers to a connection or a generation and gives the request back.
func (r *request) release() {
	clear(r.fields)
	clear(r.plain)
	clear(r.query.Attributes)
	clear(r.keys[:cap(r.keys)])
	clear(r.pins[:cap(r.pins)])
	attributes := r.query.Attributes
	r.answer.Reset()
	r.frontend, r.ctx, r.terms, r.table, r.front = nil, nil, nil, nil, nil
	r.fields, r.scratch, r.requestID = r.fields[:0], r.scratch[:0], r.requestID[:0]
	r.target, r.rawQuery, r.host = nil, nil, nil
	r.trusted, r.forwardedTrusted = false, false
	r.query = rules.Query{Attributes: attributes, Headers: r}
	r.service, r.standing, r.decision = nil, rules.Standing{}, rules.Decision{}
	r.keys, r.pins, r.held, r.pin, r.subject = r.keys[:0], r.pins[:0], -1, session.Pin{}, ""
	r.upload, r.exchange, r.download, r.entry = upload{}, upstream.Exchange{}, download{}, nil
	r.p.requests.Put(r)
}

// An upload is the client's body on its way to the pod: counted, bounded, and given time as long as bytes come.
type upload struct {
	in      io.Reader
	conn    net.Conn
	idle    time.Duration
	limit   int64 // 0: none
	bytes   int64
	overrun bool
	err     error
}

var errOverrun = errors.New("the request body is larger than limits.bodyBytes")

func (u *upload) Read(b []byte) (int, error) {
	if u.conn != nil && u.idle > 0 {
		if err := u.conn.SetReadDeadline(time.Now().Add(u.idle)); err != nil {
			u.err = err
			return 0, err
		}
	}
	n, err := u.in.Read(b)
	u.bytes += int64(n)
	if u.limit > 0 && u.bytes > u.limit {
		u.overrun, u.err = true, errOverrun
		return 0, errOverrun
	}
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}

// A download is the pod's answer on its way to the client. Closing it, which fasthttp does in every case, ends the
// request.
type download struct {
	r      *request
	in     io.Reader
	status int
	bytes  int64
	ended  bool // the body's end was seen
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.in.Read(b)
	d.bytes += int64(n)
	if err == io.EOF {
		d.ended = true
	}
	return n, err
}

func (d *download) Close() error {
	r := d.r
	if r == nil {
		return nil
	}
	d.r = nil
	err := r.answer.CloseBodyStream()
	r.finish()
	return err
}
