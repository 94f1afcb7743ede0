package raftstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// position says up to where a state goes, and by its chain what led there.
type position struct {
	Index uint64
	Term  uint64
	Chain [32]byte // hash over every entry and every write so far
}

const positionSize = 8 + 8 + 32

func (p position) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, positionSize), p.Index)
	b = binary.BigEndian.AppendUint64(b, p.Term)
	return append(b, p.Chain[:]...)
}

func decodePosition(b []byte) (position, error) {
	if len(b) != positionSize {
		return position{}, fmt.Errorf("position of %d bytes", len(b))
	}
	return position{
		Index: binary.BigEndian.Uint64(b),
		Term:  binary.BigEndian.Uint64(b[8:]),
		Chain: [32]byte(b[16:]),
	}, nil
}

var (
	keyPosition = []byte{prefixMeta, 'p'}
	keyRetired  = []byte{prefixMeta, 'r'} // and an id
	keyServers  = []byte{prefixMeta, 's'}
)

// state is the replicated map on disk, raft's FSM. Entries and the position
// they lead to are committed in one batch that is not synced: after a power cut
// the state is some earlier whole one, and raft's log, which is synced, brings
// it forward. Before a raft snapshot, which lets the log be cut, it is synced.
//
// Apply, Snapshot and Restore are called by one goroutine, raft's.
type state struct {
	fs      vfs.FS
	dir     string
	logger  pebble.Logger
	machine Machine
	onApply func(index uint64)
	halt    func(error) // the node cannot go on
	watch   watch
	entry   func(index uint64, l *raft.Log) error // reads the log, to check gaps
	note    func(entries int)

	// mu guards db against being replaced: views hold it for reading.
	mu sync.RWMutex
	db *pebble.DB

	// pos is what db holds; changed is closed when it moves. seen is the last
	// index that raft went through: between pos.Index and seen there is nothing
	// for the machine. failed is set for ever by the first error.
	posMu   sync.Mutex
	pos     position
	seen    uint64
	changed chan struct{}
	failed  error
	retired map[string]bool
	marks   marks
	marked  uint64 // index of the last mark that speaks of all before it
	chains  chains // the applying goroutine's
}

// openDB opens the state's database, or creates it.
func openDB(fs vfs.FS, dir string, logger pebble.Logger, readOnly bool) (*pebble.DB, error) {
	o := &pebble.Options{
		FS:                 fs,
		Logger:             logger,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       32 << 20,
		CacheSize:          64 << 20,
		BytesPerSync:       1 << 20,
		ReadOnly:           readOnly,
		ErrorIfNotExists:   readOnly,
	}
	o.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	return pebble.Open(dir, o)
}

func readPosition(r pebble.Reader) (position, error) {
	v, ok, err := get(r, keyPosition)
	if err != nil || !ok {
		return position{}, err
	}
	return decodePosition(v)
}

// load takes db and what it says of itself.
func (s *state) load(db *pebble.DB) error {
	pos, err := readPosition(db)
	if err != nil {
		return fmt.Errorf("reading the position of the state: %w", err)
	}
	retired := make(map[string]bool)
	err = scan(db, keyRetired, func(key, _ []byte) bool {
		retired[string(key[1:])] = true
		return true
	})
	if err != nil {
		return fmt.Errorf("reading the removed nodes: %w", err)
	}
	m, err := loadMarks(db)
	if err != nil {
		return err
	}
	s.db = db
	s.posMu.Lock()
	defer s.posMu.Unlock()
	s.retired, s.marks, s.chains = retired, m, chains{}
	s.moveTo(pos, pos.Index)
	return nil
}

// moveTo needs posMu.
func (s *state) moveTo(pos position, seen uint64) {
	s.pos, s.seen = pos, seen
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
}

func (s *state) position() position {
	s.posMu.Lock()
	defer s.posMu.Unlock()
	return s.pos
}

func (s *state) isRetired(id string) bool {
	s.posMu.Lock()
	defer s.posMu.Unlock()
	return s.retired[id]
}

// known is what the group remembers of a node.
func (s *state) known(id string) holding {
	s.posMu.Lock()
	defer s.posMu.Unlock()
	return s.marks[id]
}

// idle tells whether nothing happened since the last mark.
func (s *state) idle() bool {
	s.posMu.Lock()
	defer s.posMu.Unlock()
	return s.pos.Index == s.marked && s.marked != 0
}

// wait returns when the state holds the entry at index.
func (s *state) wait(ctx context.Context, index uint64) error {
	for {
		s.posMu.Lock()
		seen, changed, failed := s.seen, s.changed, s.failed
		s.posMu.Unlock()
		if failed != nil {
			return failed
		}
		if seen >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// view runs fn on one moment of the state.
func (s *state) view(fn func(KV) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return errors.New("raftstore: state is closed")
	}
	snap := s.db.NewSnapshot()
	defer snap.Close()
	kv := &readKV{from: snap}
	if err := fn(kv); err != nil {
		return err
	}
	return kv.err
}

// Apply is ApplyBatch of one.
func (s *state) Apply(l *raft.Log) any { return s.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch carries out committed entries. The answers are [][]byte for
// commands and an error for a node that has halted.
func (s *state) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	err := s.failure()
	if err == nil {
		if err = s.apply(logs, answers); err != nil {
			s.stop(err)
		}
	}
	if err != nil {
		for i := range answers {
			answers[i] = fmt.Errorf("node has halted: %w", err)
		}
	}
	return answers
}

func (s *state) failure() error {
	s.posMu.Lock()
	defer s.posMu.Unlock()
	return s.failed
}

// stop halts the machine for good: nothing is applied, nor snapshot, after err.
func (s *state) stop(err error) {
	s.posMu.Lock()
	s.failed = err
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
	s.posMu.Unlock()
	s.halt(fmt.Errorf("applying the log: %w", err))
}

func (s *state) apply(logs []*raft.Log, answers []any) error {
	writes := newPending(s.db)
	defer writes.close()
	w := &applying{state: s, writes: writes, pos: s.pos, seen: s.seen, marks: s.marks, marked: s.marked}
	for i, l := range logs {
		if l.Index <= w.seen {
			continue // the state was ahead of raft's snapshot: a restart replays nothing
		}
		answer, err := w.one(l)
		if err != nil {
			return fmt.Errorf("entry %d: %w", l.Index, err)
		}
		answers[i] = answer
	}
	if w.pos.Index == s.pos.Index {
		return nil
	}
	if err := writes.set(keyPosition, w.pos.encode()); err != nil {
		return err
	}
	if err := s.watch.guarded(writes.commit); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	s.posMu.Lock()
	for _, id := range w.retired {
		s.retired[id] = true
	}
	s.marks, s.marked = w.marks, w.marked
	s.moveTo(w.pos, w.seen)
	s.posMu.Unlock()
	s.note(len(logs))
	s.onApply(w.pos.Index)
	return nil
}

// applying is a batch of entries under way.
type applying struct {
	state   *state
	writes  *pending
	pos     position
	seen    uint64
	retired []string
	marks   marks
	marked  uint64
}

func (w *applying) one(l *raft.Log) (any, error) {
	if err := w.checkGap(l.Index); err != nil {
		return nil, err
	}
	sum := sha256.New()
	hashParts(sum, w.pos.Chain[:], binary.BigEndian.AppendUint64(nil, l.Index), binary.BigEndian.AppendUint64(nil, l.Term), []byte{byte(l.Type)}, l.Data)
	kv := &batchKV{writes: w.writes, sum: sum}
	answer, err := w.carryOut(kv, l)
	if err == nil {
		err = kv.err
	}
	if err != nil {
		return nil, err
	}
	w.pos = position{Index: l.Index, Term: l.Term, Chain: [32]byte(sum.Sum(nil))}
	w.seen = l.Index
	w.state.chains.note(w.pos)
	return answer, nil
}

func (w *applying) carryOut(kv *batchKV, l *raft.Log) (any, error) {
	if l.Type == raft.LogConfiguration {
		return nil, w.configure(l)
	}
	if len(l.Data) > 0 && l.Data[0] == kindMark {
		return nil, w.mark(l)
	}
	cmds, err := decodeCommands(l.Data)
	if errors.Is(err, errMalformed) {
		return [][]byte{}, nil
	}
	if err != nil {
		return nil, err
	}
	answers := make([][]byte, len(cmds))
	for i, cmd := range cmds {
		answers[i] = w.state.machine.Apply(kv, l.Index, cmd)
	}
	return answers, nil
}

// checkGap proves that the entries which raft did not hand over were not for
// the machine: a lost one would make this state differ for ever.
func (w *applying) checkGap(index uint64) error {
	for i := w.seen + 1; i < index; i++ {
		var l raft.Log
		if err := w.state.entry(i, &l); err != nil {
			return fmt.Errorf("state ends at %d, and entry %d cannot be read: %w", w.pos.Index, i, err)
		}
		if forMachine(l.Type) {
			return fmt.Errorf("entry %d was never applied", i)
		}
	}
	return nil
}

// configure remembers who has left the group.
func (w *applying) configure(l *raft.Log) error {
	if err := checkConfiguration(l.Data); err != nil {
		return err
	}
	now := make(map[string]bool)
	for _, s := range raft.DecodeConfiguration(l.Data).Servers {
		now[string(s.ID)] = true
	}
	before, _, err := w.writes.get(keyServers)
	if err != nil {
		return err
	}
	if len(before) > 0 {
		for _, s := range raft.DecodeConfiguration(before).Servers {
			if now[string(s.ID)] {
				continue
			}
			w.retired = append(w.retired, string(s.ID))
			if err := w.writes.set(append(keyRetired[:2:2], s.ID...), nil); err != nil {
				return err
			}
			w.marks = maps.Clone(w.marks)
			delete(w.marks, string(s.ID))
			if err := w.writes.delete(append(keyMarks[:2:2], s.ID...)); err != nil {
				return err
			}
		}
	}
	return w.writes.set(keyServers, l.Data)
}

// close closes the database after the last view.
func (s *state) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	return err
}
