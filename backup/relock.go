package backup

import (
	"context"
	"fmt"
	"path"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/backup/pack"
	"coffer/backup/store"
	"coffer/upstream"
)

// relockers is how many objects are locked at the same time.
const relockers = 8

// Relocked says what storage that locks its objects keeps, and for whom.
type Relocked struct {
	Extended    int   `json:"extended"`    // objects that were locked anew, as they are needed
	Hidden      int   `json:"hidden"`      // removed objects that the storage still keeps
	HiddenBytes int64 `json:"hiddenBytes"` //
}

// Relock locks anew all but the packs that are to be removed, where the storage
// locks what is written (see [upstream.Locker]): who steals this machine's key
// must not destroy what was backed up long ago and is needed still. It does
// nothing elsewhere.
func (r *Repo) Relock(ctx context.Context) (Relocked, error) {
	var done Relocked
	l, ok := r.bucket.(upstream.Locker)
	if !ok || !l.Locks(store.ConfigName) {
		return done, nil
	}
	marks, err := r.deletions(ctx)
	if err != nil {
		return done, err
	}
	marked := make(map[pack.Name]bool)
	for _, d := range marks {
		for _, n := range d.Packs {
			marked[n] = true
		}
	}
	var extended atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(relockers)
	err = r.bucket.List(ctx, store.Root, "", func(i upstream.Info) error {
		if n, err := pack.ParseName(path.Base(i.Name)); err == nil && marked[n] && store.PackName(n) == i.Name {
			return nil
		}
		if i.Name == store.ConfigName { // it may be older than the lock
			i.ModTime = time.Time{}
		}
		g.Go(func() error {
			yes, err := l.Extend(gctx, i.Name, i.ModTime)
			if yes {
				extended.Add(1)
			}
			return err
		})
		return gctx.Err()
	})
	if own := g.Wait(); own != nil {
		err = own // it ended the list
	}
	if err != nil {
		return done, fmt.Errorf("locking anew what is needed: %w", err)
	}
	h, err := l.Hidden(ctx, store.Root)
	if err != nil {
		return done, err
	}
	return Relocked{Extended: int(extended.Load()), Hidden: h.Objects, HiddenBytes: h.Bytes}, nil
}
