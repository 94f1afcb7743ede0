package raftstore

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

// A backup is the state at one entry in a file, to begin a new group with when
// the old one is lost:
//
//	"coffer-raft-backup 1\n", a line of JSON (BackupInfo), a tar of the database
//
// It is not encrypted, and it is old: what was counted since is not in it. So a
// group that begins with one is of the next generation, which shows.
const (
	backupMagic   = "coffer-raft-backup 1\n"
	maxBackupHead = 64 << 10
)

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Index      uint64    `json:"index"` // last entry
	Term       uint64    `json:"term"`
	Chain      string    `json:"chain"`      // hex, as in Status
	Generation uint64    `json:"generation"` // of the group it was taken from
	Node       string    `json:"node"`       // that wrote it
	Time       time.Time `json:"time"`
}

// ErrBackup means that a file is no backup, or a damaged one.
var ErrBackup = errors.New("raftstore: not a whole backup")

var keyGeneration = []byte{prefixMeta, 'g'}

func readGeneration(r pebble.Reader) (uint64, error) {
	v, ok, err := get(r, keyGeneration)
	if err != nil || !ok {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("generation of %d bytes", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// Generation counts how often the group was begun again from a backup. A node
// that remembers a higher one elsewhere must not run this state.
func (s *Store) Generation() (uint64, error) {
	n := s.node.Load()
	if n == nil {
		return 0, errors.New("raftstore: node does not run")
	}
	n.state.mu.RLock()
	defer n.state.mu.RUnlock()
	if n.state.db == nil {
		return 0, errors.New("raftstore: state is closed")
	}
	return readGeneration(n.state.db)
}

// Backup writes the state of this node to w. Any node can; call Barrier first
// on the leader to have all that is committed.
func (s *Store) Backup(ctx context.Context, w io.Writer) (BackupInfo, error) {
	n := s.node.Load()
	if n == nil {
		return BackupInfo{}, errors.New("raftstore: node does not run")
	}
	if err := s.wait(ctx, n.raft.Snapshot()); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return BackupInfo{}, fmt.Errorf("making a raft snapshot: %w", err)
	}
	metas, err := n.snaps.list()
	if err != nil {
		return BackupInfo{}, err
	}
	if len(metas) == 0 {
		return BackupInfo{}, errors.New("raftstore: there is nothing to back up")
	}
	m := metas[0]
	generation, err := s.Generation()
	if err != nil {
		return BackupInfo{}, err
	}
	info := BackupInfo{
		Index: m.State.Index, Term: m.State.Term, Chain: hex.EncodeToString(m.State.Chain[:]),
		Generation: generation, Node: s.c.NodeID, Time: time.Now().UTC().Truncate(time.Second),
	}
	head, err := json.Marshal(info)
	if err != nil {
		return info, err
	}
	_, r, err := n.snaps.Open(m.Raft.ID)
	if err != nil {
		return info, err
	}
	defer r.Close()
	if _, err := io.WriteString(w, backupMagic+string(head)+"\n"); err != nil {
		return info, fmt.Errorf("writing the backup: %w", err)
	}
	if _, err := io.Copy(w, r); err != nil {
		return info, fmt.Errorf("writing the backup: %w", err)
	}
	return info, nil
}

// CheckBackup reads a backup whole, and its database in a folder below tmp that
// it removes. It fails with ErrBackup.
func CheckBackup(r io.Reader, tmp string) (BackupInfo, error) {
	dir, err := os.MkdirTemp(tmp, "backup-")
	if err != nil {
		return BackupInfo{}, err
	}
	defer os.RemoveAll(dir)
	info, db, err := openBackup(vfs.Default, dir, r)
	if err != nil {
		return info, err
	}
	return info, db.Close()
}

// openBackup unpacks a backup into dir and compares it with what it says it is.
func openBackup(fs vfs.FS, dir string, r io.Reader) (info BackupInfo, _ *pebble.DB, err error) {
	b := bufio.NewReaderSize(r, maxBackupHead)
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(b, magic); err != nil || string(magic) != backupMagic {
		return info, nil, fmt.Errorf("%w: it begins otherwise", ErrBackup)
	}
	head, err := b.ReadSlice('\n')
	if err != nil {
		return info, nil, fmt.Errorf("%w: reading its head: %w", ErrBackup, err)
	}
	if err := json.Unmarshal(head, &info); err != nil {
		return info, nil, fmt.Errorf("%w: reading its head: %w", ErrBackup, err)
	}
	if err := unpack(fs, dir, b); err != nil {
		return info, nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	quiet := pebbleLog{zap.NewNop(), func(error) {}}
	db, err := openDB(fs, dir, quiet, false)
	if err != nil {
		return info, nil, fmt.Errorf("%w: opening its database: %w", ErrBackup, err)
	}
	pos, err := readPosition(db)
	generation, err2 := readGeneration(db)
	if err = errors.Join(err, err2); err == nil && (pos.Index != info.Index || pos.Term != info.Term || hex.EncodeToString(pos.Chain[:]) != info.Chain || generation != info.Generation) {
		err = errors.New("its database is not the one it names")
	}
	if err != nil {
		return info, nil, fmt.Errorf("%w: %w", ErrBackup, errors.Join(err, db.Close()))
	}
	return info, db, nil
}
