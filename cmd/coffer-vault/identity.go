package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/vault"
)

// writeKey writes a private key for its owner alone; it replaces none.
func writeKey(file string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	return writeSecret(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func writeSecret(file string, data []byte) error {
	if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
		return hinted(fmt.Errorf("%s exists already", file), "move it away if it is not needed any more")
	}
	return durable.WriteFile(file, data, 0o600)
}

// readSecret reads a small file that only its owner may read. Credentials of
// systemd are 0440 where it grants them by ACL: their folder is closed instead.
func readSecret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	credential := dir != "" && filepath.Dir(file) == filepath.Clean(dir)
	if info.Mode().Perm()&0o077 != 0 && !credential {
		return nil, hinted(fmt.Errorf("%s is open to others (%v)", file, info.Mode().Perm()), "chmod 600 "+file)
	}
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// readSigningKey reads an Ed25519 key that "fleet key" or "token key" made.
func readSigningKey(file string) (ed25519.PrivateKey, error) {
	b, err := readSecret(file)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no private key", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: parsing the key: %w", file, err)
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, want Ed25519", file, key)
	}
	return k, nil
}

// makeSigningKey makes an Ed25519 key in a new file, and returns its public half in hex.
func makeSigningKey(file string) (string, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("making a key: %w", err)
	}
	if err := writeKey(file, key); err != nil {
		return "", err
	}
	return hex.EncodeToString(public), nil
}

// nodeFile is DIR/node.json: what the fleet's manifest says of the node.
type nodeFile struct {
	ID       string `json:"id"`
	Operator string `json:"operator"`
	URL      string `json:"url"`
	Raft     string `json:"raft"`
	TLSPin   string `json:"tls_pin"`  // hex
	Identity string `json:"identity"` // hex
	HSM      string `json:"hsm"`
}

func (f nodeFile) node() (vault.Node, error) {
	n := vault.Node{ID: f.ID, Operator: f.Operator, URL: f.URL, Raft: f.Raft, HSM: f.HSM}
	if err := fill(n.TLSPin[:], f.TLSPin); err != nil {
		return n, fmt.Errorf("node %s: tls_pin: %w", f.ID, err)
	}
	if err := fill(n.Identity[:], f.Identity); err != nil {
		return n, fmt.Errorf("node %s: identity: %w", f.ID, err)
	}
	return n, nil
}

func fill(to []byte, digits string) error {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(to) {
		return fmt.Errorf("want %d hex digits", 2*len(to))
	}
	copy(to, b)
	return nil
}

// vaultDir is where the node keeps its ledger, its keys and the manifests it followed.
func vaultDir(c *config.Vault) string { return filepath.Join(c.Dir, "vault") }

// loadManifest reads and verifies the fleet's manifest: the file that the operator
// put there, or a newer one that the node has heard of.
func loadManifest(c *config.Vault) ([]byte, vault.Roots, *vault.Manifest, error) {
	fail := func(err error, hint string) ([]byte, vault.Roots, *vault.Manifest, error) {
		return nil, vault.Roots{}, nil, &exitError{err, exitConfig, hint}
	}
	roots, err := vault.ParseRoots(c.Roots, 0)
	if err != nil {
		return fail(fmt.Errorf("roots: %w", err), `"coffer-vault fleet key" printed them`)
	}
	b, err := os.ReadFile(c.Manifest)
	if err != nil {
		return fail(fmt.Errorf("reading the manifest: %w", err), `"coffer-vault fleet init" makes it`)
	}
	b, m, err := vault.NewestManifest(vaultDir(c), b, roots)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", c.Manifest, err), `"coffer-vault fleet show" prints it with its signatures`)
	}
	return b, roots, m, nil
}
