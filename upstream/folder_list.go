package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// List implements [Bucket]. It holds the names of one folder in memory for each
// level of the tree, and enters only folders that may hold what is asked for.
func (f *Folder) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	dir := encodeFolder(prefix)
	known := prefix[:strings.LastIndexByte(prefix, '/')+1]
	l := lister{f: f, ctx: ctx, prefix: prefix, after: after, fn: fn}
	err := l.walk(dir, known)
	if errors.Is(err, errCallback) {
		return l.err
	}
	if err != nil {
		return fmt.Errorf("listing %q: %w", prefix, folderError(err))
	}
	return nil
}

var errCallback = errors.New("error of the callback")

type lister struct {
	f             *Folder
	ctx           context.Context
	prefix, after string
	fn            func(Info) error
	err           error // of fn
}

// entry is one of a folder: piece is what it adds to the name, and also its place
// in the order.
type entry struct {
	piece string
	file  string
	isDir bool
}

// walk lists the folder dir (ending in "/", or empty), whose objects' names begin
// with base.
func (l *lister) walk(dir, base string) error {
	entries, err := l.read(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := base + e.piece
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if e.isDir {
			skip := name < l.after && !strings.HasPrefix(l.after, name)
			if !skip && (strings.HasPrefix(name, l.prefix) || strings.HasPrefix(l.prefix, name)) {
				if err := l.walk(dir+e.file+"/", name); err != nil {
					return err
				}
			}
			continue
		}
		if name <= l.after || !strings.HasPrefix(name, l.prefix) {
			continue
		}
		if err := l.emit(dir+e.file, name); err != nil {
			return err
		}
	}
	return nil
}

// read returns the entries of dir in the order of their names. A folder that is
// not there is empty.
func (l *lister) read(dir string) ([]entry, error) {
	var found []fs.DirEntry
	d, err := l.f.root.Open("./" + dir)
	if err == nil {
		found, err = d.ReadDir(-1)
		err = errors.Join(err, d.Close())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.f.alive()
	}
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(found))
	for _, e := range found {
		if piece, ok := decodePiece(e.Name(), e.IsDir()); ok && (e.IsDir() || e.Type().IsRegular()) {
			entries = append(entries, entry{piece, e.Name(), e.IsDir()})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.piece, b.piece) })
	return entries, nil
}

// emit calls fn for the object in the file p. A damaged one is listed with the
// size of its file and no ETag, so that it can be found: Get says what is wrong.
func (l *lister) emit(p, name string) error {
	file, info, err := l.f.openPath(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err == nil {
		if err := file.Close(); err != nil {
			return err
		}
	}
	info.Name, info.Meta = name, nil
	if l.err = l.fn(info); l.err != nil {
		return errCallback
	}
	return nil
}
