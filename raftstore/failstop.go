package raftstore

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// errBroken answers every write after a failed one.
var errBroken = errors.New("an earlier write failed")

// failStop is a log that stops the node at the first failed write. After a
// failed fsync nobody knows what the disk holds, and trying again may succeed
// without the data being there; so nothing is acknowledged any more.
type failStop struct {
	backend
	watch  watch
	fail   func(error) // ends Run
	broken atomic.Bool

	// lastForMachine is the newest stored entry that the machine will see. On
	// a leader every committed entry is at or below it.
	lastForMachine atomic.Uint64
	stored         func(entries int)
}

func (s *failStop) do(what string, write func() error) error {
	if s.broken.Load() {
		return errBroken
	}
	if err := s.watch.guarded(write); err != nil {
		s.broken.Store(true)
		s.fail(fmt.Errorf("%s: %w", what, err))
		return err
	}
	return nil
}

// StoreLog is StoreLogs of one.
func (s *failStop) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends. A leader steps down on the error, a follower refuses.
func (s *failStop) StoreLogs(logs []*raft.Log) error {
	if err := s.do("appending to the raft log", func() error { return s.backend.StoreLogs(logs) }); err != nil {
		return err
	}
	for i := len(logs) - 1; i >= 0; i-- {
		if forMachine(logs[i].Type) {
			s.lastForMachine.Store(logs[i].Index)
			break
		}
	}
	s.stored(len(logs))
	return nil
}

// forMachine tells whether raft hands entries of the type to the state.
func forMachine(t raft.LogType) bool { return t == raft.LogCommand || t == raft.LogConfiguration }

// DeleteRange removes entries from one end.
func (s *failStop) DeleteRange(from, to uint64) error {
	return s.do("truncating the raft log", func() error { return s.backend.DeleteRange(from, to) })
}

// Set and SetUint64 hold term and vote. Raft panics when they fail; here its
// goroutine ends instead, with its deferred clean-up, while Run returns the reason.
func (s *failStop) Set(key, value []byte) error {
	return s.setting(func() error { return s.backend.Set(key, value) })
}

// SetUint64 is Set for numbers.
func (s *failStop) SetUint64(key []byte, v uint64) error {
	return s.setting(func() error { return s.backend.SetUint64(key, v) })
}

func (s *failStop) setting(write func() error) error {
	if err := s.do("storing raft's term or vote", write); err != nil {
		runtime.Goexit()
	}
	return nil
}
