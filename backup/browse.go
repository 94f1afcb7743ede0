package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"coffer/backup/store"
	"coffer/backup/tree"
)

var typeNames = map[tree.Type]string{tree.File: "file", tree.Dir: "dir", tree.Symlink: "symlink",
	tree.FIFO: "fifo", tree.CharDevice: "chardev", tree.BlockDevice: "blockdev"}

// entryOf is the public form of an entry.
func entryOf(e *tree.Entry) Entry {
	out := Entry{Name: e.Name, Type: typeNames[e.Type], Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size,
		ModTime: time.Unix(e.Mtime.Sec, int64(e.Mtime.Nsec)), Target: e.Target, Inode: e.Inode,
		Links: e.Flags&tree.Linked != 0, Changed: e.Flags&tree.Changed != 0, Missing: e.Flags&tree.Missing != 0}
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
	if e.Type != tree.File {
		return nil, fmt.Errorf("%q in snapshot %s is a %s, not a file", name, s.ID[:8], typeNames[e.Type])
	}
	if e.Flags&tree.Missing != 0 {
		return nil, fmt.Errorf("%q in snapshot %s could not be read when it was backed up: %w", name, s.ID[:8], ErrNotExist)
	}
	spans, err := r.st.Spans(ctx, &e)
	if err != nil {
		return nil, fmt.Errorf("%q in snapshot %s: %w", name, s.ID[:8], err)
	}
	end := e.Size
	if off = max(off, 0); n >= 0 && n < end-off {
		end = off + n
	}
	return &fileReader{ctx: ctx, r: r, name: name, spans: spans, off: off, end: end}, nil
}

// fileReader reads the spans of a file.
type fileReader struct {
	ctx      context.Context
	r        *Repo
	name     string
	spans    []store.Span
	off, end int64
}

func (f *fileReader) Read(p []byte) (int, error) {
	for len(f.spans) > 0 && f.off >= f.spans[0].Off+f.spans[0].Len {
		f.spans = f.spans[1:]
	}
	if f.off >= f.end || len(f.spans) == 0 {
		return 0, io.EOF
	}
	s := f.spans[0]
	p = p[:min(int64(len(p)), f.end-f.off, s.Off+s.Len-f.off)]
	if s.Hole {
		clear(p)
	} else {
		data, err := f.r.st.Chunk(f.ctx, s.ID, f.end-f.off > s.Len)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", f.name, err)
		}
		copy(p, data[f.off-s.Off:])
	}
	f.off += int64(len(p))
	return len(p), nil
}

func (f *fileReader) Close() error {
	f.spans = nil
	return nil
}
