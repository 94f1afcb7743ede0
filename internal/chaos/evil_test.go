package chaos

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sync/errgroup"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/ppss"
	"coffer/raftstore"
	"coffer/vault"
)

// An evil node is this test's own program with the disk, the certificate and the place
// in the group of a node: it takes part in raft, and asks no ledger, no limit and no
// client. When it leads it proposes thousands of guesses.

const (
	evilEnv   = "COFFER_CHAOS_EVIL"
	ordersEnd = "orders.json"  // in the node's folder: what it shall guess at
	boastEnd  = "guesses.json" // and which of its guesses the order took
)

// orders are for an evil node.
type orders struct {
	UID     vault.UID
	Epoch   vault.Epoch
	Guesses int
}

// taken is a guess that the group counted.
type taken struct {
	Body vault.AttemptBody
	Seq  uint64
}

// enc is the encoding of PROTOCOL.md, 2.
var enc = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func encode(v any) []byte {
	b, err := enc.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// order applies commands as every node does: it must, to follow the log.
type order struct{ vault.Machine }

func (o *order) Apply(kv raftstore.KV, index uint64, cmd []byte) []byte {
	return o.Machine.Apply(kv, index, cmd)
}

// evilNode runs until it is killed.
func evilNode(ctx context.Context, file string) error {
	c, err := config.LoadVault(file)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(c.Manifest)
	if err != nil {
		return err
	}
	signed, err := vault.ParseManifest(b)
	if err != nil {
		return err
	}
	m, err := signed.Unverified()
	if err != nil {
		return err
	}
	var peers []raftstore.Peer
	for _, n := range m.Nodes {
		peers = append(peers, raftstore.Peer{ID: n.ID, Addr: n.Raft, TLSPin: n.TLSPin})
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(c.Dir, "tls.crt"), filepath.Join(c.Dir, "tls.key"))
	if err != nil {
		return err
	}
	store, err := raftstore.New(raftstore.Config{
		NodeID: c.Name, Dir: filepath.Join(c.Dir, "raft"), Listen: c.RaftListen, Peers: peers, Certificate: cert, Machine: new(order),
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return store.Run(ctx) })
	g.Go(func() error { return obey(ctx, c.Dir, store) })
	return g.Wait()
}

// obey waits for orders and for power, then guesses.
func obey(ctx context.Context, dir string, store *raftstore.Store) error {
	var o orders
	for {
		b, err := os.ReadFile(filepath.Join(dir, ordersEnd))
		if err == nil {
			err = json.Unmarshal(b, &o)
		}
		if _, _, mine := store.Leader(); err == nil && mine {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	var got []taken
	var g errgroup.Group
	g.SetLimit(256)
	for range o.Guesses {
		g.Go(func() error {
			t := taken{Body: vault.AttemptBody{UID: o.UID, Epoch: o.Epoch}}
			_, t.Body.Element = ppss.GenerateKey()
			rand.Read(t.Body.ID[:])
			out, err := propose(ctx, store, &vault.Command{Kind: vault.KindAttempt, Time: time.Now().UnixMilli(), Token: []byte{}, Body: encode(&t.Body)})
			if err != nil || out.Code != vault.CodeOK {
				return err
			}
			t.Seq = out.Seq
			mu.Lock()
			defer mu.Unlock()
			got = append(got, t)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b, err := json.Marshal(got)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, boastEnd), b, 0o600)
}

// outcome is the machine's answer.
type outcome struct {
	Code vault.Code `cbor:"1,keyasint"`
	Seq  uint64     `cbor:"6,keyasint"`
}

func propose(ctx context.Context, store *raftstore.Store, cmd *vault.Command) (outcome, error) {
	for {
		var out outcome
		b, err := store.Propose(ctx, append([]byte{1}, encode(cmd)...))
		switch {
		case err == nil:
			return out, cbor.Unmarshal(b, &out)
		case ctx.Err() != nil || !errors.Is(err, raftstore.ErrNoEffect): // the queue is full: again
			return out, fmt.Errorf("proposing a guess: %w", err)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return out, err
		}
	}
}
