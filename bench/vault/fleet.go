package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"coffer/bench"
	"coffer/vault"
)

// fleet is three bench nodes that run.
type fleet struct {
	file     []byte // manifest
	manifest *vault.Manifest
	roots    vault.Roots
	procs    []*bench.Process
	control  []string // URL, by node
}

// startFleet makes the keys of each node with keys and runs program, with args, on each.
func startFleet(ctx context.Context, dir, program string, keys makeKeys, args ...string) (*fleet, error) {
	public, root, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	f := &fleet{roots: vault.Roots{Keys: []ed25519.PublicKey{public}}}
	addrs, err := freeAddrs(9)
	if err != nil {
		return nil, err
	}
	var nodes []vault.Node
	for i := range 3 {
		n := vault.Node{ID: fmt.Sprintf("n%d", i+1), Operator: "bench", URL: "https://" + addrs[3*i], Raft: addrs[3*i+1]}
		home := filepath.Join(dir, n.ID)
		if n.TLSPin, n.Identity, err = keys(home); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	f.manifest = vault.NewManifest("bench", nodes, time.Now())
	f.manifest.Argon = vault.Argon{Time: 1, Memory: 64, Threads: 1} // not what is measured
	f.manifest.Policy.Budget, f.manifest.Policy.Delays, f.manifest.Policy.Lifetime = guessesEach, []uint32{0}, 1000
	f.manifest.Policy.Deadline = 86400
	signed, err := vault.Unsigned(f.manifest)
	if err != nil {
		return nil, err
	}
	signed.Sign(root)
	f.file = signed.Bytes()
	file := filepath.Join(dir, "fleet.cbor")
	if err := os.WriteFile(file, f.file, 0o600); err != nil {
		return nil, err
	}
	for i, n := range nodes {
		home, control := filepath.Join(dir, n.ID), addrs[3*i+2]
		p, err := bench.Start(os.Environ(), filepath.Join(dir, n.ID+".log"), program,
			append(args, "-id", n.ID, "-dir", home, "-fleet", file, "-root", hex.EncodeToString(public), "-control", control)...)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.procs, f.control = append(f.procs, p), append(f.control, "http://"+control)
	}
	if _, err := f.leader(ctx); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *fleet) stop() {
	for _, p := range f.procs {
		p.Stop()
	}
}

// leader waits for one, and returns its place among the nodes.
func (f *fleet) leader(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		for i, url := range f.control {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return 0, err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				continue
			}
			var a struct{ Mine bool }
			err = json.NewDecoder(resp.Body).Decode(&a)
			resp.Body.Close()
			if err == nil && a.Mine {
				return i, nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, errors.New("the fleet elects no leader")
		}
	}
}

// makeKeys writes a node's TLS key and certificate into home, and its other keys.
type makeKeys func(home string) (pin [32]byte, identity [33]byte, err error)

// keysInMemory has the node keep its identity key, and all others, in memory.
func keysInMemory(home string) (pin [32]byte, identity [33]byte, err error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return pin, identity, err
	}
	leaf, err := makeCertificate(filepath.Join(home, "tls.crt"), filepath.Join(home, "tls.key"))
	if err != nil {
		return pin, identity, err
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pin, identity, err
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return pin, identity, err
	}
	if err := writePEM(filepath.Join(home, "identity.key"), "EC PRIVATE KEY", der); err != nil {
		return pin, identity, err
	}
	identity, err = vault.IdentityKey(&k.PublicKey)
	return sha256.Sum256(leaf.RawSubjectPublicKeyInfo), identity, err
}

// makeCertificate makes a self-signed certificate of 127.0.0.1, its own authority.
func makeCertificate(certFile, keyFile string) (*x509.Certificate, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "bench"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writePEM(certFile, "CERTIFICATE", der), writePEM(keyFile, "EC PRIVATE KEY", keyDER)); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// freeAddrs returns loopback addresses that were free a moment ago.
func freeAddrs(n int) (addrs []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end: so that none comes twice
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}
