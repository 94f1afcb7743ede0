package vault

import (
	"context"
	"crypto/ed25519"
	"testing"
	"testing/synctest"
	"time"
)

// An account token alone can put a record of one's own in the place of the
// owner's. The tests here hold what its holder must not get by that.

// hijacked is an account with the owner's record in its grace.
type hijacked struct {
	*testFleet
	owner, thief *Client
	key          [32]byte // the owner's
	former       *Header  // of the owner's record
}

func newHijacked(t *testing.T, opts ...fleetOption) *hijacked {
	t.Helper()
	h := &hijacked{testFleet: newFleet(t, 3, opts...)}
	h.owner, h.thief = h.client("anna"), h.client("anna")
	h.key = h.register(h.owner, "right")
	h.former = newRig(t, h.testFleet, "anna").h
	if reg, err := h.thief.Register(context.Background(), "theirs", randomKey()); err != nil || reg.Proven {
		t.Fatalf("registering by the token: %+v, %v", reg, err)
	}
	return h
}

// guessAtOwner guesses once at the owner's record, and returns how many nodes answered.
func (h *hijacked) guessAtOwner(t *testing.T) (answers int) {
	r := &rig{t, h.testFleet, h.thief, h.former}
	b := r.guess()
	if r.command(KindAttempt, b).Code != CodeOK {
		return 0
	}
	for n := range h.nodes {
		if r.eval(n, b).Code == CodeOK {
			answers++
		}
	}
	return answers
}

// Proofs of the thief's own password must not pay for guesses at the owner's.
func TestOwnProofBuysNoGuessAtAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newHijacked(t)
		defer h.close()
		guesses := 0
		for range 30 {
			guesses += h.guessAtOwner(t)
			h.thief.Recover(context.Background(), "theirs")
		}
		if guesses > 10*len(h.nodes) {
			t.Errorf("%d evaluations of the owner's keys by %d nodes, want at most 10 by each", guesses, len(h.nodes))
		}
	})
}

// Within the grace the owner's proof forgives all, and the thief's its own attempts.
func TestProofsWithinTheGrace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newHijacked(t)
		defer h.close()
		ctx := context.Background()
		for range 4 {
			h.guessAtOwner(t)
		}
		for range 12 {
			if _, err := h.thief.Recover(ctx, "theirs"); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := h.owner.Status(ctx); err != nil || st.Left != 6 {
			t.Fatalf("%+v, %v; want 6 left", st, err)
		}
		r := &rig{t, h.testFleet, h.owner, h.former}
		rec, err := h.owner.fetch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.owner.guess(ctx, "right", rec.former); err != nil || got.key != h.key {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, n := range h.nodes {
			if used := n.server.tally(r.c.uid).used(); used != 0 {
				t.Errorf("node %s counts %d attempts after the owner's proof, want none", n.id, used)
			}
		}
	})
}

// What the thief signs with its own key is worth what its token is: the grace stays.
func TestOwnSignatureEndsNoGrace(t *testing.T) {
	for name, attack := range map[string]func(h *hijacked) error{
		"succeeds itself": func(h *hijacked) error {
			_, err := h.thief.Register(context.Background(), "theirs too", randomKey(), "theirs")
			return err
		},
		"signs for itself": func(h *hijacked) error {
			ctx := context.Background()
			got, err := h.thief.recover(ctx, "theirs")
			if err == nil {
				h.thief.replace(ctx, "theirs too", randomKey(), false, got.signing)
			}
			return err
		},
		"disables": func(h *hijacked) error { return h.thief.Disable(context.Background(), "theirs") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				h := newHijacked(t)
				defer h.close()
				if err := attack(h); err != nil {
					t.Fatal(err)
				}
				time.Sleep(6 * 24 * time.Hour)
				synctest.Wait()
				if got, err := h.client("anna").Recover(context.Background(), "right"); err != nil || got != h.key {
					t.Errorf("the owner within the grace: %v", err)
				}
			})
		})
	}
}

// Nor is a state believed that says so: the ledgers know whose the grace is.
func TestForgedSuccessionEndsNoGrace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newHijacked(t)
		defer h.close()
		ctx := context.Background()
		got, err := h.thief.recover(ctx, "theirs")
		if err != nil {
			t.Fatal(err)
		}
		hd, nodes, err := h.thief.stage(ctx, "theirs too")
		if err != nil {
			t.Fatal(err)
		}
		b, err := h.thief.deal(hd, nodes, randomKey())
		if err != nil {
			t.Fatal(err)
		}
		h.forge("anna", func(a *account) {
			a.Former, a.Staged = nil, nil
			a.Current = &registration{
				Epoch: hd.Epoch, Record: b.Record, Sig: b.Sig, Old: ed25519.Sign(got.signing, succeedMessage(b.Record)),
				Before: got.epoch, At: time.Now().UnixMilli(), Token: []byte(h.thief.c.Token), Policy: hd.Policy,
			}
		})
		synctest.Wait()
		for _, n := range h.nodes {
			if tl := n.server.tally(h.owner.uid); tl.former != h.former.Epoch || tl.current != hd.Epoch {
				t.Errorf("node %s: former epoch %x, want the owner's", n.id, tl.former)
			}
		}
	})
}

// The owner takes the account back with the old password.
func TestOwnerTakesTheAccountBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newHijacked(t)
		defer h.close()
		ctx := context.Background()
		reg, err := h.owner.Register(ctx, "new", h.key, "right")
		if err != nil || !reg.Proven || reg.Left != 10 {
			t.Fatalf("%+v, %v", reg, err)
		}
		synctest.Wait()
		for _, n := range h.nodes {
			if k := n.keyFilesLeft(); k != 1 {
				t.Errorf("node %s has %d keys, want 1", n.id, k)
			}
		}
		if got, err := h.owner.Recover(ctx, "new"); err != nil || got != h.key {
			t.Error(err)
		}
	})
}
