package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// faults lets a test cut each node of a cluster off.
type faults []*faultTransport

func faultyCluster(t *testing.T, n int, adjust func(i int, c *Config)) (testCluster, faults) {
	fs := make(faults, n)
	c := startCluster(t, n, func(i int, c *Config) {
		c.hooks.transport = func(tr *transport) raft.Transport {
			fs[i] = newFaultTransport(t, tr, unguarded{})
			return fs[i]
		}
		if adjust != nil {
			adjust(i, c)
		}
	})
	return c, fs
}

func (fs faults) cut(i int, cut bool) {
	fs[i].cutIn.Store(cut)
	fs[i].cutOut.Store(cut)
}

func (c testCluster) index(n *testNode) int {
	for i := range c {
		if c[i] == n {
			return i
		}
	}
	return -1
}

// A leader that is cut off commits nothing and says so; the others go on; when
// it comes back its uncommitted commands are gone or counted once, never twice.
func TestPartition(t *testing.T) {
	t.Parallel()
	c, fs := faultyCluster(t, 3, nil)
	c.propose(t, "incr a")
	old := c.leader(t)
	fs.cut(c.index(old), true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := old.store.Propose(ctx, []byte("incr lost")); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNoEffect) {
		t.Errorf("cut off leader answered %v", err)
	}
	eventually(t, "the old leader steps down", func() bool {
		_, err := old.store.Propose(t.Context(), []byte("incr lost"))
		return errors.Is(err, ErrNotLeader)
	})
	if err := old.store.Barrier(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("barrier at a cut off node: %v", err)
	}
	rest := c.without(old)
	rest.leader(t)
	if got := rest.propose(t, "incr a"); got != "2" {
		t.Errorf("majority answers %s, want 2", got)
	}
	fs.cut(c.index(old), false)
	c.agree(t)
	if got := old.get("a"); got != "2" {
		t.Errorf("after the partition %s has %s, want 2", old.c.NodeID, got)
	}
}

// Power cuts that lose all that was not synced, or a random part of it, lose no
// answered command.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	disks := make([]*vfs.MemFS, 3)
	for i := range disks {
		disks[i] = vfs.NewCrashableMem()
	}
	rng := rand.New(rand.NewPCG(1, 2))
	c := newCluster(t, 3, func(i int, c *Config) {
		c.Dir = "node"
		c.SnapshotEntries, c.TrailingEntries = 30, 10
		c.hooks.snapEvery = 50 * time.Millisecond
	})
	want := 0
	for _, percent := range []int{0, 0, 50, 80} {
		for i, n := range c {
			n.c.hooks.fs = disks[i]
			n.start()
		}
		var wg sync.WaitGroup
		var acknowledged atomic.Int64
		l := c.leader(t)
		for range 8 {
			wg.Go(func() {
				for range 10 {
					if _, err := l.store.Propose(t.Context(), []byte("incr a")); err == nil {
						acknowledged.Add(1)
					}
				}
			})
		}
		wg.Wait()
		for i := range c {
			disks[i] = disks[i].CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
		}
		for _, n := range c {
			n.halt()
		}
		want += int(acknowledged.Load())
	}
	for i, n := range c {
		n.c.hooks.fs = disks[i]
		n.start()
	}
	c.leader(t)
	c.agree(t)
	for _, n := range c {
		if got, _ := strconv.Atoi(n.get("a")); got < want {
			t.Errorf("%s counts %d, but %d were answered", n.c.NodeID, got, want)
		}
	}
}

// failingLog fails or blocks the calls that a test chooses.
type failingLog struct {
	backend
	failLogs, failSetting, block *atomic.Bool
}

func (l *failingLog) StoreLogs(logs []*raft.Log) error {
	for l.block.Load() {
		time.Sleep(5 * time.Millisecond)
	}
	if l.failLogs.Load() {
		return errors.New("injected input/output error")
	}
	return l.backend.StoreLogs(logs)
}

func (l *failingLog) SetUint64(key []byte, v uint64) error {
	if l.failSetting.Load() {
		return errors.New("injected input/output error")
	}
	return l.backend.SetUint64(key, v)
}

func failingCluster(t *testing.T) (testCluster, []*failingLog) {
	logs := make([]*failingLog, 3)
	c := startCluster(t, 3, func(i int, c *Config) {
		c.StallAfter, c.ExitAfter = 500*time.Millisecond, 3*time.Second
		c.hooks.logs = func(b backend) backend {
			logs[i] = &failingLog{b, new(atomic.Bool), new(atomic.Bool), new(atomic.Bool)}
			return logs[i]
		}
	})
	return c, logs
}

// A node whose log cannot be written stops with the reason; the others go on.
func TestFailStop(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"leader", "follower"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			c, logs := failingCluster(t)
			c.propose(t, "incr a")
			l := c.leader(t)
			bad := l
			if role == "follower" {
				bad = c.without(l)[0]
			}
			logs[c.index(bad)].failLogs.Store(true)
			if a, err := l.store.Propose(t.Context(), []byte("incr b")); role == "leader" && !errors.Is(err, ErrUnknown) {
				t.Errorf("leader with a failed write answers %q, %v, want unknown", a, err)
			}
			if err := bad.died(20 * time.Second); err == nil || !strings.Contains(err.Error(), "injected") {
				t.Errorf("node ended with %v", err)
			}
			rest := c.without(bad)
			if got := rest.propose(t, "incr a"); got != "2" {
				t.Errorf("answer %s, want 2", got)
			}
		})
	}
}

// Raft panics when its term cannot be stored. The node ends instead, without a
// vote that it could forget.
func TestFailedTermStopsQuietly(t *testing.T) {
	t.Parallel()
	c, logs := failingCluster(t)
	c.propose(t, "incr a")
	l := c.leader(t)
	bad := c.without(l)[0]
	logs[c.index(bad)].failSetting.Store(true)
	l.halt() // an election needs the term
	if err := bad.died(20 * time.Second); err == nil || !strings.Contains(err.Error(), "injected") {
		t.Errorf("node ended with %v", err)
	}
}

// A leader whose disk hangs yields, its clients hear "unknown", and at last the
// node ends although the write never returns.
func TestHungDiskEndsNode(t *testing.T) {
	t.Parallel()
	c, logs := failingCluster(t)
	c.propose(t, "incr a")
	l := c.leader(t)
	logs[c.index(l)].block.Store(true)
	t.Cleanup(func() { logs[c.index(l)].block.Store(false) })
	answer := make(chan error, 1)
	go func() {
		_, err := l.store.Propose(t.Context(), []byte("incr lost"))
		answer <- err
	}()
	rest := c.without(l)
	if got := rest.propose(t, "incr a"); got != "2" {
		t.Errorf("answer %s, want 2", got)
	}
	if err := l.died(20 * time.Second); err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("node ended with %v", err)
	}
	if err := <-answer; !errors.Is(err, ErrUnknown) {
		t.Errorf("proposal ended with %v, want unknown", err)
	}
}

// An entry of a newer version halts every node that would apply it: skipping it
// would be divergence. The last node has no quorum left and applies nothing.
func TestUnknownEntryHalts(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	c.propose(t, "incr a")
	c.agree(t)
	l := c.leader(t)
	at := l.store.Status().Last
	l.store.node.Load().raft.Apply([]byte{99, 1, 2}, 0)
	ended := make(chan error, len(c))
	for _, n := range c {
		go func(done chan error) { ended <- <-done }(n.done)
	}
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, errKind) {
				t.Errorf("node ended with %v, want %v", err, errKind)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("two nodes still run after 20 s")
		}
	}
	for _, n := range c {
		if st := n.store.Status(); st.Applied > at {
			t.Errorf("%s went on to %d", n.c.NodeID, st.Applied)
		}
		n.stop()
		n.stop = nil
	}
}

// A malformed entry of a known kind does nothing, on every node alike.
func TestMalformedEntryDoesNothing(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	c.propose(t, "incr a")
	l := c.leader(t)
	for _, b := range [][]byte{{}, {kindCommands}, {kindCommands, 5, 1}, {kindCommands, 0x81, 0}} {
		if err := l.store.node.Load().raft.Apply(b, 0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.propose(t, "incr a"); got != "2" {
		t.Errorf("answer %s, want 2", got)
	}
	c.agree(t)
}

// A log that lost its end, below a state that did not, is found at the start.
func TestLostLogIsFound(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	for range 5 {
		c.propose(t, "incr a")
	}
	n := c[0]
	n.halt()
	s, err := openPebbleStore(vfs.Default, n.c.Dir+"/log", pebbleLog{n.c.Log, func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	last, _ := s.LastIndex()
	if err := s.DeleteRange(last-2, last); err != nil {
		t.Fatal(err)
	}
	s.Close()
	store, err := New(n.c)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Run(t.Context()); !errors.Is(err, ErrRolledBack) {
		t.Errorf("run: %v, want %v", err, ErrRolledBack)
	}
}

// An entry that the state never got is found before the next is applied.
func TestSkippedEntryHalts(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.propose(t, "incr a")
	n := c[0]
	st := n.store.node.Load().state
	st.sawUpTo(st.position().Index) // nothing yet
	l := new(raft.Log)
	last := n.store.Status().Last
	if err := n.store.node.Load().logs.GetLog(last, l); err != nil {
		t.Fatal(err)
	}
	later := *l
	later.Index += 2
	if err := n.store.node.Load().logs.StoreLogs([]*raft.Log{{Index: last + 1, Term: l.Term, Type: raft.LogCommand, Data: l.Data}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := st.Apply(&later).(error); !ok {
		t.Error("an entry was skipped")
	}
	if err := n.died(20 * time.Second); err == nil || !strings.Contains(err.Error(), "never applied") {
		t.Errorf("node ended with %v", err)
	}
}

// A crash at any step of replacing the state leads to the old or the new one.
func TestRestoreSurvivesCrash(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	logger := pebbleLog{testLog(t, "x"), func(err error) { t.Error(err) }}
	mk := func(fs vfs.FS) (*state, *snapshots) {
		st := &state{fs: fs, dir: "d/state", logger: logger, machine: new(counters), onApply: func(uint64) {},
			halt: func(err error) { t.Error(err) }, note: func(int) {},
			entry: func(i uint64, _ *raft.Log) error { return fmt.Errorf("no entry %d", i) }}
		snaps, err := newSnapshots(fs, "d/snapshots", logger, testLog(t, "x"), st.mayReplace(nil))
		if err != nil {
			t.Fatal(err)
		}
		metas, err := snaps.list()
		if err != nil {
			t.Fatal(err)
		}
		var newest *snapshotMeta
		if len(metas) > 0 {
			newest = &metas[0]
		}
		if err := st.openAt(snaps, newest); err != nil {
			t.Fatal(err)
		}
		return st, snaps
	}
	entry := func(i uint64) *raft.Log {
		return &raft.Log{Index: i, Term: 1, Type: raft.LogCommand, Data: encodeCommands([][]byte{[]byte("incr a")})}
	}
	st, snaps := mk(fs)
	for i := uint64(1); i <= 10; i++ {
		st.Apply(entry(i))
	}
	snap, err := st.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	k, err := snaps.Create(1, 10, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Persist(k); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}

	// Another node receives it in pieces, and loses power at several moments.
	other := vfs.NewCrashableMem()
	st2, snaps2 := mk(other)
	_, r, err := snaps.Open(k.ID())
	if err != nil {
		t.Fatal(err)
	}
	k2, err := snaps2.Create(1, 10, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{k2}, struct{ io.Reader }{r}, make([]byte, 1000))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if m, r, err := snaps.Open(k.ID()); err != nil || m.Size != n {
		t.Errorf("size is said to be %d, is %d (%v)", m.Size, n, err)
	} else {
		r.Close()
	}
	moments := map[string]*vfs.MemFS{"before": other.CrashClone(vfs.CrashCloneCfg{})}
	if err := k2.Close(); err != nil {
		t.Fatal(err)
	}
	moments["received"] = other.CrashClone(vfs.CrashCloneCfg{})
	_, r2, err := snaps2.Open(k2.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := st2.prepare(r2.(*snapshotReader).db); err != nil {
		t.Fatal(err)
	}
	moments["prepared"] = other.CrashClone(vfs.CrashCloneCfg{})
	half := other.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	if err := half.Rename("d/state", "d/state.old"); err != nil {
		t.Fatal(err)
	}
	moments["half swapped"] = half
	if err := st2.Restore(r2); err != nil {
		t.Fatal(err)
	}
	moments["swapped"] = other.CrashClone(vfs.CrashCloneCfg{})
	for name, fs := range moments {
		st, _ := mk(fs)
		want := uint64(10)
		if name == "before" {
			want = 0
		}
		if got := st.position().Index; got != want {
			t.Errorf("%s: state is at %d, want %d", name, got, want)
		}
		st.close()
	}
	if st.position() != st2.position() {
		t.Errorf("positions %+v and %+v", st.position(), st2.position())
	}
	st.close()
	st2.close()
}

// A disk that fails below pebble, at any kind of write, ends the node with a
// reason: pebble itself panics or calls Fatalf there.
func TestFailingDiskEndsNode(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"log", "state"} {
		for _, op := range []string{"write", "sync"} {
			t.Run(where+" "+op, func(t *testing.T) {
				t.Parallel()
				var failing atomic.Bool
				c := startCluster(t, 3, func(i int, c *Config) {
					c.SnapshotEntries = 20
					c.hooks.snapEvery = 50 * time.Millisecond
					if i != 0 {
						return
					}
					dir := c.Dir + "/" + where
					c.hooks.fs = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(o errorfs.Op) error {
						hit := op == "write" && (o.Kind == errorfs.OpFileWrite || o.Kind == errorfs.OpCreate) ||
							op == "sync" && (o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData || o.Kind == errorfs.OpFileSyncTo)
						if failing.Load() && hit && strings.HasPrefix(o.Path, dir) {
							return syscall.ENOSPC
						}
						return nil
					}))
				})
				c.propose(t, "incr a")
				c.agree(t)
				failing.Store(true)
				rest := c[1:]
				stop := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() { // traffic, and so raft snapshots, until the node is gone
					for {
						select {
						case <-stop:
							return
						default:
							for _, n := range c {
								ctx, cancel := context.WithTimeout(t.Context(), time.Second)
								n.store.Propose(ctx, []byte("incr b"))
								cancel()
							}
						}
					}
				})
				err := c[0].died(25 * time.Second)
				close(stop)
				wg.Wait()
				if err == nil {
					t.Error("node ended without a reason")
				}
				t.Log(err)
				if got := rest.propose(t, "incr a"); got != "2" {
					t.Errorf("answer %s, want 2", got)
				}
			})
		}
	}
}

// versioned knows commands up to its version, and halts at newer ones.
type versioned struct {
	counters
	version byte
	halt    func(error)
}

var errNewer = errors.New("command of a newer version")

func (m *versioned) Apply(kv KV, index uint64, cmd []byte) []byte {
	if len(cmd) > 1 && cmd[0] == 'v' && cmd[1] > m.version {
		m.halt(errNewer)
	}
	if len(cmd) > 2 && cmd[0] == 'v' {
		cmd = cmd[2:]
	}
	return m.counters.Apply(kv, index, cmd)
}

// Nodes are upgraded one after the other. One that is not, and meets a command
// it does not know, stops before it; upgraded, it goes on from there.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	machines := make([]*versioned, 3)
	start := func(i int, version byte) {
		machines[i] = &versioned{version: version}
		c[i].c.Machine = machines[i]
		machines[i].halt = func(err error) { c[i].store.Halt(err) }
		c[i].start()
	}
	for i := range c {
		start(i, '1')
	}
	c.propose(t, "v1incr a")
	c.agree(t)
	for i := range 2 {
		c[i].halt()
		start(i, '2')
		c.propose(t, "v1incr a")
		c.agree(t)
	}
	new := c[:2]
	old := c[2]
	eventually(t, "an upgraded node leads", func() bool {
		l := c.leader(t)
		if l == old {
			old.store.Transfer(t.Context(), "")
		}
		return l != old
	})
	if got := new.propose(t, "v2incr a"); got != "4" {
		t.Errorf("answer %s, want 4", got)
	}
	if err := old.died(20 * time.Second); !errors.Is(err, errNewer) {
		t.Errorf("the old program ended with %v, want %v", err, errNewer)
	}
	if got := new.propose(t, "v1incr a"); got != "5" {
		t.Errorf("answer %s, want 5", got)
	}
	start(2, '1') // again the old program: it halts again, and has skipped nothing
	if err := old.died(20 * time.Second); !errors.Is(err, errNewer) {
		t.Errorf("the old program ended with %v, want %v", err, errNewer)
	}
	start(2, '2')
	c.agree(t)
	if got := old.get("a"); got != "5" {
		t.Errorf("upgraded node has %s, want 5", got)
	}
}
