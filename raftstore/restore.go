package raftstore

import (
	"fmt"
	"io"
	"os"
	"strings"

	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Snapshot makes a checkpoint. Everything applied so far is synced first: raft
// cuts the log below, and what is not in it any more must be on disk.
func (s *state) Snapshot() (raft.FSMSnapshot, error) {
	if err := s.failure(); err != nil {
		return nil, fmt.Errorf("node has halted: %w", err)
	}
	pos := s.position()
	dir := s.dir + ".checkpoint"
	if err := s.fs.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("removing an old checkpoint: %w", err)
	}
	err := s.watch.recovered(func() error {
		if err := s.db.Flush(); err != nil {
			return err
		}
		return s.db.Checkpoint(dir, pebble.WithFlushedWAL())
	})
	if err != nil {
		s.stop(err)
		return nil, fmt.Errorf("making a checkpoint: %w", err)
	}
	return &checkpoint{fs: s.fs, dir: dir, pos: pos}, nil
}

// checkpoint is a raft snapshot on its way to the sink.
type checkpoint struct {
	fs  vfs.FS
	dir string
	pos position
}

// Persist moves the checkpoint into the store.
func (c *checkpoint) Persist(to raft.SnapshotSink) error {
	k, ok := to.(*sink)
	if !ok {
		return fmt.Errorf("raft snapshot into a %T", to)
	}
	return k.adopt(c.dir, c.pos)
}

// Release removes what Persist did not take.
func (c *checkpoint) Release() { c.fs.RemoveAll(c.dir) }

// Restore replaces the state by a raft snapshot from [snapshots.Open].
func (s *state) Restore(from io.ReadCloser) error {
	if err := s.failure(); err != nil {
		return fmt.Errorf("node has halted: %w", err)
	}
	if err := s.restore(from); err != nil {
		s.stop(err) // between two states there is no way on
		return err
	}
	s.onApply(s.position().Index)
	return nil
}

func (s *state) restore(from io.ReadCloser) error {
	for {
		w, ok := from.(raft.ReadCloserWrapper)
		if !ok {
			break
		}
		from = w.WrappedReadCloser()
	}
	r, ok := from.(*snapshotReader)
	if !ok {
		return fmt.Errorf("restoring from a %T", from)
	}
	if err := s.prepare(r.db); err != nil {
		return fmt.Errorf("copying the raft snapshot: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			return fmt.Errorf("closing the old state: %w", err)
		}
		s.db = nil
	}
	if err := s.swap(); err != nil {
		return err
	}
	s.sawUpTo(r.index)
	return nil
}

// sawUpTo notes that the machine's entries up to a raft snapshot's index are in
// the state: what lies between its position and index was not for the machine.
func (s *state) sawUpTo(index uint64) {
	s.posMu.Lock()
	defer s.posMu.Unlock()
	s.seen = max(s.seen, index)
}

// prepare makes a copy of a checkpoint in DIR.new. Tables are immutable and
// linked, what pebble writes to is copied.
func (s *state) prepare(checkpoint string) error {
	to := s.dir + ".new"
	if err := s.fs.RemoveAll(to); err != nil {
		return err
	}
	if err := s.fs.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := dbFiles(s.fs, checkpoint)
	if err != nil {
		return err
	}
	for _, name := range names {
		copyFile := vfs.Copy
		if strings.HasSuffix(name, ".sst") {
			copyFile = vfs.LinkOrCopy
		}
		if err := copyFile(s.fs, s.fs.PathJoin(checkpoint, name), s.fs.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return syncDir(s.fs, to)
}

// swap puts DIR.new in the place of DIR and opens it. After a crash in between
// DIR is missing, and openState starts again from the raft snapshot.
func (s *state) swap() error {
	old := s.dir + ".old"
	if err := s.fs.RemoveAll(old); err != nil {
		return err
	}
	if err := s.fs.Rename(s.dir, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.fs.Rename(s.dir+".new", s.dir); err != nil {
		return err
	}
	if err := syncDir(s.fs, s.fs.PathDir(s.dir)); err != nil {
		return err
	}
	db, err := openDB(s.fs, s.dir, s.logger, false)
	if err != nil {
		return fmt.Errorf("opening the restored state: %w", err)
	}
	if err := s.load(db); err != nil {
		db.Close()
		return err
	}
	return s.fs.RemoveAll(old)
}

// openAt opens the state as the last run left it. newest is the newest raft
// snapshot, nil for none: a state that is older, as after a crash within
// Restore, is replaced by it.
func (s *state) openAt(snaps *snapshots, newest *snapshotMeta) error {
	for _, suffix := range []string{".new", ".old", ".checkpoint"} {
		if err := s.fs.RemoveAll(s.dir + suffix); err != nil {
			return fmt.Errorf("removing leftovers: %w", err)
		}
	}
	db, err := openDB(s.fs, s.dir, s.logger, false)
	if err != nil {
		return fmt.Errorf("opening the state: %w", err)
	}
	if err := s.load(db); err != nil {
		db.Close()
		return err
	}
	if newest == nil {
		return nil
	}
	if s.pos.Index < newest.State.Index {
		_, r, err := snaps.Open(newest.Raft.ID)
		if err != nil {
			return err
		}
		defer r.Close()
		if err := s.restore(r); err != nil {
			return fmt.Errorf("restoring raft snapshot %s: %w", newest.Raft.ID, err)
		}
	}
	s.sawUpTo(newest.Raft.Index)
	return nil
}

// mayReplace decides about a state that the leader sent: it must not be older
// than this node's own, which was committed, and the user's check must pass.
func (s *state) mayReplace(check func(KV) error) func(position, *pebble.DB) error {
	return func(pos position, db *pebble.DB) error {
		if own := s.position(); pos.Index < own.Index {
			return fmt.Errorf("raft snapshot holds entry %d, this node's state %d already", pos.Index, own.Index)
		} else if pos.Index == own.Index && pos != own {
			return fmt.Errorf("raft snapshot differs from this node's state at entry %d", pos.Index)
		}
		if check == nil {
			return nil
		}
		kv := &readKV{from: db}
		if err := check(kv); err != nil {
			return fmt.Errorf("raft snapshot is refused: %w", err)
		}
		return kv.err
	}
}
