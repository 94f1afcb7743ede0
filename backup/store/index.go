package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

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
	return s.RefreshThen(ctx, func(map[pack.Name]bool, []pack.Name) error { return nil })
}

// RefreshThen is Refresh and [Store.ListIndex] from one list.
func (s *Store) RefreshThen(ctx context.Context, fn func(before map[pack.Name]bool, names []pack.Name) error) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	s.renew()
	return s.ListIndex(ctx, func(before map[pack.Name]bool, names []pack.Name) error {
		err := s.refresh(ctx, before, names)
		if err == nil {
			s.KeepOnly("index", names)
			err = fn(nil, names)
		}
		return err
	})
}

// Replaced notes that index objects were removed, as others in the table say now
// what is true of what they said.
func (s *Store) Replaced(names []pack.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.table.Uncover(n)
		s.shrinks++
	}
	s.markGone(nil)
}

// ListIndex calls fn with the names of the index objects, and again with new ones
// as long as one is replaced before fn could read it. before are those that were in
// the table when the list was begun: fn may change it.
func (s *Store) ListIndex(ctx context.Context, fn func(before map[pack.Name]bool, names []pack.Name) error) error {
	for range refreshes {
		before := s.coveredNames()
		names, err := s.ListNames(ctx, IndexDir)
		if err != nil {
			return err
		}
		if err = fn(before, names); !errors.Is(err, ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("reading %s: it changes faster than it can be read: %w", IndexDir, upstream.ErrUnavailable)
}

// renew empties a table that is damaged, or of which most is gone.
func (s *Store) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := 0
	for n := range s.table.Packs() {
		if s.table.Gone(n) {
			gone++
		}
	}
	if !s.table.Broken() && (gone < 1000 || gone < s.table.Packs()/2) {
		return
	}
	s.table.Reset()
	for _, rec := range s.pending {
		s.add(rec)
	}
}

func (s *Store) coveredNames() map[pack.Name]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[pack.Name]bool)
	for n := range s.table.Objects() {
		out[n] = true
	}
	return out
}

// refresh takes in what is listed and not in the table, and forgets what was in it
// before the list was made and is not listed. If there is such, the new ones are
// read twice: packs that are gone must be marked before others are added, whose
// places then count.
func (s *Store) refresh(ctx context.Context, before map[pack.Name]bool, names []pack.Name) error {
	var fresh, lost []pack.Name
	for _, n := range names {
		if !before[n] {
			fresh = append(fresh, n)
		}
		delete(before, n)
	}
	for n := range before {
		lost = append(lost, n)
	}
	live := make(map[pack.Name]bool)
	if len(lost) > 0 {
		err := s.EachIndex(ctx, fresh, s.ReadIndex, s.NoteBroken, func(_ pack.Name, x *pack.Index) error {
			for _, rec := range x.Records {
				live[rec.Name] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	for _, n := range lost {
		s.table.Uncover(n)
		s.shrinks++
	}
	s.markGone(live)
	s.mu.Unlock()
	return s.EachIndex(ctx, fresh, s.ReadIndex, s.NoteBroken, func(n pack.Name, x *pack.Index) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.broken, IndexDir+n.String())
		s.cover(n, x)
		return nil
	})
}

// EachIndex calls fn with index objects that read returns, one after the other, so
// that few are in memory at a time. bad is told of those that do not open.
func (s *Store) EachIndex(ctx context.Context, names []pack.Name, read func(context.Context, pack.Name) ([]byte, error),
	bad func(name string, err error) error, fn func(pack.Name, *pack.Index) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(Fetchers)
	var mu sync.Mutex
	for _, n := range names {
		g.Go(func() error {
			raw, err := read(gctx, n)
			mu.Lock()
			defer mu.Unlock()
			var x *pack.Index
			if err == nil {
				if x, err = pack.ParseIndex(raw); err != nil {
					err = Damaged(IndexDir+n.String(), err)
				}
			}
			if err == nil {
				return fn(n, x)
			}
			if gctx.Err() == nil && (errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion)) {
				return bad(IndexDir+n.String(), err)
			}
			return err
		})
	}
	return g.Wait()
}

// NoteBroken remembers an index object that cannot be used.
func (s *Store) NoteBroken(name string, err error) error {
	s.log.Warn("an index object cannot be used", zap.String("object", name), zap.Error(err))
	s.mu.Lock()
	s.broken[name] = err
	s.mu.Unlock()
	return nil
}

// cover takes in all that an index object says. s.mu is held.
func (s *Store) cover(object pack.Name, x *pack.Index) {
	packs := make([]uint32, len(x.Records))
	for i, rec := range x.Records {
		packs[i] = uint32(s.add(rec))
	}
	s.table.Cover(object, packs)
}

// Shrinks counts index objects that were in the table and are not upstream any
// more. As long as it stays the same, no pack has been removed.
func (s *Store) Shrinks() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shrinks
}

// add adds a pack that is there to the table. s.mu is held.
func (s *Store) add(rec *pack.Record) int {
	if n, known := s.table.Number(rec.Name); known { // before, for it decides which places count
		s.table.SetGone(n, s.condemned[rec.Name])
	}
	n := s.table.Add(rec)
	s.table.SetGone(n, s.condemned[rec.Name])
	return n
}

// CondemnAlso adds to what Condemn has said.
func (s *Store) CondemnAlso(packs []pack.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[pack.Name]bool, len(s.condemned)+len(packs))
	maps.Copy(all, s.condemned)
	for _, n := range packs {
		all[n] = true
	}
	s.condemned = all
	s.markGone(nil)
}

// markGone says which packs must not be relied on: those that a prune is about to
// remove, and those that neither an index object of the table describes nor one
// that will be, nor live has. s.mu is held.
func (s *Store) markGone(live map[pack.Name]bool) {
	described := make([]bool, s.table.Packs())
	for _, packs := range s.table.Objects() {
		for _, n := range packs {
			described[n] = true
		}
	}
	for _, rec := range s.pending {
		if n, ok := s.table.Number(rec.Name); ok {
			described[n] = true
		}
	}
	for n := range described {
		name := s.table.Name(n)
		s.table.SetGone(n, s.condemned[name] || !described[n] && !live[name])
	}
}

// Condemn says which packs a prune is about to remove, in place of what was said
// before. Their chunks can be read, and are stored again when they are needed.
func (s *Store) Condemn(packs map[pack.Name]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condemned = packs
	s.markGone(nil)
}

// ReadIndex returns the payload of an index object, from the cache if it is there.
func (s *Store) ReadIndex(ctx context.Context, n pack.Name) ([]byte, error) {
	name := IndexDir + n.String()
	if sealed, ok := s.Kept("index", n); ok {
		if plain, err := s.OpenDoc(name, sealed); err == nil {
			return plain, nil
		}
	}
	sealed, err := s.Fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	plain, err := s.OpenDoc(name, sealed)
	if err == nil {
		s.Keep("index", n, sealed)
	}
	return plain, err
}

// FetchIndex is ReadIndex, but never from the cache.
func (s *Store) FetchIndex(ctx context.Context, n pack.Name) ([]byte, error) {
	return s.GetDoc(ctx, IndexDir+n.String())
}

// Landed notes that a pack is durable: one that was just sent, or one that a
// killed run has left. It belongs into the next index object.
func (s *Store) Landed(rec *pack.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, rec)
	s.add(rec)
}

// publish writes an index object when that many packs, or chunks, wait for one.
// What waits when a run fails is published by the next.
func (s *Store) publish(ctx context.Context, packs, chunks int) (sent int64, err error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.RLock()
	records := slices.Clone(s.pending)
	s.mu.RUnlock()
	n := 0
	for _, rec := range records {
		n += rec.Len()
	}
	if len(records) == 0 || len(records) < packs && n < chunks {
		return 0, nil
	}
	_, sent, err = s.PutIndex(ctx, &pack.Index{Records: records})
	if err == nil {
		s.mu.Lock()
		s.pending = slices.Clone(s.pending[len(records):])
		s.mu.Unlock()
	}
	return sent, err
}

// PutIndex writes an index object that describes packs which are durable.
func (s *Store) PutIndex(ctx context.Context, x *pack.Index) (n pack.Name, sent int64, err error) {
	n = NewName()
	sealed, err := s.PutDoc(ctx, IndexDir+n.String(), x.Append(nil))
	if err != nil {
		return n, 0, fmt.Errorf("publishing an index: %w", err)
	}
	s.mu.Lock()
	s.cover(n, x) // a compacted index may have what was not known before
	s.mu.Unlock()
	s.Keep("index", n, sealed)
	return n, int64(len(sealed)), nil
}
