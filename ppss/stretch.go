package ppss

import (
	"crypto/sha256"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// maxPassword is the longest password in bytes, before normalisation.
const maxPassword = 1024

// Argon holds the parameters of Argon2id (RFC 9106). They are part of the
// fleet's manifest, so all clients of a record use the same.
type Argon struct {
	Time    uint32 // passes, 1 to 64
	Memory  uint32 // KiB, 64 to 2^21 (2 GiB)
	Threads uint8  // lanes, 1 to 16
}

// DefaultArgon is RFC 9106's second recommendation: 64 MiB, three passes.
// It is not what bounds guessing (the vault does); it is what an attacker who
// holds a threshold of nodes has to pay for each guess.
var DefaultArgon = Argon{Time: 3, Memory: 64 << 10, Threads: 4}

// Check returns an error unless a is in the ranges above: a hostile manifest
// must not take a client's memory.
func (a Argon) Check() error {
	if a.Time < 1 || a.Time > 64 || a.Memory < 64 || a.Memory > 2<<20 || a.Threads < 1 || a.Threads > 16 {
		return fmt.Errorf("ppss: Argon2id with time %d, memory %d KiB, threads %d is out of range", a.Time, a.Memory, a.Threads)
	}
	return nil
}

// Stretch returns pwh: the password, normalised by [Normalize], through
// Argon2id. salt is random, 16 to 64 bytes, one for each epoch of an account.
// It fails with [ErrPassword], or for a salt or parameters out of range.
func Stretch(password string, salt, fleet, account []byte, a Argon) (pwh [32]byte, err error) {
	if err := a.Check(); err != nil {
		return pwh, err
	}
	if len(salt) < 16 || len(salt) > 64 {
		return pwh, fmt.Errorf("ppss: stretching: salt of %d bytes, want 16 to 64", len(salt))
	}
	p, err := Normalize(password)
	if err != nil {
		return pwh, err
	}
	bound := sha256.Sum256(frame(labelSalt, salt, fleet, account))
	return [32]byte(argon2.IDKey([]byte(p), bound[:], a.Time, a.Memory, a.Threads, 32)), nil
}

// Normalize makes the password what the user meant, however the keyboard wrote
// it: compatibility forms become plain ones (NFKC: full-width digits of an
// input method, ligatures, composed and decomposed accents), spaces of all
// kinds become U+0020, and what PRECIS' OpaqueString (RFC 8265) refuses is
// refused: control characters, unassigned code points. Case and the spaces
// themselves count. An attempt is dear; it must not be lost to a keyboard.
func Normalize(password string) (string, error) {
	if len(password) == 0 || len(password) > maxPassword {
		return "", fmt.Errorf("%w: %d bytes, want 1 to %d", ErrPassword, len(password), maxPassword)
	}
	if !utf8.ValidString(password) { // would become U+FFFD, and so would other bytes
		return "", fmt.Errorf("%w: it is not UTF-8", ErrPassword)
	}
	p, err := precis.OpaqueString.String(norm.NFKC.String(password))
	if err != nil { // the text would say which character it was
		return "", fmt.Errorf("%w: it holds a character that is not allowed", ErrPassword)
	}
	return p, nil
}
