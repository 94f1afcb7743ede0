package raftstore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// markedCluster has disks in memory, of which a test can take images, and notes
// often what nodes hold.
func markedCluster(t *testing.T, forgetful bool) (testCluster, []*vfs.MemFS) {
	disks := make([]*vfs.MemFS, 3)
	c := startCluster(t, 3, func(i int, c *Config) {
		disks[i] = vfs.NewCrashableMem()
		c.Dir, c.hooks.fs = "node", disks[i]
		c.hooks.markEvery = 50 * time.Millisecond
		c.hooks.forgetful = forgetful
	})
	return c, disks
}

// image is a disk as a backup program would have copied it at this moment.
func image(disk *vfs.MemFS) *vfs.MemFS {
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
}

// marked waits until every node remembers that the given one held index.
func (c testCluster) marked(t *testing.T, id string, index uint64) {
	t.Helper()
	eventually(t, "a mark of "+id+" at "+strconv.FormatUint(index, 10), func() bool {
		for _, n := range c {
			if n.stop != nil && n.store.node.Load().state.known(id).Index < index {
				return false
			}
		}
		return true
	})
}

// One disk of three goes back to an old image while another node lags. Without
// memory of what nodes held, the two form a majority that never heard of an
// answered command: a guess that was counted would be forgotten.
func TestRollbackIsFound(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{true, false} {
		t.Run(map[bool]string{true: "guarded", false: "unguarded"}[guarded], func(t *testing.T) {
			t.Parallel()
			c, disks := markedCluster(t, !guarded)
			c.propose(t, "incr a")
			c.agree(t)
			lag := c.without(c.leader(t))[0]
			pair := c.without(lag)
			old := image(disks[c.index(pair[1])])
			for range 10 {
				c.propose(t, "incr a")
			}
			if guarded {
				c.marked(t, pair[1].c.NodeID, 10)
			}
			lag.halt()
			if got := pair.propose(t, "incr a"); got != "12" {
				t.Fatalf("answer %s, want 12", got)
			}
			pair[0].halt()
			pair[1].halt()
			pair[1].c.hooks.fs = old
			lag.start()
			pair[1].start()
			if guarded {
				if err := pair[1].died(20 * time.Second); !errors.Is(err, ErrRolledBack) {
					t.Errorf("node with the old disk ended with %v, want %v", err, ErrRolledBack)
				}
				return
			}
			two := testCluster{lag, pair[1]}
			if got, _ := strconv.Atoi(two.propose(t, "incr a")); got > 12 {
				t.Errorf("answer %d without the guard: no answered command was forgotten", got)
			}
		})
	}
}

// An image of the same start of the node, a wiped disk, and a second copy that
// runs beside the first are found, too.
func TestOldDisksAreFound(t *testing.T) {
	t.Parallel()
	c, disks := markedCluster(t, false)
	c.propose(t, "incr a")
	c.agree(t)
	victim := c.without(c.leader(t))[0]
	i := c.index(victim)
	early := image(disks[i])
	for range 10 {
		c.propose(t, "incr a")
	}
	c.marked(t, victim.c.NodeID, 10)
	victim.halt()
	now := image(disks[i])
	for name, disk := range map[string]*vfs.MemFS{"older": early, "wiped": vfs.NewCrashableMem()} {
		victim.c.hooks.fs = disk
		victim.start()
		if err := victim.died(20 * time.Second); !errors.Is(err, ErrRolledBack) {
			t.Errorf("%s: node ended with %v, want %v", name, err, ErrRolledBack)
		}
	}
	victim.c.hooks.fs = image(now)
	victim.start() // the true disk is welcome
	c.agree(t)
	start := victim.store.node.Load().start
	eventually(t, "the start is remembered", func() bool {
		return c.without(victim)[0].store.node.Load().state.known(victim.c.NodeID).Start == start.Start
	})
	victim.halt()
	victim.c.hooks.fs = image(now) // a copy from before that start
	victim.start()
	if err := victim.died(20 * time.Second); !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), "happened twice") {
		t.Errorf("copy: node ended with %v", err)
	}
}

// A peer that does not notice that it was rolled back is refused by the others.
func TestRolledBackPeerIsRefused(t *testing.T) {
	t.Parallel()
	c, disks := markedCluster(t, false)
	c.propose(t, "incr a")
	c.agree(t)
	victim := c.without(c.leader(t))[0]
	old := image(disks[c.index(victim)])
	for range 10 {
		c.propose(t, "incr a")
	}
	c.marked(t, victim.c.NodeID, 10)
	rest := c.without(victim)
	victim.halt()
	victim.c.hooks.fs, victim.c.hooks.deaf = old, true
	s, err := New(victim.c)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	defer n.abandon()
	defer func() { await(n.raft.Shutdown(), 5*time.Second) }()
	time.Sleep(2 * time.Second)
	if got := rest.propose(t, "incr a"); got != "12" {
		t.Errorf("answer %s, want 12", got)
	}
	if got := n.state.position().Index; got > 6 {
		t.Errorf("the node got entries up to %d", got)
	}
}

// sloppy is a machine whose answer depends on the node.
type sloppy struct{ counters }

func (m *sloppy) Apply(kv KV, index uint64, cmd []byte) []byte {
	if bytes.HasPrefix(cmd, []byte("sloppy")) {
		kv.Set([]byte("host"), strconv.AppendInt(nil, time.Now().UnixNano(), 10))
	}
	return m.counters.Apply(kv, index, cmd)
}

// A machine that is not deterministic is found at the next mark.
func TestDivergenceHalts(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, func(i int, c *Config) {
		c.Machine = new(sloppy)
		c.hooks.markEvery = 50 * time.Millisecond
	})
	c.propose(t, "incr a")
	c.propose(t, "sloppy")
	ended := make(chan error, len(c))
	for _, n := range c {
		go func(done chan error) { ended <- <-done }(n.done)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, errDiverged) {
			t.Errorf("node ended with %v, want %v", err, errDiverged)
		}
	case <-time.After(2 * time.Minute):
		t.Error("nobody noticed in two minutes")
	}
	for _, n := range c {
		n.stop()
		n.stop = nil
	}
}

// A command that comes into the log between a mark's making and its place there is
// not what the mark speaks of: the group is not idle after it.
func TestMarkSpeaksOfWhatItSaw(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, func(_ int, c *Config) { c.hooks.markEvery = time.Hour })
	c.propose(t, "incr a")
	l := c.leader(t)
	n := l.store.node.Load()
	made, err := l.store.markNow(n)
	if err != nil {
		t.Fatal(err)
	}
	c.propose(t, "incr a")
	if err := n.raft.Apply(made.encode(), 0).Error(); err != nil {
		t.Fatal(err)
	}
	if n.state.idle() {
		t.Errorf("after a mark made at entry %d, entry %d is not waited for", made.index, made.index+1)
	}
	eventually(t, "idle after a newer mark", func() bool {
		m, err := l.store.markNow(n)
		return err == nil && n.raft.Apply(m.encode(), 0).Error() == nil && n.state.idle()
	})
}

// Without traffic the leader writes nothing.
func TestIdleGroupWritesNothing(t *testing.T) {
	t.Parallel()
	c, _ := markedCluster(t, false)
	c.propose(t, "incr a")
	c.agree(t)
	var last uint64
	eventually(t, "quiet", func() bool {
		before := last
		time.Sleep(500 * time.Millisecond)
		last = c.leader(t).store.Status().Last
		return before == last
	})
}

// What decodes encodes to the same bytes.
func FuzzMark(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMark(b)
		if err != nil {
			return
		}
		if got := m.encode(); !bytes.Equal(got, b) {
			t.Fatalf("%x decodes, and encodes to %x", b, got)
		}
	})
}

// What is remembered never falls, whatever holdings are said.
func TestHoldings(t *testing.T) {
	t.Parallel()
	gen := rapid.Custom(func(r *rapid.T) holding {
		small := rapid.Uint64Range(0, 3)
		return holding{Start: small.Draw(r, "start"), Nonce: [8]byte{byte(small.Draw(r, "nonce"))}, Index: small.Draw(r, "index"), Term: small.Draw(r, "term")}
	})
	rapid.Check(t, func(r *rapid.T) {
		h, known := gen.Draw(r, "h"), gen.Draw(r, "known")
		if err := h.atLeast(h); err != nil {
			r.Fatalf("%+v is less than itself: %v", h, err)
		}
		less := h.Start < known.Start || h.Index < known.Index || h.Term < known.Term || h.Start == known.Start && h.Start != 0 && h.Nonce != known.Nonce
		if err := h.atLeast(known); (err != nil) != less {
			r.Fatalf("%+v against %+v: %v", h, known, err)
		}
		if got := decodeHolding(h.append(nil)); got != h {
			r.Fatalf("%+v comes back as %+v", h, got)
		}
	})
}

// A leader's own start is remembered at once, not at the next mark of routine: else
// its disk could be replaced by the one of before that start, and nobody would know.
func TestStartOfLeaderIsRemembered(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, func(_ int, c *Config) { c.hooks.markEvery = time.Hour })
	eventually(t, "the node's start in its state", func() bool {
		n := c[0].store.node.Load()
		return n != nil && n.remembered(c[0].c.NodeID)
	})
}
