package backup

import (
	"context"
	"fmt"
	"slices"

	"coffer/backup/chunk"
	"coffer/backup/ignore"
	"coffer/backup/tree"
)

// Change is a difference between two snapshots.
type Change struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // "added", "removed", "content", "metadata", "type"
	Old  *Entry `json:"old,omitempty"`
	New  *Entry `json:"new,omitempty"`
}

// Diff calls fn for each path below name that differs between two snapshots, in
// the order of the names. Of directories that are the same nothing is read.
func (r *Repo) Diff(ctx context.Context, from, to *Snapshot, name string, fn func(Change) error) error {
	a, err := r.find(ctx, from, name)
	if err != nil {
		return err
	}
	b, err := r.find(ctx, to, name)
	if err != nil {
		return err
	}
	return r.diff(ctx, "/"+joinNames(split(name)), &a, &b, fn)
}

// diff compares what stands at the same path; one of them may be nil.
func (r *Repo) diff(ctx context.Context, name string, a, b *tree.Entry, fn func(Change) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if kind := changed(a, b); kind != "" {
		c := Change{Path: name, Kind: kind}
		if a != nil {
			e := entryOf(a)
			c.Old = &e
		}
		if b != nil {
			e := entryOf(b)
			c.New = &e
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	olds, err := r.below(ctx, a, b)
	if err != nil {
		return fmt.Errorf("directory %q: %w", name, err)
	}
	news, err := r.below(ctx, b, a)
	if err != nil {
		return fmt.Errorf("directory %q: %w", name, err)
	}
	for len(olds) > 0 || len(news) > 0 {
		var x, y *tree.Entry
		if len(news) == 0 || len(olds) > 0 && olds[0].Name <= news[0].Name {
			x = &olds[0]
		}
		if len(olds) == 0 || len(news) > 0 && news[0].Name <= olds[0].Name {
			y = &news[0]
		}
		at := y
		if x != nil {
			at, olds = x, olds[1:]
		}
		if y != nil {
			news = news[1:]
		}
		if err := r.diff(ctx, join(name, at.Name), x, y, fn); err != nil {
			return err
		}
	}
	return nil
}

// below returns what is in a directory, nothing if other is the same directory.
func (r *Repo) below(ctx context.Context, e, other *tree.Entry) ([]tree.Entry, error) {
	if e == nil || e.Type != tree.Dir || e.Flags&tree.Missing != 0 || other != nil && other.Type == tree.Dir && other.Subtree == e.Subtree {
		return nil, nil
	}
	return r.st.Dir(ctx, e.Subtree)
}

// changed says how two entries differ, what is in directories aside.
func changed(a, b *tree.Entry) string {
	switch {
	case a == nil:
		return "added"
	case b == nil:
		return "removed"
	case a.Type != b.Type:
		return "type"
	case a.Type == tree.File && (a.Size != b.Size || !slices.Equal(a.Content, b.Content) || !slices.Equal(a.Holes, b.Holes)),
		a.Target != b.Target:
		return "content"
	}
	x, y := *a, *b
	for _, e := range []*tree.Entry{&x, &y} { // what says nothing to people
		e.Ctime, e.Inode, e.Device, e.Subtree, e.Size, e.Count = tree.Time{}, 0, 0, chunk.ID{}, 0, 0
	}
	if string(x.Append(nil)) != string(y.Append(nil)) {
		return "metadata"
	}
	return ""
}

// Search calls fn for each path in the snapshots that a gitignore pattern fits,
// such as "*.pdf" or "/home/*/notes". Of no snapshots it searches all.
func (r *Repo) Search(ctx context.Context, pattern string, in []*Snapshot, fn func(s *Snapshot, path string, e Entry) error) error {
	rules := ignore.New(nil, "", []string{pattern})
	if rules == nil {
		return fmt.Errorf("searching: %q is no pattern", pattern)
	}
	if len(in) == 0 {
		all, err := r.Snapshots(ctx)
		if err != nil {
			return err
		}
		in = all
	}
	for _, s := range in {
		err := r.walk(ctx, "/", &s.root, func(path string, e *tree.Entry) error {
			if path == "/" || !rules.Match(path[1:], e.Type == tree.Dir) {
				return nil
			}
			return fn(s, path, entryOf(e))
		})
		if err != nil {
			return fmt.Errorf("searching snapshot %s: %w", s.ID[:8], err)
		}
	}
	return nil
}
