package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// backend is what lies under a log: pebbleStore or raft-wal.
type backend interface {
	raft.LogStore
	raft.StableStore
	raft.MonotonicLogStore
	io.Closer
}

// pebbleStore keeps raft's log and its few settings in one pebble database. A
// call of StoreLogs is one batch and one fsync.
//
//	'l' index (8 bytes, big endian)  ->  term 8, type 1, appended at 8 (unix ns), length of data 4, data, extensions
//	's' name                         ->  value
//
// Indexes have no gaps: raft empties the log where a raft snapshot replaces it.
type pebbleStore struct {
	db *pebble.DB

	// writing is held through StoreLogs and DeleteRange: raft cuts the beginning
	// on another goroutine than it appends on.
	writing sync.Mutex

	// first and last are the ends of the log, 0 when it is empty. They change
	// after the batch is durable, never before.
	mu          sync.Mutex
	first, last uint64
}

const logHeader = 8 + 1 + 8 + 4

func openPebbleStore(fs vfs.FS, dir string, logger pebble.Logger) (*pebbleStore, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		FS:                    fs,
		Logger:                logger,
		FormatMajorVersion:    pebble.FormatNewest,
		MemTableSize:          16 << 20,
		L0CompactionThreshold: 4,
		BytesPerSync:          1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the raft log: %w", err)
	}
	s := &pebbleStore{db: db}
	if s.first, err = s.edge((*pebble.Iterator).First); err == nil {
		s.last, err = s.edge((*pebble.Iterator).Last)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("reading the ends of the raft log: %w", err)
	}
	return s, nil
}

func logKey(index uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'l'}, index) }

func (s *pebbleStore) edge(move func(*pebble.Iterator) bool) (uint64, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{'l'}, UpperBound: []byte{'m'}})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !move(it) {
		return 0, it.Error()
	}
	if len(it.Key()) != 9 {
		return 0, fmt.Errorf("key of %d bytes", len(it.Key()))
	}
	return binary.BigEndian.Uint64(it.Key()[1:]), nil
}

// FirstIndex is the oldest entry's index, 0 for an empty log.
func (s *pebbleStore) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, nil
}

// LastIndex is the newest entry's index, 0 for an empty log.
func (s *pebbleStore) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, nil
}

// IsMonotonic tells raft to empty the log before it goes on after a raft snapshot.
func (s *pebbleStore) IsMonotonic() bool { return true }

// GetLog reads one entry.
func (s *pebbleStore) GetLog(index uint64, l *raft.Log) error {
	v, closer, err := s.db.Get(logKey(index))
	if errors.Is(err, pebble.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	if err != nil {
		return fmt.Errorf("reading entry %d: %w", index, err)
	}
	defer closer.Close()
	if len(v) < logHeader || uint64(binary.BigEndian.Uint32(v[17:])) > uint64(len(v)-logHeader) {
		return fmt.Errorf("reading entry %d: %d bytes are not an entry", index, len(v))
	}
	data := v[logHeader:][:binary.BigEndian.Uint32(v[17:])]
	*l = raft.Log{
		Index:      index,
		Term:       binary.BigEndian.Uint64(v),
		Type:       raft.LogType(v[8]),
		AppendedAt: time.Unix(0, int64(binary.BigEndian.Uint64(v[9:]))),
		Data:       append([]byte(nil), data...),
		Extensions: append([]byte(nil), v[logHeader+len(data):]...),
	}
	return nil
}

// StoreLog is StoreLogs of one.
func (s *pebbleStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends and returns when all is durable.
func (s *pebbleStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	first, last, err := s.extended(logs)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	for _, l := range logs {
		op := b.SetDeferred(9, logHeader+len(l.Data)+len(l.Extensions))
		op.Key[0] = 'l'
		binary.BigEndian.PutUint64(op.Key[1:], l.Index)
		v := op.Value
		binary.BigEndian.PutUint64(v, l.Term)
		v[8] = byte(l.Type)
		binary.BigEndian.PutUint64(v[9:], uint64(l.AppendedAt.UnixNano()))
		binary.BigEndian.PutUint32(v[17:], uint32(len(l.Data)))
		copy(v[logHeader:], l.Data)
		copy(v[logHeader+len(l.Data):], l.Extensions)
		if err := op.Finish(); err != nil {
			return fmt.Errorf("building entry %d: %w", l.Index, err)
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("appending entries up to %d: %w", last, err)
	}
	s.mu.Lock()
	s.first, s.last = first, last
	s.mu.Unlock()
	return nil
}

// extended gives the ends of the log with logs at its end. Overwriting is
// allowed, as raft-wal allows none and raft deletes first: it is not used.
func (s *pebbleStore) extended(logs []*raft.Log) (first, last uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, last = s.first, s.last
	for _, l := range logs {
		if last != 0 && l.Index != last+1 || l.Index == 0 {
			return 0, 0, fmt.Errorf("appending entry %d after %d: log would have a gap", l.Index, last)
		}
		if first == 0 {
			first = l.Index
		}
		last = l.Index
	}
	return first, last, nil
}

// DeleteRange removes entries from the beginning or the end of the log.
func (s *pebbleStore) DeleteRange(from, to uint64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	first, last := s.first, s.last
	s.mu.Unlock()
	from, to = max(from, first), min(to, last)
	if first == 0 || from > to {
		return nil
	}
	if from != first && to != last {
		return fmt.Errorf("deleting entries %d to %d from the middle of %d to %d", from, to, first, last)
	}
	if err := s.db.DeleteRange(logKey(from), logKey(to+1), pebble.Sync); err != nil {
		return fmt.Errorf("deleting entries %d to %d: %w", from, to, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case from == first && to == last:
		s.first, s.last = 0, 0
	case from == first:
		s.first = to + 1
	default:
		s.last = from - 1
	}
	return nil
}

// Set stores a setting durably.
func (s *pebbleStore) Set(key, value []byte) error {
	if err := s.db.Set(append([]byte{'s'}, key...), value, pebble.Sync); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return nil
}

// Get reads a setting; one that was never set is empty.
func (s *pebbleStore) Get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(append([]byte{'s'}, key...))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	defer closer.Close()
	return append([]byte(nil), v...), nil
}

// SetUint64 stores a number durably.
func (s *pebbleStore) SetUint64(key []byte, v uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 reads a number; one that was never set is 0.
func (s *pebbleStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil || len(v) == 0 {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("reading %s: %d bytes are not a number", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// Close closes the database.
func (s *pebbleStore) Close() error { return s.db.Close() }
