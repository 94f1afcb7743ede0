package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sync/errgroup"

	"coffer/ppss"
	"coffer/vault"
)

// guessesEach is the budget of an account, the most that a policy may give.
const guessesEach = 30

// guesses are the accounts of a fleet, and what can still be guessed at them.
type guesses struct {
	f       *fleet
	element [33]byte
	pool    []vault.AttemptBody
	used    int // of pool
}

// encoder is the one of the protocol.
var encoder = func() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	m, err := o.EncMode()
	if err != nil {
		panic(err) // options are constants
	}
	return m
}()

func encode(v any) []byte {
	b, err := encoder.Marshal(v)
	if err != nil {
		panic(err) // fails for types that cannot be encoded
	}
	return b
}

// transport speaks TLS with a node, over at most so many connections.
func transport(n vault.Node, conns int) *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // the pin is looked at instead
			VerifyConnection: func(cs tls.ConnectionState) error {
				if sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo) != n.TLSPin {
					return errors.New("not the pinned certificate")
				}
				return nil
			},
		},
		MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns,
	}
}

// client makes a client that shares the connections in via; nil: one with its own, as a user's.
func (f *fleet) client(name string, via map[string]*http.Transport) (*vault.Client, error) {
	c := vault.ClientConfig{Manifest: f.file, Roots: f.roots, Account: name}
	if via != nil {
		c.Transport = func(n vault.Node) http.RoundTripper { return via[n.ID] }
	}
	return vault.NewClient(c)
}

func (f *fleet) transports(conns int) map[string]*http.Transport {
	via := make(map[string]*http.Transport)
	for _, n := range f.manifest.Nodes {
		via[n.ID] = transport(n, conns)
	}
	return via
}

func account(i int) string { return fmt.Sprint("user-", i) }

// register makes n accounts.
func register(ctx context.Context, f *fleet, n int) (*guesses, error) {
	blinded, err := ppss.Blind([]byte("any"))
	if err != nil {
		return nil, err
	}
	g := &guesses{f: f, element: blinded.Element()}
	epochs := make([]vault.Epoch, n)
	began := time.Now()
	via := f.transports(16)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(16)
	for i := range n {
		work.Go(func() error {
			c, err := f.client(account(i), via)
			if err != nil {
				return err
			}
			var key [32]byte
			rand.Read(key[:])
			r, err := c.Register(ctx, "right", key)
			epochs[i] = r.Epoch
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, fmt.Errorf("registering: %w", err)
	}
	fmt.Printf("registered %d accounts in %v\n", n, time.Since(began).Round(time.Millisecond))
	for range guessesEach - 1 { // one is for recoverTime
		for i, e := range epochs {
			b := vault.AttemptBody{UID: vault.AccountUID(f.manifest.Fleet, account(i)), Epoch: e, Element: g.element}
			rand.Read(b.ID[:])
			g.pool = append(g.pool, b)
		}
	}
	return g, nil
}

// take returns up to n guesses that were not made yet.
func (g *guesses) take(n int) []vault.AttemptBody {
	n = min(n, len(g.pool)-g.used)
	g.used += n
	return g.pool[g.used-n : g.used]
}

// load is clients that have the leader count guesses, so many over each connection. The signatures of all answers are verified when the clock
// has stopped: it is the fleet that is measured, and clients bring processors of their own.
func (g *guesses) load(ctx context.Context, clients, perConn, share int) (*load, error) {
	w, err := g.leader(ctx, clients, perConn)
	if err != nil {
		return nil, err
	}
	todo := g.take(share)
	var next atomic.Int64
	return &load{clients: clients, servers: g.f.procs, check: w.close, do: func(ctx context.Context, client int) error {
		i := int(next.Add(1)) - 1
		if i >= len(todo) {
			return errEmpty
		}
		a, err := w.ask(ctx, client, vault.KindAttempt, &todo[i])
		if err == nil && a.Code != vault.CodeOK && a.Code != vault.CodeWait {
			err = fmt.Errorf("the leader answers %q", a.Code)
		}
		return err
	}}, nil
}

// leader is connections to the leader, for as many clients, all open.
func (g *guesses) leader(ctx context.Context, clients, perConn int) (*wire, error) {
	place, err := g.f.leader(ctx)
	if err != nil {
		return nil, err
	}
	w := &wire{node: g.f.manifest.Nodes[place], perConn: perConn, manifest: g.f.manifest.Hash(), signed: make(map[vault.Root]bool)}
	for range (clients + perConn - 1) / perConn {
		st, err := vault.DialStream(ctx, w.node)
		if err != nil {
			return nil, err
		}
		w.streams = append(w.streams, st)
	}
	return w, nil
}

// wire is the client protocol to one node.
type wire struct {
	node     vault.Node
	manifest [32]byte
	streams  []*vault.Stream
	perConn  int // clients

	mu     sync.Mutex
	signed map[vault.Root]bool // over all answers, not verified yet
}

// close returns an error unless all answers are signed by the node.
func (w *wire) close() error {
	for _, st := range w.streams {
		st.Close()
	}
	for r := range w.signed {
		if !r.Verify(w.node.Identity) {
			return errors.New("an answer is not signed by the node")
		}
	}
	return nil
}

func (w *wire) ask(ctx context.Context, client int, kind vault.Kind, body any) (*vault.Answer, error) {
	r := &vault.Request{Version: 1, Kind: kind, Manifest: w.manifest, Body: encode(body)}
	a, root, err := w.streams[client/w.perConn].Ask(ctx, r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signed[root] = true
	return a, err
}

// recoverTime is the median of n recoveries, one after the other, each by a client
// that has no connection yet.
func (g *guesses) recoverTime(ctx context.Context, n int) (time.Duration, error) {
	var took []time.Duration
	for i := range n {
		c, err := g.f.client(account(i), nil)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		start := time.Now()
		if _, err := c.Recover(ctx, "right"); err != nil {
			return 0, fmt.Errorf("recovering: %w", err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[n/2], nil
}

// proposeInside has the leader propose what is left of the guesses itself.
func (g *guesses) proposeInside(ctx context.Context) (perSecond float64, err error) {
	place, err := g.f.leader(ctx)
	if err != nil {
		return 0, err
	}
	var cmds [][]byte
	for _, b := range g.take(len(g.pool)) {
		c := &vault.Command{Kind: vault.KindAttempt, Time: time.Now().UnixMilli(), Body: encode(&b)}
		cmds = append(cmds, append([]byte{1}, encode(c)...))
	}
	data, err := json.Marshal(cmds)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.f.control[place], bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var r struct {
		OK, Refused int64
		Took        time.Duration
	}
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return 0, err
	}
	if r.Refused > r.OK/100 {
		return 0, fmt.Errorf("of %d guesses %d were refused", r.OK+r.Refused, r.Refused)
	}
	return float64(r.OK) / r.Took.Seconds(), nil
}
