package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
	"coffer/internal/telemetry"
	"coffer/keyring"
	"coffer/seal"
	"coffer/upstream"
)

// repository is opened by the first backup after an unlock, and forgotten by
// Lock. It is the daemon's Key.
type repository struct {
	*keyring.Ring
	c       backup.Config // but for the keys
	user    *config.User
	metrics telemetry.Lease

	mu   sync.Mutex
	keys *seal.Keys // those that repo was opened with
	repo *repoInUnit
}

func newRepository(c *config.User, b upstream.Bucket, ring *keyring.Ring, log *zap.Logger, reg prometheus.Registerer) *repository {
	r := &repository{Ring: ring, user: c}
	r.metrics.Registerer = telemetry.Prefix(reg, "backup")
	r.c = backup.Config{Bucket: b, CacheDir: c.CacheDir, Log: log.Named("backup"), Metrics: &r.metrics}
	return r
}

// open gives the repository, [daemon.ErrLocked] while the key is not there.
func (r *repository) open(ctx context.Context) (daemon.Repo, error) {
	keys, err := r.Keys()
	if errors.Is(err, keyring.ErrLocked) {
		return nil, fmt.Errorf("%w", daemon.ErrLocked)
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repo != nil && r.keys == keys {
		return r.repo, nil
	}
	r.metrics.End()
	c := r.c
	c.Keys = keys
	repo, err := backup.Open(ctx, c)
	if err != nil {
		r.metrics.End() // what it registered before it failed
		return nil, explain(err, r.user)
	}
	r.repo, r.keys = &repoInUnit{repo, r.user}, keys
	return r.repo, nil
}

// Lock forgets the key, and the repository that has it.
func (r *repository) Lock() {
	r.Ring.Lock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repo, r.keys = nil, nil
}
