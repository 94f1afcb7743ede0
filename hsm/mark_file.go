package hsm

import (
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

// The file of a mark holds two slots, 4096 bytes apart, written in turn so that
// a torn write leaves the other:
//
//	offset  size  field
//	0       8     "coffmrk1"
//	8       8     count of writes, big-endian; the slot is its lowest bit
//	16      40    value
//	56      32    HMAC-SHA-256 by the token over the mark's name and all before
const (
	slotMagic  = "coffmrk1"
	slotSize   = 88
	slotStride = 4096
)

// fileMark is a mark of a SoftHSM token, in the file of that name.
type fileMark struct {
	dir, name string

	mu    sync.Mutex // held from the count to the fsync
	f     *os.File   // nil until first used
	count uint64     // of the newest slot
	value [40]byte   // in it
}

func (m *fileMark) set(s *session, value [40]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.load(s); err != nil {
		return err
	}
	slot, err := m.slot(s, m.count+1, value)
	if err != nil {
		return err
	}
	if _, err := m.f.WriteAt(slot, int64((m.count+1)%2)*slotStride); err != nil {
		return fmt.Errorf("hsm: storing the %s: %w", m.name, err)
	}
	if err := m.f.Sync(); err != nil {
		return fmt.Errorf("hsm: storing the %s: %w", m.name, err)
	}
	m.count, m.value = m.count+1, value
	return nil
}

func (m *fileMark) get(s *session) ([40]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.load(s)
	return m.value, err
}

// load reads the newer of the slots that this token wrote, once.
func (m *fileMark) load(s *session) error {
	if m.f != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(m.dir, m.name), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		// It was made with the token; without it the node would forget how far it was.
		return fmt.Errorf("%w: no %s", ErrAnchor, m.name)
	}
	if err != nil {
		return fmt.Errorf("hsm: reading the %s: %w", m.name, err)
	}
	found := false
	for n := range int64(2) {
		slot := make([]byte, slotSize)
		if _, err := f.ReadAt(slot, n*slotStride); err != nil && err != io.EOF {
			return errors.Join(fmt.Errorf("hsm: reading the %s: %w", m.name, err), f.Close())
		}
		count, value := binary.BigEndian.Uint64(slot[8:]), [40]byte(slot[16:])
		want, err := m.slot(s, count, value)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		if subtle.ConstantTimeCompare(slot, want) == 1 && (!found || count > m.count) {
			m.count, m.value, found = count, value, true
		}
	}
	if !found {
		return errors.Join(fmt.Errorf("%w: no %s of this token", ErrAnchor, m.name), f.Close())
	}
	m.f = f
	return nil
}

func (m *fileMark) slot(s *session, count uint64, value [40]byte) ([]byte, error) {
	b := append(make([]byte, 0, slotSize), slotMagic...)
	b = binary.BigEndian.AppendUint64(b, count)
	b = append(b, value[:]...)
	mac, err := s.hmac(s.k.mac, frame(macMark, []byte(m.name), b))
	if err != nil {
		return nil, err
	}
	return append(b, mac[:]...), nil
}

// close releases the file.
func (m *fileMark) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.f == nil {
		return nil
	}
	return m.f.Close()
}

// makeFileMarks writes both marks of a new token, with zeros.
func makeFileMarks(s *session, dir string) error {
	for _, name := range []string{anchorName, generationName} {
		m := &fileMark{dir: dir, name: name}
		slot, err := m.slot(s, 0, [40]byte{})
		if err != nil {
			return err
		}
		file := append(slot, make([]byte, 2*slotStride-len(slot))...)
		if err := durable.WriteFile(filepath.Join(dir, name), file, 0o600); err != nil {
			return fmt.Errorf("hsm: making the %s: %w", name, err)
		}
	}
	return nil
}
