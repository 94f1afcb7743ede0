package ppss

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
)

// The envelope of the backup key:
//
//	offset  size  field
//	0       1     version, 1
//	1       32    commitment: HKDF(secret, "coffer ppss 1 commit", header)
//	33      12    nonce, random
//	45      48    AES-256-GCM of the backup key under HKDF(secret,
//	              "coffer ppss 1 encrypt", header); additional data: bytes 0 to 32, header
const (
	envelopeVersion = 1
	nonceAt         = 1 + 32
	sealedAt        = nonceAt + 12

	// EnvelopeSize is the size of an envelope in bytes.
	EnvelopeSize = sealedAt + 32 + 16
)

// SealEnvelope encrypts the backup key under secret and binds it to header,
// which holds all that the record says and that is known before the secret is
// shared. The result commits to secret and header: no other pair opens it.
func SealEnvelope(secret, key [32]byte, header []byte) []byte {
	var nonce [12]byte
	rand.Read(nonce[:])
	return sealEnvelope(secret, key, header, nonce)
}

func sealEnvelope(secret, key [32]byte, header []byte, nonce [12]byte) []byte {
	commit := derive(secret, labelCommit, header)
	env := append(make([]byte, 0, EnvelopeSize), envelopeVersion)
	env = append(env, commit[:]...)
	env = append(env, nonce[:]...)
	ad := append(env[:nonceAt:nonceAt], header...)
	return newGCM(secret, header).Seal(env, nonce[:], key[:], ad)
}

// OpenEnvelope returns the backup key. It fails with [ErrSecret] when the
// commitment does not fit, which is compared first, and with [ErrEnvelope] when
// it fits and the rest was changed.
func OpenEnvelope(secret [32]byte, header, env []byte) (key [32]byte, err error) {
	if len(env) != EnvelopeSize || env[0] != envelopeVersion {
		return key, ErrEnvelope
	}
	commit := derive(secret, labelCommit, header)
	if subtle.ConstantTimeCompare(commit[:], env[1:nonceAt]) != 1 {
		return key, ErrSecret
	}
	ad := append(env[:nonceAt:nonceAt], header...)
	plain, err := newGCM(secret, header).Open(nil, env[nonceAt:sealedAt], env[sealedAt:], ad)
	if err != nil {
		return key, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	return [32]byte(plain), nil
}

func newGCM(secret [32]byte, header []byte) cipher.AEAD {
	k := derive(secret, labelEncrypt, header)
	block, err := aes.NewCipher(k[:])
	if err == nil {
		var aead cipher.AEAD
		if aead, err = cipher.NewGCM(block); err == nil {
			return aead
		}
	}
	panic("ppss: internal error: " + err.Error())
}
