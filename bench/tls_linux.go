package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// setTLS makes clients speak TLS from now on, and the contenders that are started, or not.
func (b *bench) setTLS(yes bool) (err error) {
	b.loop.SetTLS(yes)
	if b.tls = ""; yes {
		b.tls, err = b.certify()
	}
	return err
}

// certify writes the certificate that every contender shows where clients speak TLS, ECDSA on P-256, and returns the path
// of its files without their endings: .pem is the certificate, .key its key, .both is both.
func (b *bench) certify() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(48 * time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	files := filepath.Join(b.dir, "certificate")
	for ending, text := range map[string][]byte{".pem": chain, ".key": secret, ".both": bytes.Join([][]byte{chain, secret}, nil)} {
		if err := os.WriteFile(files+ending, text, 0o600); err != nil {
			return "", fmt.Errorf("writing the certificate: %w", err)
		}
	}
	return files, nil
}
