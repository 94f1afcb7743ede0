package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"coffer/vault"
)

// cutting drops every reply to a commit, after the node has carried it out.
type cutting struct {
	next http.RoundTripper
	cut  func()
}

func (c *cutting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	rec := c.next.(*recorder)
	rec.open.mu.Lock()
	defer rec.open.mu.Unlock()
	for _, o := range rec.open.known {
		if o.kind == opCommit && o.known {
			c.cut()
			if resp != nil {
				resp.Body.Close()
			}
			return nil, errors.New("the reply is lost")
		}
	}
	return resp, err
}

// Whoever drops the replies to registrations makes the owner register again and
// again. Each is a new record of the same password; all share the one budget.
func TestDroppedRegistrationReplies(t *testing.T) {
	ctx := t.Context()
	w := beginFleet(t, 3)
	drops := 20 // each costs a node three requests of an account's five a second
	if *duration >= 5*time.Minute {
		drops = 100
	}
	first, err := w.client("anna")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Register(ctx, "right", [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	guessUpTo(t, ctx, first, 3)
	for i := range drops {
		if err := registerUnheard(ctx, w, "anna"); !errors.Is(err, context.Canceled) && !errors.Is(err, vault.ErrUnavailable) {
			t.Fatalf("registration %d: %v", i+1, err)
		}
	}
	other, err := w.client("anna")
	if err != nil {
		t.Fatal(err)
	}
	guessUpTo(t, ctx, other, 2*budget)
	ledgers, err := w.fleet.ledgers()
	if err != nil {
		t.Fatal(err)
	}
	r := check(w.history, ledgers)
	for _, p := range r.Problems {
		t.Error(p)
	}
	committed, guesses := 0, 0
	ops, _ := w.history.all()
	for _, o := range ops { // a client tries the record before, too: two attempts for one password
		if o.kind == opAttempt && o.known && o.code == vault.CodeOK {
			guesses++
		}
	}
	for _, l := range ledgers {
		for _, e := range l.entries {
			if e.Kind == entryCommit {
				committed++
			}
		}
	}
	t.Logf("%d replies dropped, %d commits in three ledgers, %d guesses", drops, committed, guesses)
	if committed < 2*drops {
		t.Errorf("only %d commits in three ledgers: the registrations had no effect", committed)
	}
	if guesses != budget {
		t.Errorf("%d guesses, want %d", guesses, budget)
	}
}

// registerUnheard registers the same key and password from a machine that never
// hears that it was done.
func registerUnheard(ctx context.Context, w *workload, account string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	open := &commands{known: make(map[string]*op)}
	c, err := w.clientOver(account, func(next http.RoundTripper) http.RoundTripper {
		next.(*recorder).open = open
		return &cutting{next, cancel}
	})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Register(ctx, "right", [32]byte{1})
	return err
}

// guessUpTo tries up to n wrong passwords, fewer if that ends the account.
func guessUpTo(t *testing.T, ctx context.Context, c *vault.Client, n int) {
	t.Helper()
	for i, again := 0, 0; i < n; i++ {
		_, err := c.Recover(ctx, fmt.Sprint("wrong ", i))
		var wrong *vault.WrongPassword
		switch {
		case errors.As(err, &wrong):
		case errors.Is(err, vault.ErrDestroyed):
			return
		case again < 10: // the last registration may have reached only the leader yet: stale, not counted
			again++
			pause(ctx, 300*time.Millisecond)
		default:
			t.Fatalf("guess %d: %v", i+1, err)
		}
	}
}
