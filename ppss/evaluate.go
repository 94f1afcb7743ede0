package ppss

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"filippo.io/nistec"
	"github.com/cloudflare/circl/group"
)

// order is the order of P-256, big-endian.
var order = mustHex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("ppss: internal error: " + err.Error())
	}
	return b
}

// CheckPoint returns [ErrPoint] unless p is a point of P-256, compressed as in
// SEC 1, with x below the field's prime, and not the identity.
func CheckPoint(p [33]byte) error {
	if p[0] != 2 && p[0] != 3 {
		return ErrPoint
	}
	if _, err := nistec.NewP256Point().SetBytes(p[:]); err != nil {
		return ErrPoint
	}
	return nil
}

// GenerateKey makes an OPRF key in software, for tests and for a vault node
// that runs without an HSM. A node with one never sees its keys.
func GenerateKey() (key [32]byte, public [33]byte) {
	for {
		rand.Read(key[:])
		if public, err := PublicKey(key); err == nil {
			return key, public
		} // else not below the order: about one in 2^32
	}
}

// PublicKey returns key·G, compressed. It fails with [ErrScalar].
func PublicKey(key [32]byte) (public [33]byte, err error) {
	if err := checkScalar(key); err != nil {
		return public, err
	}
	p, err := nistec.NewP256Point().ScalarBaseMult(key[:])
	if err != nil {
		return public, fmt.Errorf("ppss: public key: %w", err)
	}
	return [33]byte(p.BytesCompressed()), nil
}

// Evaluate returns key·blinded in time that does not depend on key: RFC 9497's
// BlindEvaluate, in software. It fails with [ErrScalar] or [ErrPoint].
func Evaluate(key [32]byte, blinded [33]byte) (evaluated [33]byte, err error) {
	if err := checkScalar(key); err != nil {
		return evaluated, err
	}
	if err := CheckPoint(blinded); err != nil {
		return evaluated, err
	}
	b, err := nistec.NewP256Point().SetBytes(blinded[:])
	if err != nil {
		return evaluated, fmt.Errorf("%w: %w", ErrPoint, err)
	}
	p, err := nistec.NewP256Point().ScalarMult(b, key[:])
	if err != nil {
		return evaluated, fmt.Errorf("ppss: evaluating: %w", err)
	}
	return [33]byte(p.BytesCompressed()), nil
}

// checkScalar refuses 0 and what is not below the order. Keys are uniformly
// random, so where the comparison ends says nothing about one.
func checkScalar(k [32]byte) error {
	if k == [32]byte{} || bytes.Compare(k[:], order) >= 0 {
		return ErrScalar
	}
	return nil
}

func parseScalar(k [32]byte) (group.Scalar, error) {
	if err := checkScalar(k); err != nil {
		return nil, err
	}
	s := group.P256.NewScalar()
	if err := s.UnmarshalBinary(k[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrScalar, err)
	}
	return s, nil
}
