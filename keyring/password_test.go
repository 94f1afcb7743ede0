package keyring

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"coffer/seal"
	"coffer/vault"
)

// Passwords that anybody tries first are refused, whatever their length; good
// ones are not.
func TestCheckPassword(t *testing.T) {
	for _, p := range []string{
		"", "short", "Tr0ub4dor", "password123", "Password123!", "passwordpassword", "qwertyuiop", "1234567890", "0987654321",
		"iloveyou12", "letmeinletmein", "abcdefghij", "aaaaaaaaaaaaaaaaaaaa", "qwerty1234", "monkeymonkey", "19700101", "superman123",
		"basketball", "administrator", "anna@example.org", "annalaptop", strings.Repeat("ab", 200),
	} {
		var weak *WeakPassword
		if err := CheckPassword(p, "anna", "laptop", "anna@example.org"); !errors.As(err, &weak) {
			t.Errorf("%.30q: got %v", p, err)
		} else if weak.Error() == "" || strings.Contains(weak.Error(), "qwerty") {
			t.Errorf("%.30q: %v", p, weak)
		}
	}
	for _, p := range []string{"correct-horse-and-a-stapler", "violet-umbrella-forty-two", "x7#Kq9!mZ2pL", "Straße über dem Fluß 7", "日本語のとても長いパスワード"} {
		if err := CheckPassword(p, "anna"); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// zxcvbn is slow for long input: nobody waits seconds for a long password.
func TestCheckPasswordIsQuick(t *testing.T) {
	began := time.Now()
	if err := CheckPassword(strings.Repeat("correct horse battery ", 5000)); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// fakeVault keeps one key behind one password.
type fakeVault struct {
	password string
	key      [32]byte
	err      error
	calls    int
}

func (f *fakeVault) Register(_ context.Context, password string, key [32]byte, _ ...string) (vault.Registration, error) {
	f.calls++
	if f.err != nil {
		return vault.Registration{}, f.err
	}
	f.password, f.key = password, key
	return vault.Registration{Left: 10}, nil
}

func (f *fakeVault) RegisterAgain(_ context.Context, password string, key [32]byte) (vault.Registration, error) {
	f.calls++
	f.password, f.key, f.err = password, key, nil
	return vault.Registration{Left: 10}, nil
}

func (f *fakeVault) Recover(_ context.Context, password string) ([32]byte, error) {
	f.calls++
	if f.err != nil {
		return [32]byte{}, f.err
	}
	if password != f.password {
		return [32]byte{}, &vault.WrongPassword{Left: 9}
	}
	return f.key, nil
}

const goodPassword = "correct-horse-and-a-stapler"

func TestProtectAndRecover(t *testing.T) {
	k := testKey(t)
	p := testProfile(t, k)
	v := new(fakeVault)
	if _, err := Protect(t.Context(), v, "password123", k); err == nil || v.calls != 0 {
		t.Errorf("a weak password reached the vault: %v", err)
	}
	if r, err := Protect(t.Context(), v, goodPassword, k, "anna"); err != nil || r.Left != 10 {
		t.Fatalf("got %+v, %v", r, err)
	}
	var wrong *vault.WrongPassword
	if _, err := Recover(t.Context(), v, p, "wrong"); !errors.As(err, &wrong) || wrong.Left != 9 {
		t.Errorf("a wrong password: got %v", err)
	}
	if got, err := Recover(t.Context(), v, p, goodPassword); err != nil || !got.Equal(k) {
		t.Errorf("the right password: %v", err)
	}
	if _, err := Recover(t.Context(), v, testProfile(t, seal.NewKey()), goodPassword); !errors.Is(err, seal.ErrKey) {
		t.Errorf("the key of another store: %v", err)
	}
	for _, e := range []error{vault.ErrDestroyed, vault.ErrUnavailable, vault.ErrNotRegistered, &vault.TooSoon{Left: 2}} {
		v.err = e
		if _, err := Recover(t.Context(), v, p, goodPassword); !errors.Is(err, e) {
			t.Errorf("got %v, want %v", err, e)
		}
		if _, err := Protect(t.Context(), v, goodPassword, k); !errors.Is(err, e) {
			t.Errorf("got %v, want %v", err, e)
		}
	}
	v.err, v.calls = vault.ErrDestroyed, 0
	if _, err := ProtectAgain(t.Context(), v, "password123", k); err == nil || v.calls != 0 {
		t.Errorf("a weak password reached the vault: %v", err)
	}
	if r, err := ProtectAgain(t.Context(), v, goodPassword, k); err != nil || r.Left != 10 {
		t.Errorf("after a destruction: got %+v, %v", r, err)
	}
}
