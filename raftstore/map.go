package raftstore

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Map is an ordered map on this node's disk beside the replicated state: for what its
// owner can make again, as an index. Writes are not synced. A power cut takes the newest
// ones away, and none without all later ones.
type Map struct {
	watch  watch
	failed <-chan struct{} // closed when the node cannot go on

	mu sync.RWMutex // guards db against being closed
	db *pebble.DB   // nil once closed
}

// OpenMap opens the map in dir, or begins one. A write to it that fails or hangs ends
// Run, as any other of the node's. The map may be opened before Run.
func (s *Store) OpenMap(dir string) (*Map, error) {
	disk := &guardFS{FS: s.c.hooks.fs, fail: s.fail}
	if err := makeDir(disk, dir); err != nil {
		return nil, fmt.Errorf("making the folder: %w", err)
	}
	db, err := openDB(disk, dir, pebbleLog{s.c.Log, s.fail}, false)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", dir, err)
	}
	disk.armed.Store(true)
	m := &Map{db: db, failed: s.failed}
	s.mapsMu.Lock()
	defer s.mapsMu.Unlock()
	s.maps = append(s.maps, m)
	return m, nil
}

var (
	errMapClosed = errors.New("raftstore: map is closed")
	errMapFailed = errors.New("raftstore: map is not written, as the node cannot go on")
)

// Get returns the value of key, which is the caller's.
func (m *Map) Get(key []byte) ([]byte, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.db == nil {
		return nil, false, errMapClosed
	}
	return get(m.db, key)
}

// Scan calls fn for the keys from from up to, not including, to, in byte order, as
// they are now, until fn returns false. The slices are valid only inside fn.
func (m *Map) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.db == nil {
		return errMapClosed
	}
	return each(m.db, from, to, fn)
}

// Write makes all the changes or none. A nil value deletes. Once the node cannot go on
// it returns an error, whatever becomes of the write.
func (m *Map) Write(changes map[string][]byte) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.db == nil {
		return errMapClosed
	}
	batch := m.db.NewBatch()
	for k, v := range changes {
		var err error
		if v == nil {
			err = batch.Delete([]byte(k), nil)
		} else {
			err = batch.Set([]byte(k), v, nil)
		}
		if err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	go func() { // who writes to a disk that failed sleeps for ever
		err := m.watch.guarded(func() error { return batch.Commit(pebble.NoSync) })
		done <- errors.Join(err, batch.Close())
	}()
	select {
	case err := <-done:
		return err
	case <-m.failed:
		return errMapFailed
	}
}

// Close closes the map. It stays open when the node could not go on: a writer may sleep.
func (m *Map) Close() error {
	select {
	case <-m.failed:
		return nil
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.db == nil {
		return nil
	}
	err := m.db.Close()
	m.db = nil
	return err
}
