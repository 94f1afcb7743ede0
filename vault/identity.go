package vault

import (
	"crypto/ecdsa"
	"math/big"
)

// verifyIdentity checks a signature of a node's identity key: r and s, 32 bytes
// each, big-endian.
func verifyIdentity(identity [33]byte, digest [32]byte, sig [64]byte) bool {
	k, err := parseIdentity(identity)
	if err != nil {
		return false
	}
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	return ecdsa.Verify(k, digest[:], r, s)
}
