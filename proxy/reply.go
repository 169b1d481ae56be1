package proxy

import (
	"errors"
	"io"
	"slices"
	"strconv"

	"tellergate/proxy/http1"
	"tellergate/proxy/upstream"
)

// reply sends the pod's answer to the client, piece by piece as it comes. It reports whether the client's connection can
// carry another request.
func (r *request) reply() (again bool) {
	x := &r.exchange
	r.keep(x.Answer.Status, nil)
	r.upload.answering()
	defer r.closeExchange()

	body, whole := x.Whole()
	if !whole {
		x.Gather(firstPiece)
		body, whole = x.Whole()
	}
	length := x.Answer.Length
	if whole {
		length = int64(len(body))
	}
	again = r.keepAlive && x.Sent() && r.bodyTaken() && !r.p.draining.Load()
	coding := length
	if length < 0 {
		if coding = http1.Chunked; r.minor == 0 {
			coding, again = http1.UntilClose, false
		}
	}
	b := r.appendHead(r.out[:0], &x.Answer, coding)
	b = append(r.appendConnection(b, again), "\r\n"...)
	r.begun = true
	if whole {
		r.out = append(b, body...)
		r.closeExchange() // the pod's connection need not wait for the client
		if r.conn.answer(r.out) != nil {
			return false
		}
		r.bytesOut, r.whole = length, true
		return again
	}
	if length > 0 {
		// What has come of the body leaves with the header.
		wanted := int(min(length, firstPiece))
		b = slices.Grow(b, wanted)
		n := x.ReadNow(b[len(b) : len(b)+wanted])
		b = b[:len(b)+n]
		r.bytesOut = int64(n)
		if x.Ended() {
			r.out = b
			r.closeExchange()
			r.whole = r.conn.answer(b) == nil
			return again && r.whole
		}
	}
	r.out = b
	// The header does not wait for the body: an event stream's reader needs it even if no event comes for long.
	if r.conn.answer(b) != nil {
		return false
	}
	err := r.stream(coding == http1.Chunked)
	if err == nil {
		r.whole = true
		return again && x.Sent()
	}
	r.conn.cut, r.conn.shaky = coding == http1.UntilClose, true
	var client *clientError
	switch {
	case errors.As(err, &client):
	case r.conn.hasGone():
	default:
		r.p.metrics.cut.Inc()
	}
	return false
}

func (r *request) closeExchange() {
	if r.open {
		r.open = false
		r.conn.unwatch()
		r.exchange.Close()
	}
}

// A clientError is one of writing to the client.
type clientError struct{ error }

// Pieces of an answer's body begin small: a stream that trickles holds little memory while it waits.
const (
	firstPiece = 32 << 10 // what leaves with the header at most
	smallPiece = 4 << 10
	largePiece = 64 << 10
)

// stream carries the answer's body. The error is nil only if all of it, and its end, has been sent.
func (r *request) stream(chunked bool) error {
	size := smallPiece
	if r.bytesOut == firstPiece {
		size = largePiece // it does not trickle
	}
	buffer := http1.Buffer(size)
	defer func() { http1.Recycle(buffer) }()
	for {
		room := buffer[http1.FrameRoom : len(buffer)-http1.FrameEnd]
		n, err := r.exchange.Read(room)
		if n > 0 {
			piece := room[:n]
			if chunked {
				piece = http1.Frame(buffer, n)
			}
			if werr := r.conn.write(piece); werr != nil {
				return &clientError{werr}
			}
			r.bytesOut += int64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if wanted := largePiece; n == len(room) && size != wanted || n < smallPiece/2 && size == wanted {
			if size == wanted {
				wanted = smallPiece
			}
			http1.Recycle(buffer)
			size = wanted
			buffer = http1.Buffer(size)
		}
	}
	if !chunked {
		return nil
	}
	trailer := r.appendTrailer(r.scratch[len(r.scratch):], r.exchange.Trailer())
	if err := r.conn.write(http1.AppendLastChunk(r.out[:0], trailer)); err != nil {
		return &clientError{err}
	}
	return nil
}

// appendHead appends the answer's status line and header: the pod's own lines in their order and spelling, without those
// of the other hop, and then the framing of the body; no empty line yet.
func (r *request) appendHead(b []byte, a *upstream.Answer, coding int64) []byte {
	b = appendStatus(b, a.Status, a.Reason)
	var told []byte
	nominated := false
	for i := range a.Fields {
		f := &a.Fields[i]
		if !isHopByHop(f.Name) {
			continue
		}
		if equalFold(f.Name, "Connection") {
			nominated = nominated || !only(f.Value, "close", "keep-alive", "upgrade")
		} else if equalFold(f.Name, "Content-Length") {
			told = f.Value
		}
	}
	for i := range a.Fields {
		f := &a.Fields[i]
		if isHopByHop(f.Name) || nominated && nominates(a.Fields, f.Name) || equalFold(f.Name, movedHeader) ||
			coding != http1.Chunked && equalFold(f.Name, "Trailer") {
			continue
		}
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	if r.moved != "" {
		b = append(append(append(b, movedHeader+": "...), r.moved...), "\r\n"...)
	}
	switch {
	case a.Status < 200 || a.Status == 204:
	case a.Status == 304 || string(r.method) == "HEAD":
		// What the body of a GET would have; nothing follows (RFC 9110, section 8.6).
		if n, ok := http1.ParseLength(told); ok {
			b = append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), "\r\n"...)
		}
	case coding >= 0:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), coding, 10), "\r\n"...)
	case coding == http1.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return b
}

// only reports whether a list has no elements but these.
func only(list []byte, known ...string) bool {
	for len(list) > 0 {
		var element []byte
		element, list = http1.CutElement(list)
		found := len(element) == 0
		for _, k := range known {
			found = found || equalFold(element, k)
		}
		if !found {
			return false
		}
	}
	return true
}

// nominates reports whether a Connection header among fields names this one as belonging to its hop.
func nominates(fields []upstream.Field, name []byte) bool {
	if keepsEndToEnd(name) {
		return false
	}
	for i := range fields {
		if !equalFold(fields[i].Name, "Connection") {
			continue
		}
		for list := fields[i].Value; len(list) > 0; {
			var element []byte
			if element, list = http1.CutElement(list); equalFold(element, view(name)) {
				return true
			}
		}
	}
	return false
}

// interim passes a 1xx answer on to the client. It runs while the answer is waited for.
func (r *request) interim(a *upstream.Answer) error {
	r.out = append(r.appendHead(r.out[:0], a, 0), "\r\n"...)
	return r.conn.write(r.out)
}
