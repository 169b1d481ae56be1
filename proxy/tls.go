package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"tellergate/config"
	"tellergate/proxy/http1"
)

// A frontendTLS is what new connections of a frontend are encrypted with. It is immutable; Reload replaces it whole, and
// only if the settings or files differ: a new tls.Config knows none of the sessions that clients may resume.
type frontendTLS struct {
	settings *config.TLS
	config   *tls.Config
}

// newFrontendTLS returns nil for a plain frontend.
func newFrontendTLS(settings *config.TLS) *frontendTLS {
	if settings == nil {
		return nil
	}
	c := &tls.Config{
		Certificates: settings.Certificates,
		MinVersion:   settings.MinVersion,
		NextProtos:   []string{"http/1.1"},
		// Else the first records of a connection are small, and each is a write of its own.
		DynamicRecordSizingDisabled: true,
	}
	if settings.ClientCAs != nil {
		c.ClientCAs, c.ClientAuth = settings.ClientCAs, tls.RequireAndVerifyClientCert
	}
	return &frontendTLS{settings, c}
}

// secure makes t what new connections are encrypted with, unless it is the same as before, and warns of certificates that
// clients will refuse.
func (f *frontend) secure(t *frontendTLS) {
	if t == nil {
		return
	}
	before := f.tls.Load()
	if before != nil && before.settings.Hash == t.settings.Hash {
		return
	}
	f.tls.Store(t)
	now := f.p.clock(time.Now())
	for i := range t.settings.Certificates {
		from, to := validity(&t.settings.Certificates[i])
		fields := []zap.Field{zap.String("frontend", f.name), zap.String("certificate", t.settings.Files[i]),
			zap.Time("notBefore", from), zap.Time("notAfter", to)}
		switch {
		case now.After(to):
			f.p.log.Warn("a certificate, or one that leads to its root, has expired; clients will refuse it: replace the file "+
				"and send SIGHUP", fields...)
		case now.Before(from):
			f.p.log.Warn("a certificate, or one that leads to its root, is not valid yet; clients will refuse it until then, "+
				"or the clock of this machine is wrong", fields...)
		case before != nil:
			f.p.log.Info("new connections get this certificate", fields...)
		}
	}
}

// validity returns the time in which every certificate of a chain is valid.
func validity(chain *tls.Certificate) (from, to time.Time) {
	from, to = chain.Leaf.NotBefore, chain.Leaf.NotAfter
	for _, der := range chain.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue // what clients do with it is theirs to say
		}
		if c.NotBefore.After(from) {
			from = c.NotBefore
		}
		if c.NotAfter.Before(to) {
			to = c.NotAfter
		}
	}
	return from, to
}

// stream returns the connection as a client's bytes pass through it: for several goroutines, one of which reads.
func (c *conn) stream() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return c.net.Conn
}

// shakeHands waits for the handshake, in the phase handshaking. It reports whether requests can follow.
func (c *conn) shakeHands() bool {
	err := c.tls.Handshake()
	if late := c.enterNow(fresh); late && err == nil {
		err = os.ErrDeadlineExceeded
	}
	if err == nil {
		state := c.tls.State()
		c.f.shaken[handshakeKind{tls.VersionName(state.Version), state.DidResume}].Inc()
		return true
	}
	c.shaky = true
	why := reasonOf(err)
	if why != closedEarly {
		if suppressed, ok := c.f.p.handshakeFailed.allow(time.Now()); ok {
			c.f.p.log.Info("a TLS handshake failed", zap.String("frontend", c.f.name), zap.String("reason", why),
				zap.Stringer("peer", c.peer), zap.Error(err), zap.Uint64("notLogged", suppressed))
		}
	}
	c.f.unshaken[why].Inc()
	switch why {
	case plainHTTP:
		c.f.p.metrics.refused[&tlsRequired].Inc()
		_ = c.net.SetDeadline(time.Now().Add(lingerTime))
		if _, err := c.net.Write(tlsRequired.answer()); err == nil {
			c.linger()
		}
	case tooSlow, closedEarly, notTLS:
	default:
		c.linger() // the client is to read the alert that says why
	}
	return false
}

// A handshakeKind is what one that succeeds is counted as.
type handshakeKind struct {
	version string
	resumed bool
}

// handshakes are all that there may be.
var handshakes = []handshakeKind{{"TLS 1.2", false}, {"TLS 1.2", true}, {"TLS 1.3", false}, {"TLS 1.3", true}}

// Reasons why a handshake fails, as the metric tells them.
const (
	plainHTTP         = "plain_http"         // the client speaks HTTP without TLS
	notTLS            = "not_tls"            // it speaks something else
	tooSlow           = "timeout"            // limits.headerTimeout
	closedEarly       = "closed"             // the client went away: probes of load balancers do
	refusedByClient   = "refused_by_client"  // it does not trust the certificate, most likely
	clientCertificate = "client_certificate" // it showed none, or one that clientCA has not signed
	noVersion         = "version"            // it knows no version that minVersion accepts
	noCipher          = "cipher"             // it knows no cipher suite or key exchange that is offered
	noProtocol        = "protocol"           // it speaks HTTP/2 only
	otherwise         = "other"
)

var handshakeReasons = []string{plainHTTP, notTLS, tooSlow, closedEarly, refusedByClient, clientCertificate, noVersion, noCipher,
	noProtocol, otherwise}

// reasonsInWords are how crypto/tls tells what has no error of its own.
var reasonsInWords = []struct{ words, reason string }{
	{"client didn't provide a certificate", clientCertificate},
	{"client certificate", clientCertificate},
	{"unsupported versions", noVersion},
	{"no cipher suite", noCipher},
	{"no key exchanges", noCipher},
	{"unsupported application protocols", noProtocol},
}

// reasonOf finds why a handshake failed.
func reasonOf(err error) string {
	var header tls.RecordHeaderError
	var remote *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &header) && header.Conn != nil && http1.IsToken(header.RecordHeader[:3]):
		return plainHTTP
	case errors.As(err, &header):
		return notTLS
	case errors.Is(err, os.ErrDeadlineExceeded):
		return tooSlow
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, net.ErrClosed):
		return closedEarly
	case errors.As(err, &remote) && remote.Op == "remote error":
		return refusedByClient
	case errors.As(err, &certificate):
		return clientCertificate
	}
	for _, known := range reasonsInWords {
		if strings.Contains(err.Error(), known.words) {
			return known.reason
		}
	}
	return otherwise
}

// countHandshakes makes the counters of the frontend and registers them, and the certificates' end.
func (f *frontend) countHandshakes(register prometheus.Registerer) error {
	if f.tls.Load() == nil {
		return nil
	}
	labels := prometheus.Labels{"frontend": f.name}
	succeeded := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tellergate_tls_handshakes_total", Help: "TLS handshakes that succeeded.", ConstLabels: labels,
	}, []string{"version", "resumed"})
	f.shaken = make(map[handshakeKind]prometheus.Counter)
	for _, h := range handshakes {
		f.shaken[h] = succeeded.WithLabelValues(strings.TrimPrefix(h.version, "TLS "), strconv.FormatBool(h.resumed))
	}
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tellergate_tls_handshake_failures_total", Help: "TLS handshakes that failed, by reason.", ConstLabels: labels,
	}, []string{"reason"})
	f.unshaken = make(map[string]prometheus.Counter)
	for _, reason := range handshakeReasons {
		f.unshaken[reason] = failed.WithLabelValues(reason)
	}
	return errors.Join(register.Register(succeeded), register.Register(failed), register.Register(certificates{f}))
}

// certificates collects until when those of a frontend are valid, when it is asked.
type certificates struct{ f *frontend }

func (c certificates) desc() *prometheus.Desc {
	return prometheus.NewDesc("tellergate_tls_certificate_not_after_timestamp_seconds",
		"When a certificate that new connections get, or one that leads to its root, expires.", []string{"certificate"},
		prometheus.Labels{"frontend": c.f.name})
}

func (c certificates) Describe(out chan<- *prometheus.Desc) { out <- c.desc() }

func (c certificates) Collect(out chan<- prometheus.Metric) {
	settings := c.f.tls.Load().settings
	told := make(map[string]bool)
	for i := range settings.Certificates {
		if told[settings.Files[i]] {
			continue
		}
		told[settings.Files[i]] = true
		_, to := validity(&settings.Certificates[i])
		out <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, float64(to.Unix()), settings.Files[i])
	}
}
