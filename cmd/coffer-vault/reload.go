package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"

	"coffer/internal/config"
	"coffer/raftstore"
	"coffer/vault"
)

// adopt makes raft and the listeners follow a newer manifest.
func adopt(c *config.Vault, m *vault.Manifest, store *raftstore.Store, server *vault.Server) error {
	cert, err := pinnedCertificate(c.Dir, m, c.Name)
	if err != nil {
		return err
	}
	if err := store.SetPeers(peers(m), cert); err != nil {
		return err
	}
	server.SetCertificate(cert)
	return nil
}

// reload follows the fleet file anew at each SIGHUP. A node that cannot goes on with
// what it has.
func (n *node) reload(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return nil
		}
		newer, err := n.follow()
		switch {
		case err != nil:
			n.log.Error("the fleet file is not followed", zap.String("file", n.c.Manifest), zap.Error(err))
		case newer:
			n.log.Info("a newer manifest is followed", zap.String("file", n.c.Manifest))
		default:
			n.log.Info("the fleet file is not newer than what is followed", zap.String("file", n.c.Manifest))
		}
	}
}

func (n *node) follow() (newer bool, err error) {
	b, err := os.ReadFile(n.c.Manifest)
	if err != nil {
		return false, err
	}
	return n.server.Follow(b)
}
