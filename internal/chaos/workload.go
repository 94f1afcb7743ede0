package chaos

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"coffer/vault"
)

// workload is the clients: groups that register an account, guess at it from
// several sides at once, and go on to the next. So accounts are few seconds old
// whenever a fault comes, and none has many unknown outcomes.
type workload struct {
	c       Config
	fleet   *fleet
	history *history

	mu       sync.Mutex
	problems []string
	kept     []*guessed // accounts whose password is known for certain
	addrs    int
}

// guessed is one account.
type guessed struct {
	name     string
	password string // the right one; "" if that is not certain
	key      [32]byte
}

const guessers = 3 // clients of one account at once

func (w *workload) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

// run guesses until ctx ends.
func (w *workload) run(ctx context.Context) {
	var wg sync.WaitGroup
	for g := range w.c.Groups {
		wg.Go(func() {
			rng := mrand.New(mrand.NewPCG(w.c.Seed, uint64(g)+100))
			for i := 0; ctx.Err() == nil; i++ {
				w.account(ctx, fmt.Sprintf("user-%d-%d", g, i), rng)
			}
		})
	}
	wg.Wait()
}

// account is the life of one.
func (w *workload) account(ctx context.Context, name string, rng *mrand.Rand) {
	a := &guessed{name: name, password: "right " + name}
	rand.Read(a.key[:])
	owner, err := w.client(name)
	if err != nil {
		w.problem("making a client: %v", err)
		pause(ctx, time.Second)
		return
	}
	defer owner.Close()
	if _, err := owner.Register(ctx, a.password, a.key); err != nil {
		if !errors.Is(err, vault.ErrUnavailable) && ctx.Err() == nil {
			w.problem("account %s: registering: %v", name, err)
		}
		pause(ctx, time.Second)
		return
	}
	doomed := rng.IntN(4) == 0
	var wg sync.WaitGroup
	for i := range guessers {
		seed := rng.Uint64()
		wg.Go(func() {
			g := &guesser{w: w, a: a, rng: mrand.New(mrand.NewPCG(seed, 0)), owner: i == 0, doomed: doomed}
			g.run(ctx, owner)
		})
	}
	wg.Wait()
	w.mu.Lock()
	if a.password != "" {
		w.kept = append(w.kept, a)
	}
	w.mu.Unlock()
}

// guesser is one client of an account. Only the owner knows the password.
type guesser struct {
	w             *workload
	a             *guessed
	rng           *mrand.Rand
	owner, doomed bool
}

func (g *guesser) run(ctx context.Context, owner *vault.Client) {
	c := owner
	if !g.owner {
		var err error
		if c, err = g.w.client(g.a.name); err != nil {
			g.w.problem("making a client: %v", err)
			return
		}
		defer c.Close()
	}
	for range 5 {
		var err error
		switch n := g.rng.IntN(10); {
		case g.owner && !g.doomed && n < 5:
			err = g.w.right(ctx, c, g.a)
		case g.owner && !g.doomed && n < 6:
			err = g.w.change(ctx, c, g.a)
		default:
			err = g.w.wrong(ctx, c, g.a)
		}
		if err != nil || g.owner && g.a.password == "" {
			return
		}
		if pause(ctx, time.Duration(100+g.rng.IntN(900))*time.Millisecond) != nil {
			return
		}
	}
}

// right recovers with the right password, which must not be refused.
func (w *workload) right(ctx context.Context, c *vault.Client, a *guessed) error {
	key, err := c.Recover(ctx, a.password)
	var wrong *vault.WrongPassword
	switch {
	case err == nil && key != a.key:
		w.problem("account %s: recovered another key", a.name)
	case errors.As(err, &wrong), errors.Is(err, vault.ErrNotRegistered):
		w.problem("account %s: the right password gives: %v", a.name, err)
	}
	return over(err)
}

func (w *workload) wrong(ctx context.Context, c *vault.Client, a *guessed) error {
	_, err := c.Recover(ctx, "wrong "+rand.Text())
	if err == nil {
		w.problem("account %s: a wrong password opens it", a.name)
	}
	return over(err)
}

// change sets a new password, proved by the old one. After an error nobody knows
// which one is right.
func (w *workload) change(ctx context.Context, c *vault.Client, a *guessed) error {
	next := "right " + rand.Text()
	_, err := c.Register(ctx, next, a.key, a.password)
	a.password = next
	if err != nil {
		a.password = ""
	}
	return err
}

// over returns err if the client had better leave the account alone.
func over(err error) error {
	var wrong *vault.WrongPassword
	var soon *vault.TooSoon
	if errors.As(err, &wrong) || errors.As(err, &soon) || errors.Is(err, vault.ErrInconsistent) {
		return nil
	}
	return err
}

// checkKept asks the mended fleet for the keys of the newest accounts.
func (w *workload) checkKept(ctx context.Context) {
	for _, a := range w.kept[max(0, len(w.kept)-20):] {
		c, err := w.client(a.name)
		if err != nil {
			w.problem("making a client: %v", err)
			return
		}
		key, err := c.Recover(ctx, a.password)
		switch {
		case errors.Is(err, vault.ErrDestroyed): // the history tells whether rightly
		case err != nil || key != a.key:
			w.problem("account %s: after all faults: right key %v, error %v", a.name, key == a.key, err)
		}
		c.Close()
	}
}

// client returns one with an address of its own, whose requests are recorded.
func (w *workload) client(account string) (*vault.Client, error) {
	return w.clientOver(account, func(rt http.RoundTripper) http.RoundTripper { return rt })
}

// clientOver is one whose transports are wrapped.
func (w *workload) clientOver(account string, wrap func(http.RoundTripper) http.RoundTripper) (*vault.Client, error) {
	w.mu.Lock()
	w.addrs++
	from := &net.TCPAddr{IP: net.IPv4(10, 78, byte(w.addrs>>8), byte(w.addrs))}
	w.mu.Unlock()
	open := &commands{known: make(map[string]*op)}
	return vault.NewClient(vault.ClientConfig{
		Manifest: w.fleet.manifest, Roots: w.fleet.roots, Account: account, AllowDegraded: true, Timeout: 4 * time.Second,
		Transport: func(n vault.Node) http.RoundTripper { return wrap(&recorder{w.history, open, pinned(n, from)}) },
	})
}

// pinned is a transport to the node, from an address.
func pinned(n vault.Node, from net.Addr) *http.Transport {
	d := &net.Dialer{LocalAddr: from, Timeout: 2 * time.Second}
	return &http.Transport{
		DialContext: d.DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // the pin is looked at instead
			VerifyConnection: func(cs tls.ConnectionState) error {
				if sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo) != n.TLSPin {
					return errors.New("not the pinned certificate")
				}
				return nil
			},
		},
		MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second,
	}
}
