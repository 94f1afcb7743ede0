package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/upstream"
)

// CopyReport says what a copy did.
type CopyReport struct {
	Objects int   `json:"objects"` // copied
	Bytes   int64 `json:"bytes"`   // of them
	Present int   `json:"present"` // there already
}

// Copy makes another store hold the same repository: it copies sealed objects as
// they are, without any key, and leaves out those that are there with the same
// size. The order is that of writing, so what was copied when it stops is sound.
// Snapshots that are published meanwhile may be copied or not; each that is, is
// copied with all it needs.
func Copy(ctx context.Context, from, to Bucket, progress func(Progress)) (CopyReport, error) {
	var rep CopyReport
	started := time.Now()
	kinds := []string{store.HeadDir, store.SnapshotDir, store.IndexDir, store.DeletionsDir, store.PackDir, store.ConfigName}
	lists := make([][]upstream.Info, len(kinds))
	for i, prefix := range kinds { // the last written is listed first: all it needs is then listed too
		err := from.List(ctx, prefix, "", func(o upstream.Info) error {
			lists[i] = append(lists[i], o)
			return nil
		})
		if err != nil {
			return rep, fmt.Errorf("copying: listing %s: %w", prefix, err)
		}
	}
	there := make(map[string]int64)
	err := to.List(ctx, store.Root, "", func(o upstream.Info) error {
		there[o.Name] = o.Size
		return nil
	})
	if err != nil {
		return rep, fmt.Errorf("copying: listing the target: %w", err)
	}
	for i := len(lists) - 1; i >= 0; i-- {
		if err := copyAll(ctx, from, to, lists[i], there, &rep); err != nil {
			return rep, fmt.Errorf("copying: %w", err)
		}
		if progress != nil {
			progress(report.Progress{Phase: "copy", Started: started, Files: int64(rep.Objects), Uploaded: rep.Bytes})
		}
	}
	return rep, nil
}

func copyAll(ctx context.Context, from, to Bucket, list []upstream.Info, there map[string]int64, rep *CopyReport) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	copied := make([]int64, len(list))
	for i, o := range list {
		if size, ok := there[o.Name]; ok && size == o.Size {
			rep.Present++
			continue
		}
		g.Go(func() error {
			err := copyOne(gctx, from, to, o)
			if errors.Is(err, upstream.ErrNotExist) { // a prune was faster
				return nil
			}
			copied[i] = o.Size
			return err
		})
	}
	err := g.Wait()
	for _, n := range copied {
		if n > 0 {
			rep.Objects++
			rep.Bytes += n
		}
	}
	return err
}

func copyOne(ctx context.Context, from, to Bucket, o upstream.Info) error {
	body, info, err := from.Get(ctx, o.Name, 0, -1)
	if err != nil {
		return fmt.Errorf("reading %s: %w", o.Name, err)
	}
	defer body.Close()
	if _, err := to.Put(ctx, o.Name, io.LimitReader(body, info.Size), info.Size, upstream.PutOptions{}); err != nil {
		return fmt.Errorf("writing %s: %w", o.Name, err)
	}
	return nil
}
