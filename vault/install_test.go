package vault

import (
	"errors"
	"testing"
)

// A member sends a state of his making in a raft snapshot. What this node's ledger
// has seen must be in it.
func TestCheckState(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		n := f.nodes[1]
		copied := func() *memKV {
			f.mu.Lock()
			defer f.mu.Unlock()
			return n.kv.clone()
		}
		before := copied()
		f.wrong(c, "wrong")
		now := copied()
		if err := n.server.CheckState(now); err != nil {
			t.Errorf("the true state: %v", err)
		}
		for name, change := range map[string]func(*account){
			"counters back":    func(a *account) { a.Seq, a.Attempts = 0, nil },
			"record forgotten": func(a *account) { a.Current = nil },
		} {
			forged := now.clone()
			a, _, err := loadAccount(forged, c.uid)
			if err != nil {
				t.Fatal(err)
			}
			change(a)
			a.save(forged, c.uid)
			if err := n.server.CheckState(forged); !errors.Is(err, errBehind) {
				t.Errorf("%s: %v, want %v", name, err, errBehind)
			}
		}
		for name, kv := range map[string]KV{"nothing": newMemKV(), "a state from before the guess": before} {
			if err := n.server.CheckState(kv); !errors.Is(err, errBehind) {
				t.Errorf("%s: %v, want %v", name, err, errBehind)
			}
		}
		if h := n.server.Health(); h.Regressions != 4 {
			t.Errorf("%d alarms, want 4", h.Regressions)
		}
		f.mu.Lock()
		n.kv = before.clone() // the fleet began again from a backup
		f.mu.Unlock()
		if err := n.server.CheckState(before); err != nil {
			t.Errorf("a state like this node's own: %v", err)
		}
	})
}
