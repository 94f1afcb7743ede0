package chaos

import (
	"math"
	"testing"

	"coffer/vault"
)

// The checks are worth something only if they see what they are there for: each
// of these histories holds one thing that must never happen.

// story is a history of one account, one command after the other.
type story struct {
	ops   []*op
	at    int64
	evals []eval
}

func (s *story) add(o op) *op {
	o.call, o.ret = s.at+1, s.at+5
	if !o.known {
		o.ret = math.MaxInt64
	}
	s.at += 10
	s.ops = append(s.ops, &o)
	return &o
}

func (s *story) register() { s.add(op{kind: opCommit, known: true, left: -1}) }

// attempt is one that was counted under the number.
func (s *story) attempt(seq uint64) *op {
	return s.add(op{kind: opAttempt, known: true, seq: seq, left: -1, id: vault.AttemptID{byte(seq)}, element: [33]byte{byte(seq)}})
}

func (s *story) attempts(from, to uint64) {
	for seq := from; seq <= to; seq++ {
		s.attempt(seq)
	}
}

func (s *story) prove(seq uint64) { s.add(op{kind: opProve, known: true, seq: seq, left: -1}) }

// ledger is what an honest node has of it.
func (s *story) ledger(node string) ledger {
	l := ledger{node: node, entries: []entry{{Kind: entryCommit, How: 1}}}
	for _, o := range s.ops {
		switch {
		case o.kind == opAttempt && o.known && o.code == vault.CodeOK:
			l.entries = append(l.entries, entry{Kind: entrySpend, Seq: o.seq, ID: o.id, Element: o.element})
		case o.kind == opProve && o.known:
			l.entries = append(l.entries, entry{Kind: entryProve, Seq: o.seq})
		}
	}
	return l
}

func (s *story) problems(change func([]ledger)) (found []string) {
	ledgers := []ledger{s.ledger("n1"), s.ledger("n2"), s.ledger("n3")}
	if change != nil {
		change(ledgers)
	}
	h := &history{ops: s.ops, evals: s.evals}
	return check(h, ledgers).Problems
}

// honest is a life with everything in it that may happen.
func honest() *story {
	s := new(story)
	s.register()
	s.attempts(1, 3)
	s.prove(3)
	s.add(op{kind: opAttempt, left: -1, id: vault.AttemptID{4}, element: [33]byte{4}}) // never answered, but counted
	s.attempts(5, 13)
	s.prove(5)
	s.attempts(14, 15)
	s.add(op{kind: opAttempt, known: true, code: vault.CodeDestroyed, left: -1})
	s.prove(15) // in time
	s.attempts(16, 25)
	s.add(op{kind: opAttempt, known: true, code: vault.CodeDestroyed, left: -1})
	s.add(op{kind: opProve, known: true, code: vault.CodeDestroyed, seq: 25, left: -1})
	return s
}

func TestHonestHistoryPasses(t *testing.T) {
	s := honest()
	s.evals = []eval{{node: "n2", seq: 7, id: vault.AttemptID{7}, element: [33]byte{7}}}
	for _, p := range s.problems(nil) {
		t.Error(p)
	}
}

// again is an attempt that was counted without an answer, forgiven by the proof of the
// one after it, and then answered when its client sent it again: counted once more, or
// of an epoch that is gone.
func again(sent int, code vault.Code) *story {
	s := new(story)
	s.register()
	lost := s.attempt(0)
	lost.sent, lost.code = sent, code
	s.attempt(2)
	s.prove(2)
	if code == vault.CodeOK {
		lost.seq = 3
	}
	lost.ret = s.at + 5
	s.at += 10
	s.attempts(3, 3)
	if code == vault.CodeOK {
		s.ops[len(s.ops)-1].seq = 4
	}
	return s
}

func TestLostRepliesAreUnderstood(t *testing.T) {
	for _, code := range []vault.Code{vault.CodeOK, vault.CodeStale} {
		asked := again(3, code)
		for _, p := range check(&history{ops: asked.ops}, nil).Problems {
			t.Errorf("%v: %s", code, p)
		}
		if len(check(&history{ops: again(1, code).ops}, nil).Problems) == 0 {
			t.Errorf("%v: an attempt that was sent once is counted twice, and nothing was noticed", code)
		}
	}
}

func TestCheatsAreCaught(t *testing.T) {
	for name, cheat := range map[string]func(*story) func([]ledger){
		"eleventh attempt": func(s *story) func([]ledger) { s.attempts(1, 11); return nil },
		"eleventh attempt, the tenth's outcome unknown": func(s *story) func([]ledger) {
			s.attempts(1, 9)
			s.add(op{kind: opAttempt, left: -1})
			s.attempt(11)
			return nil
		},
		"eleventh element in one ledger": func(s *story) func([]ledger) {
			s.attempts(1, 10)
			return func(l []ledger) {
				l[1].entries = append(l[1].entries, entry{Kind: entrySpend, Seq: 11, ID: vault.AttemptID{11}, Element: [33]byte{11}})
			}
		},
		"a number twice": func(s *story) func([]ledger) { s.attempts(1, 3); s.attempt(3); return nil },
		"numbers go back": func(s *story) func([]ledger) {
			s.attempts(1, 2)
			s.attempt(4)
			s.attempt(3)
			return nil
		},
		"a lost count": func(s *story) func([]ledger) { s.attempts(1, 2); s.attempt(2).id[1] = 1; return nil },
		"a number that nobody asked for": func(s *story) func([]ledger) {
			s.attempt(1)
			s.attempt(3)
			return nil
		},
		"alive after the end": func(s *story) func([]ledger) {
			s.attempts(1, 10)
			s.add(op{kind: opAttempt, known: true, code: vault.CodeDestroyed, left: -1})
			s.attempt(11)
			return nil
		},
		"destroyed too early": func(s *story) func([]ledger) {
			s.attempts(1, 9)
			s.add(op{kind: opAttempt, known: true, code: vault.CodeDestroyed, left: -1})
			return nil
		},
		"a wrong number of attempts left": func(s *story) func([]ledger) { s.attempt(1).left = 10; return nil },
		"an evaluation that is in no ledger": func(s *story) func([]ledger) {
			s.attempts(1, 2)
			s.evals = []eval{{node: "n1", seq: 2, id: vault.AttemptID{9}, element: [33]byte{9}}}
			return nil
		},
		"two elements under one number": func(s *story) func([]ledger) {
			s.attempts(1, 2)
			return func(l []ledger) { l[2].entries[2].Element[5] = 1 }
		},
		"a node counts the same number again": func(s *story) func([]ledger) {
			s.attempts(1, 2)
			return func(l []ledger) { l[0].entries = append(l[0].entries, l[0].entries[1]) }
		},
		"registering again without proof refills": func(s *story) func([]ledger) {
			s.attempts(1, 8)
			s.register()
			s.attempts(9, 11)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(story)
			s.register()
			if len(s.problems(cheat(s))) == 0 {
				t.Error("nothing was noticed")
			}
		})
	}
}
