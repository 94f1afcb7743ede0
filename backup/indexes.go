package backup

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"coffer/backup/pack"
	"coffer/backup/store"
)

// readIndexes reads all index objects from upstream, and returns their names, what
// they say, and the records of the table by number. bad is told of each that does
// not open; an error that it returns ends the reading.
func (r *Repo) readIndexes(ctx context.Context, bad func(name string, err error) error) ([]pack.Name, *pack.Table, []*pack.Record, error) {
	names, err := r.st.ListNames(ctx, store.IndexDir)
	if err != nil {
		return nil, nil, nil, err
	}
	found := make([]*pack.Index, len(names))
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(store.Fetchers)
	for i, n := range names {
		g.Go(func() error {
			name := store.IndexDir + n.String()
			sealed, err := r.st.Fetch(gctx, name)
			if err == nil {
				found[i], err = r.st.ParseIndex(name, sealed)
			}
			if err != nil && gctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				return bad(name, err)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, nil, err
	}
	table := pack.NewTable()
	var records []*pack.Record
	for _, x := range found {
		if x == nil {
			continue
		}
		for _, rec := range x.Records {
			if table.Add(rec) == len(records) {
				records = append(records, rec)
			}
		}
	}
	return names, table, records, nil
}
