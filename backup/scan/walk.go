package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"coffer/backup/chunk"
	"coffer/backup/ignore"
	"coffer/backup/posix"
	"coffer/backup/tree"
)

// scanner walks directories ahead of the readers. It compares each file with the
// previous snapshot, and passes on what must be read.
type scanner struct {
	*run
	tasks  chan<- task
	buf    []byte
	rootFS uint64 // device of the path at work
	ids    map[uint64]uint64
}

// task is a file to be read.
type task struct {
	n    *dirNode
	slot int
}

// dirNode is a directory that is not complete yet.
type dirNode struct {
	run    *run
	parent *dirNode
	slot   int    // in parent.entries
	path   string // absolute
	rel    string // below the path that was asked for; patterns are matched against it
	fd     int
	dev    uint64
	users  atomic.Int32 // of fd: the scanner, and files to be read
	left   atomic.Int32 // children that are not complete, plus one until all were seen

	entries  []tree.Entry
	top      tree.Entry // the root only: it has no parent that holds it
	previous []tree.Entry
	prevDev  uint64
	rules    *ignore.Rules
	only     *branch // not nil: a directory above the paths that were asked for
}

// branch is a tree of path names: what to visit of directories above the paths.
// A nil child is one of the paths: everything below is visited.
type branch struct{ children map[string]*branch }

// release closes the directory when nobody needs it any more.
func (n *dirNode) release() {
	if n.users.Add(-1) == 0 {
		unix.Close(n.fd)
	}
}

// childDone is called once for each child that is complete, and once by the
// scanner. The last one completes the directory.
func (n *dirNode) childDone() error {
	if n.left.Add(-1) > 0 {
		return nil
	}
	return n.run.complete(n)
}

func (n *dirNode) self() *tree.Entry {
	if n.parent == nil {
		return &n.top
	}
	return &n.parent.entries[n.slot]
}

// scan walks the paths and returns the root, which completes later.
func (s *scanner) scan(paths []string, prev *tree.Entry) (*dirNode, error) {
	var st unix.Stat_t
	top := &dirNode{run: s.run, fd: unix.AT_FDCWD, path: "/"}
	if err := unix.Stat(paths[0], &st); err != nil {
		return nil, fmt.Errorf("reading %s: %w", paths[0], err)
	}
	if len(paths) == 1 && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		top.path = paths[0]
	} else {
		top.only = branches(paths)
	}
	fd, err := unix.Open(top.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", top.path, err)
	}
	top.top.Name = "root"
	posix.Fill(&top.top, &st)
	s.rootFS = st.Dev
	top.fd, top.dev = fd, st.Dev
	if top.only == nil {
		top.rules = ignore.New(nil, "", s.o.Exclude)
	}
	return top, s.dir(top, prev)
}

func branches(paths []string) *branch {
	top := &branch{children: make(map[string]*branch)}
next:
	for _, p := range paths {
		at := top
		names := splitPath(p)
		for i, name := range names {
			child, ok := at.children[name]
			switch {
			case ok && child == nil: // a path above this one was asked for
				continue next
			case i == len(names)-1:
				at.children[name] = nil
			case !ok:
				child = &branch{children: make(map[string]*branch)}
				at.children[name] = child
			}
			at = child
		}
	}
	return top
}

// dir scans an open directory, depth first.
func (s *scanner) dir(n *dirNode, prev *tree.Entry) error {
	n.users.Store(1)
	n.left.Store(1)
	defer n.release()
	s.dirs.Add(1)
	self := n.self()
	same := prev != nil && sameMeta(self, prev)
	if same {
		self.Xattrs = prev.Xattrs
	} else if x, err := posix.Xattrs(n.fd); err == nil {
		self.Xattrs = x
	} else {
		s.log.Warn(n.path, err)
	}
	if prev != nil {
		n.previous, n.prevDev = s.prevDir(prev.Subtree)
	}
	names, err := s.names(n)
	if errors.Is(err, fs.ErrNotExist) && n.parent != nil { // vanished since it was opened
		*self = tree.Entry{}
		s.dirs.Add(-1)
		return n.childDone()
	}
	if err != nil {
		self.Flags |= tree.Missing
		s.log.Failed(n.path, err)
		return n.childDone()
	}
	n.entries = make([]tree.Entry, len(names))
	at := 0
	for i, name := range names {
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		for at < len(n.previous) && n.previous[at].Name < name {
			at++
		}
		var old *tree.Entry
		if at < len(n.previous) && n.previous[at].Name == name {
			old = &n.previous[at]
		}
		if err := s.entry(n, i, name, old); err != nil {
			return err
		}
	}
	n.previous = nil
	return n.childDone()
}

// names lists what is to be visited, and reads the directory's own patterns.
func (s *scanner) names(n *dirNode) ([]string, error) {
	names, err := posix.Names(n.fd, s.buf)
	if err != nil {
		return nil, err
	}
	if n.only != nil {
		kept := names[:0]
		for _, name := range names {
			if _, ok := n.only.children[name]; ok {
				kept = append(kept, name)
			}
		}
		for name := range n.only.children {
			if !contains(kept, name) {
				s.log.Failed(join(n.path, name), unix.ENOENT)
			}
		}
		return kept, nil
	}
	for _, name := range names {
		if s.o.ExcludeCaches && name == cacheTag && s.tagged(n) {
			return []string{cacheTag}, nil
		}
		if contains(s.o.ExcludeFiles, name) {
			if b, err := readSmall(n.fd, name, ignore.MaxFile); err == nil {
				n.rules = ignore.Parse(n.rules, n.rel, b)
			} else {
				s.log.Warn(join(n.path, name), err)
			}
		}
	}
	return names, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

const (
	cacheTag       = "CACHEDIR.TAG"
	cacheSignature = "Signature: 8a477f597d28d172789f06886806bc55" // bford.info/cachedir
)

func (s *scanner) tagged(n *dirNode) bool {
	b, err := readSmall(n.fd, cacheTag, len(cacheSignature))
	return err == nil && string(b) == cacheSignature
}

// readSmall reads up to max bytes of a regular file.
func readSmall(dirfd int, name string, most int) ([]byte, error) {
	fd, err := posix.OpenFile(dirfd, name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, most)
	k, err := posix.Read(fd, b)
	return b[:k], err
}

// entry looks at one name. What it does not keep stays without a Type.
func (s *scanner) entry(n *dirNode, slot int, name string, old *tree.Entry) error {
	var st unix.Stat_t
	if err := posix.Stat(n.fd, name, &st); err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // vanished: not there any more is no failure
			s.log.Failed(join(n.path, name), err)
		}
		return nil
	}
	e := &n.entries[slot]
	e.Name = name
	child := n.child(slot, name)
	if !posix.Fill(e, &st) || s.excluded(n, child, e, &st) {
		*e = tree.Entry{}
		return nil
	}
	if e.Flags&tree.Linked != 0 {
		e.Device = s.device(st.Dev)
	}
	if old != nil && old.Type != e.Type {
		old = nil
	}
	s.owner(e)
	switch e.Type {
	case tree.Dir:
		return s.subdir(n, child, e, &st, old)
	case tree.File:
		return s.file(n, slot, e, &st, old)
	default:
		s.others.Add(1)
		s.special(n, e, old)
		return nil
	}
}

// child prepares the node of a name, should it be a directory.
func (n *dirNode) child(slot int, name string) *dirNode {
	c := &dirNode{run: n.run, parent: n, slot: slot, path: join(n.path, name), rules: n.rules, rel: name, fd: -1}
	if n.rel != "" {
		c.rel = n.rel + "/" + name
	}
	if n.only != nil {
		c.rel = ""
		if c.only = n.only.children[name]; c.only == nil {
			c.rules = ignore.New(nil, "", n.run.o.Exclude)
		}
	}
	return c
}

func (s *scanner) excluded(n, child *dirNode, e *tree.Entry, st *unix.Stat_t) bool {
	if n.only != nil {
		return false
	}
	dir := e.Type == tree.Dir
	if dir && st.Ino == s.ownIno && st.Dev == s.ownDev {
		return true
	}
	if s.o.ExcludeLarger > 0 && e.Type == tree.File && e.Size > s.o.ExcludeLarger {
		return true
	}
	return n.rules.Match(child.rel, dir)
}

// device numbers file systems in the order in which the walk meets them: unlike
// the kernel's numbers, these are the same after a reboot.
func (s *scanner) device(dev uint64) uint64 {
	n, ok := s.ids[dev]
	if !ok {
		n = uint64(len(s.ids))
		s.ids[dev] = n
	}
	return n
}

func (s *scanner) subdir(n, child *dirNode, e *tree.Entry, st *unix.Stat_t, old *tree.Entry) error {
	if n.only != nil && child.only == nil {
		s.rootFS = st.Dev
	}
	if child.only == nil && s.o.OneFileSystem && st.Dev != s.rootFS {
		return s.empty(n, e)
	}
	fd, err := posix.OpenDir(n.fd, e.Name)
	if errors.Is(err, fs.ErrNotExist) {
		*e = tree.Entry{}
		return nil
	}
	if err != nil {
		e.Flags |= tree.Missing
		s.log.Failed(child.path, err)
		return s.empty(n, e)
	}
	child.fd, child.dev = fd, st.Dev
	n.left.Add(1)
	return s.dir(child, old)
}

// empty stores a directory without its content.
func (s *scanner) empty(n *dirNode, e *tree.Entry) (err error) {
	e.Subtree, err = tree.Encode(nil, func(b []byte) (chunk.ID, error) { return s.storeNode(b, n.dev) })
	return err
}

// file decides whether a file must be read.
func (s *scanner) file(n *dirNode, slot int, e *tree.Entry, st *unix.Stat_t, old *tree.Entry) error {
	s.files.Add(1)
	s.allFiles.Add(1)
	s.allBytes.Add(e.Size)
	if old == nil {
		s.fresh.Add(1)
	}
	if from := s.known(n, e, old, st); from != nil {
		e.Content, e.Holes, e.Xattrs = from.Content, from.Holes, from.Xattrs
		e.Flags |= from.Flags & tree.Indirect
		s.doneFiles.Add(1)
		s.doneBytes.Add(e.Size)
		return nil
	}
	if old != nil {
		s.changed.Add(1)
	}
	n.users.Add(1)
	n.left.Add(1)
	select {
	case s.tasks <- task{n, slot}:
		return nil
	case <-s.ctx.Done():
		n.release()
		return context.Cause(s.ctx)
	}
}

// known returns the entry that has the content of a file already: the previous
// snapshot's, or one that a killed run left in the journal.
func (s *scanner) known(n *dirNode, e, old *tree.Entry, st *unix.Stat_t) *tree.Entry {
	if s.o.Rescan {
		return nil
	}
	if old != nil && (n.prevDev == 0 || n.prevDev == st.Dev) && s.unchanged(e, old) {
		s.unchangedFiles.Add(1)
		return old
	}
	if from := s.journal.Find(join(n.path, e.Name)); from != nil && s.unchanged(e, from) {
		return from
	}
	return nil
}

// sameMeta reports whether nothing of an inode has changed since old.
func sameMeta(e, old *tree.Entry) bool {
	return old.Ctime != tree.Time{} && e.Ctime == old.Ctime && e.Mtime == old.Mtime && e.Inode == old.Inode &&
		e.Type == old.Type && old.Flags&(tree.Missing|tree.Changed) == 0
}

// unchanged reports whether the content of a file is what old says, and is stored.
func (s *scanner) unchanged(e, old *tree.Entry) bool {
	if e.Size != old.Size || !sameMeta(e, old) {
		return false
	}
	ids, err := s.prevIDs(old)
	return err == nil && s.st.HasAll(old.Content) && s.st.HasAll(ids)
}

// special takes in what has no content: symlinks, devices, FIFOs.
func (s *scanner) special(n *dirNode, e, old *tree.Entry) {
	if old != nil && sameMeta(e, old) {
		e.Xattrs, e.Target = old.Xattrs, old.Target
		return
	}
	if e.Type == tree.Symlink {
		target, err := posix.Readlink(n.fd, e.Name)
		if err != nil {
			s.log.Failed(join(n.path, e.Name), err)
			e.Flags |= tree.Missing
			return
		}
		e.Target = target
	}
	x, err := posix.XattrsAt(n.fd, e.Name)
	if err != nil {
		s.log.Warn(join(n.path, e.Name), err)
	}
	e.Xattrs = x
	s.distrust(e, time.Now())
}

// racy is how coarse the clock of a file system may be: what changed that
// shortly before it was read may have changed again since, with the same time.
const racy = 20 * time.Millisecond

// distrust forgets the change time of what has just changed: the next run reads
// it again.
func (s *run) distrust(e *tree.Entry, now time.Time) {
	if now.Sub(time.Unix(e.Ctime.Sec, int64(e.Ctime.Nsec))) < racy {
		e.Ctime = tree.Time{}
	}
}
