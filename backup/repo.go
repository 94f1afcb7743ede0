package backup

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"go.uber.org/zap"

	"coffer/backup/restore"
	"coffer/backup/store"
)

// Repo is an open repository. Its methods may be called at the same time, by
// many processes on many machines too.
type Repo struct {
	st      *store.Store
	bucket  Bucket
	log     *zap.Logger
	metrics *metrics
	spill   int        // of Config
	backups sync.Mutex // one Backup at a time: they would share the journal
}

// Init makes a repository in a store that has none; else ErrExists.
func Init(ctx context.Context, c Config) error { return initWith(ctx, c, store.DefaultFormat()) }

func initWith(ctx context.Context, c Config, f store.Format) error {
	if err := store.Init(ctx, c.store(), f); err != nil {
		return fmt.Errorf("making a repository: %w", err)
	}
	return nil
}

// Open opens the repository in a store: ErrNotExist if there is none,
// seal.ErrKey if it was made under another backup key. It reads one object.
func Open(ctx context.Context, c Config) (*Repo, error) {
	st, err := store.Open(ctx, c.store())
	if err != nil {
		return nil, fmt.Errorf("opening the repository: %w", err)
	}
	r := &Repo{st: st, bucket: c.Bucket, log: c.Log, metrics: newMetrics(c.Metrics), spill: c.spill}
	if r.log == nil {
		r.log = zap.NewNop()
	}
	return r, nil
}

func (c *Config) store() store.Config {
	return store.Config{Bucket: c.Bucket, Keys: c.Keys, CacheDir: c.CacheDir, Workers: c.Workers, Uploads: c.Uploads, Spill: c.spill, Log: c.Log}
}

// Restore writes files of a snapshot into a directory. Content is verified
// before it is written; a file that a damaged object touches is left out and
// reported. Nothing outside To is written, whatever symlinks lie there.
func (r *Repo) Restore(ctx context.Context, o RestoreOptions) (Report, error) {
	if o.Snapshot == nil || o.To == "" {
		return Report{}, fmt.Errorf("restoring: Snapshot and To are required")
	}
	if _, err := r.condemn(ctx); err != nil { // then what was stored again is found in its new place
		r.log.Warn("it is not known what a prune will remove", zap.Error(err))
	}
	place := r.Place(ctx, o.Snapshot)
	rep, err := restore.Run(ctx, r.st, restore.Options{Root: &o.Snapshot.root, SetRoot: len(o.Snapshot.Paths) == 1 && place == o.Snapshot.Paths[0],
		To: o.To, InPlace: o.To == place, Paths: o.Paths, Exclude: o.Exclude, Strip: o.Strip, Overwrite: o.Overwrite, Delete: o.Delete,
		Verify: o.Verify, DryRun: o.DryRun, Batch: r.spill, Progress: o.Progress})
	if !o.DryRun {
		r.metrics.restored.Add(float64(rep.Bytes))
	}
	if err != nil {
		return rep, fmt.Errorf("restoring snapshot %s: %w", o.Snapshot.ID[:8], err)
	}
	return rep, nil
}

// utf8 makes a string fit for a CBOR text.
func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
