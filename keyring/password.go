package keyring

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"

	"coffer/seal"
	"coffer/vault"
)

// What a password must have. The vault bounds the guesses, so this keeps out what
// is guessed in ten, and what an operator of enough nodes would find offline.
const (
	minLength = 10 // characters
	minScore  = 3  // of zxcvbn's 0 to 4: 10^8 guesses and more
	// zxcvbn does not see that "abababab..." repeats itself.
	minDistinct = 5
	// zxcvbn takes 11 ms for 100 characters and 2 s for 500.
	maxScored = 100
)

// WeakPassword is the error of a password that is too easy to guess.
type WeakPassword struct {
	Score int // zxcvbn's, 0 to 4; what is too short has 0
	Short bool
}

func (e *WeakPassword) Error() string {
	if e.Short {
		return fmt.Sprintf("the password is shorter than %d characters", minLength)
	}
	return fmt.Sprintf("the password is too easy to guess (strength %d of 4, at least %d)", e.Score, minScore)
}

// CheckPassword refuses a password that is short, common, or made of common
// words, patterns or personal (names of the user, the account, the machine), with
// a *[WeakPassword].
func CheckPassword(password string, personal ...string) error {
	if utf8.RuneCountInString(password) < minLength {
		return &WeakPassword{Short: true}
	}
	r := []rune(password)
	distinct := make(map[rune]bool)
	for _, c := range r {
		distinct[c] = true
	}
	if len(distinct) < minDistinct {
		return &WeakPassword{}
	}
	password = string(r[:min(len(r), maxScored)])
	if score := zxcvbn.PasswordStrength(password, personal).Score; score < minScore {
		return &WeakPassword{Score: score}
	}
	return nil
}

// Vault keeps a key behind a password and a few guesses; *vault.Client is one.
type Vault interface {
	Register(ctx context.Context, password string, key [32]byte, old ...string) (vault.Registration, error)
	RegisterAgain(ctx context.Context, password string, key [32]byte) (vault.Registration, error)
	Recover(ctx context.Context, password string) ([32]byte, error)
}

// Protect puts key into the vault behind password, which must pass
// [CheckPassword]. A device that has the key needs no old password. Calling it
// again after an error is safe. After [vault.ErrDestroyed] only [ProtectAgain] helps.
func Protect(ctx context.Context, v Vault, password string, key seal.Key, personal ...string) (vault.Registration, error) {
	if err := CheckPassword(password, personal...); err != nil {
		return vault.Registration{}, err
	}
	r, err := v.Register(ctx, password, key.Bytes())
	if err != nil {
		return r, fmt.Errorf("giving the key to the vault: %w", err)
	}
	return r, nil
}

// ProtectAgain is Protect for an account whose key in the vault was destroyed. The
// password must not be one that the account had before: whoever destroyed the key
// has used up the guesses at that one, and would get as many again.
func ProtectAgain(ctx context.Context, v Vault, password string, key seal.Key, personal ...string) (vault.Registration, error) {
	if err := CheckPassword(password, personal...); err != nil {
		return vault.Registration{}, err
	}
	r, err := v.RegisterAgain(ctx, password, key.Bytes())
	if err != nil {
		return r, fmt.Errorf("giving the key to the vault again: %w", err)
	}
	return r, nil
}

// Recover gets the key of the store of p back from the vault. It costs an attempt,
// which the right password gives back. The errors are those of
// [vault.Client.Recover]; a key that is not the store's is returned beside
// [seal.ErrKey]: a rekey may have put the next one there (see [LoadLink]).
func Recover(ctx context.Context, v Vault, p Profile, password string) (seal.Key, error) {
	raw, err := v.Recover(ctx, password)
	if err != nil {
		return seal.Key{}, err
	}
	key, err := seal.KeyFromBytes(raw[:])
	if err != nil {
		return seal.Key{}, err
	}
	if err := p.Verify(key.Keys(p.Store)); err != nil {
		return key, fmt.Errorf("the vault's key: %w", err)
	}
	return key, nil
}
