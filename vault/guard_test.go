package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffer/ppss"
)

// The tests here are each about one guard of the vault. Taking the guard out makes
// the test fail.

// readLedger returns the entries in a node's file, and the head.
func readLedger(tb testing.TB, dir string) ([]*entry, head) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, ledgerName))
	if err != nil {
		tb.Fatal(err)
	}
	r := &entryReader{r: bytes.NewReader(b)}
	if err := r.magic(); err != nil {
		tb.Fatal(err)
	}
	var all []*entry
	for {
		e, err := r.next()
		if err == io.EOF {
			return all, r.head
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, e)
	}
}

// A node that evaluated first and counted after could be made to forget by
// pulling its plug.
func TestCountsBeforeEvaluating(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		var checked atomic.Int32
		for _, n := range f.nodes {
			n.hsm.before = func(_ []byte, blinded [33]byte) error {
				all, h := readLedger(t, n.dir)
				last := all[len(all)-1]
				if last.Element != blinded || last.Kind != entrySpend && last.Kind != entryKey {
					return fmt.Errorf("evaluating what the ledger does not end with")
				}
				if h.bytes() != n.hsm.anchor {
					return fmt.Errorf("evaluating what is not anchored")
				}
				checked.Add(1)
				return nil
			}
		}
		c := f.client("anna")
		key := f.register(c, "right")
		f.wrong(c, "wrong")
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Fatalf("%v", err)
		}
		synctest.Wait()
		if got := checked.Load(); got < 3+3+2 {
			t.Errorf("%d evaluations checked, want at least 8", got)
		}
	})
}

// rig speaks for an account in single steps.
type rig struct {
	t *testing.T
	f *testFleet
	c *Client
	h *Header
}

func newRig(t *testing.T, f *testFleet, account string) *rig {
	r := &rig{t: t, f: f, c: f.client(account)}
	r.look()
	return r
}

// look fetches the current header.
func (r *rig) look() {
	rec, err := r.c.fetch(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	if _, r.h, err = parseRecord(rec.current); err != nil {
		r.t.Fatal(err)
	}
}

func randomPoint() [33]byte { _, p := ppss.GenerateKey(); return p }

// guess returns a fresh attempt's body.
func (r *rig) guess() *AttemptBody {
	b := &AttemptBody{UID: r.c.uid, Epoch: r.h.Epoch, Element: randomPoint()}
	rand.Read(b.ID[:])
	return b
}

func (r *rig) command(kind Kind, body any) *Answer {
	r.t.Helper()
	a, err := r.c.command(context.Background(), kind, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// eval asks one node.
func (r *rig) eval(node int, b *AttemptBody) *Answer {
	r.t.Helper()
	a, err := r.c.ask(context.Background(), r.c.nodes[node], KindEval, (*EvalBody)(b))
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// With one id for two elements, one count would buy two evaluations.
func TestOneElementPerAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.register(f.client("anna"), "right")
		r := newRig(t, f, "anna")
		b := r.guess()
		if a := r.command(KindAttempt, b); a.Code != CodeOK || a.Left != 9 {
			t.Fatalf("attempt: %v, %d left", a.Code, a.Left)
		}
		if a := r.eval(0, b); a.Code != CodeOK {
			t.Fatalf("evaluation: %v", a.Code)
		}
		if a := r.command(KindAttempt, b); a.Code != CodeOK || a.Left != 9 {
			t.Errorf("the same attempt again: %v, %d left; want it free", a.Code, a.Left)
		}
		if a := r.eval(0, b); a.Code != CodeOK {
			t.Errorf("the same evaluation again: %v", a.Code)
		}
		other := *b
		other.Element = randomPoint()
		if a := r.command(KindAttempt, &other); a.Code != CodeConflict {
			t.Errorf("attempt with another element: %v, want conflict", a.Code)
		}
		if a := r.eval(1, &other); a.Code != CodeConflict {
			t.Errorf("evaluation of another element: %v, want conflict", a.Code)
		}
		// Now the state itself says that the other was meant.
		f.forge("anna", func(a *account) { a.Attempts[0].Element = other.Element })
		if a := r.eval(0, &other); a.Code != CodeRegression {
			t.Errorf("evaluation by a forged state: %v, want regression", a.Code)
		}
		for _, n := range f.nodes {
			if d := n.hsm.distinct(); d > 2 {
				t.Errorf("node %s evaluated %d elements, want at most 2", n.id, d)
			}
		}
	})
}

// forge rewrites an account's state on every node, as a hostile raft snapshot may.
func (f *testFleet) forge(account string, change func(*account)) {
	f.tb.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	uid := AccountUID(f.manifest.Fleet, account)
	for _, n := range f.nodes {
		a, _, err := loadAccount(n.kv, uid)
		if err != nil {
			f.tb.Fatal(err)
		}
		change(a)
		a.save(n.kv, uid)
		if n.server != nil {
			n.server.Applied(0)
		}
	}
}

// A raft snapshot from before the guesses resets every replicated counter. The
// ledgers of honest nodes do not follow.
func TestForgedStateWinsNoGuess(t *testing.T) {
	for name, forge := range map[string]func(*account){
		"all counters back": func(a *account) { a.Seq, a.Restored, a.Attempts = 0, 0, nil },
		"restored without proof": func(a *account) {
			a.Restored, a.Attempts = a.Seq, nil
		},
		"budget of 200":     func(a *account) { a.Budget = 200 },
		"number far ahead":  func(a *account) { a.Seq, a.Restored, a.Attempts = 1<<40, 1<<40, nil },
		"account forgotten": func(a *account) { *a = account{stored: a.stored} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFleet(t, 3)
				defer f.close()
				f.register(f.client("anna"), "right")
				r := newRig(t, f, "anna")
				for range 10 {
					b := r.guess()
					if a := r.command(KindAttempt, b); a.Code != CodeOK {
						t.Fatalf("attempt: %v", a.Code)
					}
					for i := range f.nodes {
						if a := r.eval(i, b); a.Code != CodeOK {
							t.Fatalf("evaluation: %v", a.Code)
						}
					}
				}
				f.forge("anna", forge)
				for range 5 {
					b := r.guess()
					r.command(KindAttempt, b)
					for i := range f.nodes {
						if a := r.eval(i, b); a.Code == CodeOK {
							t.Errorf("node %d made an eleventh evaluation", i+1)
						}
					}
				}
				for _, n := range f.nodes {
					if d := n.hsm.distinct(); d != 11 {
						t.Errorf("node %s evaluated %d elements, want 11", n.id, d)
					}
				}
			})
		})
	}
}

// The whole state goes back, feed and all, not only an account.
func TestOldRaftSnapshotRaisesAlarm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.register(f.client("anna"), "right")
		old := f.nodes[0].kv.clone()
		c := f.client("anna")
		for range 4 {
			f.wrong(c, "wrong")
		}
		time.Sleep(2 * catchUp) // a start is over: being behind is no excuse any more
		f.mu.Lock()
		for _, n := range f.nodes {
			n.kv = old.clone()
		}
		f.mu.Unlock()
		time.Sleep(2 * followTick)
		synctest.Wait()
		for _, n := range f.nodes {
			if n.server.Health().Regressions == 0 { // before anybody asks
				t.Errorf("node %s raised no alarm", n.id)
			}
		}
		if _, err := c.Recover(context.Background(), "right"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("recovering on a rolled back state: %v, want ErrUnavailable", err)
		}
	})
}

// A proof must restore what came before it, once, and nothing that comes after.
func TestProofIsNotReplayed(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		f.wrong(c, "wrong")
		if _, err := c.Recover(context.Background(), "right"); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		proof := f.cmds[len(f.cmds)-1]
		f.mu.Unlock()
		if cmd, err := parseCommand(proof); err != nil || cmd.Kind != KindProve {
			t.Fatalf("the last command is no proof: %v", err)
		}
		for i := range 5 {
			if left := f.wrong(c, "wrong"); left != 9-i {
				t.Fatalf("%d left, want %d", left, 9-i)
			}
		}
		for range 3 {
			if _, err := f.nodes[0].Propose(context.Background(), proof); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if st, err := c.Status(context.Background()); err != nil || st.Left != 5 {
			t.Errorf("after a replay %d are left, want 5 (%v)", st.Left, err)
		}
		// The state may claim anything: the ledgers count on.
		f.forge("anna", func(a *account) { a.Restored, a.Attempts = a.Seq, nil })
		synctest.Wait()
		f.counted(t, c, 5)
	})
}

// A proof for one number must not pass for another.
func TestProofIsBoundToItsAttempt(t *testing.T) {
	withAnna(t, 1, func(t *testing.T, f *testFleet, c *Client) {
		got, err := c.recover(context.Background(), "right")
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, f, "anna")
		b := r.guess()
		seq := r.command(KindAttempt, b).Seq
		p := &ProveBody{UID: c.uid, Epoch: b.Epoch, ID: b.ID, Seq: seq - 1}
		p.Sig = [64]byte(ed25519.Sign(got.signing, proveMessage(p, recordHash(got.record))))
		p.Seq = seq
		if a := r.command(KindProve, p); a.Code != CodeSignature {
			t.Errorf("proof of another number: %v, want signature", a.Code)
		}
		p.Seq = seq - 1
		if a := r.command(KindProve, p); a.Code != CodeStale {
			t.Errorf("proof of a number with another id: %v, want stale", a.Code)
		}
		if a := r.command(KindRecord, &RecordBody{UID: c.uid}); a.Left != 9 {
			t.Errorf("%d left, want 9", a.Left)
		}
	})
}

// Whoever drops the replies of a client that registers must not win guesses by
// its registering again: the published weakness of vaults that count per record.
func TestDroppedRegistrationsWinNoGuesses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		owner := f.client("anna", func(c *ClientConfig) { c.StateDir = ""; c.Timeout = time.Second })
		f.register(owner, "right")
		for _, n := range f.nodes {
			n.cut = func(k Kind) bool { return k == KindCommit }
		}
		guesses := 0
		for i := range 100 {
			_, err := owner.Register(context.Background(), "right", randomKey())
			if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("registration %d: %v, want ErrUnavailable", i, err)
			}
			rec, err := owner.fetch(context.Background())
			if errors.Is(err, ErrDestroyed) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			_, h, err := parseRecord(rec.current)
			if err != nil {
				t.Fatal(err)
			}
			r := &rig{t, f, owner, h}
			b := r.guess()
			r.command(KindAttempt, b)
			for n := range f.nodes {
				if r.eval(n, b).Code == CodeOK {
					guesses++
				}
			}
		}
		if guesses != 10*len(f.nodes) {
			t.Errorf("%d evaluations by %d nodes, want 10 by each", guesses, len(f.nodes))
		}
	})
}

// What a client did not authorise, no node acts upon.
func TestLeaderInventsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna")
		key := f.register(c, "right")
		r := newRig(t, f, "anna")
		propose := func(kind Kind, token string, body any) {
			t.Helper()
			cmd := encodeCommand(&Command{Kind: kind, Time: time.Now().UnixMilli(), Token: []byte(token), Body: encode(body)})
			if _, err := f.nodes[0].Propose(context.Background(), cmd); err != nil {
				t.Fatal(err)
			}
		}
		saved := f.nodes[0].kv.clone()
		for range 10 {
			propose(KindAttempt, "", r.guess()) // uses the budget up, and so asks for destruction
		}
		synctest.Wait()
		f.counted(t, c, 0)
		propose(KindDisable, "", &DisableBody{UID: c.uid, Epoch: r.h.Epoch})
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		for _, n := range f.nodes {
			if n.keyFilesLeft() != 1 {
				t.Errorf("node %s destroyed a key that nobody wanted destroyed", n.id)
			}
		}
		// The operator mends the state: the keys are still there.
		f.mu.Lock()
		for _, n := range f.nodes {
			m := saved.clone()
			m.Set(feedHead, n.kv.m[string(feedHead)])
			n.kv = m
		}
		f.mu.Unlock()
		if got, err := f.client("anna").Recover(context.Background(), "right"); err != nil || got != key {
			t.Errorf("recovering after the state was mended: %v", err)
		}
	})
}

// A leader without a token cannot put a record of its own in the owner's place.
func TestLeaderInventsNoRecord(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		mallory := f.client("mallory")
		h, nodes, err := mallory.stage(context.Background(), "hers")
		if err != nil {
			t.Fatal(err)
		}
		h.UID = c.uid
		b, err := mallory.deal(h, nodes, randomKey())
		if err != nil {
			t.Fatal(err)
		}
		b.UID = c.uid
		f.forge("anna", func(a *account) {
			a.Former, a.Until = a.Current, time.Now().Add(time.Hour).UnixMilli()
			a.Current = &registration{Epoch: h.Epoch, Record: b.Record, Sig: b.Sig, Before: a.Former.Epoch, At: time.Now().UnixMilli()}
		})
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		for _, n := range f.nodes {
			if tl := n.server.tally(c.uid); tl.current == h.Epoch || tl.current == (Epoch{}) {
				t.Errorf("node %s took an invented record", n.id)
			}
		}
	})
}

// An owner's success must not forgive the guesses that another made meanwhile.
func TestProofForgivesNothingLater(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		got, err := c.recover(context.Background(), "right")
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, f, "anna")
		owner, other := r.guess(), r.guess()
		p := &ProveBody{UID: c.uid, Epoch: owner.Epoch, ID: owner.ID, Seq: r.command(KindAttempt, owner).Seq}
		p.Sig = [64]byte(ed25519.Sign(got.signing, proveMessage(p, recordHash(got.record))))
		r.command(KindAttempt, other)
		synctest.Wait()
		if a := r.command(KindProve, p); a.Code != CodeOK || a.Left != 9 {
			t.Errorf("proof: %v, %d left; want 9", a.Code, a.Left)
		}
		synctest.Wait()
		f.counted(t, c, 1)
	})
}

// A state that shows a proof which nobody signed must not restore a budget.
func TestInventedProofRestoresNothing(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		for range 6 {
			f.wrong(c, "wrong")
		}
		f.forge("anna", func(a *account) {
			last := a.Attempts[5]
			a.Proof = &ProveBody{UID: c.uid, Epoch: last.Epoch, ID: last.ID, Seq: last.Seq}
			a.Restored, a.Attempts = a.Seq, nil
		})
		synctest.Wait()
		f.counted(t, c, 6)
	})
}

// A leader that numbers attempts as it likes must not get the owner to sign away
// all numbers below.
func TestNumbersCannotJump(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		r := newRig(t, f, "anna")
		f.forge("anna", func(a *account) { a.Seq, a.Restored = 1<<40, 1<<40 })
		b := r.guess()
		if a := r.command(KindAttempt, b); a.Code != CodeOK || a.Seq != 1<<40+1 {
			t.Fatalf("attempt: %v, number %d", a.Code, a.Seq)
		}
		for i := range f.nodes {
			if a := r.eval(i, b); a.Code != CodeRegression {
				t.Errorf("node %d evaluates attempt 2^40: %v, want regression", i+1, a.Code)
			}
		}
	})
}

// After a destruction a full budget needs the client's signed word that the
// password is a new one, on every node.
func TestNoFullBudgetForAnOldPassword(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		for range 10 {
			f.wrong(c, "wrong")
		}
		time.Sleep(time.Hour)
		f.forge("anna", func(a *account) { a.Gone = 0 }) // the machine sees a first registration
		_, err := c.Register(context.Background(), "right", randomKey())
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("nodes confirm the registration: %v, want ErrUnavailable", err)
		}
		r := newRig(t, f, "anna")
		b := r.guess()
		r.command(KindAttempt, b)
		for i := range f.nodes {
			if a := r.eval(i, b); a.Code == CodeOK {
				t.Errorf("node %d evaluates", i+1)
			}
		}
	})
}

// Who has an account's token could else have its owner stretch a password for an hour,
// or hardly at all. The leader refuses it, and behind a hostile one each node does.
func TestRecordFollowsTheManifestsStretching(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna")
		h, nodes, err := c.stage(context.Background(), "right")
		if err != nil {
			t.Fatal(err)
		}
		h.Argon.Time += 2
		b, err := c.deal(h, nodes, randomKey())
		if err != nil {
			t.Fatal(err)
		}
		if a, err := c.command(context.Background(), KindCommit, b); err != nil || a.Code != CodeMalformed {
			t.Errorf("an honest leader: %v, %v", a.Code, err)
		}
		cmd := &Command{Kind: KindCommit, Time: time.Now().UnixMilli(), Token: []byte(c.c.Token), Body: encode(b)}
		if _, err := f.nodes[0].Propose(context.Background(), encodeCommand(cmd)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st, err := c.Status(context.Background()); err != nil || !st.Registered {
			t.Fatalf("the hostile leader's state: %+v, %v", st, err)
		}
		for _, n := range f.nodes {
			if ep := n.server.tally(c.uid).epochs[h.Epoch]; ep == nil || ep.committed {
				t.Errorf("node %s has taken it", n.id)
			}
		}
	})
}

// A record may give way to another between the moment a client fetches it and the
// moment it spends an attempt on it.
func TestRecordReplacedUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		owner := f.client("anna")
		key := f.register(owner, "right")
		other := f.client("anna")
		var once sync.Once
		slow := f.client("anna", func(c *ClientConfig) {
			c.Transport = func(n Node) http.RoundTripper {
				return between{f.transport(n), func(k Kind) {
					if k == KindAttempt { // its record is fetched
						once.Do(func() {
							if _, err := other.Register(context.Background(), "right", key, "right"); err != nil {
								t.Errorf("registering meanwhile: %v", err)
							}
						})
					}
				}}
			}
		})
		if got, err := slow.Recover(context.Background(), "right"); err != nil || got != key {
			t.Errorf("recovering: %v", err)
		}
		if st, err := owner.Status(context.Background()); err != nil || st.Left != 10 {
			t.Errorf("%d attempts left, %v", st.Left, err)
		}
	})
}

// between calls fn before a request goes on its way.
type between struct {
	next http.RoundTripper
	fn   func(Kind)
}

func (b between) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	req, err := parseRequest(data)
	if err != nil {
		return nil, err
	}
	b.fn(req.Kind)
	return b.next.RoundTrip(r)
}

// A record that names keys which the nodes did not make is not confirmed: its
// owner would find out at recovery.
func TestRecordWithForeignKeys(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna")
		h, nodes, err := c.stage(context.Background(), "right")
		if err != nil {
			t.Fatal(err)
		}
		for i := range nodes {
			nodes[i].public = randomPoint()
		}
		b, err := c.deal(h, nodes, randomKey())
		if err != nil {
			t.Fatal(err)
		}
		if reg, err := c.commit(context.Background(), b); !errors.Is(err, ErrUnavailable) {
			t.Errorf("committed: %+v, %v; want ErrUnavailable", reg, err)
		}
	})
}
