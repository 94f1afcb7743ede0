package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Any node may be dead; the fleet must not notice.
func TestOneDeadNode(t *testing.T) {
	for dead := range 3 {
		inBubble(t, func(t *testing.T) {
			f := newFleet(t, 3)
			defer f.close()
			key := f.register(f.client("anna"), "right")
			f.nodes[dead].halt()
			f.mu.Lock()
			f.leader = (dead + 1) % 3
			f.mu.Unlock()
			c := f.client("anna")
			if left := f.wrong(c, "wrong"); left != 9 {
				t.Errorf("node %d dead: %d left, want 9", dead, left)
			}
			if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
				t.Errorf("node %d dead: %v", dead, err)
			}
			st, err := c.Status(context.Background())
			if err != nil || st.Left != 10 || st.Nodes[dead].Err == nil {
				t.Errorf("node %d dead: status %+v, %v", dead, st, err)
			}
			// Registering needs one node more than the threshold, unless told otherwise.
			if _, err := f.client("bert").Register(context.Background(), "x", randomKey()); !errors.Is(err, ErrUnavailable) {
				t.Errorf("registering with a dead node: %v, want ErrUnavailable", err)
			}
			d := f.client("carl", func(c *ClientConfig) { c.AllowDegraded = true })
			reg, err := d.Register(context.Background(), "x", key)
			if err != nil || !slices.Equal(reg.Degraded, []string{f.nodes[dead].id}) {
				t.Errorf("registering degraded: %+v, %v", reg, err)
			}
			if got, err := d.Recover(context.Background(), "x"); err != nil || got != key {
				t.Errorf("recovering degraded: %v", err)
			}
		})
	}
}

// A node that answers wrongly, but signs it, must neither stop a recovery nor make
// a right password look wrong.
func TestOneLyingNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		key := f.register(f.client("anna"), "right")
		for liar := range 3 {
			f.nodes[liar].hsm.lies(true)
			for range 5 { // answers come in any order
				if got, err := f.client("anna").Recover(context.Background(), "right"); err != nil || got != key {
					t.Errorf("node %d lies: %v", liar, err)
				}
			}
			f.nodes[liar].hsm.lies(false)
		}
		f.nodes[0].hsm.lies(true)
		f.nodes[1].hsm.lies(true)
		if left := f.wrong(f.client("anna"), "right"); left != 9 {
			t.Errorf("two lie: %d left, want 9", left)
		}
	})
}

// What was spent before a crash is spent after it, on the node alone.
func TestRestartKeepsSpentAttempts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna")
		key := f.register(c, "right")
		for range 4 {
			f.wrong(c, "wrong")
		}
		synctest.Wait()
		for _, n := range f.nodes {
			n.halt()
			n.applied, n.kv = 0, newMemKV() // the whole log is replayed
			n.start()
			if used := n.server.tally(c.uid).used(); used != 4 {
				t.Errorf("node %s counts %d after a restart, want 4", n.id, used)
			}
		}
		if left := f.wrong(c, "wrong"); left != 5 {
			t.Errorf("%d left, want 5", left)
		}
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Error(err)
		}
	})
}

// A node that was away for all ten guesses must destroy its key as the others do.
func TestAbsentNodeDestroysToo(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		f.nodes[2].halt()
		for range 10 {
			f.wrong(c, "wrong")
		}
		time.Sleep(time.Hour)
		f.nodes[2].start()
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, n := range f.nodes {
			if n.keyFilesLeft() != 0 {
				t.Errorf("node %s still has the key", n.id)
			}
		}
	})
}

// The disk of a node comes back as it was before the guesses. It must not run.
func TestDiskRollbackIsRefused(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		synctest.Wait()
		n := f.nodes[1]
		n.halt()
		image := filepath.Join(n.dir, ledgerName)
		old, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		n.start()
		f.wrong(c, "wrong")
		synctest.Wait()
		n.halt()
		if err := os.WriteFile(image, old, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewServer(context.Background(), n.config()); !errors.Is(err, ErrRollback) {
			t.Fatalf("starting from an old disk: %v, want ErrRollback", err)
		}
	})
}

// Delays between attempts hold at the leader, and at nodes whose leader lies.
func TestDelays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3, func(m *Manifest) { m.Policy.Delays = []uint32{0, 0, 60, 3600} })
		defer f.close()
		c := f.client("anna")
		key := f.register(c, "right")
		f.wrong(c, "wrong")
		f.wrong(c, "wrong")
		var soon *TooSoon
		if _, err := c.Recover(context.Background(), "right"); !errors.As(err, &soon) || soon.Left != 8 ||
			soon.RetryAfter < 50*time.Second || soon.RetryAfter > time.Minute {
			t.Fatalf("the third guess at once: %v, want it in a minute", err)
		}
		time.Sleep(soon.RetryAfter)
		if left := f.wrong(c, "wrong"); left != 7 {
			t.Fatalf("%d left, want 7", left)
		}
		r := newRig(t, f, "anna")
		b := r.guess()
		cmd := &Command{Kind: KindAttempt, Time: time.Now().Add(2 * time.Hour).UnixMilli(), Token: []byte(c.c.Token), Body: encode(b)}
		if _, err := f.nodes[0].Propose(context.Background(), encodeCommand(cmd)); err != nil {
			t.Fatal(err)
		}
		for i := range f.nodes {
			if a := r.eval(i, b); a.Code != CodeWait || a.Retry < 2000 {
				t.Errorf("node %d, whose leader's clock is ahead: %v for %d s, want to wait", i+1, a.Code, a.Retry)
			}
		}
		time.Sleep(4 * time.Hour)
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Error(err)
		}
	})
}

// A registration without the old password must neither win attempts nor take the
// key from its owner.
func TestUnprovenRegistration(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		owner, thief := f.client("anna"), f.client("anna")
		key := f.register(owner, "right")
		for range 3 {
			f.wrong(owner, "wrong")
		}
		for range 3 { // again and again, to push the owner's record out
			reg, err := thief.Register(context.Background(), "theirs", randomKey())
			if err != nil || reg.Proven || reg.Left != 7 {
				t.Fatalf("unproven: %+v, %v; want 7 left", reg, err)
			}
		}
		got, err := owner.Recover(context.Background(), "right") // tries the new record, then the old one
		if err != nil || got != key {
			t.Fatalf("the owner within the grace: %v", err)
		}
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		if left := f.wrong(f.client("anna"), "right"); left != 9 {
			t.Errorf("after the grace: %d left, want 9", left)
		}
		for _, n := range f.nodes {
			if k := n.keyFilesLeft(); k != 1 {
				t.Errorf("node %s has %d keys, want 1", n.id, k)
			}
		}
	})
}

// The old password makes a clean change: full budget, the old key gone at once.
func TestProvenRegistration(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna")
		key := f.register(c, "old")
		f.wrong(c, "wrong")
		reg, err := c.Register(context.Background(), "new", key, "old")
		if err != nil || !reg.Proven || reg.Left != 10 || len(reg.Degraded) != 0 {
			t.Fatalf("%+v, %v", reg, err)
		}
		synctest.Wait()
		for _, n := range f.nodes {
			if k := n.keyFilesLeft(); k != 1 {
				t.Errorf("node %s has %d keys, want 1", n.id, k)
			}
		}
		if left := f.wrong(c, "old"); left != 9 {
			t.Errorf("the old password: %d left, want 9", left)
		}
		if got, err := c.Recover(context.Background(), "new"); err != nil || got != key {
			t.Error(err)
		}
		if _, err := c.Register(context.Background(), "newer", key, "not it"); err == nil {
			t.Error("a wrong old password changes the password")
		}
	})
}

// After destruction a new beginning is possible, when the client says so.
func TestRegisterAgain(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		for range 10 {
			f.wrong(c, "wrong")
		}
		time.Sleep(time.Hour)
		if _, err := c.Register(context.Background(), "right", randomKey()); !errors.Is(err, ErrDestroyed) {
			t.Fatalf("registering as if nothing had been: %v, want ErrDestroyed", err)
		}
		key := randomKey()
		reg, err := c.RegisterAgain(context.Background(), "another", key)
		if err != nil || reg.Left != 10 {
			t.Fatalf("registering again: %+v, %v", reg, err)
		}
		f.wrong(c, "wrong")
		if got, err := c.Recover(context.Background(), "another"); err != nil || got != key {
			t.Error(err)
		}
	})
}

// With the password the key goes at once; without it the owner has a week.
func TestDisable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna")
		key := f.register(c, "right")
		if err := c.Disable(context.Background()); err != nil {
			t.Fatal(err)
		}
		if st, err := c.Status(context.Background()); err != nil || time.Until(st.DisableAt) < 6*24*time.Hour {
			t.Errorf("status %+v, %v; want a disable in a week", st, err)
		}
		time.Sleep(6 * 24 * time.Hour)
		c = f.client("anna")
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Fatal(err) // and takes it back
		}
		time.Sleep(6 * 24 * time.Hour)
		c = f.client("anna")
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Fatal(err)
		}
		if err := c.Disable(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		c = f.client("anna")
		if _, err := c.Recover(context.Background(), "right"); !errors.Is(err, ErrDestroyed) {
			t.Errorf("after a week: %v, want ErrDestroyed", err)
		}
		b := f.client("bert")
		f.register(b, "right")
		if err := b.Disable(context.Background(), "right"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := b.Recover(context.Background(), "right"); !errors.Is(err, ErrDestroyed) {
			t.Errorf("signed: %v, want ErrDestroyed", err)
		}
		for _, n := range f.nodes {
			if k := n.keyFilesLeft(); k != 0 {
				t.Errorf("node %s has %d keys, want none", n.id, k)
			}
		}
	})
}

// To strangers all accounts look the same.
func TestStrangersLearnNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.register(f.client("anna"), "right")
		now := time.Now()
		for _, token := range []string{
			"", "coffer1.x.y",
			IssueToken(f.operator, f.manifest.Fleet, "bert", now, now.Add(time.Hour)),
			IssueToken(f.operator, FleetID{9}, "anna", now, now.Add(time.Hour)),
			IssueToken(f.operator, f.manifest.Fleet, "anna", now.Add(-2*time.Hour), now.Add(-time.Hour)),
			IssueToken(f.root, f.manifest.Fleet, "anna", now, now.Add(time.Hour)),
		} {
			for _, account := range []string{"anna", "nobody"} {
				c := f.client(account, func(c *ClientConfig) { c.Token = token })
				if _, err := c.Recover(context.Background(), "right"); !errors.Is(err, ErrDenied) {
					t.Errorf("%s with token %.20q: %v, want ErrDenied", account, token, err)
				}
				if _, err := c.Status(context.Background()); !errors.Is(err, ErrDenied) {
					t.Errorf("%s with token %.20q: status %v, want ErrDenied", account, token, err)
				}
			}
		}
	})
}

// A client that was cut off after it sent a commit must end in the state it
// believes in, and a node's answers must not depend on how often it was asked.
func TestCutRegistrationResumes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna", func(c *ClientConfig) { c.Timeout = time.Second })
		for _, n := range f.nodes {
			n.cut = func(k Kind) bool { return k == KindCommit }
		}
		key := randomKey()
		if _, err := c.Register(context.Background(), "right", key); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("cut off: %v, want ErrUnavailable", err)
		}
		for _, n := range f.nodes {
			n.cut = nil
		}
		if err := c.resume(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(c.resumePath()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the registration is still open: %v", err)
		}
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Error(err)
		}
	})
}
