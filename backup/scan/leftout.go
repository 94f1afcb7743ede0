package scan

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"coffer/backup/ignore"
	"coffer/backup/posix"
	"coffer/backup/tree"
)

// LeftOut is what a scan would leave out, and what it would save.
type LeftOut struct {
	Files   int64   `json:"files"`   // left out
	Bytes   int64   `json:"bytes"`   // of these
	Places  int64   `json:"places"`  // the files and folders that were left out as such, not what lies in them
	Biggest []Place `json:"biggest"` // of those, the biggest first
	Saved   int64   `json:"saved"`   // files that would be saved
	Size    int64   `json:"size"`    // bytes of these
	Partial bool    `json:"partial"` // there was no time to look at everything
}

// Place is a file or folder that is left out as a whole.
type Place struct {
	Path  string `json:"path"` // absolute
	Dir   bool   `json:"dir"`
	Files int64  `json:"files"`
	Bytes int64  `json:"bytes"`
}

// maxPlaces bounds the list of a LeftOut.
const maxPlaces = 20

// looker walks as a scanner does, and reads nothing but directories and patterns.
type looker struct {
	*scanner
	ctx context.Context
	all LeftOut
}

// Look says what a scan of one path would leave out, by the same rules. When ctx
// ends before it has seen everything, what it has seen is Partial. What cannot be
// read is neither left out nor saved.
func Look(ctx context.Context, o Options) (LeftOut, error) {
	l := &looker{scanner: &scanner{run: &run{o: &o}, buf: make([]byte, 32<<10)}, ctx: ctx}
	l.all.Biggest = []Place{}
	var own, st unix.Stat_t
	if o.ExcludeDir != "" && unix.Stat(o.ExcludeDir, &own) == nil {
		l.ownDev, l.ownIno = own.Dev, own.Ino
	}
	path := o.Paths[0]
	err := unix.Stat(path, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		l.all.Saved, l.all.Size = 1, st.Size
		return l.all, nil
	}
	fd := -1
	if err == nil {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return l.all, fmt.Errorf("reading %s: %w", path, err)
	}
	l.rootFS = st.Dev
	l.dir(&dirNode{run: l.run, path: path, fd: fd, dev: st.Dev, rules: ignore.New(nil, "", o.Exclude)})
	l.all.Partial = ctx.Err() != nil
	slices.SortStableFunc(l.all.Biggest, bigger)
	l.all.Biggest = l.all.Biggest[:min(len(l.all.Biggest), maxPlaces)]
	return l.all, nil
}

func bigger(a, b Place) int {
	return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Files, a.Files), cmp.Compare(a.Path, b.Path))
}

// dir looks at an open directory, and closes it.
func (l *looker) dir(n *dirNode) {
	defer unix.Close(n.fd)
	all, err := posix.Names(n.fd, l.buf)
	if err != nil {
		return
	}
	kept := all
	if l.o.ExcludeCaches || slices.ContainsFunc(all, func(name string) bool { return slices.Contains(l.o.ExcludeFiles, name) }) {
		if _, err = unix.Seek(n.fd, 0, unix.SEEK_SET); err == nil { // it was read to its end
			kept, err = l.names(n)
		}
		if err != nil {
			return
		}
	}
	tagged := len(kept) < len(all) // what is not kept then, is a cache's
	for _, name := range all {
		if l.ctx.Err() != nil {
			return
		}
		var e tree.Entry
		var st unix.Stat_t
		if posix.Stat(n.fd, name, &st) != nil || !posix.Fill(&e, &st) {
			continue
		}
		e.Name = name
		child := n.child(0, name)
		switch {
		case tagged && name != cacheTag || l.excluded(n, child, &e, &st):
			l.leave(n, child, &e)
		case e.Type == tree.Dir:
			if l.o.OneFileSystem && st.Dev != l.rootFS {
				l.leave(n, child, &e)
			} else if child.fd, err = posix.OpenDir(n.fd, name); err == nil {
				child.dev = st.Dev
				l.dir(child)
			}
		default:
			l.all.Saved++
			l.all.Size += fileSize(&e)
		}
	}
}

// leave counts a file or a folder that is left out.
func (l *looker) leave(n, child *dirNode, e *tree.Entry) {
	p := Place{Path: child.path, Dir: e.Type == tree.Dir}
	if p.Dir {
		l.count(n.fd, e.Name, &p)
	} else {
		p.Files, p.Bytes = 1, fileSize(e)
	}
	l.all.Places++
	l.all.Files += p.Files
	l.all.Bytes += p.Bytes
	if l.all.Biggest = append(l.all.Biggest, p); len(l.all.Biggest) == 4*maxPlaces {
		slices.SortStableFunc(l.all.Biggest, bigger)
		l.all.Biggest = l.all.Biggest[:maxPlaces]
	}
}

// count adds up what lies in a folder.
func (l *looker) count(dirfd int, name string, p *Place) {
	fd, err := posix.OpenDir(dirfd, name)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	names, err := posix.Names(fd, l.buf)
	if err != nil {
		return
	}
	for _, name := range names {
		if l.ctx.Err() != nil {
			return
		}
		var e tree.Entry
		var st unix.Stat_t
		if posix.Stat(fd, name, &st) != nil || !posix.Fill(&e, &st) {
			continue
		}
		if e.Type == tree.Dir {
			l.count(fd, name, p)
			continue
		}
		p.Files++
		p.Bytes += fileSize(&e)
	}
}

func fileSize(e *tree.Entry) int64 {
	if e.Type == tree.File {
		return e.Size
	}
	return 0
}
