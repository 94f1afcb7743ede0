package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// storm is one run of TestStorm: an attacker with the owner's token and a hand in
// the replicated state, against nodes that crash.
type storm struct {
	t   *testing.T
	f   *testFleet
	rnd *rand.Rand
	r   *rig
	old []*memKV       // states of before, to be shown again
	ids []*AttemptBody // attempts made so far
}

// step does something at random. Nothing here needs the password.
func (s *storm) step() {
	n := s.f.nodes[s.rnd.IntN(len(s.f.nodes))]
	switch s.rnd.IntN(12) {
	case 0: // a crash, perhaps with the state lost, which the log then brings back
		n.halt()
		if s.rnd.IntN(2) == 0 {
			n.applied, n.kv = 0, newMemKV()
		}
		n.start()
		n.awaitReady()
	case 1:
		s.f.mu.Lock()
		s.f.leader = s.rnd.IntN(len(s.f.nodes))
		s.f.mu.Unlock()
	case 2: // remember a state
		s.f.mu.Lock()
		s.old = append(s.old, n.kv.clone())
		s.f.mu.Unlock()
	case 3: // a forged raft snapshot: an old state on one node, or on all
		if len(s.old) == 0 {
			return
		}
		kv := s.old[s.rnd.IntN(len(s.old))]
		all := s.rnd.IntN(2) == 0
		s.f.mu.Lock()
		for _, o := range s.f.nodes {
			if all || o == n {
				o.kv = kv.clone()
				o.server.Applied(0)
			}
		}
		s.f.mu.Unlock()
	case 4:
		s.f.forge("anna", func(a *account) { a.Seq, a.Restored, a.Attempts = 0, 0, nil })
	case 5:
		s.f.forge("anna", func(a *account) { a.Restored, a.Attempts, a.Budget = a.Seq, nil, 30 })
	case 6: // a command from the log once more
		s.f.mu.Lock()
		cmd := s.f.cmds[s.rnd.IntN(len(s.f.cmds))]
		leader := s.f.nodes[s.f.leader]
		s.f.mu.Unlock()
		leader.Propose(context.Background(), cmd)
	case 7:
		time.Sleep(time.Duration(s.rnd.IntN(400)) * time.Second)
	case 8: // an earlier id with another element
		if len(s.ids) > 0 {
			b := *s.ids[s.rnd.IntN(len(s.ids))]
			b.Element = randomPoint()
			s.guess(&b)
		}
	default:
		b := s.r.guess()
		s.ids = append(s.ids, b)
		s.guess(b)
	}
}

// guess has an attempt counted and asks every node for it, whatever the leader says.
func (s *storm) guess(b *AttemptBody) {
	s.r.c.command(context.Background(), KindAttempt, b)
	for _, n := range s.r.c.nodes {
		s.r.c.ask(context.Background(), n, KindEval, (*EvalBody)(b))
	}
}

// Whatever the replicated state is made to say, and whenever nodes crash, no
// node's HSM evaluates more guesses than the budget.
func TestStorm(t *testing.T) {
	spent := 0
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 3)
			defer f.close()
			f.register(f.client("anna"), "right")
			s := &storm{t: t, f: f, rnd: rand.New(rand.NewPCG(seed, 1)), r: newRig(t, f, "anna")}
			s.r.c = f.client("anna", func(c *ClientConfig) { c.Timeout = 2 * time.Second })
			for range 60 {
				s.step()
			}
			synctest.Wait()
			for _, n := range f.nodes {
				d := n.hsm.distinct()
				if d > 1+10 {
					t.Errorf("seed %d: node %s evaluated %d elements, want at most 11", seed, n.id, d)
				}
				spent += d - 1
			}
		})
	}
	if spent < 30*3*2 {
		t.Errorf("only %d guesses came through in all: the storm tests nothing", spent)
	}
}

// Guesses of many clients at once, some of them right, with lost replies and a
// changing leader: the budget is exact when all is quiet, and nobody is locked out.
func TestManyClientsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, func(m *Manifest) { m.Policy.Budget, m.Policy.Lifetime = 30, 1000 })
		defer f.close()
		key := f.register(f.client("anna"), "right")
		for i, n := range f.nodes {
			rnd := rand.New(rand.NewPCG(uint64(i), 2))
			lost := make([]bool, 4096)
			for j := range lost {
				lost[j] = rnd.IntN(8) == 0
			}
			calls := 0
			n.cut = func(Kind) bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				calls++
				return lost[calls%len(lost)]
			}
		}
		results := make(chan error)
		passwords := slices.Repeat([]string{"wrong", "right", "wrong"}, 6)
		for _, p := range passwords {
			c := f.client("anna")
			go func() {
				got, err := c.Recover(context.Background(), p)
				if err == nil && got != key {
					err = errors.New("another key")
				}
				if err == nil && p != "right" {
					err = errors.New("a wrong password gives the key")
				}
				results <- err
			}()
			f.mu.Lock()
			f.leader = (f.leader + 1) % 3
			f.mu.Unlock()
		}
		for range passwords {
			var w *WrongPassword
			if err := <-results; err != nil && !errors.As(err, &w) && !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
		}
		for _, n := range f.nodes {
			n.cut = nil
		}
		if got, err := f.client("anna").Recover(context.Background(), "right"); err != nil || got != key {
			t.Fatalf("when all is quiet: %v", err)
		}
		synctest.Wait()
		st, err := f.client("anna").Status(context.Background())
		if err != nil || st.Left != 30 {
			t.Errorf("%d left, want 30 (%v)", st.Left, err)
		}
		for _, n := range f.nodes {
			if used := n.server.tally(AccountUID(f.manifest.Fleet, "anna")).used(); used != 0 {
				t.Errorf("node %s counts %d, want 0", n.id, used)
			}
		}
	})
}
