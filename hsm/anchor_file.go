package hsm

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"coffer/internal/durable"
)

// The anchor's file holds two slots, 4096 bytes apart, written in turn so that
// a torn write leaves the other:
//
//	offset  size  field
//	0       8     "coffanc1"
//	8       8     count of writes, big-endian; the slot is its lowest bit
//	16      40    head
//	56      32    HMAC-SHA-256 by the token over count and head
const (
	anchorMagic = "coffanc1"
	slotSize    = 88
	slotStride  = 4096
)

func anchorPath(dir string) string { return filepath.Join(dir, "anchor") }

// fileAnchor is the anchor of a SoftHSM token.
type fileAnchor struct {
	path string

	mu    sync.Mutex // held from the count to the fsync
	f     *os.File   // nil until first used
	count uint64     // of the newest slot
	head  [40]byte   // in it
}

func (a *fileAnchor) set(s *session, head [40]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.load(s); err != nil {
		return err
	}
	slot, err := s.anchorSlot(a.count+1, head)
	if err != nil {
		return err
	}
	if _, err := a.f.WriteAt(slot, int64((a.count+1)%2)*slotStride); err != nil {
		return fmt.Errorf("hsm: storing the anchor: %w", err)
	}
	if err := a.f.Sync(); err != nil {
		return fmt.Errorf("hsm: storing the anchor: %w", err)
	}
	a.count, a.head = a.count+1, head
	return nil
}

func (a *fileAnchor) get(s *session) ([40]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.load(s)
	return a.head, err
}

// load reads the newer of the slots that this token wrote, once.
func (a *fileAnchor) load(s *session) error {
	if a.f != nil {
		return nil
	}
	f, err := os.OpenFile(a.path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return ErrAnchor // made with the token; without it the node would forget how far it was
	}
	if err != nil {
		return fmt.Errorf("hsm: reading the anchor: %w", err)
	}
	found := false
	for n := range int64(2) {
		slot := make([]byte, slotSize)
		if _, err := f.ReadAt(slot, n*slotStride); err != nil && err != io.EOF {
			return errors.Join(fmt.Errorf("hsm: reading the anchor: %w", err), f.Close())
		}
		count, head := binary.BigEndian.Uint64(slot[8:]), [40]byte(slot[16:])
		want, err := s.anchorSlot(count, head)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		if subtle.ConstantTimeCompare(slot, want) == 1 && (!found || count > a.count) {
			a.count, a.head, found = count, head, true
		}
	}
	if !found {
		return errors.Join(ErrAnchor, f.Close())
	}
	a.f = f
	return nil
}

func (s *session) anchorSlot(count uint64, head [40]byte) ([]byte, error) {
	b := append(make([]byte, 0, slotSize), anchorMagic...)
	b = binary.BigEndian.AppendUint64(b, count)
	b = append(b, head[:]...)
	mac, err := s.hmac(s.k.mac, frame(macAnchor, b))
	if err != nil {
		return nil, err
	}
	return append(b, mac[:]...), nil
}

// makeFileAnchor writes the file of a new token, with zeros.
func makeFileAnchor(s *session, path string) error {
	slot, err := s.anchorSlot(0, [40]byte{})
	if err != nil {
		return err
	}
	pad := bytes.Repeat([]byte{0}, 2*slotStride-len(slot))
	return durable.WriteFile(path, append(slot, pad...), 0o600)
}

// close releases the file.
func (a *fileAnchor) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		return nil
	}
	return a.f.Close()
}
