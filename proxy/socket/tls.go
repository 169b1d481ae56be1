package socket

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// A TLS is the server's side of TLS over a Conn. Like the Conn it can be asked for what has come without waiting, so a
// goroutine that waits for its client holds no buffer and stands in no function of crypto/tls.
//
// That works because crypto/tls takes an error that is temporary, as EAGAIN is, for one that passes: what it is given
// below answers so where nothing has come, and Read of crypto/tls goes on at the next call where it has stopped. What
// it has read ahead is asked for before the socket is.
//
// One goroutine may read while others write. Handshake comes first. Deadlines are those of the socket, addresses too.
type TLS struct {
	net.Conn // the socket
	below    *Conn
	over     *tls.Conn
	lower    lower

	fd    uintptr // what Receive and Look were given, while they run
	waits bool    // reads below wait: in the handshake only
	ahead bool    // Look has taken
	first [1]byte // this byte

	in      []byte // what Read reads into
	got     int
	readErr error
	receive func(fd uintptr) bool // t.tryReceive, bound once

	alert   byte         // that the client has sent without encryption, in the handshake
	failed  bool         // a write did: nobody can know what has arrived
	last    bool         // writes do not wait
	stalled atomic.Int64 // since when a write has been waiting for the client, in ns after the beginning; 0: none is
}

// Init makes t the server of a client on c. It must be called once, before anything else. c must be a socket; nobody else
// may read or write it until TLS is over.
func (t *TLS) Init(c *Conn, config *tls.Config) {
	t.Conn, t.below = c.Conn, c
	t.lower = lower{c.Conn, t}
	t.over = tls.Server(&t.lower, config)
	t.receive, c.send = t.tryReceive, t.trySend
}

// Handshake waits for the handshake to end. A tls.RecordHeaderError with a Conn says that the client speaks something else
// and has been sent nothing; a net.OpError "remote error" that the client has ended it with an alert.
func (t *TLS) Handshake() error {
	t.waits = true
	err := t.over.Handshake()
	t.waits = false
	if err != nil && t.alert != 0 {
		return &net.OpError{Op: "remote error", Err: tls.AlertError(t.alert)}
	}
	return err
}

// State tells what was negotiated.
func (t *TLS) State() tls.ConnectionState { return t.over.ConnectionState() }

// Receive reads what has come into p, which is not empty, and does not wait. The results are those of the function
// Receive, and the errors of crypto/tls. It is called with the descriptor, in a function that Raw was given.
func (t *TLS) Receive(fd uintptr, p []byte) (n int, err error) {
	if t.ahead {
		t.ahead = false
		if n = copy(p, t.first[:]); len(p) == n {
			return n, nil
		}
	}
	t.fd = fd
	m, err := t.over.Read(p[n:])
	if n += m; n > 0 || err == io.EOF {
		err = nil // it is met again
	}
	return n, err
}

// Look looks whether there is something for Receive. The results are those of Receive with one byte of room.
func (t *TLS) Look(fd uintptr) (n int, err error) {
	if t.ahead {
		return 1, nil
	}
	if n, err = t.Receive(fd, t.first[:]); n == 1 {
		t.ahead = true
	}
	return n, err
}

// Read is net.Conn's Read.
func (t *TLS) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t.in = p
	err := t.below.raw.Read(t.receive)
	t.in = nil
	switch {
	case err != nil: // a deadline, or the connection is closed
		return 0, err
	case t.readErr != nil:
		return 0, t.readErr
	case t.got == 0:
		return 0, io.EOF
	}
	return t.got, nil
}

func (t *TLS) tryReceive(fd uintptr) bool {
	t.got, t.readErr = t.Receive(fd, t.in)
	return t.readErr != syscall.EAGAIN
}

// Write is net.Conn's Write, for several goroutines at once. Where it fails all others will.
func (t *TLS) Write(p []byte) (int, error) { return t.over.Write(p) }

// CloseWrite tells the client that nothing follows, in TLS and below.
func (t *TLS) CloseWrite() error {
	if err := t.over.CloseWrite(); err != nil {
		return err
	}
	return t.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Finish tells the client in TLS that nothing follows, unless it takes waiting or a write has failed. It is the last that
// is written, and nobody else may be writing.
func (t *TLS) Finish() {
	if !t.failed {
		t.last = true
		_ = t.over.CloseWrite()
	}
}

// Stalled returns how long a write has been waiting for the client to read; 0: none is.
func (t *TLS) Stalled() time.Duration {
	if since := t.stalled.Load(); since > 0 {
		return time.Since(beginning) - time.Duration(since)
	}
	return 0
}

var beginning = time.Now()

// trySend is the Conn's, but for what it does where there is no room.
func (t *TLS) trySend(fd uintptr) bool {
	if t.below.trySend(fd) {
		return true
	}
	if t.last {
		t.below.writeErr = syscall.EAGAIN
		return true
	}
	if t.stalled.Load() == 0 {
		t.stalled.Store(int64(time.Since(beginning)))
	}
	return false
}

// lower is what crypto/tls reads and writes. Deadlines that it sets hold for nobody: those of the socket are not its to
// set.
type lower struct {
	net.Conn
	t *TLS
}

func (l *lower) Read(p []byte) (int, error) {
	if l.t.waits {
		n, err := l.t.below.Read(p)
		l.t.alert = plainAlert(p[:n])
		return n, err
	}
	n, err := Receive(l.t.fd, p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// plainAlert returns the alert that b ends with, or 0. A client of OpenSSL that does not trust the certificate says so in
// TLS 1.3 before it encrypts, which crypto/tls takes for a record that cannot be decrypted.
func plainAlert(b []byte) byte {
	const length = 7 // a header, a level and the alert
	if b = b[max(len(b)-length, 0):]; len(b) == length && b[0] == recordAlert && b[1] == 3 && b[3] == 0 && b[4] == 2 {
		return b[6]
	}
	return 0
}

// Write is called by one goroutine at a time: crypto/tls has a lock around it. It may be the one that reads, for an alert
// or a new key.
func (l *lower) Write(p []byte) (int, error) {
	n, err := l.t.below.Write(p)
	if err != nil {
		l.t.failed = true
	}
	if l.t.stalled.Load() != 0 {
		l.t.stalled.Store(0)
	}
	return n, err
}

func (l *lower) SetDeadline(time.Time) error      { return nil }
func (l *lower) SetReadDeadline(time.Time) error  { return nil }
func (l *lower) SetWriteDeadline(time.Time) error { return nil }

// States of a connection, as Linux numbers them.
const (
	tcpClose     = 7
	tcpCloseWait = 8
)

// Ended reports whether the client has gone away: it has reset the connection, or closed its side of it, and there is
// nothing to read but the notice that it would. A client that only gives that notice still waits for its answer. It may be
// called while others read and write; fd is the descriptor.
func (t *TLS) Ended(fd uintptr) bool {
	info, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO) // begins with the state
	if err != nil {
		return false
	}
	switch info & 0xff {
	case tcpClose:
		return true
	case tcpCloseWait:
	default:
		return false
	}
	var b [128]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err != nil && err != syscall.EAGAIN && err != syscall.EINTR || err == nil && (n == 0 || isAlert(b[:n]))
}

// Types of records.
const (
	recordAlert = 21
	recordData  = 23
)

// isAlert reports whether b is one record that is an alert, or in TLS 1.3, which hides what a record is, as long as one.
func isAlert(b []byte) bool {
	const header, hidden = 5, 2 + 1 + 16
	if len(b) < header || len(b) != header+int(b[3])<<8+int(b[4]) {
		return false
	}
	return b[0] == recordAlert || b[0] == recordData && len(b) == header+hidden
}
