package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"coffer/vault"
)

// Disks from before the attempts, of one node and of as many as may be hostile, win
// no guess: those nodes refuse to run, and the rest counts on. With the token left in
// place its anchor says so at once; SoftHSM's token comes back with the disk, and then
// the other nodes say so. Tokens alone, be it on all nodes, change nothing.
func TestRollback(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			r := &rollback{T: t, w: beginFleet(t, nodes)}
			r.victims = r.w.fleet.nodes[:nodes/2] // t-1
			r.run()
		})
	}
}

type rollback struct {
	*testing.T
	w       *workload
	victims []*node
	anna    *vault.Client
}

func (r *rollback) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// each does the same to nodes, which do not run.
func (r *rollback) each(nodes []*node, do func(*node) error) {
	r.Helper()
	for _, n := range nodes {
		n.kill()
		r.must(do(n))
	}
}

func (r *rollback) run() {
	all := r.w.fleet.nodes
	var err error
	r.anna, err = r.w.client("anna")
	r.must(err)
	_, err = r.anna.Register(r.Context(), "right", [32]byte{1})
	r.must(err)
	r.each(all, func(n *node) error { return copyTree(n.home(), old(n)) })
	r.must(r.w.fleet.startAll(r.Context()))
	r.guess(4)
	r.must(pause(r.Context(), memory)) // the others remember

	r.each(r.victims, func(n *node) error { return os.Rename(n.home(), kept(n)) })
	r.each(r.victims[:1], func(n *node) error { return copyTree(old(n), n.home()) })
	r.refused(r.victims[:1])
	r.guess(1)
	r.each(r.victims, func(n *node) error { return errors.Join(os.RemoveAll(n.home()), copyTree(old(n), n.home())) })
	r.refused(r.victims)
	r.each(r.victims, func(n *node) error { // its token knows better
		token := filepath.Join(n.home(), "token")
		return errors.Join(os.RemoveAll(token), copyTree(filepath.Join(kept(n), "token"), token))
	})
	r.refused(r.victims)
	r.guess(2)

	r.each(r.victims, func(n *node) error { return errors.Join(os.RemoveAll(n.home()), os.Rename(kept(n), n.home())) })
	r.each(all, func(n *node) error {
		token := filepath.Join(n.home(), "token")
		return errors.Join(os.RemoveAll(token), copyTree(filepath.Join(old(n), "token"), token))
	})
	r.must(r.w.fleet.startAll(r.Context()))
	r.guess(1)
	guessUpTo(r.T, r.Context(), r.anna, 2*budget)
	if n := r.counted(); n != budget {
		r.Errorf("%d guesses, want %d", n, budget)
	}
	ledgers, err := r.w.fleet.ledgers()
	r.must(err)
	for _, p := range check(r.w.history, ledgers).Problems {
		r.Error(p)
	}
}

// Where a node's disk is kept: as it was before the attempts, and as it is now.
func old(n *node) string  { return n.home() + ".old" }
func kept(n *node) string { return n.home() + ".now" }

// refused starts nodes that have an old disk. Each ends, and none spends or forgets an attempt.
func (r *rollback) refused(nodes []*node) {
	r.Helper()
	from := make(map[*node]int64)
	for _, n := range nodes {
		from[n] = n.logSize()
		r.must(n.start())
	}
	for _, n := range nodes {
		if err := n.refuses(from[n]); err != nil {
			r.Error(err)
		}
	}
	r.unchanged()
}

// guess tries n wrong passwords.
func (r *rollback) guess(n int) {
	r.Helper()
	guessUpTo(r.T, r.Context(), r.anna, n)
	r.unchanged()
}

// counted is how many guesses the fleet has taken.
func (r *rollback) counted() (n int) {
	ops, _ := r.w.history.all()
	for _, o := range ops {
		if o.kind == opAttempt && o.known && o.code == vault.CodeOK {
			n++
		}
	}
	return n
}

// unchanged compares what the fleet says is left with what was taken.
func (r *rollback) unchanged() {
	r.Helper()
	st, err := r.anna.Status(r.Context())
	if err != nil || st.Left != budget-r.counted() {
		r.Errorf("%d attempts left after %d guesses, %v", st.Left, r.counted(), err)
	}
}
