package proxy

// A client that sends one request after another is served in turns: one use of the poller lasts over any number of
// requests. Each use begins with a look whether something has come already, since the poller tells of what comes and not of
// what is there; between two requests that look would find nothing and cost a system call.
//
// In a turn the connection is the poller's. It may be written, and be looked at; what reads from it or closes it waits until
// the turn is over, and would wait for ever in the turn's own goroutine. A turn ends with what needs that.

// An ending is why a turn has ended.
type ending int

const (
	unfinished ending = iota // something has come, or the connection has ended; what there is has to be read on
	parked                   // conn.parked has been read, and needs more of its client than has come
	final                    // the connection carries no other request
	served                   // all that has come is answered, and the frontend closes
)

// serveTurn waits for a request and answers it, and those that follow. An error is one of having waited in vain.
func (c *conn) serveTurn() (ending, error) {
	raw := c.net.Raw()
	if raw == nil {
		return unfinished, c.fill(c.f.headerBytes)
	}
	c.late = false
	if err := raw.Read(c.turn); err != nil {
		return unfinished, err
	}
	return c.ending, c.received()
}

// tryServe answers what has come, or reports that nothing has and asks to be called again.
func (c *conn) tryServe(fd uintptr) bool {
	for {
		room := len(c.in.Room())
		if !c.tryReceive(fd) {
			return false
		}
		c.ending = unfinished
		if c.received() != nil {
			return true
		}
		if c.late = c.enterNow(reading); c.late {
			return true
		}
		// What did not fill the room was all there was: whatever follows it, the poller will tell of. That is not so of what
		// TLS has read ahead, and not of an end that came together with the bytes: see unread.
		rest := c.tls != nil || c.n == room
		if c.ending = c.serveWhole(); c.ending != served {
			return true
		}
		c.in.Release()
		if rest {
			c.enter(idle)
		} else {
			c.enter(unread)
		}
		if c.f.closing.Load() {
			return true
		}
		if !rest {
			return false
		}
	}
}

// serveWhole answers the requests that have come whole. The ending is served if nothing else has come.
func (c *conn) serveWhole() ending {
	for {
		// An empty line before a request is rare, and may be half of one.
		if c.in.Buffered()[0] == '\r' {
			return unfinished
		}
		block, no := c.block(0)
		if block == nil && no == nil {
			return unfinished
		}
		r := c.f.p.requests.Get().(*request)
		r.begin(c)
		again := r.handle(block, no, true)
		if c.parked != nil {
			return parked
		}
		if !again {
			return final
		}
		if len(c.in.Buffered()) == 0 {
			return served
		}
		c.enter(reading)
	}
}
