package raftstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Restore puts a backup into the empty folder c.Dir, as the beginning of a new
// group of c.Peers: every one of them must restore the same file before any
// runs. The new group is of the next generation, remembers no disks, and shares
// no chain with the old one. change, unless nil, makes the state fit to go on with, the
// same on every node; what it does is part of the new chain.
func Restore(c Config, r io.Reader, change func(KV) error) (BackupInfo, error) {
	if err := c.complete(); err != nil {
		return BackupInfo{}, err
	}
	fs := c.hooks.fs
	if names, err := fs.List(c.Dir); err == nil && len(names) > 0 {
		return BackupInfo{}, fmt.Errorf("raftstore: %s is not empty", c.Dir)
	}
	quiet := pebbleLog{c.Log, func(error) {}}
	snaps, err := newSnapshots(fs, fs.PathJoin(c.Dir, "snapshots"), quiet, c.Log, nil)
	if err != nil {
		return BackupInfo{}, err
	}
	// Until the folder has its name, there is no raft snapshot and the node would
	// begin an empty group: so it is named last.
	tmp := fs.PathJoin(snaps.dir, "tmp-restore")
	dir := fs.PathJoin(tmp, "db")
	if err := makeDir(fs, dir); err != nil {
		return BackupInfo{}, err
	}
	info, db, err := openBackup(fs, dir, r)
	if err != nil {
		return info, errors.Join(err, fs.RemoveAll(snaps.dir))
	}
	info.Generation++
	pos, err := begunAgain(db, info.Generation, change)
	if err = errors.Join(err, db.Close()); err != nil {
		return info, fmt.Errorf("changing the restored state: %w", err)
	}
	if err := startTerm(fs, &c, info.Term); err != nil {
		return info, err
	}
	info.Chain = hex.EncodeToString(pos.Chain[:])
	k := &sink{store: snaps, dir: tmp, adopted: true, meta: snapshotMeta{State: pos, Raft: raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: snapshotID(pos.Index, pos.Term), Index: pos.Index, Term: pos.Term, ConfigurationIndex: 1,
	}}}
	for _, p := range c.Peers {
		k.meta.Raft.Configuration.Servers = append(k.meta.Raft.Configuration.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.ID)})
	}
	return info, k.Close()
}

// changeBytes is how much of a change is written at once.
const changeBytes = 8 << 20

// changingKV writes as it goes: a change may be of every key. A crash leaves a folder
// that does not count yet.
type changingKV struct {
	batchKV
	db *pebble.DB
}

func (kv *changingKV) Set(key, value []byte) { kv.batchKV.Set(key, value); kv.write(changeBytes) }
func (kv *changingKV) Delete(key []byte)     { kv.batchKV.Delete(key); kv.write(changeBytes) }

func (kv *changingKV) write(above int) {
	if kv.writes.batch.Len() > above {
		kv.note(kv.writes.commit())
		kv.note(kv.writes.close())
		kv.writes = newPending(kv.db)
	}
}

// changeAll lets fn change the machine's keys, and adds what it does to h.
func changeAll(db *pebble.DB, h hash.Hash, fn func(KV) error) error {
	kv := &changingKV{batchKV{writes: newPending(db), sum: h}, db}
	err := fn(kv)
	kv.write(0)
	return errors.Join(err, kv.err, kv.writes.close())
}

// begunAgain makes a restored state that of a new group. It is synced.
func begunAgain(db *pebble.DB, generation uint64, change func(KV) error) (position, error) {
	pos, err := readPosition(db)
	if err != nil {
		return pos, err
	}
	h := sha256.New()
	if change != nil {
		if err := changeAll(db, h, change); err != nil {
			return pos, err
		}
	}
	hashParts(h, []byte("restored"), pos.Chain[:], binary.BigEndian.AppendUint64(nil, generation))
	pos.Chain = [32]byte(h.Sum(nil))
	b := db.NewBatch()
	defer b.Close()
	err = errors.Join(
		b.DeleteRange(keyMarks, after(keyMarks), nil),
		b.Delete(keyServers, nil),
		b.Set(keyGeneration, binary.BigEndian.AppendUint64(nil, generation), nil),
		b.Set(keyPosition, pos.encode(), nil))
	if err != nil {
		return pos, err
	}
	return pos, errors.Join(b.Commit(pebble.Sync), db.Flush())
}

// startTerm makes raft go on from the backup's term: terms never fall.
func startTerm(fs vfs.FS, c *Config, term uint64) error {
	s := &Store{c: *c, failed: make(chan struct{})}
	s.metrics = newMetrics(s, nil)
	n := &node{disk: &guardFS{FS: fs, fail: s.fail}}
	if err := s.openLogs(n); err != nil {
		return err
	}
	return errors.Join(n.logs.backend.SetUint64(keyTerm, term), n.logs.Close())
}

// Begin puts the first entry of a new group of c.Peers into the empty folder c.Dir, as
// [Store.Run] does without [Config.Join]. Every one of them must begin so before any runs.
func Begin(c Config) (err error) {
	if err := c.complete(); err != nil {
		return err
	}
	fs := c.hooks.fs
	if names, err := fs.List(c.Dir); err == nil && len(names) > 0 {
		return fmt.Errorf("raftstore: %s is not empty", c.Dir)
	}
	s := &Store{c: c, failed: make(chan struct{})}
	s.metrics = newMetrics(s, nil)
	n := &node{disk: &guardFS{FS: fs, fail: s.fail}}
	if err := makeDir(fs, c.Dir); err != nil {
		return err
	}
	if err := s.openLogs(n); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.logs.Close()) }()
	_, t := raft.NewInmemTransport(raft.ServerAddress(c.NodeID))
	return s.bootstrap(n, raft.NewInmemSnapshotStore(), t)
}
