package ppss

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
)

// Every derivation begins with a label that nothing else uses, so that no
// value of one purpose can be passed off as, or computed from, one of another.
// A change of what a label stands for is a new label.
const (
	// labelInput separates OPRF inputs of this protocol from those of any
	// other use of the same HSM keys, and of a later version.
	labelInput = "coffer ppss 1 input"

	// labelSalt binds the stretching to fleet and account: a table made
	// for one account's salt is worth nothing for another account to which
	// a hostile node hands the same salt.
	labelSalt = "coffer ppss 1 salt"

	// labelMask turns rho into the pad of one share. Node and epoch are in
	// it: were two records to come from equal rho, equal pads would show the
	// difference of the shares.
	labelMask = "coffer ppss 1 mask"

	// labelEncrypt is the AES-256-GCM key of the envelope.
	labelEncrypt = "coffer ppss 1 encrypt"

	// labelCommit is the public commitment to the secret and the header.
	// GCM alone commits to no key: one crafted envelope could be opened by
	// many guesses, and each attempt would test them all at once.
	labelCommit = "coffer ppss 1 commit"

	// labelSign is the seed of the proof key. Nodes know the public half, so
	// it must not help with the envelope: the seed is independent of both
	// derivations above.
	labelSign = "coffer ppss 1 sign"
)

// derive is HKDF-SHA-256 without salt, for the input is uniformly random.
func derive(secret [32]byte, label string, fields ...[]byte) [32]byte {
	out, err := hkdf.Key(sha256.New, secret[:], nil, string(frame(label, fields...)), 32)
	if err != nil { // only for more than 255 blocks, or in FIPS mode a short key
		panic("ppss: internal error: " + err.Error())
	}
	return [32]byte(out)
}

// Mask returns the pad of the share of one node in one epoch. Exclusive or
// with it hides a share and shows it again; it is no encryption with a check:
// a check would let a single node test guesses alone.
func Mask(rho [32]byte, node, epoch []byte) [32]byte {
	return derive(rho, labelMask, node, epoch)
}

// XOR returns a xor b.
func XOR(a, b [32]byte) [32]byte {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

// SigningKey returns the key with which a client proves that it recovered
// secret. Every node of the fleet can verify the proof.
func SigningKey(secret [32]byte, header []byte) ed25519.PrivateKey {
	seed := derive(secret, labelSign, header)
	return ed25519.NewKeyFromSeed(seed[:])
}
