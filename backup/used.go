package backup

import (
	"context"
	"fmt"

	"coffer/backup/chunk"
	"coffer/backup/local"
	"coffer/backup/tree"
)

// needs walks what snapshots need, each directory once. Anything that cannot be
// read is an error.
type needs struct {
	r     *Repo
	local []*local.Trees // directories that need not be fetched
	// dir is told the id of a node of a directory, and reports whether it is new.
	dir func(chunk.ID) (bool, error)
	// data is told the id of any other chunk, perhaps again and again.
	data func(chunk.ID) error
}

func (u *needs) snapshot(ctx context.Context, s *Snapshot) error {
	if err := u.node(ctx, s.root.Subtree); err != nil {
		return fmt.Errorf("snapshot %s: %w", s.ID, err)
	}
	return nil
}

func (u *needs) node(ctx context.Context, id chunk.ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if fresh, err := u.dir(id); !fresh || err != nil {
		return err
	}
	entries, leaves, err := u.read(ctx, id)
	if err != nil {
		return err
	}
	for _, l := range leaves {
		if err := u.node(ctx, l.ID); err != nil {
			return err
		}
	}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Type == tree.Dir && e.Flags&tree.Missing == 0:
			err = u.node(ctx, e.Subtree)
		case e.Type == tree.Dir:
			// A directory that could not be read has an empty node, or none.
			if _, ok := u.r.st.Lookup(e.Subtree); ok {
				err = u.data(e.Subtree)
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

// read returns a node of a directory, from a cache if one has it.
func (u *needs) read(ctx context.Context, id chunk.ID) ([]tree.Entry, []tree.Branch, error) {
	for _, t := range u.local {
		if node, _ := t.Node(id); node != nil {
			return tree.Decode(node)
		}
	}
	return u.r.st.Node(ctx, id)
}

func (u *needs) file(ctx context.Context, e *tree.Entry) error {
	for _, id := range e.Content {
		if err := u.data(id); err != nil {
			return err
		}
	}
	if e.Flags&tree.Indirect == 0 {
		return nil
	}
	ids, err := u.r.st.FileIDs(ctx, e)
	for i := range ids {
		if err == nil {
			err = u.data(ids[i])
		}
	}
	return err
}
