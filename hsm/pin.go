package hsm

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// PIN prints as hidden.
type PIN []byte

// Format keeps the PIN out of every log.
func (PIN) Format(f fmt.State, _ rune) { io.WriteString(f, "hsm.PIN(hidden)") }

// NewPIN returns a PIN of 32 random bytes in hex. SoftHSM protects its files by
// nothing but some thousand hashes of the PIN, so no PIN that a person can
// remember will do.
func NewPIN() PIN {
	var b [32]byte
	rand.Read(b[:])
	return hex.AppendEncode(nil, b[:])
}

// ReadPIN reads a PIN from a file, such as a systemd credential
// ($CREDENTIALS_DIRECTORY/NAME). A line end after it is not part of it. A file
// that others than its owner may read is refused.
func ReadPIN(path string) (PIN, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("hsm: reading the PIN: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("hsm: reading the PIN: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("hsm: reading the PIN: %s is open to others (mode %v), want 0600 or less", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxPIN+3))
	if err != nil {
		return nil, fmt.Errorf("hsm: reading the PIN: %w", err)
	}
	raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	if err := checkPIN(raw); err != nil {
		return nil, fmt.Errorf("hsm: reading the PIN: %s: %w", path, err)
	}
	return raw, nil
}

const (
	minPIN = 4
	maxPIN = 255
)

func checkPIN(pin []byte) error {
	if len(pin) < minPIN || len(pin) > maxPIN {
		return fmt.Errorf("PIN of %d bytes, want %d to %d", len(pin), minPIN, maxPIN)
	}
	if bytes.ContainsAny(pin, "\x00\r\n") {
		return errors.New("PIN holds a line end or a zero byte")
	}
	return nil
}
