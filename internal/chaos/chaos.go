// Package chaos runs a real fleet of coffer-vault nodes, guesses at it with many
// clients, breaks it in every way that a machine offers, and checks what the
// clients and the nodes saw:
//
//   - history: the commands of each account are linearizable, the budget holds
//     in that order (porcupine, and a checker in linear time that does not give up);
//   - evaluations: no node's ledger holds more distinct elements between two
//     proofs than the budget, none evaluated what its ledger does not hold, and no
//     two ledgers disagree;
//   - keys: a right password gives the right key, always.
//
// Each node is a process in a network namespace of its own, with its own SoftHSM
// token and its own file system of limited size. Nothing of that is seen by the
// machine around it: the whole run is in namespaces (see [Isolate]).
//
// Clocks are wrong by what the program was built to read in a file: the wall clock has
// no namespace, and the program reads it without libc or a system call.
package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Config says what a run is like.
type Config struct {
	Binary   string // required: coffer-vault, built with -ldflags "-X coffer/vault.skewEnv=COFFER_CHAOS_SKEW"
	Dir      string // required: an empty folder for all that the run makes
	Nodes    int    // required: 1, 3, 5 or 7
	Seed     uint64 // of all choices; time is not among them
	Duration time.Duration
	Groups   int                              // accounts that live at any time; 8
	Logf     func(format string, args ...any) // required: tells how it goes
}

// budget is that of the fleet's policy.
const budget = 10

// Run does a run and returns what went wrong. It must be called in the
// namespaces that [Isolate] makes.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Groups == 0 {
		c.Groups = 8
	}
	f, err := newFleet(ctx, c)
	if err != nil {
		return Report{}, fmt.Errorf("making a fleet: %w", err)
	}
	defer f.close()
	if err := f.startAll(ctx); err != nil {
		return Report{}, err
	}
	h := new(history)
	w := &workload{c: c, fleet: f, history: h}
	running, stop := context.WithTimeout(ctx, c.Duration)
	defer stop()
	ended := make(chan struct{})
	go func() { w.run(running); close(ended) }()
	n := &nemesis{fleet: f, rng: rand.New(rand.NewPCG(c.Seed, 1)), logf: c.Logf}
	err = n.run(running)
	stop()
	<-ended
	if err != nil {
		return Report{}, err
	}
	if err := f.startAll(ctx); err != nil {
		return Report{}, fmt.Errorf("after the faults: %w (before: %q)", err, n.problems)
	}
	w.checkKept(ctx)
	ledgers, err := f.ledgers()
	if err != nil {
		return Report{}, err
	}
	r := check(h, ledgers)
	r.Faults = n.done
	r.Problems = append(r.Problems, w.problems...)
	r.Problems = append(r.Problems, n.problems...)
	return r, nil
}

// Report is what a run shows.
type Report struct {
	Accounts, Attempts, Proofs, Unknown int            // in the history; unknown outcomes among them
	Evaluations                         int            // that clients were given
	Spent                               int            // in all ledgers
	Faults                              map[string]int // by kind
	Problems                            []string       // none: all promises held
}

// check looks at everything that a run left.
func check(h *history, ledgers []ledger) Report {
	ops, evals := h.all()
	r := Report{Evaluations: len(evals)}
	byAccount := perAccount(withLost(ops))
	r.Accounts = len(byAccount)
	for _, o := range ops {
		switch o.kind {
		case opAttempt:
			r.Attempts++
		case opProve:
			r.Proofs++
		}
		if !o.known {
			r.Unknown++
		}
	}
	for _, l := range ledgers {
		r.Spent += len(l.spends())
	}
	r.Problems = append(linearizable(byAccount), inRealTime(byAccount)...)
	r.Problems = append(r.Problems, withinBudget(ledgers)...)
	r.Problems = append(r.Problems, agreeing(ledgers, ops, evals)...)
	return r
}
