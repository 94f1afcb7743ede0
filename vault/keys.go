package vault

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"coffer/internal/durable"
)

// keyFiles holds this node's wrapped keys, one file for each account and epoch:
// never in the replicated log, where no key could be destroyed, and where a
// thief of one node's HSM would find all nodes' records.
//
//	keys/ab/cd.../   ab, cd...: hexadecimal SHA-256 of label, UID, epoch
type keyFiles struct{ dir string }

// keyFile is the content of one file.
type keyFile struct {
	Version uint8    `cbor:"1,keyasint"`
	UID     UID      `cbor:"2,keyasint"`
	Epoch   Epoch    `cbor:"3,keyasint"`
	Public  [33]byte `cbor:"4,keyasint"`
	Record  []byte   `cbor:"5,keyasint"` // the HSM's
}

func openKeyFiles(dir string) (*keyFiles, error) {
	k := &keyFiles{filepath.Join(dir, "keys")}
	return k, durable.MkdirAll(k.dir, 0o700)
}

func (k *keyFiles) path(uid UID, epoch Epoch) string {
	s := sha256.New()
	s.Write([]byte("coffer vault 1 key file"))
	s.Write(uid[:])
	s.Write(epoch[:])
	name := hex.EncodeToString(s.Sum(nil))
	return filepath.Join(k.dir, name[:2], name[2:])
}

// load returns the key's file, and [os.ErrNotExist] if there is none.
func (k *keyFiles) load(uid UID, epoch Epoch) (*keyFile, error) {
	b, err := readSmall(k.path(uid, epoch), maxMessage+1)
	if err != nil {
		return nil, nameless("reading", err)
	}
	var kf keyFile
	if err := decode(b, &kf); err != nil {
		return nil, fmt.Errorf("reading a key file: %w", err)
	}
	if kf.Version != version || kf.UID != uid || kf.Epoch != epoch {
		return nil, fmt.Errorf("reading a key file: it is another account's: %w", ErrMalformed)
	}
	return &kf, nil
}

func (k *keyFiles) store(kf *keyFile) error {
	path := k.path(kf.UID, kf.Epoch)
	err := durable.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = durable.WriteFile(path, encode(kf), 0o600)
	}
	return nameless("storing", err)
}

// nameless takes the file's name out of an error: it stands for an account, and the
// error goes to the log.
func nameless(doing string, err error) error {
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.As(err, &errno):
		return fmt.Errorf("%s a key file: %w", doing, errno)
	}
	return fmt.Errorf("%s a key file failed", doing)
}

// shred overwrites the key and removes its file. On storage that writes
// elsewhere (flash, copy-on-write) the old bytes may stay: they are wrapped by
// the HSM, and rotating its wrapping key makes them worthless.
func (k *keyFiles) shred(uid UID, epoch Epoch) error {
	path := k.path(uid, epoch)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return nameless("destroying", err)
	}
	err = overwrite(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Remove(path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	return nameless("destroying", err)
}

func overwrite(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	noise := make([]byte, st.Size())
	rand.Read(noise)
	if _, err := f.WriteAt(noise, 0); err != nil {
		return err
	}
	return f.Sync()
}

// owner is what the HSM binds a key to.
func keyOwner(fleet FleetID, node string, uid UID, epoch Epoch) []byte {
	return encode(struct {
		Label string  `cbor:"1,keyasint"`
		Fleet FleetID `cbor:"2,keyasint"`
		Node  string  `cbor:"3,keyasint"`
		UID   UID     `cbor:"4,keyasint"`
		Epoch Epoch   `cbor:"5,keyasint"`
	}{"coffer vault 1 owner", fleet, node, uid, epoch})
}
