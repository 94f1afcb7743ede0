package backup

import (
	"context"
	"fmt"

	"coffer/backup/chunk"
	"coffer/backup/tree"
)

// used gathers the chunks that snapshots need: some fifty bytes each.
type used struct {
	r   *Repo
	ids map[chunk.ID]struct{}
}

func newUsed(r *Repo) *used { return &used{r: r, ids: make(map[chunk.ID]struct{})} }

// snapshot adds what a snapshot needs. Directories that were seen are not read
// again. Anything that cannot be read is an error.
func (u *used) snapshot(ctx context.Context, s *Snapshot) error {
	if err := u.dir(ctx, s.root.Subtree); err != nil {
		return fmt.Errorf("snapshot %s: %w", s.ID, err)
	}
	return nil
}

func (u *used) dir(ctx context.Context, id chunk.ID) error {
	if _, seen := u.ids[id]; seen {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, leaves, err := u.r.st.Node(ctx, id)
	if err != nil {
		return err
	}
	u.ids[id] = struct{}{}
	for _, l := range leaves {
		if err := u.dir(ctx, l.ID); err != nil {
			return err
		}
	}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Type == tree.Dir && e.Flags&tree.Missing == 0:
			err = u.dir(ctx, e.Subtree)
		case e.Type == tree.Dir:
			// A directory that could not be read has an empty node, or none.
			if _, ok := u.r.st.Lookup(e.Subtree); ok {
				u.ids[e.Subtree] = struct{}{}
			}
		case e.Type == tree.File:
			err = u.file(ctx, e)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
	}
	return nil
}

func (u *used) file(ctx context.Context, e *tree.Entry) error {
	ids, err := u.r.st.FileIDs(ctx, e)
	if err != nil {
		return err
	}
	for _, list := range [][]chunk.ID{e.Content, ids} {
		for _, id := range list {
			u.ids[id] = struct{}{}
		}
	}
	return nil
}
