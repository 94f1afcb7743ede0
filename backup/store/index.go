package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

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

// refreshes is how often an index is listed anew when an object of the list has
// been replaced before it could be read.
const refreshes = 5

// Refresh brings the table to what the index objects say now. One that does not
// open is noted in broken and left out: what it described is then unknown, so a
// backup stores it again and a restore names it. Packs that no index object
// describes any more count as gone: a prune has removed them.
func (s *Store) Refresh(ctx context.Context) error {
	for range refreshes {
		before := s.loadedNames()
		names, err := s.ListNames(ctx, IndexDir)
		if err != nil {
			return err
		}
		todo, found, err := s.fetchIndexes(ctx, names)
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		s.take(before, names, todo, found)
		s.KeepOnly("index", names)
		return nil
	}
	return fmt.Errorf("reading %s: it changes faster than it can be read: %w", IndexDir, upstream.ErrUnavailable)
}

// fetchIndexes reads those of names that are not loaded; a nil one does not open.
func (s *Store) fetchIndexes(ctx context.Context, names []pack.Name) (todo []pack.Name, found []*pack.Index, err error) {
	s.mu.RLock()
	for _, n := range names {
		if _, ok := s.loaded[n]; !ok {
			todo = append(todo, n)
		}
	}
	s.mu.RUnlock()
	found = make([]*pack.Index, len(todo))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(Fetchers)
	for i, n := range todo {
		g.Go(func() error {
			x, err := s.readIndex(gctx, n)
			if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) {
				s.NoteBroken(IndexDir+n.String(), err)
				return nil
			}
			found[i] = x
			return err
		})
	}
	return todo, found, g.Wait()
}

// NoteBroken remembers an index object that cannot be used.
func (s *Store) NoteBroken(name string, err error) {
	s.log.Warn("an index object cannot be used", zap.String("object", name), zap.Error(err))
	s.mu.Lock()
	s.broken[name] = err
	s.mu.Unlock()
}

func (s *Store) loadedNames() []pack.Name {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.loaded))
}

// take makes the table say what all of the listed objects say. before are those
// that were loaded before the list was made: others may have been written since.
func (s *Store) take(before, listed, fresh []pack.Name, found []*pack.Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range found {
		if x == nil {
			continue
		}
		delete(s.broken, IndexDir+fresh[i].String())
		packs := make([]pack.Name, len(x.Records))
		for j, rec := range x.Records {
			packs[j] = rec.Name
		}
		s.loaded[fresh[i]] = packs
	}
	here := make(map[pack.Name]bool)
	for _, n := range listed {
		here[n] = true
	}
	for _, n := range before {
		if !here[n] {
			delete(s.loaded, n)
			s.shrinks++
		}
	}
	live := make(map[pack.Name]bool)
	for _, packs := range s.loaded {
		for _, p := range packs {
			live[p] = true
		}
	}
	for _, rec := range s.pending {
		live[rec.Name] = true
	}
	s.live = live
	s.markGone()
	for _, x := range found {
		if x == nil {
			continue
		}
		for _, rec := range x.Records {
			s.add(rec)
		}
	}
}

// Shrinks counts index objects that were loaded and are not upstream any more. As
// long as it stays the same, no pack has been removed.
func (s *Store) Shrinks() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shrinks
}

// add adds a pack to the table. s.mu is held.
func (s *Store) add(rec *pack.Record) {
	n := s.table.Add(rec)
	s.table.SetGone(n, s.condemned[rec.Name] || !s.live[rec.Name])
}

// markGone says which packs must not be relied on. s.mu is held.
func (s *Store) markGone() {
	for n := range s.table.Packs() {
		name := s.table.Pack(n).Name
		s.table.SetGone(n, s.condemned[name] || !s.live[name])
	}
}

// Condemn says which packs a prune is about to remove, in place of what was said
// before. Their chunks can be read, and are stored again when they are needed.
func (s *Store) Condemn(packs map[pack.Name]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condemned = packs
	s.markGone()
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

// Landed notes that a pack is durable: one that was just sent, or one that a
// killed run has left. It belongs into the next index object.
func (s *Store) Landed(rec *pack.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[rec.Name] = true
	s.add(rec)
	s.pending = append(s.pending, rec)
}

// publish writes an index object when at least that many packs wait for one. What
// waits when a run fails is published by the next.
func (s *Store) publish(ctx context.Context, atLeast int) (sent int64, err error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.RLock()
	records := slices.Clone(s.pending)
	s.mu.RUnlock()
	if len(records) < atLeast {
		return 0, nil
	}
	sent, err = s.PutIndex(ctx, &pack.Index{Records: records})
	if err == nil {
		s.mu.Lock()
		s.pending = slices.Clone(s.pending[len(records):])
		s.mu.Unlock()
	}
	return sent, err
}

// PutIndex writes an index object that describes packs which are durable.
func (s *Store) PutIndex(ctx context.Context, x *pack.Index) (sent int64, err error) {
	n := NewName()
	sealed, err := s.PutDoc(ctx, IndexDir+n.String(), x.Append(nil))
	if err != nil {
		return 0, fmt.Errorf("publishing an index: %w", err)
	}
	s.mu.Lock()
	packs := make([]pack.Name, len(x.Records))
	for i, rec := range x.Records { // a compacted index may have what was not loaded before
		packs[i] = rec.Name
		s.live[rec.Name] = true
		s.add(rec)
	}
	s.loaded[n] = packs
	s.mu.Unlock()
	s.Keep("index", n, sealed)
	return int64(len(sealed)), nil
}
