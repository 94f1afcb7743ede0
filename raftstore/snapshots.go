package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

// keepSnapshots: the newest, and the one before in case the newest is damaged.
const keepSnapshots = 2

// snapshots keeps raft snapshots: checkpoints of the state's database.
//
//	DIR/INDEX-TERM/meta.json  snapshotMeta
//	DIR/INDEX-TERM/db/        the database, mostly hard links to the live one's files
//	DIR/tmp-N/                one being made; removed at the start
type snapshots struct {
	fs     vfs.FS
	dir    string
	logger pebble.Logger
	log    *zap.Logger
	accept func(position, *pebble.DB) error // may a received state replace ours?

	mu   sync.Mutex
	next int
	open map[string]int // readers of each, which must not lose its files
}

// snapshotMeta is meta.json.
type snapshotMeta struct {
	Raft  raft.SnapshotMeta
	State position // of the database within; beyond Raft.Index if made while a restart caught up
}

func newSnapshots(fs vfs.FS, dir string, logger pebble.Logger, log *zap.Logger, accept func(position, *pebble.DB) error) (*snapshots, error) {
	s := &snapshots{fs: fs, dir: dir, logger: logger, log: log, accept: accept, open: make(map[string]int)}
	if err := makeDir(fs, dir); err != nil {
		return nil, fmt.Errorf("making the folder of raft snapshots: %w", err)
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("listing raft snapshots: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "tmp-") {
			if err := fs.RemoveAll(fs.PathJoin(dir, name)); err != nil {
				return nil, fmt.Errorf("removing an unfinished raft snapshot: %w", err)
			}
		}
	}
	return s, nil
}

func snapshotID(index, term uint64) string { return fmt.Sprintf("%016x-%016x", index, term) }

// list returns what is complete, newest first.
func (s *snapshots) list() ([]snapshotMeta, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, fmt.Errorf("listing raft snapshots: %w", err)
	}
	var metas []snapshotMeta
	for _, name := range names {
		if strings.HasPrefix(name, "tmp-") {
			continue
		}
		m, err := s.readMeta(name)
		if err != nil {
			s.log.Error("raft snapshot is not readable", zap.String("id", name), zap.Error(err))
			continue
		}
		metas = append(metas, m)
	}
	slices.SortFunc(metas, func(a, b snapshotMeta) int { return strings.Compare(b.Raft.ID, a.Raft.ID) })
	return metas, nil
}

func (s *snapshots) readMeta(id string) (snapshotMeta, error) {
	f, err := s.fs.Open(s.fs.PathJoin(s.dir, id, "meta.json"))
	if err != nil {
		return snapshotMeta{}, err
	}
	defer f.Close()
	var m snapshotMeta
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&m); err != nil {
		return snapshotMeta{}, err
	}
	if m.Raft.ID != id {
		return snapshotMeta{}, fmt.Errorf("raft snapshot %s says it is %q", id, m.Raft.ID)
	}
	return m, nil
}

// List is list for raft. It looks at the newest alone before it starts.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	metas, err := s.list()
	if err != nil {
		return nil, err
	}
	out := make([]*raft.SnapshotMeta, len(metas))
	for i := range metas {
		out[i] = &metas[i].Raft
	}
	return out, nil
}

// Open returns a raft snapshot as a tar of exactly Size bytes.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, err := s.readMeta(id)
	if err != nil {
		return nil, nil, fmt.Errorf("opening raft snapshot %s: %w", id, err)
	}
	s.hold(id, 1)
	db := s.fs.PathJoin(s.dir, id, "db")
	archive, size, err := newArchive(s.fs, db)
	if err != nil {
		s.hold(id, -1)
		return nil, nil, fmt.Errorf("opening raft snapshot %s: %w", id, err)
	}
	m.Raft.Size = size
	return &m.Raft, &snapshotReader{Reader: archive, archive: archive, db: db, index: m.Raft.Index, close: func() { s.hold(id, -1) }}, nil
}

func (s *snapshots) hold(id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[id] += n; s.open[id] == 0 {
		delete(s.open, id)
	}
}

// snapshotReader lets [state.Restore] on the same node take the files instead
// of the stream.
type snapshotReader struct {
	io.Reader
	archive io.Closer
	db      string
	index   uint64 // raft's
	close   func()
	once    sync.Once
}

func (r *snapshotReader) Close() error {
	err := r.archive.Close()
	r.once.Do(r.close)
	return err
}

// Create starts a raft snapshot: of this node's own state, or one that the leader sends.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, servers raft.Configuration, serversIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	dir := s.fs.PathJoin(s.dir, fmt.Sprintf("tmp-%d", s.next))
	s.next++
	s.mu.Unlock()
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("starting a raft snapshot: %w", err)
	}
	return &sink{store: s, dir: dir, meta: snapshotMeta{Raft: raft.SnapshotMeta{
		Version: version, ID: snapshotID(index, term), Index: index, Term: term,
		Configuration: servers, ConfigurationIndex: serversIndex,
	}}}, nil
}

// sink makes one raft snapshot: from a checkpoint by adopt, or from an archive by Write.
type sink struct {
	store   *snapshots
	dir     string
	meta    snapshotMeta
	adopted bool
	unpack  *unpacker
	closed  bool
}

// ID names the raft snapshot.
func (k *sink) ID() string { return k.meta.Raft.ID }

func (k *sink) db() string { return k.store.fs.PathJoin(k.dir, "db") }

// adopt takes a finished checkpoint of this node's state.
func (k *sink) adopt(checkpoint string, pos position) error {
	if err := k.store.fs.Rename(checkpoint, k.db()); err != nil {
		return fmt.Errorf("taking the checkpoint: %w", err)
	}
	k.adopted = true
	k.meta.State = pos
	return nil
}

// Write takes the next part of an archive.
func (k *sink) Write(p []byte) (int, error) {
	if k.unpack == nil {
		u, err := newUnpacker(k.store.fs, k.db())
		if err != nil {
			return 0, err
		}
		k.unpack = u
	}
	return k.unpack.Write(p)
}

// Close makes the raft snapshot durable and visible, or removes it.
func (k *sink) Close() error {
	if k.closed {
		return nil
	}
	if err := k.finish(); err != nil {
		k.Cancel()
		return fmt.Errorf("finishing raft snapshot %s: %w", k.ID(), err)
	}
	k.closed = true
	k.store.reap()
	return nil
}

func (k *sink) finish() error {
	if !k.adopted {
		if err := k.examine(); err != nil {
			return err
		}
	}
	fs := k.store.fs
	b, err := json.Marshal(k.meta)
	if err != nil {
		return err
	}
	if err := writeSynced(fs, fs.PathJoin(k.dir, "meta.json"), b); err != nil {
		return err
	}
	if err := syncDir(fs, k.dir); err != nil {
		return err
	}
	final := fs.PathJoin(k.store.dir, k.ID())
	if _, err := fs.Stat(final); err == nil {
		return fs.RemoveAll(k.dir) // the same index and term: the same state
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := fs.Rename(k.dir, final); err != nil {
		return err
	}
	return syncDir(fs, k.store.dir)
}

// examine opens what the leader sent before it may count as a raft snapshot.
func (k *sink) examine() error {
	if k.unpack == nil {
		return errors.New("nothing was written")
	}
	err := k.unpack.Close()
	k.unpack = nil
	if err != nil {
		return err
	}
	db, err := openDB(k.store.fs, k.db(), k.store.logger, true)
	if err != nil {
		return fmt.Errorf("opening what was received: %w", err)
	}
	defer db.Close()
	if k.meta.State, err = readPosition(db); err != nil {
		return err
	}
	return k.store.accept(k.meta.State, db)
}

// Cancel removes what was written.
func (k *sink) Cancel() error {
	if k.closed {
		return nil
	}
	k.closed = true
	if k.unpack != nil {
		k.unpack.Close()
	}
	return k.store.fs.RemoveAll(k.dir)
}

// reap removes all but the newest, and none that is being read.
func (s *snapshots) reap() {
	metas, err := s.list()
	if err != nil {
		s.log.Error("reaping raft snapshots", zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range metas {
		if i < keepSnapshots || s.open[m.Raft.ID] > 0 {
			continue
		}
		if err := s.fs.RemoveAll(s.fs.PathJoin(s.dir, m.Raft.ID)); err != nil {
			s.log.Error("removing an old raft snapshot", zap.String("id", m.Raft.ID), zap.Error(err))
		}
	}
}

func writeSynced(fs vfs.FS, name string, b []byte) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}

// makeDir makes a folder and those above it so that they outlast a power cut.
func makeDir(fs vfs.FS, dir string) error {
	var parents []string
	for d := dir; ; {
		if _, err := fs.Stat(d); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		up := fs.PathDir(d)
		if up == d {
			break
		}
		parents = append(parents, up)
		d = up
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		if err := syncDir(fs, p); err != nil {
			return err
		}
	}
	return nil
}
