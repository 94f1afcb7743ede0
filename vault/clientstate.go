package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"coffer/internal/durable"
)

// The client's two files in StateDir, for each fleet: an account that moves from one
// to another has to do with both. Neither is secret.
const (
	seenName   = "vault-manifest-"     // and the fleet: the newest of its manifests that was seen
	resumeName = "vault-registration-" // and the fleet: one that may or may not have taken effect
)

// seen is the newest manifest that a client has followed.
type seen struct {
	Fleet    FleetID  `cbor:"1,keyasint"`
	Sequence uint64   `cbor:"2,keyasint"`
	Hash     [32]byte `cbor:"3,keyasint"`
}

// notOlder refuses a manifest older than the newest seen in dir, or another of
// the same number, and remembers a newer one.
func notOlder(dir string, m *Manifest) error {
	if dir == "" {
		return nil
	}
	path := filepath.Join(dir, seenName+hex.EncodeToString(m.Fleet[:]))
	var s seen
	switch b, err := readSmall(path, maxMessage+1); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := decode(b, &s); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		if s.Fleet != m.Fleet || m.Sequence < s.Sequence || m.Sequence == s.Sequence && m.Hash() != s.Hash {
			return fmt.Errorf("%w: number %d, but number %d was seen before", ErrManifest, m.Sequence, s.Sequence)
		}
		if s.Sequence == m.Sequence {
			return nil
		}
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, encode(&seen{m.Fleet, m.Sequence, m.Hash()}), 0o600)
}

// readSmall reads a file of at most limit bytes, and the beginning of a longer one.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func (c *Client) resumePath() string {
	return filepath.Join(c.c.StateDir, resumeName+hex.EncodeToString(c.manifest.Fleet[:]))
}

func (c *Client) saveResume(b *CommitBody) error {
	if c.c.StateDir == "" {
		return nil
	}
	if err := durable.MkdirAll(c.c.StateDir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(c.resumePath(), encode(b), 0o600)
}

func (c *Client) dropResume() {
	if c.c.StateDir != "" {
		_ = os.Remove(c.resumePath()) // left behind it is sent once more, which changes nothing
	}
}

// resume finishes a registration that was cut off: it may have taken effect, so
// it comes before a new one, whose right may depend on it.
func (c *Client) resume(ctx context.Context) error {
	if c.c.StateDir == "" {
		return nil
	}
	b, err := readSmall(c.resumePath(), maxMessage+1)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var body CommitBody
	if err := decode(b, &body); err != nil || body.UID != c.uid {
		c.dropResume() // another account's, or cut by a crash before it was sent
		return nil
	}
	_, err = c.commit(ctx, &body)
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return nil // whatever became of it is decided
}
