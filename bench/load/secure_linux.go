package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// SetTLS makes every client speak TLS from now on, or plain with nil. Whoever it speaks to, it must come to TLS 1.3 with
// X25519 and AES-128-GCM: another cipher would be other work.
func (l *Loop) SetTLS(yes bool) {
	l.tls = nil
	if yes {
		l.tls = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
			DynamicRecordSizingDisabled: true}
	}
}

// A below is a client's socket as crypto/tls sees it. After the handshake it never waits: EAGAIN, which crypto/tls takes
// for an error that passes, says that nothing has come, and what the socket does not take waits in out.
type below struct {
	s     *socket
	waits bool
}

// errNoHandshake: the other side is silent.
var errNoHandshake = errors.New("the TLS handshake takes longer than 5 s")

// secure makes the connection of a client one over TLS. It waits for the handshake, pods and other clients do too, so it
// is for connections that are made before something is measured.
func (l *Loop) secure(s *socket) error {
	if l.tls == nil {
		return nil
	}
	b := &below{s: s, waits: true}
	s.tls = tls.Client(b, l.tls)
	if err := s.tls.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	b.waits = false
	if suite := s.tls.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		return fmt.Errorf("the proxy chose %s, others TLS_AES_128_GCM_SHA256: the work is not the same", tls.CipherSuiteName(suite))
	}
	return nil
}

// say sends a message, encrypted where the client speaks TLS. It reports whether the socket lives.
func (s *socket) say(b []byte) bool {
	if s.tls == nil {
		return s.send(b)
	}
	_, err := s.tls.Write(b)
	return err == nil
}

// hear reads what has come, decrypted. The results are those of read.
func (s *socket) hear(b []byte) (int, syscall.Errno) {
	if s.tls == nil {
		return read(s.fd, b)
	}
	n, err := s.tls.Read(b)
	var errno syscall.Errno
	switch {
	case n > 0, err == io.EOF:
		return n, 0
	case errors.As(err, &errno):
		return 0, errno
	}
	return 0, syscall.EPROTO
}

func (b *below) Read(p []byte) (int, error) {
	for {
		n, errno := read(b.s.fd, p)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN && b.waits:
			if err := await(b.s.fd, pollIn); err != nil {
				return 0, err
			}
			continue
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (b *below) Write(p []byte) (int, error) {
	if len(b.s.out) > 0 {
		b.s.out = append(b.s.out, p...)
		return len(p), nil
	}
	b.s.out = p
	for {
		if !b.s.flush() {
			return 0, syscall.EPIPE
		}
		if len(b.s.out) == 0 {
			return len(p), nil
		}
		if !b.waits {
			b.s.out = append([]byte(nil), b.s.out...) // p is the caller's
			return len(p), nil
		}
		if err := await(b.s.fd, pollOut); err != nil {
			return 0, err
		}
	}
}

func (b *below) Close() error                     { return nil }
func (b *below) LocalAddr() net.Addr              { return nil }
func (b *below) RemoteAddr() net.Addr             { return nil }
func (b *below) SetDeadline(time.Time) error      { return nil }
func (b *below) SetReadDeadline(time.Time) error  { return nil }
func (b *below) SetWriteDeadline(time.Time) error { return nil }

// What poll waits for.
const (
	pollIn  = 1
	pollOut = 4
)

// await waits until the socket can be read or written.
func await(fd int, what int16) error {
	request := struct {
		fd            int32
		what, happens int16
	}{int32(fd), what, 0}
	limit := syscall.NsecToTimespec(int64(5 * time.Second))
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&request)), 1, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	switch {
	case errno == syscall.EINTR:
		return nil // the caller tries again
	case errno != 0:
		return fmt.Errorf("ppoll: %w", errno)
	case n == 0:
		return errNoHandshake
	}
	return nil
}
