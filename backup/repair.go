package backup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"coffer/backup/pack"
	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/backup/table"
	"coffer/upstream"
)

// RepairReport says what a repair did.
type RepairReport struct {
	Indexes []string  `json:"indexes"` // index objects that did not open and were replaced
	Packs   int       `json:"packs"`   // packs that were described anew from their footers
	Lost    []Problem `json:"lost"`    // packs that cannot be read, and that no index describes
	Again   []string  `json:"again"`   // packs that are damaged or gone: the next backup stores again what its sources still have of them
}

// RepairOptions say how thorough a repair is.
type RepairOptions struct {
	ReadData bool // find packs with damaged data by reading all; else only those that are gone or cut
	Progress func(Progress)
}

// Repair writes the index anew for all packs that no readable index object
// describes, from the packs' own footers, and removes index objects that do not
// open. Packs that are damaged or gone are marked as a prune does it: backups do not
// rely on them any more. What no source has stays lost: Restore brings back the rest.
func (r *Repo) Repair(ctx context.Context, o RepairOptions) (RepairReport, error) {
	rep, err := r.repairIndex(ctx)
	if err == nil {
		rep.Again, err = r.repairPacks(ctx, &o)
	}
	if err != nil {
		return rep, fmt.Errorf("repairing: %w", err)
	}
	return rep, nil
}

// repairPacks finds packs that the index describes and that are not what they
// should be, and marks those that are not marked yet.
func (r *Repo) repairPacks(ctx context.Context, o *RepairOptions) (again []string, err error) {
	c := newChecker(r, &CheckOptions{ReadData: o.ReadData})
	defer report.Every(o.Progress, c.progress)()
	var counted CheckReport
	names, err := c.index(ctx, &counted)
	if err == nil && o.ReadData {
		err = c.readPacks(ctx, names)
	}
	if err != nil {
		return nil, err
	}
	marks, err := r.deletions(ctx)
	if err != nil {
		return nil, err
	}
	marked := make(map[pack.Name]bool)
	for _, d := range marks {
		for _, n := range d.Packs {
			marked[n] = true
		}
	}
	var lost []pack.Name
	for object := range c.lost {
		n, err := pack.ParseName(path.Base(object))
		if err != nil || store.PackName(n) != object || marked[n] {
			continue
		}
		lost, again = append(lost, n), append(again, object)
	}
	slices.Sort(again)
	if len(lost) == 0 {
		return nil, nil
	}
	return again, r.putDeletion(ctx, lost, defaultGrace)
}

func (r *Repo) repairIndex(ctx context.Context) (RepairReport, error) {
	var rep RepairReport
	var broken []pack.Name
	_, t, err := r.readTable(ctx, r.st.ListIndex, nil, r.st.FetchIndex, func(name string, _ error) error {
		n, err := pack.ParseName(path.Base(name))
		broken, rep.Indexes = append(broken, n), append(rep.Indexes, name)
		return err
	})
	if err != nil {
		return rep, err
	}
	defer t.Close()
	found, err := r.footers(ctx, t, &rep)
	if err != nil {
		return rep, err
	}
	rep.Packs = len(found)
	if len(found) > 0 || len(broken) > 0 {
		if _, _, err := r.st.PutIndex(ctx, &pack.Index{Replaces: broken, Records: found}); err != nil {
			return rep, err
		}
	}
	for _, name := range rep.Indexes {
		if err := r.bucket.Delete(ctx, name); err != nil {
			return rep, fmt.Errorf("removing %s: %w", name, err)
		}
	}
	return rep, r.st.Refresh(ctx)
}

// footers reads those of all packs that a table does not have.
func (r *Repo) footers(ctx context.Context, t *table.Table, rep *RepairReport) ([]*pack.Record, error) {
	var todo []upstream.Info
	err := r.bucket.List(ctx, store.PackDir, "", func(i upstream.Info) error {
		n, err := pack.ParseName(path.Base(i.Name))
		if err != nil || store.PackName(n) != i.Name {
			return nil
		}
		if _, known := t.Number(n); !known {
			todo = append(todo, i)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", store.PackDir, err)
	}
	records := make([]*pack.Record, len(todo))
	errs := make([]error, len(todo))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(store.Fetchers)
	for i, info := range todo {
		g.Go(func() error {
			_, records[i], errs[i] = r.st.Footer(gctx, info)
			return context.Cause(gctx)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var found []*pack.Record
	for i, err := range errs {
		switch {
		case err == nil:
			found = append(found, records[i])
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotExist):
			rep.Lost = append(rep.Lost, Problem{Object: todo[i].Name, Err: err.Error()})
		default:
			return nil, err
		}
	}
	return found, nil
}

// RepairConfig writes the config of a repository anew, from the copy in the
// footer of any pack that can be read. It is for a repository that [Open] refuses
// because its config is lost or damaged; else it returns ErrExists.
func RepairConfig(ctx context.Context, c Config) error {
	if err := store.RepairFormat(ctx, c.store()); err != nil {
		return fmt.Errorf("repairing the config: %w", err)
	}
	return nil
}
