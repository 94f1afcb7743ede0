package hsm

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Sign returns the ECDSA signature of digest under the node's identity key, r
// and s of 32 bytes each, big-endian.
func (t *Token) Sign(ctx context.Context, digest [32]byte) (sig [64]byte, err error) {
	return do(ctx, t, "sign", func(s *session) (sig [64]byte, err error) {
		out, err := s.signWith(pkcs11.CKM_ECDSA, s.k.sign, digest[:])
		if err != nil {
			return sig, err
		}
		if len(out) != len(sig) {
			return sig, fmt.Errorf("hsm: signature of %d bytes, want %d", len(out), len(sig))
		}
		return [64]byte(out), nil
	})
}

// MAC returns an HMAC-SHA-256 of msg under a key of the token. No message gives
// the MAC of a record or of an anchor.
func (t *Token) MAC(ctx context.Context, msg []byte) (mac [32]byte, err error) {
	return do(ctx, t, "mac", func(s *session) ([32]byte, error) { return s.hmac(s.k.mac, frame(macMessage, msg)) })
}

// Random fills p, of at most 1024 bytes, from the token's generator and the
// system's, mixed: it is as good as the better of the two.
func (t *Token) Random(ctx context.Context, p []byte) error {
	if len(p) > maxRandom {
		return fmt.Errorf("hsm: %d random bytes, at most %d", len(p), maxRandom)
	}
	if len(p) == 0 {
		return nil
	}
	b, err := do(ctx, t, "random", func(s *session) ([]byte, error) { return s.p.GenerateRandom(s.h, len(p)) })
	if err != nil {
		return fmt.Errorf("hsm: drawing random bytes: %w", err)
	}
	if len(b) != len(p) {
		return fmt.Errorf("hsm: %d random bytes, want %d", len(b), len(p))
	}
	rand.Read(p)
	for i := range p {
		p[i] ^= b[i]
	}
	return nil
}
