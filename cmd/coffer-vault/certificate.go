package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"coffer/internal/durable"
	"coffer/vault"
)

// certificateLife is long: peers and clients pin the key and look at no date.
const certificateLife = 20 * 365 * 24 * time.Hour

// A node has up to two TLS keys: the one that the manifest pins, and one that the next
// manifest will. Which is which the manifest says, not the name.
var certificateNames = []string{"tls", "tls.next"}

func certificateFiles(dir, name string) (cert, key string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

// makeCertificate makes the node's TLS key and a self-signed certificate, unless
// they are there.
func makeCertificate(dir, node string) (tls.Certificate, error) {
	certFile, _ := certificateFiles(dir, certificateNames[0])
	if _, err := os.Stat(certFile); err == nil {
		return loadCertificate(dir, certificateNames[0])
	}
	return newCertificate(dir, certificateNames[0], node)
}

// renewCertificate makes a key for the next manifest, in the place of one that the
// present one does not pin.
func renewCertificate(dir string, m *vault.Manifest, node string) (tls.Certificate, error) {
	for _, name := range certificateNames {
		if c, err := loadCertificate(dir, name); err == nil && pins(m, node, c) {
			continue
		}
		certFile, keyFile := certificateFiles(dir, name)
		for _, file := range []string{certFile, keyFile} {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return tls.Certificate{}, err
			}
		}
		return newCertificate(dir, name, node)
	}
	return tls.Certificate{}, fmt.Errorf("the manifest pins both keys of the node") // it cannot
}

func newCertificate(dir, name, node string) (tls.Certificate, error) {
	certFile, keyFile := certificateFiles(dir, name)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	if err := writeKey(keyFile, key); err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a serial number: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: node}, DNSNames: []string{node},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := durable.WriteFile(certFile, block, 0o644); err != nil {
		return tls.Certificate{}, err
	}
	return loadCertificate(dir, name)
}

func loadCertificate(dir, name string) (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(certificateFiles(dir, name))
	if err != nil {
		return c, hinted(fmt.Errorf("loading the node's certificate: %w", err), `"coffer-vault init" makes it`)
	}
	return c, nil
}

// pinnedCertificate is the one of the node's that the manifest pins.
func pinnedCertificate(dir string, m *vault.Manifest, node string) (tls.Certificate, error) {
	var all error
	for _, name := range certificateNames {
		c, err := loadCertificate(dir, name)
		if err == nil && pins(m, node, c) {
			return c, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	if all == nil {
		all = fmt.Errorf("the manifest pins another certificate for node %s", node)
	}
	return tls.Certificate{}, hinted(all, `"coffer-vault init" writes node.json with the pin, for the fleet's next manifest`)
}

// pins says whether the manifest names the certificate's key as the node's.
func pins(m *vault.Manifest, node string, c tls.Certificate) bool {
	n, ok := m.Node(node)
	p, err := pin(c)
	return ok && err == nil && n.TLSPin == p
}

func pin(c tls.Certificate) ([32]byte, error) {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return [32]byte{}, fmt.Errorf("parsing the node's certificate: %w", err)
	}
	return sha256.Sum256(leaf.RawSubjectPublicKeyInfo), nil
}
