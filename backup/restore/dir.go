package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"coffer/backup/posix"
	"coffer/backup/tree"
)

// outDir is a directory below the target. It is reached from its parent by name,
// never through a symlink.
type outDir struct {
	parent *outDir
	name   string
	path   string      // for people
	e      *tree.Entry // what to set at the end; nil: it was there before
	fresh  bool        // made by this restore: nothing is in it but what the restore puts there
	ours   bool        // and what is made in it belongs to this process, with its own group

	fd    int // -1: not open
	users int // of fd
}

// dirPool keeps directories open that were used lately. Packs bring files of a
// directory one after the other, but a tree may have more directories than a
// process may have open files.
type dirPool struct {
	mu   sync.Mutex
	idle []*outDir // open, without users, oldest first
}

const maxIdle = 200

func newDirPool() *dirPool { return &dirPool{} }

// with calls fn with the directory open.
func (p *dirPool) with(d *outDir, fn func(fd int) error) error {
	fd, err := p.acquire(d)
	if err != nil {
		return err
	}
	defer p.release(d)
	return fn(fd)
}

func (p *dirPool) acquire(d *outDir) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open(d)
}

// open opens d and counts a user. The pool is locked.
func (p *dirPool) open(d *outDir) (int, error) {
	if d.fd < 0 {
		if d.parent == nil {
			return -1, fmt.Errorf("opening %s: %w", d.path, fs.ErrNotExist)
		}
		up, err := p.open(d.parent)
		if err != nil {
			return -1, err
		}
		fd, err := posix.OpenDir(up, d.name)
		p.drop(d.parent)
		if err != nil {
			return -1, fmt.Errorf("opening %s: %w", d.path, err)
		}
		d.fd = fd
	} else if d.users == 0 {
		if i := slices.Index(p.idle, d); i >= 0 {
			p.idle = slices.Delete(p.idle, i, i+1)
		}
	}
	d.users++
	return d.fd, nil
}

func (p *dirPool) release(d *outDir) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(d)
}

func (p *dirPool) drop(d *outDir) {
	if d.users--; d.users > 0 || d.parent == nil {
		return // the target stays open: it may have been reached by a symlink
	}
	p.idle = append(p.idle, d)
	if len(p.idle) > maxIdle {
		old := p.idle[0]
		p.idle = slices.Delete(p.idle, 0, 1)
		unix.Close(old.fd)
		old.fd = -1
	}
}

// unpin gives up the use that makeDir counted.
func (d *outDir) unpin(p *dirPool) {
	if d.parent != nil {
		p.release(d)
	}
}

// close closes what is open, the target too.
func (p *dirPool) close(top *outDir) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if top != nil && top.fd >= 0 {
		unix.Close(top.fd)
	}
	for _, d := range p.idle {
		unix.Close(d.fd)
		d.fd = -1
	}
	p.idle = nil
}

// makeDir makes a directory, or takes the one that is there, and counts a use of
// it. It returns nil after an error, which is reported.
func (x *restorer) makeDir(up *outDir, e *tree.Entry) *outDir {
	only := *e // it is kept to the end, and must not keep what is beside it
	d := &outDir{parent: up, name: e.Name, path: join(up.path, e.Name), e: &only, fd: -1}
	x.nDirs.Add(1)
	if x.o.DryRun {
		return x.pretendDir(up, d)
	}
	err := x.dirs.with(up, func(fd int) error {
		err := unix.Mkdirat(fd, e.Name, 0o700)
		if d.fresh = err == nil; err != unix.EEXIST {
			return err
		}
		var st unix.Stat_t
		if err := posix.Stat(fd, e.Name, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		if x.o.Overwrite == OverwriteNever {
			return errors.New("something else than a directory is there")
		}
		x.log.Replaced(d.path)
		if err := posix.Remove(fd, e.Name, false); err != nil {
			return err
		}
		return unix.Mkdirat(fd, e.Name, 0o700)
	})
	if err == nil {
		var fd int
		if fd, err = x.dirs.acquire(d); err == nil && d.fresh {
			d.ours = posix.OwnsNew(fd)
		}
	}
	if err != nil {
		x.log.Failed(d.path, fmt.Errorf("making the directory: %w", err))
		return nil
	}
	x.all = append(x.all, d)
	return d
}

// pretendDir is makeDir for a dry run: a directory that is not there is fresh, and
// never opened.
func (x *restorer) pretendDir(up, d *outDir) *outDir {
	d.users = 1
	if d.fresh = up.fresh; d.fresh {
		return d
	}
	err := x.dirs.with(up, func(fd int) error {
		var st unix.Stat_t
		err := posix.Stat(fd, d.name, &st)
		switch d.fresh = true; {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			d.fresh = false
		case x.o.Overwrite == OverwriteNever:
			return errors.New("something else than a directory is there")
		default:
			x.log.Replaced(d.path)
		}
		return nil
	})
	if err != nil {
		x.log.Failed(d.path, fmt.Errorf("looking at the directory: %w", err))
		return nil
	}
	if d.fresh {
		return d
	}
	d.users = 0
	if _, err := x.dirs.acquire(d); err != nil {
		x.log.Failed(d.path, err)
		return nil
	}
	return d
}

// deleteOthers removes what is in a directory and not in the snapshot.
func (x *restorer) deleteOthers(d *outDir, entries []tree.Entry) {
	if d.fresh {
		return
	}
	err := x.dirs.with(d, func(fd int) error {
		names, err := posix.Names(fd, make([]byte, 8<<10))
		for _, n := range names {
			_, found := slices.BinarySearchFunc(entries, n, func(e tree.Entry, n string) int { return strings.Compare(e.Name, n) })
			if found {
				continue
			}
			x.log.Deleted(join(d.path, n))
			if !x.o.DryRun {
				err = errors.Join(err, posix.Remove(fd, n, true))
			}
		}
		return err
	})
	if err != nil {
		x.log.Warn(d.path, err)
	}
}

// decision is what clear makes of an entry and what is there.
type decision struct {
	write bool // the entry is written; else what is there stays
	same  bool // that is the same file; if it stays, it has got its metadata
	over  bool // it is still there: the file is to be renamed over it when it is whole
}

// clear makes room for an entry, as the mode of overwriting wants it. What a regular
// file replaces stays until the file is whole.
func (x *restorer) clear(d *outDir, e *tree.Entry) (c decision, err error) {
	if d.fresh {
		return decision{write: true}, nil
	}
	err = x.dirs.with(d, func(fd int) error {
		var st unix.Stat_t
		if err := posix.Stat(fd, e.Name, &st); err != nil {
			c.write = errors.Is(err, fs.ErrNotExist)
			if c.write {
				return nil
			}
			return fmt.Errorf("looking at what is there: %w", err)
		}
		var old tree.Entry
		known := posix.Fill(&old, &st)
		c.same = known && sameFile(e, &old)
		left := unfinished(e, &old)
		if c.write = left || x.replaces(fd, e, &old, c.same); !c.write {
			return nil
		}
		if !left && !x.identical(fd, e, &old) {
			x.log.Replaced(join(d.path, e.Name))
		}
		c.over = !left && e.Type == tree.File && old.Type != tree.Dir
		if x.o.DryRun || c.over {
			return nil
		}
		return posix.Remove(fd, e.Name, x.o.Delete)
	})
	return c, err
}

// sameFile reports whether old is taken for the regular file e.
func sameFile(e, old *tree.Entry) bool {
	return e.Type == tree.File && old.Type == tree.File && e.Size == old.Size && e.Mtime == old.Mtime
}

// older reports whether old was modified before e.
func older(old, e *tree.Entry) bool {
	return old.Mtime.Sec < e.Mtime.Sec || old.Mtime.Sec == e.Mtime.Sec && old.Mtime.Nsec < e.Mtime.Nsec
}

// unfinished reports whether old is a file that an interrupted restore has left:
// [posix.Create] gives new files this mode, and the last write takes it away.
func unfinished(e, old *tree.Entry) bool {
	whole := e.Mode == old.Mode && e.Size == old.Size && e.Mtime == old.Mtime // a file that has this mode for ever
	return old.Type == tree.File && old.Mode == posix.UnfinishedMode && !whole
}

// identical reports whether e replaces the same thing: then nothing is lost.
func (x *restorer) identical(dirfd int, e, old *tree.Entry) bool {
	switch {
	case e.Type != old.Type || old.Type == tree.File && (e.Size > 0 || old.Size > 0):
		return false
	case e.Type == tree.Symlink:
		target, err := posix.Readlink(dirfd, e.Name)
		return err == nil && target == e.Target
	}
	return e.Major == old.Major && e.Minor == old.Minor
}

// stays reports whether old stays, whatever e is, by the mode of overwriting.
func (x *restorer) stays(e, old *tree.Entry) bool {
	return x.o.Overwrite == OverwriteNever || x.o.Overwrite == OverwriteOlder && !older(old, e)
}

// replaces decides whether e takes the place of old, which may be the same file.
func (x *restorer) replaces(dirfd int, e, old *tree.Entry, same bool) bool {
	switch {
	case x.stays(e, old):
		return false
	case x.o.Overwrite != OverwriteChanged, !same:
		return true
	}
	if fd, err := posix.OpenFile(dirfd, e.Name); err == nil && !x.o.DryRun {
		if err := posix.Apply(fd, e); err != nil {
			x.log.Warn(e.Name, err)
		}
		unix.Close(fd)
	}
	return false
}

// special makes a symlink, device or FIFO.
func (x *restorer) special(d *outDir, e *tree.Entry) {
	path := join(d.path, e.Name)
	if e.Flags&tree.Missing != 0 {
		x.log.Warn(path, errors.New("could not be read when it was backed up: left out"))
		return
	}
	x.others.Add(1)
	c, err := x.clear(d, e)
	if err == nil && c.write && !x.o.DryRun {
		err = x.dirs.with(d, func(fd int) error {
			if err := posix.Make(fd, e); err != nil {
				return err
			}
			if err := posix.ApplyAt(fd, e); err != nil {
				x.log.Warn(path, err)
			}
			return nil
		})
	}
	if err != nil {
		x.log.Failed(path, err)
	}
}

// join puts a name below a path.
func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}
