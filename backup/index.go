package backup

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"coffer/backup/pack"
	"coffer/internal/durable"
	"coffer/upstream"
)

// fetchers is how many small objects are fetched at the same time.
const fetchers = 8

// listNames returns the names in one folder of the repository that are well
// formed. What is not was put there by somebody else, and is logged.
func (r *Repo) listNames(ctx context.Context, dir string) ([]pack.Name, error) {
	var names []pack.Name
	err := r.bucket.List(ctx, dir, "", func(i upstream.Info) error {
		n, err := pack.ParseName(path.Base(i.Name))
		if err != nil {
			r.log.Warn("a foreign object lies in the repository", zap.String("object", i.Name))
			return nil
		}
		names = append(names, n)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", dir, err)
	}
	return names, nil
}

// refresh takes in index objects that are new since the last time. One that
// does not open is noted in broken and left out: what it described is then
// unknown, so a backup stores it again and a restore names it.
func (r *Repo) refresh(ctx context.Context) error {
	names, err := r.listNames(ctx, indexDir)
	if err != nil {
		return err
	}
	r.mu.RLock()
	var todo []pack.Name
	for _, n := range names {
		if !r.loaded[n] {
			todo = append(todo, n)
		}
	}
	r.mu.RUnlock()
	found := make([]*pack.Index, len(todo))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, n := range todo {
		g.Go(func() error {
			x, err := r.readIndex(gctx, n)
			if err != nil && gctx.Err() != nil {
				return err
			}
			if err != nil {
				r.noteBroken(indexDir+n.String(), err)
			}
			found[i] = x
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r.take(todo, found)
	r.dropCachedIn("index", names)
	return nil
}

func (r *Repo) noteBroken(name string, err error) {
	r.log.Warn("an index object cannot be used", zap.String("object", name), zap.Error(err))
	r.mu.Lock()
	r.broken[name] = err
	r.mu.Unlock()
}

// take adds what index objects say, the replaced ones aside.
func (r *Repo) take(names []pack.Name, found []*pack.Index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range found {
		if x != nil {
			for _, n := range x.Replaces {
				r.loaded[n] = true
			}
		}
	}
	for i, x := range found {
		if x == nil || r.loaded[names[i]] {
			continue
		}
		r.loaded[names[i]] = true
		for _, rec := range x.Records {
			r.table.Add(rec)
		}
	}
}

// readIndex returns an index object, from the cache if it is there.
func (r *Repo) readIndex(ctx context.Context, n pack.Name) (*pack.Index, error) {
	name := indexDir + n.String()
	if r.cache != "" {
		if sealed, err := os.ReadFile(r.cacheFile("index", n.String())); err == nil {
			if x, err := r.parseIndex(name, sealed); err == nil {
				return x, nil
			}
		}
	}
	sealed, err := r.fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	x, err := r.parseIndex(name, sealed)
	if err == nil {
		r.keepIndex(n, sealed)
	}
	return x, err
}

func (r *Repo) parseIndex(name string, sealed []byte) (*pack.Index, error) {
	plain, err := r.openDoc(name, sealed)
	if err != nil {
		return nil, err
	}
	x, err := pack.ParseIndex(plain)
	if err != nil {
		return nil, damaged(name, err)
	}
	return x, nil
}

// keepIndex caches a sealed index object. Without it the next run fetches it
// again, so a full disk is no error here.
func (r *Repo) keepIndex(n pack.Name, sealed []byte) {
	if r.cache == "" {
		return
	}
	if err := durable.WriteFile(r.cacheFile("index", n.String()), sealed, 0o600); err != nil {
		r.log.Warn("an index object could not be cached", zap.Error(err))
	}
}

// dropCachedIn removes cached objects of a kind that are not upstream any more.
func (r *Repo) dropCachedIn(kind string, names []pack.Name) {
	if r.cache == "" {
		return
	}
	keep := make(map[string]bool, len(names))
	for _, n := range names {
		keep[n.String()] = true
	}
	files, err := os.ReadDir(r.cacheFile(kind))
	if err != nil {
		return
	}
	for _, f := range files {
		if !keep[f.Name()] && !strings.HasPrefix(f.Name(), ".") {
			os.Remove(r.cacheFile(kind, f.Name()))
		}
	}
}

// publishIndex writes an index object that describes packs which are durable.
func (r *Repo) publishIndex(ctx context.Context, records []*pack.Record) (sent int64, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	n := newName()
	sealed, err := r.putDoc(ctx, indexDir+n.String(), (&pack.Index{Records: records}).Append(nil))
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	r.loaded[n] = true
	r.mu.Unlock()
	r.keepIndex(n, sealed)
	return int64(len(sealed)), nil
}
