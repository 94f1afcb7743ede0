package raftstore

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A certificate is renewed and a lost node's place is taken while the group works: the
// list of peers changes without a restart, and whom it does not name is not spoken with.
func TestPeersChangeUnderWay(t *testing.T) {
	t.Parallel()
	peers, certs := testPeers(t, 4)
	c := newCluster(t, 4, func(i int, c *Config) {
		c.Peers, c.NodeID, c.Certificate, c.Join = peers[:3], peers[i].ID, certs[i], i == 3
		if i == 3 {
			c.Peers = peers
		}
	})
	for _, n := range c[:3] {
		n.start()
	}
	c[:3].propose(t, "incr a")
	old := c[1].c.Certificate
	renewed := testCertificate(t)
	next := slices.Clone(peers)
	next[1].TLSPin = Pin(renewed.Leaf)
	follow := func(next []Peer) {
		t.Helper()
		for i, n := range c {
			own := n.c.Certificate
			if i == 1 {
				own = renewed
			}
			if n.store == nil || !slices.ContainsFunc(next, func(p Peer) bool { return p.ID == n.c.NodeID }) {
				continue
			}
			if err := n.store.SetPeers(next, own); err != nil {
				t.Fatalf("node %s: %v", n.c.NodeID, err)
			}
		}
	}
	if err := c[1].store.SetPeers(next, old); err == nil {
		t.Error("a node takes a list that pins another certificate than its own")
	}
	follow(next)
	c[2].halt() // so that the renewed one is needed
	c[:2].propose(t, "incr a")
	was := newStream(peerOf(c[0]), old, mute())
	defer was.Close()
	if conn, err := was.Dial("n0", time.Second); err == nil { // in TLS 1.3 a refused client learns of it when it reads
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the old certificate is still accepted")
		}
	}

	c[3].start()
	if err := c[3].store.SetPeers(next, certs[3]); err != nil {
		t.Fatal(err)
	}
	change := func(do func(context.Context, *Store) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for do(ctx, c[:2].leader(t).store) != nil {
			if ctx.Err() != nil {
				t.Fatal("the group does not change")
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	change(func(ctx context.Context, s *Store) error { return s.AddNonvoter(ctx, "n3") })
	change(func(ctx context.Context, s *Store) error { return s.Promote(ctx, "n3") })
	change(func(ctx context.Context, s *Store) error { return s.Remove(ctx, "n2") })
	follow([]Peer{next[0], next[1], next[3]})
	c[0].halt()
	testCluster{c[1], c[3]}.propose(t, "incr a")
}

// A node that acknowledges more while a greeting is under way has not lost anything.
func TestGreetingUnderWay(t *testing.T) {
	for name, tt := range map[string]struct {
		then holding
		lost bool
	}{
		"went on":     {holding{Start: 1, Index: 9, Term: 2}, false},
		"rolled back": {holding{Start: 1, Index: 7, Term: 1}, true},
	} {
		a, b := net.Pipe()
		asked, lost := 0, false
		g := mute()
		g.rolled = func(error) { lost = true }
		g.holds = func() (holding, error) {
			if asked++; asked == 1 {
				return holding{Start: 1, Index: 7, Term: 1}, nil
			}
			return tt.then, nil
		}
		done := make(chan error)
		go func() { done <- g.greet("n1", a) }()
		if _, err := io.ReadFull(b, make([]byte, greetSize)); err != nil {
			t.Fatal(err)
		}
		answer := holding{Start: 1, Index: 9, Term: 2}.append(holding{}.append([]byte{greetVersion}))
		if _, err := b.Write(answer); err != nil {
			t.Fatal(err)
		}
		if err := <-done; (err != nil) != tt.lost || lost != tt.lost {
			t.Errorf("%s: %v, ended %v", name, err, lost)
		}
		b.Close()
	}
}

// A greeting that is older than the last acknowledgement is no alarm; a peer that still
// holds less the next time is.
func TestGreetingThatWasLate(t *testing.T) {
	less, more := holding{Start: 1, Index: 7, Term: 1}, holding{Start: 1, Index: 9, Term: 1}
	for name, tt := range map[string]struct {
		after time.Duration
		then  holding
		heard bool
		alarm bool
	}{
		"another of the same moment": {0, less, false, false},
		"late only":                  {time.Minute, more, true, false},
		"rolled back":                {time.Minute, less, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			alarm := false
			g := mute()
			g.known = func(string) holding { return more }
			g.detected = func() { alarm = true }
			greeted := func(theirs holding) error {
				a, b := net.Pipe()
				defer b.Close()
				go func() {
					io.ReadFull(b, make([]byte, greetSize))
					b.Write(holding{}.append(theirs.append([]byte{greetVersion})))
				}()
				return g.greet("n1", a)
			}
			if err := greeted(less); err == nil || alarm {
				t.Errorf("%s: the first greeting: %v, alarm %v", name, err, alarm)
			}
			time.Sleep(tt.after)
			if err := greeted(tt.then); (err == nil) != tt.heard || alarm != tt.alarm {
				t.Errorf("%s: %v, alarm %v", name, err, alarm)
			}
		})
	}
}

// A disk that was rolled back to what is enough for an old debt is found all the same.
func TestGreetingOfOldDebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alarm := false
		g := mute()
		g.detected = func() { alarm = true }
		for _, step := range []struct {
			known, theirs uint64
			alarm         bool
		}{{7, 5, false}, {9, 8, false}, {9, 8, true}} {
			g.known = func(string) holding { return holding{Start: 1, Index: step.known} }
			a, b := net.Pipe()
			go func() {
				io.ReadFull(b, make([]byte, greetSize))
				b.Write(holding{}.append(holding{Start: 1, Index: step.theirs}.append([]byte{greetVersion})))
			}()
			if err := g.greet("n1", a); err == nil || alarm != step.alarm {
				t.Errorf("%+v: %v, alarm %v", step, err, alarm)
			}
			b.Close()
			time.Sleep(time.Minute)
		}
	})
}
