// Command node is a vault node for benchmarks: the server and the replicated log
// of coffer-vault, without limits on requests, and with keys in memory or in a
// SoftHSM token. It must never hold a key that matters.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/bench/vault/device"
	"coffer/internal/telemetry"
	"coffer/raftstore"
	"coffer/vault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	id, dir := flag.String("id", "", "of the node"), flag.String("dir", "", "with tls.crt, tls.key and identity.key")
	fleet, root := flag.String("fleet", "", "manifest"), flag.String("root", "", "its root key, hex")
	control := flag.String("control", "", "host:port to ask for in-process proposals")
	takes := flag.Duration("hsm-takes", -1, "use the SoftHSM token in -dir, an evaluation of which takes so long at least")
	flag.Parse()
	vault.PaceCollector()
	if err := run(ctx, *id, *dir, *fleet, *root, *control, *takes); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

// replicated and machine are what cmd/coffer-vault has, too.
type replicated struct{ *raftstore.Store }

func (r replicated) View(fn func(vault.KV) error) error {
	return r.Store.View(func(kv raftstore.KV) error { return fn(kv) })
}

type machine struct{ vault.Machine }

func (m *machine) Apply(kv raftstore.KV, index uint64, cmd []byte) []byte {
	return m.Machine.Apply(kv, index, cmd)
}

func run(ctx context.Context, id, dir, fleet, root, control string, takes time.Duration) error {
	manifest, roots, m, err := readFleet(fleet, root)
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return err
	}
	log, flush, err := telemetry.NewLogger("info", "json")
	if err != nil {
		return err
	}
	defer flush()
	hsm, err := openHSM(ctx, dir, takes)
	if err != nil {
		return err
	}
	var peers []raftstore.Peer
	for _, n := range m.Nodes {
		peers = append(peers, raftstore.Peer{ID: n.ID, Addr: n.Raft, TLSPin: n.TLSPin})
	}
	var server *vault.Server
	order := new(machine)
	store, err := raftstore.New(raftstore.Config{
		NodeID: id, Dir: filepath.Join(dir, "raft"), Peers: peers, Certificate: cert,
		Machine: order, OnApply: func(index uint64) { server.Applied(index) },
	})
	if err != nil {
		return err
	}
	order.Halt = store.Halt
	index, err := store.OpenMap(filepath.Join(dir, "vault", "index"))
	if err != nil {
		return err
	}
	server, err = vault.NewServer(ctx, vault.ServerConfig{
		NodeID: id, Dir: filepath.Join(dir, "vault"), Manifest: manifest, Roots: roots,
		Log: replicated{store}, HSM: hsm, Auth: vault.OpenAuth{}, Index: index, Machine: &order.Machine, Logger: log,
		Limits: vault.Limits{Account: 1e6, Address: 1e7, Node: 1e7},
	})
	if err != nil {
		return err
	}
	self, _ := m.Node(id)
	clients, err := net.Listen("tcp", self.URL[len("https://"):])
	if err != nil {
		return err
	}
	p := &proposers{store: store}
	h := &http.Server{Addr: control, Handler: p, ReadHeaderTimeout: time.Second}
	context.AfterFunc(ctx, func() { h.Close() })
	go h.ListenAndServe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return store.Run(ctx) })
	g.Go(func() error {
		select {
		case <-store.Ready():
		case <-ctx.Done():
			return nil
		}
		g.Go(func() error { return server.Run(ctx) })
		return server.Serve(ctx, clients, cert)
	})
	return g.Wait()
}

// readFleet reads the manifest, and checks it by its root key in hex.
func readFleet(file, root string) (manifest []byte, roots vault.Roots, m *vault.Manifest, err error) {
	if manifest, err = os.ReadFile(file); err != nil {
		return nil, roots, nil, err
	}
	if roots, err = vault.ParseRoots([]string{root}, 0); err != nil {
		return nil, roots, nil, err
	}
	signed, err := vault.ParseManifest(manifest)
	if err != nil {
		return nil, roots, nil, err
	}
	m, err = signed.Verify(roots, time.Now())
	return manifest, roots, m, err
}

// openHSM returns keys in memory if takes is negative.
func openHSM(ctx context.Context, dir string, takes time.Duration) (vault.HSM, error) {
	if takes >= 0 {
		return device.Open(ctx, dir, takes)
	}
	identity, err := readKey(filepath.Join(dir, "identity.key"))
	if err != nil {
		return nil, err
	}
	return newMemoryHSM(identity), nil
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key", file)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}
