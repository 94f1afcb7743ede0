package chaos

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"coffer/vault"
)

// account is the sequential specification of one: attempts are numbered without
// a gap, at most budget of them lie above the last one proved, and a proof or a
// registration signed by the key before makes the budget whole.
type account struct {
	live     bool
	gone     bool
	seq      uint64
	restored uint64
}

func (a account) used() uint64 { return a.seq - a.restored }

// steps returns the states that may follow a command with its outcome; none if
// that outcome cannot be. An unknown outcome is either.
func (a account) steps(o *op) []account {
	after, ok := a.carriedOut(o)
	switch {
	case !o.known && ok:
		return []account{a, after}
	case !o.known:
		return []account{a}
	case o.code == vault.CodeOK:
		if !ok || o.kind == opAttempt && (o.seq != after.seq || o.left >= 0 && uint64(o.left) != budget-after.used()) {
			return nil
		}
		return []account{after}
	case o.code == vault.CodeNone:
		return only(a, !a.live)
	case o.code != vault.CodeDestroyed || o.kind == opCommit:
		return []account{a} // nothing was done; that is always safe
	case o.kind == opProve: // too late: the deadline was over
		spent := a.gone || a.used() >= budget
		a.gone = true
		return only(a, spent)
	default: // a proof of the last attempt may still come in time
		return only(a, a.gone || a.used() >= budget)
	}
}

func only(a account, ok bool) []account {
	if !ok {
		return nil
	}
	return []account{a}
}

// carriedOut returns the state after the command, and whether it can be carried out.
func (a account) carriedOut(o *op) (account, bool) {
	switch o.kind {
	case opAttempt:
		if !a.live || a.gone || a.used() >= budget {
			return a, false
		}
		a.seq++
	case opProve:
		if !a.live || a.gone || o.seq > a.seq {
			return a, false
		}
		a.restored = max(a.restored, o.seq)
	case opCommit:
		if a.gone {
			return a, false
		}
		if o.proven {
			a.restored = a.seq
		}
		a.live = true
	}
	return a, true
}

var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{account{}} },
	Step: func(state, input, _ any) []any {
		var out []any
		for _, s := range state.(account).steps(input.(*op)) {
			out = append(out, s)
		}
		return out
	},
	Equal: func(a, b any) bool { return a == b },
}).ToModel()

// searchTime bounds the search for an order of one account. One that is not
// found in it is left to [inRealTime].
const searchTime = 20 * time.Second

// linearizable returns the accounts for whose commands there is no order.
func linearizable(byAccount map[vault.UID][]*op) (problems []string) {
	for uid, ops := range byAccount {
		var h []porcupine.Operation
		for _, o := range ops {
			h = append(h, porcupine.Operation{Input: o, Call: o.call, Return: o.ret})
		}
		if porcupine.CheckOperationsTimeout(model, h, searchTime) == porcupine.Illegal {
			problems = append(problems, fmt.Sprintf("account %x: not linearizable:\n%s", uid[:4], describe(ops)))
		}
	}
	return problems
}
