// Package restore writes files of a snapshot into a directory. Directories are
// made and files planned, a batch at a time, then packs are read one after the
// other and files written as their chunks come; then hard links are made, and
// directories get their times last of all. Content is verified before it is written.
//
// Everything is reached from the target by names in open directories, so that a
// symlink that lies there never leads outside.
package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"coffer/backup/chunk"
	"coffer/backup/ignore"
	"coffer/backup/pack"
	"coffer/backup/posix"
	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/backup/tree"
)

// Overwrite says what becomes of a file that is already there.
type Overwrite int

// The modes of [Options.Overwrite].
const (
	OverwriteChanged Overwrite = iota // replace it unless size and modification time are the same
	OverwriteAlways                   // replace it
	OverwriteOlder                    // replace it if it is older than the snapshot's
	OverwriteNever                    // keep it
)

// Options say what to restore and where. Root and To are required.
type Options struct {
	Root      *tree.Entry // the directory at the top of the snapshot
	SetRoot   bool        // To, if it is made, is to become that directory, with its owner, mode and times
	InPlace   bool        // and if it is there, too
	To        string      // directory, made if absent
	Paths     []string    // within the snapshot; none: everything
	Exclude   []string    // gitignore patterns of what to leave out
	Strip     bool        // put the contents of each of Paths directly into To
	Overwrite Overwrite
	Delete    bool // remove what is there and not in the snapshot
	Verify    bool // read everything again afterwards and compare: what was there already and counts as the same, too
	DryRun    bool
	Batch     int // chunks that are planned before they are fetched; 0: 65,536
	Progress  func(report.Progress)
}

// restorer is one restore at work.
type restorer struct {
	st    *store.Store
	o     *Options
	rules *ignore.Rules
	dirs  *dirPool
	top   *outDir
	made  bool // the target is of this restore, or of an interrupted one that it goes on with
	all   []*outDir
	first map[linkKey]*outFile // of the names of a file with several: one that has its content
	links []hardLink

	wants   map[pack.Name]*packWants // of the batch
	waiting int                      // chunks in wants, and files that are kept
	batch   []*outFile               // its files

	started                        time.Time
	allFiles, allBytes             atomic.Int64
	doneFiles, doneBytes, received atomic.Int64
	others, nDirs, kept, openFiles atomic.Int64
	planned                        atomic.Bool

	log report.Log
}

// defaultBatch bounds what a restore remembers of what it will write. The tree and
// the packs have files in about the same order: few packs are read for two batches.
const defaultBatch = 1 << 16

// want is a chunk that a file needs at an offset.
type want struct {
	f            *outFile
	off          int64
	id           chunk.ID
	seg, at, len uint32 // segment, place in it
}

// packWants are those of a pack.
type packWants struct {
	number int // packs have numbers in the order in which they became known: that of the files, more or less
	list   []want
}

// Run restores. A file that a damaged object touches is left out and reported;
// the error is for what ends the whole restore.
func Run(ctx context.Context, st *store.Store, o Options) (report.Report, error) {
	if o.Batch == 0 {
		o.Batch = defaultBatch
	}
	x := &restorer{st: st, o: &o, rules: ignore.New(nil, "", o.Exclude), dirs: newDirPool(),
		first: make(map[linkKey]*outFile), wants: make(map[pack.Name]*packWants), started: time.Now()}
	err := x.run(ctx)
	if err != nil {
		x.abandon()
	}
	x.dirs.close(x.top)
	rep := x.log.Report(report.Statistics{Files: x.doneFiles.Load(), Bytes: x.doneBytes.Load(), Dirs: x.nDirs.Load(),
		Others: x.others.Load(), Unchanged: x.kept.Load(), Read: x.received.Load()})
	rep.Took = time.Since(x.started)
	return rep, err
}

func (x *restorer) run(ctx context.Context) error {
	defer report.Every(x.o.Progress, x.progress)()
	if err := x.st.Refresh(ctx); err != nil {
		return err
	}
	if err := x.open(); err != nil {
		return err
	}
	if err := x.plan(ctx); err != nil {
		return err
	}
	x.planned.Store(true)
	if x.o.DryRun {
		x.doneFiles.Store(x.allFiles.Load())
		x.doneBytes.Store(x.allBytes.Load())
		return nil
	}
	if err := x.finishBatch(ctx); err != nil {
		return err
	}
	x.link()
	x.finishDirs()
	return x.sync()
}

// sync has all of it on disk: after a power cut a file of the right size and time
// would count as restored, whatever is in it.
func (x *restorer) sync() error {
	if err := unix.Syncfs(x.top.fd); err != nil {
		return fmt.Errorf("writing what was restored to disk: %w", err)
	}
	return nil
}

// finishBatch fetches what is planned, and forgets it.
func (x *restorer) finishBatch(ctx context.Context) error {
	if err := x.fetch(ctx); err != nil {
		return err
	}
	clear(x.wants)
	x.waiting = 0
	var rest []*outFile
	if n := len(x.batch); n > 0 && x.batch[n-1].left.Load() > 0 && !x.batch[n-1].failed.Load() { // goes on in the next batch
		x.batch, rest = x.batch[:n-1], x.batch[n-1:]
	}
	if x.o.Verify {
		if err := x.verify(ctx); err != nil {
			return err
		}
	}
	x.batch = slices.Clone(rest)
	return nil
}

// open makes and opens the target, which may itself be reached by symlinks.
func (x *restorer) open() error {
	x.top = &outDir{path: x.o.To, fd: -1}
	if x.o.DryRun {
		fd, err := unix.Open(x.o.To, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if x.top.fresh = errors.Is(err, fs.ErrNotExist); x.top.fresh {
			return nil
		}
		if err != nil {
			return fmt.Errorf("opening the target %s: %w", x.o.To, err)
		}
		x.top.fd = fd
		return nil
	}
	_, err := os.Stat(x.o.To)
	x.made = errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(x.o.To, 0o700); err != nil {
		return fmt.Errorf("making the target: %w", err)
	}
	fd, err := unix.Open(x.o.To, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the target %s: %w", x.o.To, err)
	}
	x.top.fd = fd
	if x.made {
		_ = unix.Fchmod(fd, unfinishedTarget) // a file system without modes does not keep it
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("looking at the target: %w", err)
	}
	x.made = st.Mode&0o7777 == unfinishedTarget && int(st.Uid) == os.Geteuid()
	return nil
}

// unfinishedTarget is the mode of a target that a restore has made, until its end.
const unfinishedTarget = 0o1700

// plan walks what is to be restored.
func (x *restorer) plan(ctx context.Context) error {
	if len(x.o.Paths) == 0 {
		if x.o.SetRoot && (x.made || x.o.InPlace) {
			x.top.e = x.o.Root
		}
		x.all = append(x.all, x.top)
		return x.children(ctx, x.top, x.o.Root, "", true)
	}
	for _, p := range x.o.Paths {
		if err := x.planPath(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// planPath plans one path, with the directories that lead to it.
func (x *restorer) planPath(ctx context.Context, p string) error {
	names := strings.FieldsFunc(p, func(c rune) bool { return c == '/' })
	e, at, rel := *x.o.Root, x.top, ""
	if len(names) == 0 {
		return x.children(ctx, at, &e, "", true)
	}
	for i, name := range names {
		child, err := x.st.Child(ctx, e.Subtree, name)
		if err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
		e, rel = child, strings.TrimPrefix(rel+"/"+name, "/")
		last := i == len(names)-1
		if e.Type != tree.Dir && !last {
			return fmt.Errorf("%q: %w", p, store.ErrNotExist)
		}
		switch {
		case last && x.o.Strip && e.Type == tree.Dir:
			return x.children(ctx, at, &e, rel, true)
		case last:
			return x.entry(ctx, at, &e, rel)
		case !x.o.Strip:
			if at = x.makeDir(at, &e); at == nil {
				return nil // reported
			}
			defer at.unpin(x.dirs)
		}
	}
	return nil
}

// children plans what is in a directory. whole says that all of it is restored.
func (x *restorer) children(ctx context.Context, d *outDir, e *tree.Entry, rel string, whole bool) error {
	if e.Flags&tree.Missing != 0 {
		x.log.Warn(d.path, errors.New("could not be read when it was backed up"))
		return nil
	}
	entries, err := x.st.Dir(ctx, e.Subtree)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		x.log.Failed(d.path, err)
		return nil
	}
	if x.o.Delete && whole {
		x.deleteOthers(d, entries)
	}
	for i := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := &entries[i]
		childRel := strings.TrimPrefix(rel+"/"+c.Name, "/")
		if x.rules.Match(childRel, c.Type == tree.Dir) {
			continue
		}
		if err := x.entry(ctx, d, c, childRel); err != nil {
			return err
		}
	}
	return nil
}

func (x *restorer) entry(ctx context.Context, d *outDir, e *tree.Entry, rel string) error {
	switch e.Type {
	case tree.Dir:
		sub := x.makeDir(d, e)
		if sub == nil {
			return nil
		}
		defer sub.unpin(x.dirs)
		return x.children(ctx, sub, e, rel, true)
	case tree.File:
		return x.file(ctx, d, e)
	default:
		x.special(d, e)
		return nil
	}
}

// file plans a file, or makes it at once if it is empty.
func (x *restorer) file(ctx context.Context, d *outDir, e *tree.Entry) error {
	path := join(d.path, e.Name)
	if e.Flags&tree.Missing != 0 {
		x.log.Warn(path, errors.New("could not be read when it was backed up: left out"))
		return nil
	}
	if e.Flags&tree.Linked != 0 {
		if first, ok := x.first[linkKey{e.Device, e.Inode}]; ok {
			return x.further(ctx, first, d, e)
		}
		only := *e // it is kept to the end, and must not keep its directory
		e = &only
	}
	f := &outFile{x: x, dir: d, e: e, fd: -1}
	x.allFiles.Add(1)
	x.allBytes.Add(e.Size)
	c, err := x.clear(d, e)
	if err != nil {
		x.log.Failed(path, err)
		return nil
	}
	if !c.write {
		if c.same {
			x.noteFirst(f)
		}
		return x.keep(ctx, f, c.same)
	}
	f.over = c.over
	spans, err := x.st.Spans(ctx, e)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		x.log.Failed(path, err)
		return nil
	}
	x.noteFirst(f)
	if x.o.DryRun {
		return nil
	}
	return x.want(ctx, f, spans)
}

// keep counts a file that stays as it is. One that is taken for the snapshot's is
// verified as if it had been written.
func (x *restorer) keep(ctx context.Context, f *outFile, same bool) error {
	x.kept.Add(1)
	x.doneFiles.Add(1)
	if !same || !x.o.Verify || x.o.DryRun {
		return nil
	}
	f.kept = true
	x.batch = append(x.batch, f)
	if x.waiting++; x.waiting >= x.o.Batch {
		return x.finishBatch(ctx)
	}
	return nil
}

// want plans the data of a file, and fetches what is planned when it is much.
func (x *restorer) want(ctx context.Context, f *outFile, spans []store.Span) error {
	spans = slices.DeleteFunc(spans, func(s store.Span) bool { return s.Hole })
	f.left.Store(int32(max(1, len(spans))))
	if len(spans) == 0 {
		f.write(0, nil)
		return nil
	}
	x.batch = append(x.batch, f)
	for _, s := range spans {
		loc, _ := x.st.Lookup(s.ID)
		p := x.wants[loc.Name]
		if p == nil {
			p = &packWants{number: loc.Pack}
			x.wants[loc.Name] = p
		}
		p.list = append(p.list, want{f: f, off: s.Off, id: s.ID, seg: uint32(loc.Segment), at: loc.Off, len: loc.Len})
		if x.waiting++; x.waiting >= x.o.Batch {
			if err := x.finishBatch(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// fetch reads the packs that are needed, several at a time.
func (x *restorer) fetch(ctx context.Context) error {
	packs := make([]pack.Name, 0, len(x.wants))
	for n := range x.wants {
		packs = append(packs, n)
	}
	slices.SortFunc(packs, func(a, b pack.Name) int { return cmp.Compare(x.wants[a].number, x.wants[b].number) })
	queue := make(chan pack.Name)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range max(3, x.st.Workers()) {
		wg.Go(func() {
			f := x.newFetcher()
			for n := range queue {
				if err := f.pack(ctx, n, x.wants[n].list); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, n := range packs {
		slices.SortStableFunc(x.wants[n].list, func(a, b want) int { return cmp.Compare(a.seg, b.seg) })
		select {
		case queue <- n:
		case <-ctx.Done():
		}
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}

// finishDirs sets what directories have, the deepest first.
func (x *restorer) finishDirs() {
	for _, d := range slices.Backward(x.all) {
		if d.e == nil {
			continue
		}
		err := x.dirs.with(d, func(fd int) error { return posix.Apply(fd, d.e) })
		if err != nil {
			x.log.Warn(d.path, err)
		}
	}
	if x.made && x.top.e == nil {
		_ = unix.Fchmod(x.top.fd, 0o700)
	}
}

func (x *restorer) progress() report.Progress {
	return report.Progress{Phase: "restore", Started: x.started, Files: x.doneFiles.Load(), Bytes: x.doneBytes.Load(),
		AllFiles: x.allFiles.Load(), AllBytes: x.allBytes.Load(), Counted: x.planned.Load(), Uploaded: x.received.Load(), Failed: x.log.Failures()}
}
