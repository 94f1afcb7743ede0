package vault

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A fleet that lost its state begins again with a copy from before seven guesses. The
// ledgers hold what the copy does not: what is left is what was left, and the right
// password opens. Without the change the ledgers refuse the account; with a penalty the
// state grants less, and with one of the budget nothing.
func TestBeginAgain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(KV) error
		guesses int // that get an answer after it
		opens   bool
	}{
		{"as it is", func(KV) error { return nil }, 0, false},
		{"made fit", func(kv KV) error { return BeginAgain(kv, 0) }, 3, true},
		{"with a penalty", func(kv KV) error { return BeginAgain(kv, 5) }, 2, true}, // 7 left in the copy
		{"with the whole budget", func(kv KV) error { return BeginAgain(kv, 10) }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFleet(t, 3, func(m *Manifest) { m.Policy.Deadline = 3600 })
				defer f.close()
				c := f.client("anna", func(c *ClientConfig) { c.Timeout = time.Second })
				key := f.register(c, "right")
				r := newRig(t, f, "anna")
				guess := func() (answered bool) {
					b := r.guess()
					if a, err := r.c.command(context.Background(), KindAttempt, b); err != nil || a.Code != CodeOK {
						return false
					}
					for i := range f.nodes {
						if a := r.eval(i, b); a.Code == CodeOK {
							answered = true
						}
					}
					return answered
				}
				var old *memKV
				for i := range 7 {
					if i == 3 {
						old = f.nodes[0].kv.clone()
					}
					if !guess() {
						t.Fatal("a guess has no answer")
					}
				}
				time.Sleep(2 * catchUp)
				if err := tt.change(old); err != nil {
					t.Fatal(err)
				}
				f.mu.Lock()
				for _, n := range f.nodes {
					n.kv = old.clone()
					n.server.Applied(0)
				}
				f.mu.Unlock()
				synctest.Wait()
				if tt.opens { // the tenth guess would leave nothing to prove
					got := 0
					for range tt.guesses - 1 {
						if guess() {
							got++
						}
					}
					if got != tt.guesses-1 {
						t.Errorf("%d guesses are answered, want %d", got, tt.guesses-1)
					}
					if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
						t.Fatalf("the right password: %v", err)
					}
					for range 12 {
						guess()
					}
				} else if _, err := c.Recover(context.Background(), "right"); !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrDestroyed) {
					t.Fatalf("the right password: %v", err)
				}
				for _, n := range f.nodes {
					// registration, seven and what was left; ten more once proved
					if d := n.hsm.distinct(); d > 1+10+10 || !tt.opens && d != 1+7 {
						t.Errorf("node %s evaluated %d elements", n.id, d)
					}
				}
			})
		})
	}
}
