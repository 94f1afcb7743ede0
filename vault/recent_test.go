package vault

import (
	"testing"
	"testing/synctest"
)

// What the machine notes is given once, whole or not at all.
func TestRecentHasNoGap(t *testing.T) {
	add := func(r *recent, ns ...uint64) {
		for _, n := range ns {
			r.add(change{n: n, uid: UID{byte(n % 2)}})
		}
	}
	for _, tt := range []struct {
		name     string
		noted    []uint64
		from, to uint64
		want     int // changes; -1: not all of them are there
	}{
		{"all", []uint64{1, 2, 3}, 0, 3, 3},
		{"the first ones", []uint64{1, 2, 3}, 0, 2, 2},
		{"the last ones", []uint64{1, 2, 3}, 2, 3, 1},
		{"none", []uint64{4, 5}, 3, 3, 0},
		{"nothing was noted", nil, 0, 1, -1},
		{"too early", []uint64{5, 6}, 3, 6, -1},
		{"not yet", []uint64{5, 6}, 4, 7, -1},
		{"another state came between", []uint64{1, 2, 7, 8}, 1, 8, -1},
		{"behind another state", []uint64{1, 2, 7, 8}, 6, 8, 2},
		{"an older state came", []uint64{7, 8, 3, 4}, 2, 4, 2},
	} {
		r := new(recent)
		add(r, tt.noted...)
		uids, changes, ok := r.take(tt.from, tt.to)
		n := 0
		for _, uid := range uids {
			n += len(changes[uid])
		}
		if !ok {
			n = -1
		}
		if n != tt.want || len(uids) != len(changes) {
			t.Errorf("%s: %d changes of %d accounts, want %d", tt.name, n, len(uids), tt.want)
		}
		if _, _, ok := r.take(tt.from, tt.to); ok && tt.want > 0 {
			t.Errorf("%s: they are given twice", tt.name)
		}
	}
	r := new(recent)
	for n := range uint64(maxRecentChanges + 10) {
		add(r, n+1)
	}
	if len(r.changes) != 10 {
		t.Errorf("%d changes are kept when nobody takes them, want the last 10", len(r.changes))
	}
}

// Guesses that the machine notes and guesses that are read from the state end up as
// the same entries, what nobody authorised in neither.
func TestNotedGuessesAreJudged(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		r := newRig(t, f, "anna")
		synctest.Wait()
		f.nodes[2].halt()
		for _, token := range []string{c.c.Token, "forged", c.c.Token} {
			b := r.guess()
			cmd := &Command{Kind: KindAttempt, Time: f.nodes[0].server.now(), Token: []byte(token), Body: encode(b)}
			if _, err := f.nodes[0].Propose(t.Context(), encodeCommand(cmd)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		f.nodes[2].start() // it reads them
		f.nodes[2].awaitReady()
		synctest.Wait()
		for _, n := range f.nodes {
			if tl := n.server.tally(c.uid); tl.used() != 2 || tl.seq != 3 {
				t.Errorf("node %s counts %d attempts up to number %d, want 2 up to 3", n.id, tl.used(), tl.seq)
			}
		}
	})
}
