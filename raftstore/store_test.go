package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// What one node answers, all nodes hold; who is not the leader says who is.
func TestReplicates(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"pebble", "wal"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3, func(_ int, c *Config) { c.LogStore = store })
			for i := range 10 {
				if got, want := c.propose(t, "incr a"), strconv.Itoa(i+1); got != want {
					t.Fatalf("answer %s, want %s", got, want)
				}
			}
			c.propose(t, "set b x")
			c.propose(t, "del b")
			c.agree(t)
			for _, n := range c {
				if got := n.get("a"); got != "10" {
					t.Errorf("%s has %s, want 10", n.c.NodeID, got)
				}
				if got := n.get("b"); got != "" {
					t.Errorf("%s has %q, want it deleted", n.c.NodeID, got)
				}
			}
			l := c.leader(t)
			f := c.without(l)[0]
			_, err := f.store.Propose(t.Context(), []byte("incr a"))
			var not *NotLeaderError
			if !errors.As(err, &not) || not.Leader != l.c.NodeID || !errors.Is(err, ErrNotLeader) || !errors.Is(err, ErrNoEffect) {
				t.Errorf("proposing at a follower: %v, want not leader, which is %s", err, l.c.NodeID)
			}
			if id, addr, mine := f.store.Leader(); id != l.c.NodeID || addr != peerOf(l).Addr || mine {
				t.Errorf("leader is %s at %s (mine %v)", id, addr, mine)
			}
		})
	}
}

// A node that restarts goes on from its own database: nothing is applied twice.
func TestRestartReplaysNothing(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	for range 50 {
		c.propose(t, "incr a")
	}
	c.agree(t)
	for _, n := range c {
		n.halt()
	}
	for _, n := range c {
		n.machine.applied.Store(0)
		n.start()
	}
	if got := c.propose(t, "incr a"); got != "51" {
		t.Fatalf("answer %s after the restart, want 51", got)
	}
	c.agree(t)
	for _, n := range c {
		if got := n.machine.applied.Load(); got != 1 {
			t.Errorf("%s applied %d commands after the restart, want 1", n.c.NodeID, got)
		}
	}
}

// Leadership moves by request, by a stop and by a new election, and nothing
// that was answered is lost.
func TestLeaderChanges(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	want := 0
	incr := func() {
		t.Helper()
		want++
		if got := c.propose(t, "incr a"); got != strconv.Itoa(want) {
			t.Fatalf("answer %s, want %d", got, want)
		}
	}
	incr()
	l := c.leader(t)
	to := c.without(l)[0]
	eventually(t, "transfer", func() bool { return l.store.Transfer(t.Context(), to.c.NodeID) == nil })
	if got := c.leader(t); got != to {
		t.Errorf("%s leads, want %s", got.c.NodeID, to.c.NodeID)
	}
	incr()
	for range 2 {
		l := c.leader(t)
		l.halt()
		incr()
		l.start()
		incr()
	}
	c.agree(t)
}

// A node that was away longer than the log goes back gets the leader's state,
// and restarts from it.
func TestSnapshotInstall(t *testing.T) {
	t.Parallel()
	var checked sync.Map
	c := startCluster(t, 3, func(i int, c *Config) {
		c.SnapshotEntries, c.TrailingEntries = 20, 5
		c.hooks.snapEvery = 50 * time.Millisecond
		c.CheckSnapshot = func(kv KV) error {
			v, _ := kv.Get([]byte("a"))
			checked.Store(c.NodeID, string(v))
			return nil
		}
	})
	c.propose(t, "incr a")
	c.agree(t)
	away := c.without(c.leader(t))[0]
	away.halt()
	rest := c.without(away)
	for range 100 {
		rest.propose(t, "incr a")
		rest.propose(t, "set filler "+string(make([]byte, 2000)))
	}
	eventually(t, "log cut", func() bool {
		first, err := rest.leader(t).store.node.Load().logs.FirstIndex()
		return err == nil && first > 10
	})
	away.machine.applied.Store(0)
	away.start()
	c.agree(t)
	if got := away.get("a"); got != "101" {
		t.Errorf("state has %s, want 101", got)
	}
	if got := away.machine.applied.Load(); got > 150 {
		t.Errorf("%d commands were applied one by one, want most of them received", got)
	}
	if _, ok := checked.Load(away.c.NodeID); !ok {
		t.Error("CheckSnapshot was not called")
	}
	if got := c.propose(t, "incr a"); got != "102" {
		t.Errorf("answer %s, want 102", got)
	}
	away.halt()
	away.start()
	c.agree(t)
	if got := away.get("a"); got != "102" {
		t.Errorf("after a restart state has %s, want 102", got)
	}
}

// A received state that the node's owner objects to does not replace its own.
func TestSnapshotRefused(t *testing.T) {
	t.Parallel()
	refuse := errors.New("regression")
	var refused sync.Once
	called := make(chan struct{})
	c := startCluster(t, 3, func(i int, c *Config) {
		c.SnapshotEntries, c.TrailingEntries = 20, 5
		c.hooks.snapEvery = 50 * time.Millisecond
		if i == 2 {
			c.CheckSnapshot = func(KV) error {
				refused.Do(func() { close(called) })
				return refuse
			}
		}
	})
	c.propose(t, "incr a")
	c.agree(t)
	away := c[2]
	away.halt()
	rest := c[:2]
	for range 60 {
		rest.propose(t, "incr a")
	}
	eventually(t, "log cut", func() bool {
		first, err := rest.leader(t).store.node.Load().logs.FirstIndex()
		return err == nil && first > 10
	})
	away.start()
	select {
	case <-called:
	case <-time.After(30 * time.Second):
		t.Fatal("no raft snapshot arrived in 30 s")
	}
	time.Sleep(50 * time.Millisecond)
	if got := away.get("a"); got != "1" {
		t.Errorf("state has %s, want its own 1", got)
	}
}

// Commands that wait together share an entry, and each gets its own answer.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	l := c.leader(t)
	before := l.store.Status().Last
	const n = 2000
	answers := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			a, err := l.store.Propose(t.Context(), fmt.Appendf(nil, "set k%d v", i))
			answers[i] = string(a)
			if err != nil {
				answers[i] = err.Error()
			}
		})
	}
	wg.Wait()
	for i, a := range answers {
		if a != "ok" {
			t.Fatalf("command %d: %s", i, a)
		}
	}
	if entries := l.store.Status().Last - before; entries > n/4 {
		t.Errorf("%d commands took %d entries", n, entries)
	} else {
		t.Logf("%d commands in %d entries", n, entries)
	}
	c.agree(t)
}

// Proposals beyond the bound, too long ones and those of a stopped node have no effect.
func TestProposeRefuses(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	n := c.leader(t)
	if _, err := n.store.Propose(t.Context(), make([]byte, MaxCommand+1)); !errors.Is(err, ErrNoEffect) {
		t.Errorf("too long: %v", err)
	}
	if a, err := n.store.Propose(t.Context(), make([]byte, MaxCommand)); err != nil || string(a) != "?" {
		t.Errorf("longest: %q, %v", a, err)
	}
	n.halt()
	if _, err := n.store.Propose(t.Context(), []byte("incr a")); !errors.Is(err, ErrNoEffect) {
		t.Errorf("stopped: %v", err)
	}
	if err := n.store.View(func(KV) error { return nil }); err == nil {
		t.Error("view of a stopped node works")
	}
}

// A view sees a moment, finds keys in order, and cannot write.
func TestView(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	for _, k := range []string{"x/2", "x/1", "y", "x\xff", "w"} {
		c.propose(t, "set "+k+" v"+k)
	}
	err := c[0].store.View(func(kv KV) error {
		c.propose(t, "set x/3 late")
		var got []string
		kv.Scan([]byte("x"), func(k, v []byte) bool {
			got = append(got, string(k)+"="+string(v))
			return true
		})
		if s := fmt.Sprintf("%q", got); s != `["x/1=vx/1" "x/2=vx/2" "x\xff=vx\xff"]` {
			t.Errorf("scan found %s", s)
		}
		n := 0
		kv.Scan(nil, func(_, _ []byte) bool { n++; return n < 2 })
		if n != 2 {
			t.Errorf("scan went on to %d keys", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := c[0].store.View(func(kv KV) error { kv.Set([]byte("k"), nil); return nil }); err == nil {
		t.Error("a view may set")
	}
	want := errors.New("mine")
	if err := c[0].store.View(func(KV) error { return want }); err != want {
		t.Errorf("view returns %v", err)
	}
}

// Barrier makes a view on the leader show what any client was answered.
func TestBarrier(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	l := c.leader(t)
	last := l.store.Status().Last
	for i := range 20 {
		want := c.propose(t, "incr a")
		n := c.leader(t)
		if err := n.store.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := n.get("a"); got != want {
			t.Fatalf("view after barrier %d has %s, want %s", i, got, want)
		}
	}
	if c.leader(t) == l && l.store.Status().Last > last+22 {
		t.Errorf("barriers wrote %d entries", l.store.Status().Last-last-20)
	}
	if err := c.without(l)[0].store.Barrier(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("barrier at a follower: %v", err)
	}
}

// OnApply tells of every command after View shows it.
func TestOnApply(t *testing.T) {
	t.Parallel()
	seen := make(chan uint64, 100)
	c := startCluster(t, 1, func(_ int, c *Config) { c.OnApply = func(i uint64) { seen <- i } })
	c.propose(t, "incr a")
	at := c[0].store.Status().Applied
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		select {
		case i := <-seen:
			if i == at {
				return
			}
		case <-ctx.Done():
			t.Fatalf("nothing told of entry %d", at)
		}
	}
}

// Nodes join without a vote, get it, leave, and never come back.
func TestMembers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4, nil)
	// The group begins with three: the fourth has the list of all, and joins.
	for _, n := range c[:3] {
		n.c.hooks.first = 3
		n.start()
	}
	c[3].c.Join = true
	c[3].start()
	group := c[:3]
	group.propose(t, "incr a")
	l := group.leader(t)
	if err := l.store.AddNonvoter(t.Context(), "n3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "promotion", func() bool { return l.store.Promote(t.Context(), "n3") == nil })
	c.agree(t)
	if got := c[3].get("a"); got != "1" {
		t.Errorf("new node has %q", got)
	}
	out := group.without(l)[0]
	if err := l.store.Remove(t.Context(), out.c.NodeID); err != nil {
		t.Fatal(err)
	}
	rest := c.without(out)
	rest.propose(t, "incr a")
	rest.agree(t)
	if err := rest.leader(t).store.AddNonvoter(t.Context(), out.c.NodeID); !errors.Is(err, ErrNoEffect) {
		t.Errorf("removed node comes back: %v", err)
	}
	if err := rest.leader(t).store.AddNonvoter(t.Context(), "nobody"); !errors.Is(err, ErrNoEffect) {
		t.Errorf("unknown node is added: %v", err)
	}
	for _, m := range rest.leader(t).store.Status().Members {
		if m.ID == out.c.NodeID || !m.Voter {
			t.Errorf("members hold %+v", m)
		}
	}
}
