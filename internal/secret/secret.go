// Package secret reads the files that hold secrets.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Credentials begins the name of a file that systemd gave the unit, as
// LoadCredential= and LoadCredentialEncrypted= do.
const Credentials = "$CREDENTIALS_DIRECTORY/"

// maxSize bounds what is read: keys, passwords, addresses.
const maxSize = 32 << 10

// Read reads a file that nobody else may read; spaces around do not count. A
// credential of systemd may be 0440: its folder is closed instead.
func Read(file string) (string, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	name, credential := strings.CutPrefix(file, Credentials)
	switch {
	case credential && dir == "":
		return "", fmt.Errorf("%s: systemd gave no credentials", file)
	case credential:
		file = filepath.Join(dir, filepath.Base(name))
	case dir != "" && filepath.Dir(file) == filepath.Clean(dir):
		credential = true
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 && !credential {
		return "", fmt.Errorf("%s: mode %v lets others read it", file, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxSize {
		return "", fmt.Errorf("%s: more than %d bytes", file, maxSize)
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return "", errors.New(file + " is empty")
	}
	return string(b), nil
}
