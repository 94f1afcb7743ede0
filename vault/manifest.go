package vault

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"coffer/ppss"
)

// Manifest describes a fleet: whom a client trusts, and how far. It is signed
// by offline root keys; see [SignedManifest].
type Manifest struct {
	Version   uint8    `cbor:"1,keyasint"`
	Fleet     FleetID  `cbor:"2,keyasint"`
	Name      string   `cbor:"3,keyasint"` // for people
	Sequence  uint64   `cbor:"4,keyasint"` // from 1, one more each time; clients refuse to go back
	Previous  [32]byte `cbor:"5,keyasint"` // hash of the manifest before, zero for the first
	Issued    int64    `cbor:"6,keyasint"` // Unix seconds
	NotAfter  int64    `cbor:"7,keyasint"` // Unix seconds
	Threshold uint8    `cbor:"8,keyasint"` // t: nodes that recover a key
	Policy    Policy   `cbor:"9,keyasint"`
	Argon     Argon    `cbor:"10,keyasint"`
	Nodes     []Node   `cbor:"11,keyasint"` // 1, 3, 5 or 7, sorted by ID

	// Predecessor is the last fleet file of another fleet whose accounts move to this
	// one, absent if there is none. The same roots have signed it.
	Predecessor []byte `cbor:"12,keyasint,omitempty"`
}

// Argon holds the parameters of the password's stretching.
type Argon struct {
	Time    uint32 `cbor:"1,keyasint"` // passes
	Memory  uint32 `cbor:"2,keyasint"` // KiB
	Threads uint8  `cbor:"3,keyasint"`
}

// Node is one member of a fleet.
type Node struct {
	ID       string   `cbor:"1,keyasint"` // unique in the fleet for ever, 1 to 32 of a-z, 0-9, "-", "."
	Operator string   `cbor:"2,keyasint"` // for people: who runs it
	URL      string   `cbor:"3,keyasint"` // https://host:port
	Raft     string   `cbor:"4,keyasint"` // host:port for the other nodes
	TLSPin   [32]byte `cbor:"5,keyasint"` // SHA-256 of the SubjectPublicKeyInfo of its certificate
	Identity [33]byte `cbor:"6,keyasint"` // P-256 key that signs its answers; see [IdentityKey]
	HSM      string   `cbor:"7,keyasint"` // for people: maker, model, "software" if it is none
}

// IdentityKey returns the form of an identity key in the manifest.
func IdentityKey(k *ecdsa.PublicKey) ([33]byte, error) {
	if k == nil || k.Curve != elliptic.P256() {
		return [33]byte{}, fmt.Errorf("vault: identity key is not of P-256")
	}
	b, err := k.Bytes() // 4, x, y
	if err != nil {
		return [33]byte{}, fmt.Errorf("vault: identity key: %w", err)
	}
	return [33]byte(append([]byte{2 | b[64]&1}, b[1:33]...)), nil
}

// NewManifest returns the first, unsigned manifest of a new fleet: random id,
// majority threshold, default policy and stretching, valid for a year. The caller
// may change what it likes before signing.
func NewManifest(name string, nodes []Node, now time.Time) *Manifest {
	a := ppss.DefaultArgon
	m := &Manifest{
		Version: version, Name: name, Sequence: 1, Issued: now.Unix(), NotAfter: now.AddDate(1, 0, 0).Unix(),
		Threshold: uint8(len(nodes)/2 + 1), Policy: DefaultPolicy(),
		Argon: Argon{Time: a.Time, Memory: a.Memory, Threads: a.Threads}, Nodes: nodes,
	}
	rand.Read(m.Fleet[:])
	return m
}

// Next returns an unsigned copy of m to be changed, the successor of m.
func (m *Manifest) Next(now time.Time) *Manifest {
	var n Manifest
	if err := decode(encode(m), &n); err != nil {
		panic("vault: internal error: " + err.Error())
	}
	n.Sequence, n.Previous = m.Sequence+1, m.Hash()
	n.Issued, n.NotAfter = now.Unix(), now.AddDate(1, 0, 0).Unix()
	return &n
}

// Hash identifies the manifest in requests, answers and the successor.
func (m *Manifest) Hash() [32]byte { return manifestHash(encode(m)) }

func manifestHash(b []byte) [32]byte {
	return sha256.Sum256(append([]byte("coffer vault 1 manifest"), b...))
}

// Node returns the node with the id.
func (m *Manifest) Node(id string) (Node, bool) {
	for _, n := range m.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}

// Check returns an error unless the manifest is one that can work.
func (m *Manifest) Check() error {
	n := len(m.Nodes)
	switch {
	case m.Version != version:
		return fmt.Errorf("vault: manifest of version %d, this program knows %d", m.Version, version)
	case m.Sequence == 0 || m.Sequence == 1 && m.Previous != [32]byte{}:
		return fmt.Errorf("vault: manifest: sequence %d does not fit", m.Sequence)
	case n%2 == 0 || n > ppss.MaxNodes:
		return fmt.Errorf("vault: manifest: %d nodes, want 1, 3, 5 or 7", n)
	case int(m.Threshold) <= n/2 || int(m.Threshold) > n:
		return fmt.Errorf("vault: manifest: threshold of %d, want a majority of %d", m.Threshold, n)
	case len(m.Name) > 100:
		return fmt.Errorf("vault: manifest: name of %d bytes, at most 100", len(m.Name))
	}
	seen := make(map[any]bool)
	for i, node := range m.Nodes {
		if err := node.check(); err != nil {
			return err
		}
		if i > 0 && m.Nodes[i-1].ID >= node.ID {
			return fmt.Errorf("vault: manifest: nodes are not sorted by id, or one is there twice")
		}
		if seen[node.Identity] || seen[node.URL] {
			return fmt.Errorf("vault: manifest: node %s has the identity or the URL of another", node.ID)
		}
		seen[node.Identity], seen[node.URL] = true, true
	}
	if err := m.argon().Check(); err != nil {
		return err
	}
	if err := m.checkPredecessor(); err != nil {
		return err
	}
	return m.Policy.Check()
}

// maxPredecessor lets a manifest fit a message with the one that it holds.
const maxPredecessor = maxMessage / 2

func (m *Manifest) checkPredecessor() error {
	if len(m.Predecessor) == 0 {
		return nil
	}
	if len(m.Predecessor) > maxPredecessor {
		return fmt.Errorf("vault: manifest: a predecessor of %d bytes, at most %d", len(m.Predecessor), maxPredecessor)
	}
	s, err := ParseManifest(m.Predecessor)
	if err != nil {
		return fmt.Errorf("vault: manifest: the predecessor: %w", err)
	}
	var before Manifest
	if err := decode(s.Manifest, &before); err != nil {
		return fmt.Errorf("vault: manifest: the predecessor: %w", err)
	}
	if before.Fleet == m.Fleet || len(before.Predecessor) != 0 {
		return fmt.Errorf("vault: manifest: the predecessor is no other fleet, or has one itself")
	}
	return nil
}

func (m *Manifest) argon() ppss.Argon { return m.Argon.ppss() }

func (a Argon) ppss() ppss.Argon {
	return ppss.Argon{Time: a.Time, Memory: a.Memory, Threads: a.Threads}
}

func (n Node) check() error {
	if !validNodeID(n.ID) {
		return fmt.Errorf("vault: manifest: node id %q, want 1 to 32 of a-z, 0-9, \"-\" and \".\"", n.ID)
	}
	u, err := url.Parse(n.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return fmt.Errorf("vault: manifest: node %s: URL is not https://host:port", n.ID)
	}
	if _, err := parseIdentity(n.Identity); err != nil {
		return fmt.Errorf("vault: manifest: node %s: %w", n.ID, err)
	}
	if max(len(n.Operator), len(n.URL), len(n.Raft), len(n.HSM)) > 200 {
		return fmt.Errorf("vault: manifest: node %s: a text of more than 200 bytes", n.ID)
	}
	return nil
}

func validNodeID(id string) bool {
	return len(id) >= 1 && len(id) <= 32 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

func parseIdentity(b [33]byte) (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), b[:])
	if x == nil {
		return nil, fmt.Errorf("vault: identity key is not a point of P-256")
	}
	full := [65]byte{4}
	x.FillBytes(full[1:33])
	y.FillBytes(full[33:])
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), full[:])
}

// Show writes the manifest for people to read.
func (m *Manifest) Show(w io.Writer) error {
	var b bytes.Buffer
	day := func(t int64) string { return time.Unix(t, 0).UTC().Format(time.RFC3339) }
	fmt.Fprintf(&b, "fleet      %x  %s\nsequence   %d\nhash       %x\nprevious   %x\n", m.Fleet, m.Name, m.Sequence, m.Hash(), m.Previous)
	fmt.Fprintf(&b, "issued     %s\nvalid to   %s\n", day(m.Issued), day(m.NotAfter))
	fmt.Fprintf(&b, "recovery   any %d of %d nodes\n", m.Threshold, len(m.Nodes))
	fmt.Fprintf(&b, "policy     %d attempts; delays %v s; proof of the last within %d s\n", m.Policy.Budget, m.Policy.Delays, m.Policy.Deadline)
	fmt.Fprintf(&b, "argon2id   time %d, memory %d KiB, threads %d\n", m.Argon.Time, m.Argon.Memory, m.Argon.Threads)
	for _, n := range m.Nodes {
		fmt.Fprintf(&b, "node       %s\n  operator %s\n  url      %s\n  raft     %s\n  tls pin  %s\n  identity %s\n  hsm      %s\n",
			n.ID, n.Operator, n.URL, n.Raft, hex.EncodeToString(n.TLSPin[:]), hex.EncodeToString(n.Identity[:]), n.HSM)
	}
	if s, err := ParseManifest(m.Predecessor); err == nil {
		if before, err := s.Unverified(); err == nil {
			fmt.Fprintf(&b, "before     fleet %x  %s, number %d: its accounts move here\n", before.Fleet, before.Name, before.Sequence)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
