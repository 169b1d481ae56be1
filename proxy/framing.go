package proxy

import (
	"tellergate/proxy/http1"
)

// framing is what a request's header says of its body and of the connection.
type framing struct {
	length  int64 // of the body, or http1.Chunked
	told    bool  // a Content-Length was sent, which the pod gets too, even for no body
	chunked bool
}

// readFraming finds the length of the body, which has to be told in one way only: by one Content-Length, or by chunked
// as the one transfer coding of an HTTP/1.1 request; the next hop might choose otherwise (RFC 9112, section 6.3). It also
// reads what else the header says about this connection.
func (r *request) readFraming() *refusal {
	lengths, codings := 0, 0
	for i := range r.fields {
		f := &r.fields[i]
		switch len(f.name) {
		case len("Content-Length"):
			if !equalFold(f.name, "Content-Length") {
				break
			}
			n, ok := http1.ParseLength(f.value)
			if lengths++; !ok || lengths > 1 {
				return &badRequest
			}
			r.framing.length, r.framing.told = n, true
		case len("Transfer-Encoding"):
			if !equalFold(f.name, "Transfer-Encoding") {
				break
			}
			if codings++; codings > 1 {
				return &badRequest
			}
			if no := r.readCoding(f.value); no != nil {
				return no
			}
		case len("Connection"):
			if equalFold(f.name, "Connection") {
				r.readConnection(f.value)
			}
		case len("Expect"):
			if !equalFold(f.name, "Expect") {
				break
			}
			if !equalFold(f.value, "100-continue") {
				return &expectationFailed
			}
			// HTTP/1.0 clients do not know what 100 is (RFC 9110, section 10.1.1).
			r.upload.expects = r.minor == 1
		}
	}
	if lengths+codings > 1 {
		return &badRequest
	}
	if r.framing.length == 0 {
		r.upload.expects = false
	}
	return nil
}

// readCoding reads a Transfer-Encoding: chunked and nothing else. What is well formed and unknown to us is refused as
// such.
func (r *request) readCoding(list []byte) *refusal {
	if r.minor == 0 {
		return &badRequest
	}
	if equalFold(list, "chunked") {
		r.framing.length, r.framing.chunked = http1.Chunked, true
		return nil
	}
	last, several := false, false
	for len(list) > 0 {
		var coding []byte
		coding, list = http1.CutElement(list)
		if last || !http1.IsToken(coding) || equalFold(coding, "identity") {
			return &badRequest
		}
		last = equalFold(coding, "chunked")
		several = several || !last
	}
	if !last || !several {
		return &badRequest
	}
	return &notImplemented
}

// readConnection reads the options that are about this connection.
func (r *request) readConnection(list []byte) {
	for len(list) > 0 {
		var option []byte
		option, list = http1.CutElement(list)
		switch {
		case equalFold(option, "close"):
			r.keepAlive = false
			r.closes = true
		case equalFold(option, "keep-alive"):
			if r.minor == 0 && !r.closes {
				r.keepAlive = true
			}
		case equalFold(option, "upgrade"):
			r.readUpgrade()
		}
	}
}

// readUpgrade finds the one protocol that the client wants to switch to. It is passed on for a request without a body;
// HTTP/2 and TLS are none of those that pass: they would hide requests in the tunnel (RFC 9110, section 7.8).
func (r *request) readUpgrade() {
	if r.minor == 0 {
		return
	}
	protocol := ""
	for i := range r.fields {
		f := &r.fields[i]
		if !equalFold(f.name, "Upgrade") {
			continue
		}
		if protocol != "" || !validProtocol(f.value) {
			return
		}
		protocol = view(f.value)
	}
	r.upgrade = protocol
}

func validProtocol(b []byte) bool {
	for _, hidden := range []string{"h2c", "h2", "HTTP", "TLS"} {
		if len(b) >= len(hidden) && equalFold(b[:len(hidden)], hidden) &&
			(len(b) == len(hidden) || b[len(hidden)] == '/') {
			return false
		}
	}
	slashes := 0
	for _, c := range b {
		if c == '/' {
			slashes++
		} else if !http1.IsToken([]byte{c}) {
			return false
		}
	}
	return len(b) > 0 && slashes <= 1
}
