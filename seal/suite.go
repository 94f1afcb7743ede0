package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"runtime"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"
)

// Suite is the cipher of an object.
type Suite byte

const (
	SuiteAES    Suite = 1 // AES-256-GCM
	SuiteChaCha Suite = 2 // XChaCha20-Poly1305
)

// DefaultSuite is AES where the processor has instructions for it. Elsewhere
// AES is ten times slower and its time depends on the key.
func DefaultSuite() Suite {
	fast := false
	switch runtime.GOARCH {
	case "amd64":
		fast = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ
	case "arm64":
		fast = cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || runtime.GOOS == "darwin"
	case "s390x":
		fast = cpu.S390X.HasAES && cpu.S390X.HasAESGCM
	}
	if fast {
		return SuiteAES
	}
	return SuiteChaCha
}

func (s Suite) known() bool { return s == SuiteAES || s == SuiteChaCha }

// aead returns the cipher under key. s is known and each key is used either for
// one message with the zero nonce or for the chunks of one part.
func (s Suite) aead(key [32]byte) cipher.AEAD {
	var a cipher.AEAD
	var err error
	if s == SuiteChaCha {
		a, err = chacha20poly1305.NewX(key[:])
	} else {
		var b cipher.Block
		if b, err = aes.NewCipher(key[:]); err == nil {
			a, err = cipher.NewGCM(b)
		}
	}
	if err != nil {
		panic("seal: internal error: " + err.Error())
	}
	return a
}

// zeroNonce serves keys that seal exactly one message.
var zeroNonce [chacha20poly1305.NonceSizeX]byte

func sealOnce(a cipher.AEAD, dst, plain, data []byte) []byte {
	return a.Seal(dst, zeroNonce[:a.NonceSize()], plain, data)
}

func openOnce(a cipher.AEAD, dst, sealed, data []byte) ([]byte, error) {
	return a.Open(dst, zeroNonce[:a.NonceSize()], sealed, data)
}
