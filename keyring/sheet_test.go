package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/seal"
)

func testSheet(t testing.TB, key seal.Key) Sheet {
	t.Helper()
	return Sheet{
		Profile: testProfile(t, key), Upstreams: []string{"s3:https://s3.example.org/backups"}, Vault: "home", Nodes: []string{"v1 https://v1.lan:7443"}, Node: "https://v1.lan:7443",
		Roots: []string{strings.Repeat("0a", 32)}, Account: "anna", Made: time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC),
	}
}

// The sheet that is printed, photographed and read gives the key back: once by its
// text, once by its QR code.
func TestSheet(t *testing.T) {
	key := seal.NewKey()
	s := testSheet(t, key)
	pdf, err := s.PDF(key)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.PDF(key); err != nil || !bytes.Equal(pdf, again) {
		t.Errorf("the same sheet has other bytes: %v", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "sheet.pdf")
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	text := output(t, "pdftotext", "-layout", file, "-")
	for _, want := range append(Rows(key), "Backups of laptop", "s3:https://s3.example.org/backups", s.Profile.Store.String(), s.Profile.KeyID, "https://v1.lan:7443",
		s.Roots[0], "account anna", "Password, if you want", "coffer recover --upstream s3:https", "add --vault-fleet https://v1.lan:7443 --account anna", "Never give this to anyone") {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if pages := strings.Count(text, "\f"); pages != 1 {
		t.Errorf("%d pages", pages)
	}
	output(t, "pdftoppm", "-r", "150", "-png", "-singlefile", file, filepath.Join(dir, "page"))
	code := output(t, "zbarimg", "-q", "--raw", filepath.Join(dir, "page.png"))
	if got, err := ParseDigits(code); err != nil || !got.Equal(key) {
		t.Errorf("the QR code says another key: %v", err)
	}
	if got, err := ParseDigits(strings.Join(Rows(key), "\n")); err != nil || !got.Equal(key) {
		t.Errorf("the rows say another key: %v", err)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s (its package is in TEST_PACKAGES of the Makefile): %v", name, err)
	}
	return string(out)
}

// One wrong digit is seen, and so are most that have changed places; the row is named.
func TestRowsCheck(t *testing.T) {
	rows := Rows(seal.NewKey())
	all := strings.Join(rows, "\n")
	for i := range len(all) {
		if !strings.ContainsRune("0123456789abcdef", rune(all[i])) {
			continue
		}
		other := byte('0')
		if all[i] == '0' {
			other = 'f'
		}
		_, err := ParseDigits(all[:i] + string(other) + all[i+1:])
		if want := fmt.Sprintf("row %d ", strings.Count(all[:i], "\n")+1); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("digit %d: %v, want %s", i, err, want)
		}
	}
}

// Replace implements [Replacer].
func (m *memory) Replace(_ context.Context, name string, old, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !bytes.Equal(m.objects[name], old) {
		return errors.New("somebody else was faster")
	}
	m.objects[name] = bytes.Clone(data)
	return nil
}

// A new password is told in the profile, which stays one that only the key can write.
func TestUpdateProfile(t *testing.T) {
	key := seal.NewKey()
	p := testProfile(t, key)
	keys := key.Keys(p.Store)
	b := new(memory)
	if err := CreateProfile(t.Context(), b, p); err != nil {
		t.Fatal(err)
	}
	later := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	got, err := UpdateProfile(t.Context(), b, keys, Method{Kind: MethodPassword, Since: later, Fleet: "club"})
	if err != nil {
		t.Fatal(err)
	}
	there, err := LoadProfile(t.Context(), b)
	if err != nil || there.Verify(keys) != nil || !bytes.Equal(there.Encode(), got.Encode()) {
		t.Fatalf("got %+v, %v", there, err)
	}
	if len(there.Methods) != 2 || there.Methods[0].Kind != MethodDigits || there.Methods[1].Fleet != "club" || !there.Methods[1].Since.Equal(later) {
		t.Errorf("got %+v", there.Methods)
	}
	if _, err := UpdateProfile(t.Context(), b, seal.NewKey().Keys(p.Store), Method{}); !errors.Is(err, seal.ErrKey) {
		t.Errorf("with another key: %v", err)
	}
	forged := there
	forged.Host = "mallory"
	b.objects[ProfileName] = forged.Encode()
	if _, err := UpdateProfile(t.Context(), b, keys, Method{Kind: MethodDigits}); !errors.Is(err, ErrProfile) {
		t.Errorf("of a forged profile: %v", err)
	}
}

func TestForget(t *testing.T) {
	dir, key := t.TempDir(), seal.NewKey()
	p := testProfile(t, key)
	if err := errors.Join(Save(dir, p, key), RememberPassword(dir, key.Keys(p.Store), "x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Forget(dir); err != nil {
			t.Error(err)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 0 {
			t.Errorf("left: %v, %v", all, err)
		}
	}
}
