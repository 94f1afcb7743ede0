package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"go.uber.org/zap"
)

// ErrRolledBack means that the node's disk holds less than it once did: an old
// image was put back, or synced writes were lost. The node must not go on, as it
// would deny what it has acknowledged: empty its folder and let it join anew
// under another id.
var ErrRolledBack = errors.New("raftstore: disk was rolled back")

// Store is one node of the group.
type Store struct {
	c       Config     // but for Peers and Certificate unchanged
	mu      sync.Mutex // guards those two
	queue   chan *proposal
	metrics *metrics
	ready   chan struct{}
	node    atomic.Pointer[node] // nil until Run got everything open, and after

	failOnce sync.Once
	failed   chan struct{}
	cause    error // set before failed is closed

	mapsMu sync.Mutex
	maps   []*Map // that were opened beside
}

// New checks c. It starts nothing and touches nothing.
func New(c Config) (*Store, error) {
	c.Peers = append([]Peer(nil), c.Peers...)
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Store{
		c:      c,
		queue:  make(chan *proposal, maxQueue),
		ready:  make(chan struct{}),
		failed: make(chan struct{}),
	}
	s.metrics = newMetrics(s, c.Metrics)
	return s, nil
}

// Ready is closed once the node takes part in the group. It may not know of a
// leader yet.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// fail ends Run with err. Only the first counts.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.cause = err
		close(s.failed)
	})
}

// Halt ends Run with err and does not return. It is for [Machine.Apply] alone,
// where a command is met that must be neither carried out nor skipped, as one
// of a newer version: nothing of its entry is written, and a program that knows
// it goes on from there.
func (s *Store) Halt(err error) {
	s.fail(fmt.Errorf("applying the log: %w", err))
	runtime.Goexit()
}

// node is all that is open while Run runs.
type node struct {
	disk      *guardFS
	state     *state
	logs      *failStop
	snaps     *snapshots
	transport *transport
	raft      *raft.Raft
	greeter   *greeter
	start     holding       // of this start: Start and Nonce
	down      chan struct{} // closed when raft has ended: what has no answer gets none

	// ready is the term in which this leader has applied an entry of its own:
	// before that it does not know what its forerunners committed.
	readyTerm atomic.Uint64
}

// Run opens the databases, joins the group and blocks until ctx ends, when it
// hands over leadership, closes everything and returns nil, or until the node
// cannot go on: a write failed or hangs, or the state must not be continued.
// Then the process should end. Run is called once.
func (s *Store) Run(ctx context.Context) error {
	n, err := s.open()
	if err != nil {
		return fmt.Errorf("starting raft: %w", err)
	}
	s.node.Store(n)
	close(s.ready)
	s.c.Log.Info("raft node runs", zap.String("node", s.c.NodeID), zap.String("listen", s.c.Listen), zap.Uint64("applied", n.state.position().Index))

	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.propose(work, n) })
	wg.Go(func() { s.watchDisk(work, n) })
	wg.Go(func() { s.remember(work, n) })

	select {
	case <-ctx.Done():
		s.handOver(n)
		err = nil
	case <-s.failed:
		err = s.cause
		s.c.Log.Error("raft node stops", zap.Error(err))
	}
	stop()
	s.node.Store(nil)
	return errors.Join(err, s.close(n, &wg))
}

// watchDisk stops a node whose disk does not come back.
func (s *Store) watchDisk(ctx context.Context, n *node) {
	tick := time.NewTicker(max(s.c.StallAfter/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if d := max(n.longestWrite(), s.longestMapWrite()); d > s.c.ExitAfter {
			s.fail(fmt.Errorf("a write has been running for %v: disk hangs", d.Round(time.Millisecond)))
			return
		}
	}
}

func (n *node) longestWrite() time.Duration {
	return max(n.logs.watch.longest(), n.state.watch.longest())
}

func (s *Store) longestMapWrite() (d time.Duration) {
	s.mapsMu.Lock()
	defer s.mapsMu.Unlock()
	for _, m := range s.maps {
		d = max(d, m.watch.longest())
	}
	return d
}

// handOver gives leadership away, so that clients do not wait for an election.
func (s *Store) handOver(n *node) {
	if n.raft.State() != raft.Leader || len(voters(n.raft)) < 2 {
		return
	}
	if err := await(n.raft.LeadershipTransfer(), s.c.Heartbeat); err != nil {
		s.c.Log.Warn("leadership was not handed over", zap.Error(err))
	}
}

// closeTimeout bounds an orderly end. A node whose disk hangs cannot have one.
const closeTimeout = 10 * time.Second

func (s *Store) close(n *node, wg *sync.WaitGroup) error {
	end := s.c.Heartbeat + closeTimeout
	select {
	case <-s.failed:
		end = 2 * time.Second
	default:
	}
	err := await(n.raft.Shutdown(), end)
	close(n.down)
	if err != nil {
		return fmt.Errorf("raft did not end; its databases stay open: %w", err)
	}
	n.transport.Close()
	wg.Wait()
	if s.broken(n) {
		return nil // pebble may wait for ever after a failed write
	}
	return errors.Join(n.state.close(), n.logs.Close())
}

func (s *Store) broken(n *node) bool {
	return n.disk.tripped.Load() || n.logs.broken.Load() || n.state.failure() != nil
}

// await is f.Error with a bound.
func await(f raft.Future, d time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("no answer in %v", d)
	}
}

func (s *Store) open() (_ *node, err error) {
	n := &node{disk: &guardFS{FS: s.c.hooks.fs, fail: s.fail}, down: make(chan struct{})}
	defer func() {
		if err != nil {
			n.abandon()
		}
	}()
	if err := makeDir(n.disk, s.c.Dir); err != nil {
		return nil, fmt.Errorf("making the folder: %w", err)
	}
	if err := s.openLogs(n); err != nil {
		return nil, err
	}
	if err := s.openState(n); err != nil {
		return nil, err
	}
	if err := n.begin(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", s.c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for peers: %w", err)
	}
	s.openTransport(n, listener)
	n.disk.armed.Store(true)
	return n, s.openRaft(n)
}

func (n *node) abandon() {
	if n.disk.tripped.Load() {
		return
	}
	if n.transport != nil {
		n.transport.Close()
	}
	if n.state != nil {
		n.state.close()
	}
	if n.logs != nil {
		n.logs.Close()
	}
}

func (s *Store) openLogs(n *node) error {
	fs, dir := n.disk, n.disk.PathJoin(s.c.Dir, "log")
	var b backend
	var err error
	if s.c.LogStore == "wal" {
		if err := makeDir(fs, dir); err != nil {
			return fmt.Errorf("making the folder of the raft log: %w", err)
		}
		if b, err = wal.Open(dir, wal.WithLogger(&raftLog{to: s.c.Log.Named("wal"), name: "wal"})); err != nil {
			return fmt.Errorf("opening the raft log: %w", err)
		}
	} else if b, err = openPebbleStore(fs, dir, pebbleLog{s.c.Log, s.fail}); err != nil {
		return err
	}
	if s.c.hooks.logs != nil {
		b = s.c.hooks.logs(b)
	}
	n.logs = &failStop{backend: b, fail: s.fail, stored: s.metrics.storedEntries}
	return nil
}

func (s *Store) openState(n *node) error {
	fs, logger := n.disk, pebbleLog{s.c.Log, s.fail}
	st := &state{
		fs: fs, dir: fs.PathJoin(s.c.Dir, "state"), logger: logger,
		machine: s.c.Machine, onApply: s.c.OnApply, halt: s.fail,
		entry: n.logs.GetLog, note: s.metrics.appliedEntries,
	}
	var err error
	if n.snaps, err = newSnapshots(fs, fs.PathJoin(s.c.Dir, "snapshots"), logger, s.c.Log, st.mayReplace(s.c.CheckSnapshot)); err != nil {
		return err
	}
	metas, err := n.snaps.list()
	if err != nil {
		return err
	}
	var newest *snapshotMeta
	if len(metas) > 0 {
		newest = &metas[0]
	}
	if err := st.openAt(n.snaps, newest); err != nil {
		return err
	}
	n.state = st
	return s.reconcile(n, newest)
}

// reconcile compares what log, state and raft snapshot say of each other.
func (s *Store) reconcile(n *node, newest *snapshotMeta) error {
	first, err := n.logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("reading the raft log: %w", err)
	}
	last, err := n.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("reading the raft log: %w", err)
	}
	pos := n.state.position()
	var snap uint64
	if newest != nil {
		snap = newest.Raft.Index
	}
	if pos.Index > max(last, snap) {
		return fmt.Errorf("%w: state holds entry %d, the log ends at %d", ErrRolledBack, pos.Index, last)
	}
	if pos.Index >= first && pos.Index <= last && pos.Index > 0 {
		var l raft.Log
		if err := n.logs.GetLog(pos.Index, &l); err != nil {
			return fmt.Errorf("reading entry %d: %w", pos.Index, err)
		}
		if l.Term != pos.Term {
			return fmt.Errorf("%w: entry %d is of term %d, the state applied one of term %d", ErrRolledBack, pos.Index, l.Term, pos.Term)
		}
	}
	if last > 0 && snap > last { // a crash came between a received raft snapshot and emptying the log
		if err := n.logs.DeleteRange(first, last); err != nil {
			return err
		}
	}
	n.logs.lastForMachine.Store(pos.Index)
	return nil
}

func (s *Store) openTransport(n *node, listener net.Listener) {
	g := &gate{retired: n.state.isRetired}
	n.greeter = &greeter{
		holds: n.holds, known: n.state.known, rolled: s.fail, detected: s.metrics.rolledBack,
		log: s.c.Log, news: make(chan struct{}, 1), heard: make(map[string]holding), owed: make(map[string]debt),
	}
	if s.c.hooks.deaf {
		n.greeter.rolled = func(error) {}
	}
	if s.c.hooks.forgetful {
		n.greeter.known = func(string) holding { return holding{} }
	}
	stalled := func() bool { return n.longestWrite() > s.c.StallAfter }
	timeout := 3*s.c.Heartbeat + time.Second
	n.transport = newTransport(s.c.NodeID, newNetwork(&s.c, listener, n.greeter), g, stalled, timeout, s.c.InFlight, &raftLog{to: s.c.Log.Named("net"), name: "net"})
}

// openRaft starts raft, beginning a new group in an empty folder. It does so on
// a goroutine of its own, as a failed write of raft's settings ends the one it
// happens on.
func (s *Store) openRaft(n *node) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = s.startRaft(n)
	}()
	select {
	case <-done:
	case <-s.failed: // a peer said that the disk is old, say: raft may still be reading it
		s.endRaft(n, done)
		return s.cause
	}
	if err == nil && n.raft == nil {
		<-s.failed
		err = s.cause
	}
	return err
}

// endRaft ends a raft that is being started, so that its databases can be closed.
// One that does not end keeps them open: reading from a closed one would panic.
func (s *Store) endRaft(n *node, started <-chan struct{}) {
	select {
	case <-started:
		if n.raft == nil || await(n.raft.Shutdown(), closeTimeout) == nil {
			return
		}
	case <-time.After(closeTimeout):
	}
	n.disk.tripped.Store(true)
}

func (s *Store) startRaft(n *node) error {
	conf := s.c.raftConfig()
	logs := raft.LogStore(n.logs)
	cached, err := raft.NewLogCache(logCache, logs)
	if err != nil {
		return fmt.Errorf("making a cache: %w", err)
	}
	var t raft.Transport = n.transport
	if s.c.hooks.transport != nil {
		t = s.c.hooks.transport(n.transport)
	}
	has, err := raft.HasExistingState(n.logs, n.logs, n.snaps)
	if err != nil {
		return fmt.Errorf("looking for an existing group: %w", err)
	}
	if !has && !s.c.Join {
		if err := s.bootstrap(n, n.snaps, t); err != nil {
			return err
		}
	}
	r, err := raft.NewRaft(conf, n.state, cached, n.logs, n.snaps, t)
	if err != nil {
		return err
	}
	n.raft = r
	n.transport.gate.raft.Store(r)
	return nil
}

// bootstrap writes the first entry of a new group: the same on every node.
func (s *Store) bootstrap(n *node, snaps raft.SnapshotStore, t raft.Transport) error {
	var group raft.Configuration
	for i, p := range s.c.Peers {
		if s.c.hooks.first != 0 && i >= s.c.hooks.first {
			break
		}
		group.Servers = append(group.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.ID)})
	}
	if err := raft.BootstrapCluster(s.c.raftConfig(), n.logs, n.logs, snaps, t, group); err != nil {
		return fmt.Errorf("starting a new group: %w", err)
	}
	return nil
}

// logCache is the number of entries kept in memory for followers, at most 16 MiB.
const logCache = 256
