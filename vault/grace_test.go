package vault

import (
	"context"
	"crypto/ed25519"
	"errors"
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

// Delays must not keep the owner's client at the thief's record until the grace is over.
func TestDelaysHideNoFormerRecord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newHijacked(t, func(m *Manifest) { m.Policy.Delays = DefaultPolicy().Delays })
		defer h.close()
		ctx := context.Background()
		for range 2 {
			h.guessAtOwner(t)
		}
		for range 6 {
			got, err := h.client("anna").Recover(ctx, "right")
			if err == nil && got == h.key {
				return
			}
			var wrong *WrongPassword
			var soon *TooSoon
			switch {
			case errors.As(err, &wrong):
				time.Sleep(wrong.RetryAfter)
			case errors.As(err, &soon):
				time.Sleep(soon.RetryAfter)
			default:
				t.Fatal(err)
			}
		}
		t.Error("the owner never gets to the former record")
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

// A leader may bring a record into the log that no honest one would: with a policy
// that gives the account another budget every second.
func TestRecordGrantsItselfNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3, func(m *Manifest) { m.Policy.Delays = []uint32{0, 0, 60} })
		defer f.close()
		ctx := context.Background()
		f.register(f.client("anna"), "right")
		owner := newRig(t, f, "anna")
		thief := f.client("anna")
		lax := Policy{Budget: 30, Deadline: 1, Lifetime: 1000, Refill: 3601}
		guesses := 0
		for range 12 {
			hd, nodes, err := thief.stage(ctx, "theirs")
			if err != nil {
				break // destroyed
			}
			hd.Policy = lax
			b, err := thief.deal(hd, nodes, randomKey())
			if err != nil {
				t.Fatal(err)
			}
			f.propose(t, KindCommit, thief.c.Token, b)
			for range 9 { // not the last one: that would begin the deadline
				b := owner.guess()
				f.propose(t, KindAttempt, thief.c.Token, b)
				for n := range f.nodes {
					if owner.eval(n, b).Code == CodeOK {
						guesses++
					}
				}
			}
			time.Sleep(61 * time.Minute)
		}
		if guesses > 10*len(f.nodes) {
			t.Errorf("%d evaluations of the owner's keys by %d nodes, want at most 10 by each", guesses, len(f.nodes))
		}
	})
}

// propose is what a leader can do: put a command into the log, unchecked.
func (f *testFleet) propose(t *testing.T, kind Kind, token string, body any) {
	t.Helper()
	cmd := encodeCommand(&Command{Kind: kind, Time: time.Now().UnixMilli(), Token: []byte(token), Body: encode(body)})
	if _, err := f.nodes[0].Propose(context.Background(), cmd); err != nil {
		t.Fatal(err)
	}
}

// TestPolicyWithin holds that nothing is laxer than the stricter of two policies in each of its parts.
func TestPolicyWithin(t *testing.T) {
	m := DefaultPolicy()
	if got := m.within(m); string(encode(got)) != string(encode(m)) {
		t.Errorf("a policy within itself: %+v", got)
	}
	lax := Policy{Budget: 30, Delays: []uint32{0}, Deadline: 1, Lifetime: 1000, Grace: 9, Refill: 3601, Disable: 1}
	got := lax.within(m)
	if got.Budget != m.Budget || got.Lifetime != m.Lifetime || got.Refill != m.Refill || got.Disable != m.Disable || got.Grace != m.Grace || got.Deadline != m.Deadline {
		t.Errorf("a lax policy within the default: %+v", got)
	}
	for k := range 12 {
		if got.delay(k) < m.delay(k) {
			t.Errorf("delay %d: %v, want %v", k, got.delay(k), m.delay(k))
		}
	}
	never := DefaultPolicy()
	never.Refill = 0
	if got := lax.within(never); got.Refill != 0 {
		t.Errorf("refill %d within a policy without", got.Refill)
	}
	strict := Policy{Budget: 3, Delays: []uint32{9, 9, 9, 9, 9, 9, 9, 9999}, Deadline: 900, Lifetime: 5, Grace: m.Grace, Refill: m.Refill, Disable: m.Disable}
	if got := strict.within(m); got.Budget != 3 || got.Lifetime != 5 || got.delay(7) != 9999*time.Second || got.delay(2) != time.Minute {
		t.Errorf("a strict policy within the default: %+v", got)
	}
}
