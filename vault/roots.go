package vault

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Roots are the offline keys that a client or node pins: Quorum of Keys must
// have signed a manifest. Quorum 0 means more than half of them.
type Roots struct {
	Keys   []ed25519.PublicKey
	Quorum int
}

// ParseRoots reads root keys, 64 hexadecimal digits each.
func ParseRoots(hexKeys []string, quorum int) (Roots, error) {
	r := Roots{Quorum: quorum}
	for _, s := range hexKeys {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return Roots{}, fmt.Errorf("vault: root key %q is not 64 hexadecimal digits", s)
		}
		r.Keys = append(r.Keys, b)
	}
	if _, err := r.quorum(); err != nil {
		return Roots{}, err
	}
	return r, nil
}

func (r Roots) quorum() (int, error) {
	q := r.Quorum
	if q == 0 {
		q = len(r.Keys)/2 + 1
	}
	if len(r.Keys) == 0 || len(r.Keys) > maxRoots || q < 1 || q > len(r.Keys) {
		return 0, fmt.Errorf("vault: %d of %d root keys is no quorum", r.Quorum, len(r.Keys))
	}
	for i, k := range r.Keys {
		if len(k) != ed25519.PublicKeySize || slices.ContainsFunc(r.Keys[:i], func(o ed25519.PublicKey) bool { return o.Equal(k) }) {
			return 0, fmt.Errorf("vault: root key %d is malformed or given twice", i+1)
		}
	}
	return q, nil
}

// maxRoots bounds the root keys of a client and the signatures of a manifest.
const maxRoots = 16

// SignedManifest is a manifest's encoding with the signatures that it bears so
// far. Its encoding, [SignedManifest.Bytes], is the content of a fleet file.
type SignedManifest struct {
	Manifest   []byte          `cbor:"1,keyasint"`
	Signatures []rootSignature `cbor:"2,keyasint"` // sorted by key
}

type rootSignature struct {
	Key [32]byte `cbor:"1,keyasint"`
	Sig [64]byte `cbor:"2,keyasint"`
}

func manifestMessage(m []byte) []byte {
	return append([]byte("coffer vault 1 manifest by root\n"), m...)
}

// Sign adds the signature of one root key. A second one by the same key
// replaces the first.
func (s *SignedManifest) Sign(root ed25519.PrivateKey) {
	sig := rootSignature{Key: [32]byte(root.Public().(ed25519.PublicKey)), Sig: [64]byte(ed25519.Sign(root, manifestMessage(s.Manifest)))}
	s.Signatures = slices.DeleteFunc(s.Signatures, func(o rootSignature) bool { return o.Key == sig.Key })
	s.Signatures = append(s.Signatures, sig)
	slices.SortFunc(s.Signatures, func(a, b rootSignature) int { return slices.Compare(a.Key[:], b.Key[:]) })
}

// Unsigned wraps a checked manifest for signing.
func Unsigned(m *Manifest) (*SignedManifest, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	return &SignedManifest{Manifest: encode(m), Signatures: []rootSignature{}}, nil
}

// Bytes returns the content of a fleet file.
func (s *SignedManifest) Bytes() []byte { return encode(s) }

// ParseManifest reads a fleet file. It checks no signature; see
// [SignedManifest.Verify] and [SignedManifest.Unverified].
func ParseManifest(data []byte) (*SignedManifest, error) {
	var s SignedManifest
	if err := decode(data, &s); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if len(s.Signatures) > maxRoots {
		return nil, fmt.Errorf("reading a manifest: %w: %d signatures", ErrMalformed, len(s.Signatures))
	}
	return &s, nil
}

// Unverified returns what the manifest says, for showing and signing it.
func (s *SignedManifest) Unverified() (*Manifest, error) {
	var m Manifest
	if err := decode(s.Manifest, &m); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Verify returns the manifest if a quorum of the roots has signed it and it is
// valid at now; the zero time asks for no validity (an old manifest in a log).
// It fails with [ErrManifest], of which [ErrExpired] is one.
func (s *SignedManifest) Verify(roots Roots, now time.Time) (*Manifest, error) {
	want, err := roots.quorum()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	have := 0
	for _, k := range roots.Keys { // by key: a signature there twice counts once
		if slices.ContainsFunc(s.Signatures, func(g rootSignature) bool {
			return ed25519.PublicKey(g.Key[:]).Equal(k) && ed25519.Verify(k, manifestMessage(s.Manifest), g.Sig[:])
		}) {
			have++
		}
	}
	if have < want {
		return nil, fmt.Errorf("%w: signed by %d of the pinned roots, want %d", ErrManifest, have, want)
	}
	m, err := s.Unverified()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if !now.IsZero() && now.Unix() > m.NotAfter {
		return nil, fmt.Errorf("%w: it was valid until %s", ErrExpired, time.Unix(m.NotAfter, 0).UTC().Format(time.RFC3339))
	}
	return m, nil
}
