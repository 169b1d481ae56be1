package config

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
)

// TLS is how a frontend is encrypted. It holds private keys, so it is never printed. It is immutable.
type TLS struct {
	// Certificates with their keys and, parsed, their leaves. Clients that ask for a name that none of them is for get the
	// first one.
	Certificates []tls.Certificate
	// Files names the file of each certificate, as it is written in the settings.
	Files []string
	// ClientCAs have signed the certificates that clients must show; nil: clients show none.
	ClientCAs  *x509.CertPool
	MinVersion uint16 // tls.VersionTLS12 or tls.VersionTLS13
	// Hash is of all that the settings and the files say: where it is the same, so is everything else.
	Hash [sha256.Size]byte
}

type tlsText struct {
	Certificate string    `yaml:"certificate"`
	Key         string    `yaml:"key"`
	Others      []keyPair `yaml:"others"`
	ClientCA    string    `yaml:"clientCA"`
	MinVersion  string    `yaml:"minVersion"`
}

type keyPair struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// SetDefaults gives the values of a frontend's tls that says nothing.
func (t *tlsText) SetDefaults() { *t = tlsText{MinVersion: "1.2"} }

// maxPEMBytes bounds each file of a frontend's tls.
const maxPEMBytes = 4 << 20

// tls reads the files that a frontend's tls names. It returns nil where one of them is of no use.
func (c *checker) tls(path string, written *tlsText) *TLS {
	faults := len(c.problems)
	t := &TLS{MinVersion: tls.VersionTLS12}
	hash := sha256.New()
	read := func(at, name, what string) []byte {
		text := c.pem(at, name, what)
		fmt.Fprintf(hash, "%s %d\n%s\n", at, len(text), text)
		return text
	}
	pairs := append([]keyPair{{written.Certificate, written.Key}}, written.Others...)
	for i, pair := range pairs {
		at := path
		if i > 0 {
			at = fmt.Sprintf("%s.others[%d]", path, i-1)
		}
		chain := read(at+".certificate", pair.Certificate, "the certificate and then those that lead to its root")
		key := read(at+".key", pair.Key, "the private key of the certificate")
		if chain == nil || key == nil {
			continue
		}
		certificate, fault := keyPairOf(chain, key)
		if fault != nil {
			c.fault(at+"."+fault.at, fault.message, fault.remedy)
			continue
		}
		t.Certificates = append(t.Certificates, certificate)
		t.Files = append(t.Files, pair.Certificate)
	}
	switch written.MinVersion {
	case "1.2":
	case "1.3":
		t.MinVersion = tls.VersionTLS13
	default:
		c.fault(path+".minVersion", fmt.Sprintf("there is no version %q", written.MinVersion), `write "1.2" or "1.3"`)
	}
	if written.ClientCA != "" {
		if text := read(path+".clientCA", written.ClientCA, "the authorities that sign the certificates of clients"); text != nil {
			t.ClientCAs = x509.NewCertPool()
			if !t.ClientCAs.AppendCertsFromPEM(text) {
				c.fault(path+".clientCA", written.ClientCA+" holds no certificate", "name a PEM file of certificates")
			}
		}
	}
	if len(c.problems) > faults {
		return nil
	}
	fmt.Fprintln(hash, t.MinVersion)
	hash.Sum(t.Hash[:0])
	return t
}

// pem reads one file. It returns nil where that is not possible, and has said so.
func (c *checker) pem(path, name, what string) []byte {
	if name == "" {
		c.fault(path, "no file is named", "name a PEM file with "+what)
		return nil
	}
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.dir, file)
	}
	text, err := readFile(file, maxPEMBytes)
	if err != nil {
		c.fault(path, fmt.Sprintf("the file cannot be read: %v", err),
			"name a PEM file with "+what+", relative to the settings file")
		return nil
	}
	return append(make([]byte, 0, 1), text...) // not nil, even where it is empty
}

// A pairFault says which of the two files is at fault.
type pairFault struct{ at, message, remedy string }

// keyPairOf joins a chain of certificates and the key of the first one. What it says holds nothing of the key.
func keyPairOf(chain, key []byte) (tls.Certificate, *pairFault) {
	certificates, keysInChain := blocksOf(chain)
	if certificates == 0 {
		fault := &pairFault{"certificate", "the file holds no certificate in PEM", "write -----BEGIN CERTIFICATE----- and so on"}
		if keysInChain > 0 {
			fault.message, fault.remedy = "the file holds a key and no certificate", "the two files may have been swapped"
		}
		return tls.Certificate{}, fault
	}
	certificatesInKey, keys := blocksOf(key)
	switch {
	case keys == 0 && certificatesInKey > 0:
		return tls.Certificate{}, &pairFault{"key", "the file holds a certificate and no key", "the two files may have been swapped"}
	case keys == 0:
		return tls.Certificate{}, &pairFault{"key", "the file holds no private key in PEM", "write -----BEGIN PRIVATE KEY----- and so on"}
	case bytes.Contains(key, []byte("ENCRYPTED")):
		return tls.Certificate{}, &pairFault{"key", "the key is encrypted",
			"write it without a passphrase (openssl pkey -in KEY) and let only tellergate read the file"}
	}
	pair, err := tls.X509KeyPair(chain, key)
	switch {
	case err == nil:
		return pair, nil
	case strings.Contains(err.Error(), "does not match"):
		return tls.Certificate{}, &pairFault{"key", "the key is not that of the certificate",
			"name the two files that belong together; the certificate itself comes first in its file"}
	case strings.Contains(err.Error(), "private key"):
		return tls.Certificate{}, &pairFault{"key", "the key cannot be read: " + strings.TrimPrefix(err.Error(), "tls: "),
			"write an RSA, ECDSA or Ed25519 key"}
	}
	return tls.Certificate{}, &pairFault{"certificate",
		"the certificate cannot be read: " + strings.TrimPrefix(err.Error(), "tls: "), "write an X.509 certificate in PEM"}
}

// blocksOf counts the certificates and the private keys in a PEM text.
func blocksOf(text []byte) (certificates, keys int) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			certificates++
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			keys++
		}
	}
	return certificates, keys
}
