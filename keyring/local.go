package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"coffer/internal/durable"
	"coffer/seal"
)

// Where the key and the profile lie on this machine.
const (
	keyFile        = "backup.key"  // in the state folder: the digits, 0600
	profileFile    = "coffer.json" // in the state folder: a copy of the store's profile
	credentialName = "coffer.key"  // in $CREDENTIALS_DIRECTORY: the digits
)

// Load opens the ring of the machine whose state folder is dir: unlocked if the
// key is found, in $CREDENTIALS_DIRECTORY/coffer.key (put there by systemd) or
// else in DIR/backup.key, otherwise locked. A machine that is not set up is
// [ErrNoStore]. A key file that others can read, and a key of another store, are
// errors.
func Load(dir string) (*Ring, error) {
	raw, err := readBounded(filepath.Join(dir, profileFile), maxProfile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoStore)
	}
	if err != nil {
		return nil, err
	}
	p, err := ParseProfile(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	r := NewRing(p)
	for _, place := range keyPlaces(dir) {
		key, err := readKey(place.path, place.private)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = r.Unlock(context.Background(), key.Bytes())
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", place.path, err)
		}
		r.from = place.name
		break
	}
	return r, nil
}

// keyPlace is a file that may hold the key.
type keyPlace struct {
	name, path string
	private    bool // refuse it when others may read it
}

func keyPlaces(dir string) []keyPlace {
	var all []keyPlace
	if c := os.Getenv("CREDENTIALS_DIRECTORY"); c != "" {
		// systemd decides its mode, and keeps others out by the folder's.
		all = append(all, keyPlace{"credential", filepath.Join(c, credentialName), false})
	}
	return append(all, keyPlace{"file", filepath.Join(dir, keyFile), true})
}

func readKey(path string, private bool) (seal.Key, error) {
	if private {
		info, err := os.Stat(path)
		if err != nil {
			return seal.Key{}, err
		}
		if info.Mode().Perm()&0o077 != 0 {
			return seal.Key{}, fmt.Errorf("mode %v lets others read the backup key", info.Mode().Perm())
		}
	}
	raw, err := readBounded(path, maxDigits)
	if err != nil {
		return seal.Key{}, err
	}
	return ParseDigits(string(raw))
}

// Save makes dir the state folder of a machine that has key, durably. The key is
// written first: a machine with a profile has its key.
func Save(dir string, p Profile, key seal.Key) error {
	if err := p.Verify(key.Keys(p.Store)); err != nil {
		return err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keeping the backup key: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, keyFile), []byte(Digits(key)+"\n"), 0o600); err != nil {
		return fmt.Errorf("keeping the backup key: %w", err)
	}
	return SaveProfile(dir, p)
}

// SaveProfile replaces the copy of the store's profile in the state folder dir.
func SaveProfile(dir string, p Profile) error {
	if err := durable.WriteFile(filepath.Join(dir, profileFile), p.Encode(), 0o600); err != nil {
		return fmt.Errorf("keeping the profile: %w", err)
	}
	return nil
}

// Forget removes the key, the profile and all else that [Save], [MakeNext],
// [RememberPassword] and [Passkeys] wrote into dir, the key first. A credential is not its to remove.
func Forget(dir string) error {
	for _, name := range []string{keyFile, nextKeyFile, checkFile, profileFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forgetting the backup key: %w", err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, passkeyFolder)); err != nil {
		return fmt.Errorf("forgetting the backup key: %w", err)
	}
	if err := durable.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the backup key: %w", err)
	}
	return nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, nil
}
