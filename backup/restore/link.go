package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"coffer/backup/posix"
	"coffer/backup/tree"
)

// linkKey is that of a file with several names, on the machine that was backed up.
type linkKey struct{ dev, ino uint64 }

// hardLink is a further name that a file is to get.
type hardLink struct {
	f    *outFile
	dir  *outDir
	name string
}

// noteFirst makes further names of a file, if it has any, links to f. What f is
// must be of the snapshot: written by this restore, or there already and the same.
func (x *restorer) noteFirst(f *outFile) {
	if f.e.Flags&tree.Linked != 0 {
		x.first[linkKey{f.e.Device, f.e.Inode}] = f
	}
}

// further plans a further name of a file, unless what has that name stays. What it
// takes the place of is removed when the file is whole.
func (x *restorer) further(ctx context.Context, first *outFile, d *outDir, e *tree.Entry) error {
	x.allFiles.Add(1)
	keep, same := false, false
	if !d.fresh {
		_ = x.dirs.with(d, func(fd int) error { // what cannot be looked at, linking will tell
			var st unix.Stat_t
			var old tree.Entry
			if err := posix.Stat(fd, e.Name, &st); err != nil {
				return err
			}
			same = posix.Fill(&old, &st) && sameFile(e, &old)
			left := unfinished(e, &old)
			keep = !left && x.stays(e, &old)
			if !keep && !left && !same {
				x.log.Replaced(join(d.path, e.Name))
			}
			return nil
		})
	}
	if keep {
		return x.keep(ctx, &outFile{x: x, dir: d, e: e, fd: -1}, same)
	}
	x.links = append(x.links, hardLink{first, d, e.Name})
	return nil
}

// link makes the further names of files that have several.
func (x *restorer) link() {
	for _, l := range x.links {
		path := join(l.dir.path, l.name)
		if l.f.failed.Load() {
			x.log.Failed(path, fmt.Errorf("is a link to %s, which could not be restored", join(l.f.dir.path, l.f.e.Name)))
			continue
		}
		err := x.dirs.with(l.f.dir, func(from int) error {
			return x.dirs.with(l.dir, func(to int) error { return x.linkTo(from, l.f.e.Name, to, l.name) })
		})
		if err != nil {
			x.log.Failed(path, fmt.Errorf("linking: %w", err))
			continue
		}
		x.doneFiles.Add(1)
	}
}

// linkTo makes a name a link to a file, in the place of what has that name.
func (x *restorer) linkTo(from int, first string, to int, name string) error {
	var file, old unix.Stat_t
	if err := posix.Stat(from, first, &file); err != nil {
		return err
	}
	switch err := posix.Stat(to, name, &old); {
	case err == nil && old.Dev == file.Dev && old.Ino == file.Ino:
		return nil
	case err == nil && old.Mode&unix.S_IFMT != unix.S_IFDIR:
		return relink(from, first, to, name)
	}
	if err := posix.Remove(to, name, x.o.Delete); err != nil {
		return err
	}
	return unix.Linkat(from, first, to, name, 0)
}

// relink replaces what is no directory: it stays if that fails.
func relink(from int, first string, to int, name string) error {
	temp := tempName(name)
	if err := posix.Remove(to, temp, false); err != nil {
		return err
	}
	if err := unix.Linkat(from, first, to, temp, 0); err != nil {
		return err
	}
	if err := unix.Renameat(to, temp, to, name); err != nil {
		return errors.Join(err, posix.Remove(to, temp, false))
	}
	return nil
}
