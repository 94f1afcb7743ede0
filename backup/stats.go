package backup

import (
	"context"
	"fmt"

	"coffer/backup/chunk"
	"coffer/backup/store"
	"coffer/backup/table"
	"coffer/upstream"
)

// Stats describes a repository as a whole.
type Stats struct {
	Snapshots int   `json:"snapshots"`
	Packs     int   `json:"packs"`
	Indexes   int   `json:"indexes"`
	Chunks    int   `json:"chunks"`
	Logical   int64 `json:"logical"` // bytes of the files of all snapshots
	Plain     int64 `json:"plain"`   // bytes of all chunks, each once
	Stored    int64 `json:"stored"`  // bytes upstream
}

// Stats counts. It reads the index and the list of objects, no data.
func (r *Repo) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := r.bucket.List(ctx, store.Root, "", func(i upstream.Info) error {
		s.Stored += i.Size
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("counting: %w", err)
	}
	names, t, err := r.readTable(ctx, r.st.ListIndex, nil, r.st.ReadIndex, refuse)
	if err == nil {
		defer t.Close()
		err = t.Visit(func(_ chunk.ID, l table.Loc) { s.Plain += int64(l.Len) })
	}
	if err != nil {
		return s, fmt.Errorf("counting: %w", err)
	}
	s.Indexes, s.Packs, s.Chunks = len(names), t.Packs(), t.Len()
	all, err := r.Snapshots(ctx)
	if err != nil {
		return s, fmt.Errorf("counting: %w", err)
	}
	s.Snapshots = len(all)
	for _, x := range all {
		s.Logical += x.Stats.Bytes
	}
	return s, nil
}
