package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"coffer"
	"coffer/hsm"
	"coffer/internal/config"
	"coffer/internal/telemetry"
	"coffer/raftstore"
	"coffer/vault"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the node until SIGTERM or SIGINT", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			vault.PaceCollector()
			return run(cmd.Context(), c)
		},
	}
}

// replicated gives the vault its view of the replicated state: the two KV
// interfaces are one, declared by each side for itself.
type replicated struct{ *raftstore.Store }

func (r replicated) View(fn func(vault.KV) error) error {
	return r.Store.View(func(kv raftstore.KV) error { return fn(kv) })
}

type machine struct{ vault.Machine }

func (m *machine) Apply(kv raftstore.KV, index uint64, cmd []byte) []byte {
	return m.Machine.Apply(kv, index, cmd)
}

// run joins the parts of a node and runs them until ctx ends.
func run(ctx context.Context, c *config.Vault) (err error) {
	log, flush, err := telemetry.NewLogger(c.Log.Level, c.Log.Format)
	if err != nil {
		return &exitError{err, exitConfig, ""}
	}
	defer flush()
	reg := telemetry.NewRegistry(coffer.Version())
	manifest, roots, m, err := loadManifest(c)
	if err != nil {
		return err
	}
	cert, err := pinnedCertificate(c.Dir, m, c.Name)
	if err != nil {
		return &exitError{err, exitConfig, ""}
	}
	authority, refresh, err := auth(ctx, c, m.Fleet)
	if err != nil {
		return err
	}
	h, err := withPIN(c)
	if err != nil {
		return err
	}
	h.Log, h.Metrics = log.Named("hsm"), telemetry.Prefix(reg, "hsm")
	token, err := openToken(ctx, h)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, token.Close()) }()
	var server *vault.Server // set before the store runs
	order := new(machine)
	store, err := raftstore.New(raftstore.Config{
		NodeID: c.Name, Dir: raftDir(c), Listen: c.RaftListen, Peers: peers(m), Certificate: cert,
		Join: joins(m), Machine: order, OnApply: func(index uint64) { server.Applied(index) },
		CheckSnapshot: func(kv raftstore.KV) error { return server.CheckState(kv) },
		Log:           log.Named("raft"), Metrics: telemetry.Prefix(reg, "raft"),
	})
	if err != nil {
		return &exitError{err, exitConfig, `"coffer-vault fleet show" prints the fleet; node.json says what this node is`}
	}
	order.Halt = store.Halt
	index, err := store.OpenMap(filepath.Join(vaultDir(c), "index"))
	if err != nil {
		return err
	}
	server, err = vault.NewServer(ctx, vault.ServerConfig{
		NodeID: c.Name, Dir: vaultDir(c), Manifest: manifest, Roots: roots, State: applied(store),
		Adopt: func(m *vault.Manifest) error { return adopt(c, m, store, server) },
		Log:   replicated{store}, HSM: token, Auth: authority, Index: index, Machine: &order.Machine,
		Logger: log.Named("vault"), Metrics: telemetry.Prefix(reg, "vault"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	clients, err := listenForClients(ctx, c)
	if err != nil {
		return err
	}
	n := &node{c: c, log: log, store: store, server: server, token: token, health: new(telemetry.Health), notify: telemetry.NewNotifier(log)}
	watched, err := n.watched(reg)
	if err != nil {
		clients.Close()
		return &exitError{err, exitConfig, ""}
	}
	return n.run(ctx, append(watched, refresh, n.reload, server.Run, func(ctx context.Context) error { return server.Serve(ctx, clients, cert) }))
}

// joins says whether a node without state waits to be added. Only a fleet's first
// manifest describes nodes that may begin together: after that an empty node is one
// that takes a lost one's place, and must not begin a group beside the fleet's. See
// "cluster init" for the exception.
func joins(m *vault.Manifest) bool { return m.Sequence > 1 }

// applied is what other nodes compare of this one's state.
func applied(store *raftstore.Store) func() (uint64, [32]byte) {
	return func() (uint64, [32]byte) {
		st := store.Status()
		var chain [32]byte
		_ = fill(chain[:], st.Chain) // a node that does not run has none
		return st.Applied, chain
	}
}

// peers are the nodes of the manifest as raft knows them.
func peers(m *vault.Manifest) []raftstore.Peer {
	var ps []raftstore.Peer
	for _, n := range m.Nodes {
		ps = append(ps, raftstore.Peer{ID: n.ID, Addr: n.Raft, TLSPin: n.TLSPin})
	}
	return ps
}

// node is one that runs.
type node struct {
	c      *config.Vault
	log    *zap.Logger
	store  *raftstore.Store
	server *vault.Server
	token  *hsm.Token
	health *telemetry.Health
	notify *telemetry.Notifier
}

// handOverTime bounds the transfer of leadership at the end.
const handOverTime = 5 * time.Second

// run runs the store and, once it is open, the parts, until ctx ends. It ends in
// the order that clients feel least: another node leads, then requests under way
// are answered, then the store closes.
func (n *node) run(ctx context.Context, parts []func(context.Context) error) error {
	g, all := errgroup.WithContext(ctx)
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStore()
	ended := make(chan error, 1)
	go func() { ended <- n.store.Run(storeCtx) }()
	select {
	case err := <-ended:
		return storeEnded(err)
	case <-n.store.Ready():
	}
	if err := n.checkGeneration(ctx); err != nil {
		stopStore()
		return errors.Join(err, <-ended)
	}
	partsCtx, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	for _, part := range parts {
		if part != nil {
			g.Go(func() error { return part(partsCtx) })
		}
	}
	n.log.Info("node serves", zap.String("node", n.c.Name), zap.String("listen", n.c.Listen))
	n.notify.Ready()
	var err error
	select {
	case err = <-ended: // the disk failed, or the state must not be continued
		stopParts()
		return errors.Join(storeEnded(err), g.Wait())
	case <-all.Done(): // SIGTERM, or a part failed
	}
	n.notify.Stopping()
	moving, cancel := context.WithTimeout(storeCtx, handOverTime)
	defer cancel()
	if err := n.store.Transfer(moving, ""); err == nil {
		n.log.Info("leadership handed over")
	}
	stopParts()
	err = g.Wait()
	stopStore()
	return errors.Join(err, <-ended)
}

// checkGeneration holds the state to the generation that the HSM remembers: a
// disk from before the fleet was begun again from a backup must not run.
func (n *node) checkGeneration(ctx context.Context) error {
	have, err := n.store.Generation()
	if err != nil {
		return err
	}
	known, err := n.token.Generation(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("reading the generation in the HSM: %w", err)
	case have < known:
		return hinted(fmt.Errorf("state is of generation %d, and the HSM has seen %d: %w", have, known, raftstore.ErrRolledBack), "this disk is from before the fleet was restored; restore the newer backup")
	case have > known:
		n.log.Info("fleet has begun again from a backup", zap.Uint64("generation", have))
		return n.token.SetGeneration(ctx, have)
	}
	return nil
}

func storeEnded(err error) error {
	if errors.Is(err, raftstore.ErrRolledBack) {
		return hinted(err, "never continue from an old disk: take the node out of the fleet, empty its folder and init it anew under another name")
	}
	return err
}

// watched is what lets others see how the node is: metrics, health, the control
// socket and systemd's watchdog.
func (n *node) watched(reg prometheusRegistry) ([]func(context.Context) error, error) {
	n.health.Live("raft", func() error {
		if st := n.store.Status(); st.Stalled {
			return errors.New("a write to disk hangs")
		}
		return nil
	})
	n.health.Ready("leader", func() error {
		if len(n.store.Status().Members) == 0 {
			return errors.New("waits until the fleet's leader adds it")
		}
		if id, _, _ := n.store.Leader(); id == "" {
			return errors.New("no leader is known")
		}
		return nil
	})
	n.health.Ready("vault", func() error {
		if h := n.server.Health(); !h.Ready {
			return errors.New(h.Reason)
		}
		return nil
	})
	promauto.With(telemetry.Prefix(reg, "vault")).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "manifest_expires_timestamp_seconds", Help: "Until when clients believe the manifest that this node follows, Unix time.",
	}, func() float64 { return float64(n.server.ManifestExpires().Unix()) })
	parts := []func(context.Context) error{
		n.control,
		func(ctx context.Context) error { return n.notify.Watchdog(ctx, n.health) },
	}
	if n.c.Metrics.Listen == "" {
		return parts, nil
	}
	s, err := telemetry.NewServer(telemetry.ServerConfig{Listen: n.c.Metrics.Listen, Registry: reg, Health: n.health, Log: n.log})
	if err != nil {
		return nil, err
	}
	return append(parts, s.Run), nil
}
