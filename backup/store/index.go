package store

import (
	"context"
	"fmt"
	"path"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"coffer/backup/pack"
	"coffer/upstream"
)

// Fetchers is how many small objects are fetched at the same time.
const Fetchers = 8

// ListNames returns the names in one folder of the repository that are well
// formed. What is not was put there by somebody else, and is logged.
func (s *Store) ListNames(ctx context.Context, dir string) ([]pack.Name, error) {
	var names []pack.Name
	err := s.bucket.List(ctx, dir, "", func(i upstream.Info) error {
		n, err := pack.ParseName(path.Base(i.Name))
		if err != nil {
			s.log.Warn("a foreign object lies in the repository", zap.String("object", i.Name))
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

// Refresh takes in index objects that are new since the last time. One that
// does not open is noted in broken and left out: what it described is then
// unknown, so a backup stores it again and a restore names it.
func (s *Store) Refresh(ctx context.Context) error {
	names, err := s.ListNames(ctx, IndexDir)
	if err != nil {
		return err
	}
	s.mu.RLock()
	var todo []pack.Name
	for _, n := range names {
		if !s.loaded[n] {
			todo = append(todo, n)
		}
	}
	s.mu.RUnlock()
	found := make([]*pack.Index, len(todo))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(Fetchers)
	for i, n := range todo {
		g.Go(func() error {
			x, err := s.readIndex(gctx, n)
			if err != nil && gctx.Err() != nil {
				return err
			}
			if err != nil {
				s.NoteBroken(IndexDir+n.String(), err)
			}
			found[i] = x
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	s.take(todo, found)
	s.KeepOnly("index", names)
	return nil
}

// NoteBroken remembers an index object that cannot be used.
func (s *Store) NoteBroken(name string, err error) {
	s.log.Warn("an index object cannot be used", zap.String("object", name), zap.Error(err))
	s.mu.Lock()
	s.broken[name] = err
	s.mu.Unlock()
}

// take adds what index objects say, the replaced ones aside.
func (s *Store) take(names []pack.Name, found []*pack.Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range found {
		if x != nil {
			for _, n := range x.Replaces {
				s.loaded[n] = true
			}
		}
	}
	for i, x := range found {
		if x == nil || s.loaded[names[i]] {
			continue
		}
		s.loaded[names[i]] = true
		for _, rec := range x.Records {
			s.table.Add(rec)
		}
	}
}

// readIndex returns an index object, from the cache if it is there.
func (s *Store) readIndex(ctx context.Context, n pack.Name) (*pack.Index, error) {
	name := IndexDir + n.String()
	if sealed, ok := s.Kept("index", n); ok {
		if x, err := s.ParseIndex(name, sealed); err == nil {
			return x, nil
		}
	}
	sealed, err := s.Fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	x, err := s.ParseIndex(name, sealed)
	if err == nil {
		s.Keep("index", n, sealed)
	}
	return x, err
}

// ParseIndex opens a sealed index object.
func (s *Store) ParseIndex(name string, sealed []byte) (*pack.Index, error) {
	plain, err := s.OpenDoc(name, sealed)
	if err != nil {
		return nil, err
	}
	x, err := pack.ParseIndex(plain)
	if err != nil {
		return nil, Damaged(name, err)
	}
	return x, nil
}

// PublishIndex writes an index object that describes packs which are durable.
func (s *Store) PublishIndex(ctx context.Context, records []*pack.Record) (sent int64, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	n := NewName()
	sealed, err := s.PutDoc(ctx, IndexDir+n.String(), (&pack.Index{Records: records}).Append(nil))
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.loaded[n] = true
	s.mu.Unlock()
	s.Keep("index", n, sealed)
	return int64(len(sealed)), nil
}
