package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"coffer/backup/tree"
)

var typeNames = map[tree.Type]string{tree.File: "file", tree.Dir: "dir", tree.Symlink: "symlink",
	tree.FIFO: "fifo", tree.CharDevice: "chardev", tree.BlockDevice: "blockdev"}

// entryOf is the public form of an entry.
func entryOf(e *tree.Entry) Entry {
	out := Entry{Name: e.Name, Type: typeNames[e.Type], Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size,
		ModTime: time.Unix(e.Mtime.Sec, int64(e.Mtime.Nsec)), Target: e.Target, Inode: e.Inode,
		Links: e.Flags&tree.Linked != 0, Device: e.Device, Major: e.Major, Minor: e.Minor,
		Changed: e.Flags&tree.Changed != 0, Missing: e.Flags&tree.Missing != 0}
	if len(e.Xattrs) > 0 {
		out.Xattrs = make(map[string][]byte, len(e.Xattrs))
		for _, x := range e.Xattrs {
			out.Xattrs[x.Name] = x.Value
		}
	}
	return out
}

// find returns the entry at a path; "", "." and "/" are the top.
func (r *Repo) find(ctx context.Context, s *Snapshot, name string) (tree.Entry, error) {
	e := s.root
	for _, part := range split(name) {
		if e.Type != tree.Dir {
			return e, fmt.Errorf("%q in snapshot %s: %w", name, s.ID[:8], ErrNotExist)
		}
		child, err := r.st.Child(ctx, e.Subtree, part)
		if err != nil {
			return e, fmt.Errorf("%q in snapshot %s: %w", name, s.ID[:8], err)
		}
		e = child
	}
	return e, nil
}

// split returns the names in a path. It does not follow "..": no entry is
// called so.
func split(name string) []string {
	return strings.FieldsFunc(name, func(c rune) bool { return c == '/' })
}

// joinNames is the inverse of split.
func joinNames(names []string) string { return strings.Join(names, "/") }

// Stat describes what lies at a path of the snapshot. Paths are relative to its
// top, with or without a leading "/".
func (r *Repo) Stat(ctx context.Context, s *Snapshot, name string) (Entry, error) {
	e, err := r.find(ctx, s, name)
	if err != nil {
		return Entry{}, err
	}
	return entryOf(&e), nil
}

// List calls fn for each entry of a directory, in the byte order of the names.
// For a file it is called once, with that. An error of fn ends it.
func (r *Repo) List(ctx context.Context, s *Snapshot, name string, fn func(Entry) error) error {
	e, err := r.find(ctx, s, name)
	if err != nil {
		return err
	}
	if e.Type != tree.Dir {
		return fn(entryOf(&e))
	}
	entries, err := r.st.Dir(ctx, e.Subtree)
	if err != nil {
		return err
	}
	for i := range entries {
		if err := fn(entryOf(&entries[i])); err != nil {
			return err
		}
	}
	return nil
}

// Walk calls fn for what lies at name and for all below it, parents first, each
// directory in the byte order of its names; path begins with "/". When fn returns
// [fs.SkipDir] for a directory, what is in it is left out.
func (r *Repo) Walk(ctx context.Context, s *Snapshot, name string, fn func(path string, e Entry) error) error {
	e, err := r.find(ctx, s, name)
	if err != nil {
		return err
	}
	return r.walk(ctx, "/"+joinNames(split(name)), &e, func(p string, e *tree.Entry) error { return fn(p, entryOf(e)) })
}

func (r *Repo) walk(ctx context.Context, name string, e *tree.Entry, fn func(string, *tree.Entry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := fn(name, e); err != nil {
		if errors.Is(err, fs.SkipDir) && e.Type == tree.Dir {
			return nil
		}
		return err
	}
	if e.Type != tree.Dir || e.Flags&tree.Missing != 0 {
		return nil
	}
	entries, err := r.st.Dir(ctx, e.Subtree)
	if err != nil {
		return fmt.Errorf("directory %q: %w", name, err)
	}
	for i := range entries {
		if err := r.walk(ctx, join(name, entries[i].Name), &entries[i], fn); err != nil {
			return err
		}
	}
	return nil
}

// join puts a name below an absolute path.
func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// ReadFile reads n bytes of a file from off on, to the end if n < 0. What it
// yields is verified; after an error it is a true beginning of the range.
func (r *Repo) ReadFile(ctx context.Context, s *Snapshot, name string, off, n int64) (io.ReadCloser, error) {
	e, err := r.find(ctx, s, name)
	if err != nil {
		return nil, err
	}
	f, err := r.open(ctx, s, name, &e)
	if err != nil {
		return nil, err
	}
	end := e.Size
	if off = max(off, 0); n >= 0 && n < end-off {
		end = off + n
	}
	return &fileReader{ctx: ctx, f: f, off: off, end: end}, nil
}

// fileReader reads a range of a file.
type fileReader struct {
	ctx      context.Context
	f        *File
	off, end int64
}

func (f *fileReader) Read(p []byte) (int, error) {
	p = p[:max(0, min(int64(len(p)), f.end-f.off))]
	if len(p) == 0 {
		return 0, io.EOF
	}
	n, err := f.f.ReadAt(f.ctx, p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *fileReader) Close() error {
	f.end = 0
	return nil
}

// Place is the directory that the top of s was when it was backed up: its path, or
// "/" if there were several, or one that is no directory.
func (r *Repo) Place(ctx context.Context, s *Snapshot) string {
	if len(s.Paths) != 1 {
		return "/"
	}
	if s.root.Count != uint64(len(split(s.Paths[0]))) {
		return s.Paths[0]
	}
	// As many entries as there are names in the path: they may lead to a file.
	if e, err := r.find(ctx, s, s.Paths[0]); err == nil && e.Type != tree.Dir {
		return "/"
	}
	return s.Paths[0]
}
