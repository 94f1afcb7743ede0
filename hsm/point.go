package hsm

import (
	"bytes"
	"encoding/asn1"
	"fmt"

	"filippo.io/nistec"
)

// generator is G, uncompressed.
var generator = nistec.NewP256Point().SetGenerator().Bytes()

// parsePoint decodes a compressed point. Anything else must not reach the
// token: firmware has been wrong about points off the curve, and SoftHSM writes
// a line to the system log for each.
func parsePoint(b [33]byte) (*nistec.P256Point, error) {
	if b[0] != 2 && b[0] != 3 {
		return nil, ErrPoint
	}
	p, err := nistec.NewP256Point().SetBytes(b[:])
	if err != nil {
		return nil, ErrPoint
	}
	return p, nil
}

// parseECPoint decodes CKA_EC_POINT: the uncompressed point in a DER OCTET
// STRING, as the standard has it, or bare, as some tokens do.
func parseECPoint(b []byte) (*nistec.P256Point, error) {
	var raw []byte
	if rest, err := asn1.Unmarshal(b, &raw); err != nil || len(rest) != 0 {
		raw = b
	}
	if len(raw) != 65 {
		return nil, fmt.Errorf("hsm: public key of %d bytes, want 65", len(raw))
	}
	p, err := nistec.NewP256Point().SetBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("hsm: public key: %w", err)
	}
	return p, nil
}

func compress(p *nistec.P256Point) [33]byte { return [33]byte(p.BytesCompressed()) }

// multiplier is x(k·P) for a key that only the token knows.
type multiplier func(p *nistec.P256Point) ([]byte, error)

// multiply returns k·b from what a token can give, x(k·b) and x(k·(b+G)), and
// the public key k·G. Of the two points with the first x, one plus the public
// key has the second x. It cannot be both: that would need a point of order 2.
// The answers of a token that errs, or uses another key, fit neither: errFault.
func multiply(x multiplier, public, b *nistec.P256Point) (*nistec.P256Point, error) {
	raw := b.Bytes()
	if bytes.Equal(raw[1:33], generator[1:33]) { // b+G or b-G is no point a token takes
		if bytes.Equal(raw, generator) {
			return public, nil
		}
		return negate(public)
	}
	x1, err := x(b)
	if err != nil {
		return nil, err
	}
	g := nistec.NewP256Point().SetGenerator()
	x2, err := x(nistec.NewP256Point().Add(b, g))
	if err != nil {
		return nil, err
	}
	for _, sign := range []byte{2, 3} {
		p, err := nistec.NewP256Point().SetBytes(append([]byte{sign}, x1...))
		if err != nil {
			return nil, errFault
		}
		sum, err := nistec.NewP256Point().Add(p, public).BytesX()
		if err == nil && bytes.Equal(sum, x2) {
			return p, nil
		}
	}
	return nil, errFault
}

func negate(p *nistec.P256Point) (*nistec.P256Point, error) {
	b := p.BytesCompressed()
	b[0] ^= 1
	return nistec.NewP256Point().SetBytes(b)
}
