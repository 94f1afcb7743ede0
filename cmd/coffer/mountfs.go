package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"coffer/backup"
)

// catalog is the list of snapshots as a mount shows it: source, time, snapshot.
type catalog struct {
	repo   *backup.Repo
	failed func(error) // told of what a program only learns as "input/output error"

	mu     sync.Mutex
	read   time.Time
	tree   map[string]map[string]*backup.Snapshot
	newest map[string]string // by source: time; by "": source/time
}

// list returns the sources with their snapshots, not older than catalogTime.
func (c *catalog) list(ctx context.Context) (map[string]map[string]*backup.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tree != nil && time.Since(c.read) < catalogTime {
		return c.tree, nil
	}
	all, err := c.repo.Snapshots(ctx)
	if err != nil && len(all) == 0 {
		return nil, err
	}
	if err != nil {
		c.failed(err) // what can be read is shown
	}
	c.tree, c.newest, c.read = make(map[string]map[string]*backup.Snapshot), make(map[string]string), time.Now()
	for _, s := range all {
		source, at := folderName(s.Source), s.Time.Local().Format("2006-01-02T15.04.05")
		if c.tree[source] == nil {
			c.tree[source] = make(map[string]*backup.Snapshot)
		}
		if _, taken := c.tree[source][at]; taken {
			at += "-" + s.ID[:8]
		}
		c.tree[source][at] = s
		c.newest[source], c.newest[""] = at, source+"/"+at
	}
	return c.tree, nil
}

// latest is where the link of that name leads; source "" is the top.
func (c *catalog) latest(source string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest[source]
}

// errno tells of err, and makes of it what the kernel takes.
func (c *catalog) errno(err error) syscall.Errno {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	}
	c.failed(err)
	return syscall.EIO
}

// folderName makes a source's name one of a folder, other than "latest".
func folderName(source string) string {
	name := strings.NewReplacer("/", "_", "\x00", "_").Replace(source)
	if name == "" || name == "." || name == ".." || name == latestName {
		return name + "_"
	}
	return name
}

const latestName = "latest"

// topNode is the mounted folder: a folder for each source.
type topNode struct {
	fs.Inode
	c *catalog
}

// sourceNode is the folder of a source: its snapshots by time.
type sourceNode struct {
	fs.Inode
	c      *catalog
	source string
}

func folderAttr(out *fuse.Attr) { out.Mode, out.Nlink = syscall.S_IFDIR|0o755, 2 }

// shortly makes the kernel ask again soon: snapshots come and go.
func shortly(out *fuse.EntryOut) {
	out.SetEntryTimeout(time.Second)
	out.SetAttrTimeout(time.Second)
}

func (n *topNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	folderAttr(&out.Attr)
	return 0
}

func (n *topNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	all, err := n.c.list(ctx)
	if err != nil {
		return nil, n.c.errno(err)
	}
	shortly(out)
	if to := n.c.latest(""); name == latestName && to != "" {
		return newLink(ctx, &n.Inode, to, out), 0
	}
	if all[name] == nil {
		return nil, syscall.ENOENT
	}
	folderAttr(&out.Attr)
	return n.NewInode(ctx, &sourceNode{c: n.c, source: name}, fs.StableAttr{Mode: syscall.S_IFDIR, Ino: number("", 1, name)}), 0
}

func (n *topNode) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	all, err := n.c.list(ctx)
	if err != nil {
		return nil, n.c.errno(err)
	}
	return folders(slices.Sorted(maps.Keys(all))), 0
}

func (n *sourceNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	folderAttr(&out.Attr)
	return 0
}

func (n *sourceNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	all, err := n.c.list(ctx)
	if err != nil {
		return nil, n.c.errno(err)
	}
	shortly(out)
	if to := n.c.latest(n.source); name == latestName && to != "" {
		return newLink(ctx, &n.Inode, to, out), 0
	}
	s := all[n.source][name]
	if s == nil {
		return nil, syscall.ENOENT
	}
	child := &entryNode{c: n.c, e: n.c.repo.Top(s), snapshot: s.ID}
	return child.add(ctx, &n.Inode, out), 0
}

func (n *sourceNode) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	all, err := n.c.list(ctx)
	if err != nil {
		return nil, n.c.errno(err)
	}
	return folders(slices.Sorted(maps.Keys(all[n.source]))), 0
}

// folders lists folders, and the link to the latest of them.
func folders(names []string) fs.DirStream {
	var list []fuse.DirEntry
	for _, name := range names {
		list = append(list, fuse.DirEntry{Name: name, Mode: syscall.S_IFDIR})
	}
	if len(list) > 0 {
		list = append(list, fuse.DirEntry{Name: latestName, Mode: syscall.S_IFLNK})
	}
	return fs.NewListDirStream(list)
}

func newLink(ctx context.Context, in *fs.Inode, to string, out *fuse.EntryOut) *fs.Inode {
	l := &fs.MemSymlink{Attr: fuse.Attr{Mode: 0o777, Nlink: 1}, Data: []byte(to)}
	out.Attr.Mode, out.Attr.Nlink, out.Attr.Size = syscall.S_IFLNK|0o777, 1, uint64(len(to))
	return in.NewInode(ctx, l, fs.StableAttr{Mode: syscall.S_IFLNK, Ino: number("latest", in.StableAttr().Ino, to)})
}

// entryNode is what lies in a snapshot, or its top.
type entryNode struct {
	fs.Inode
	c        *catalog
	e        *backup.Child
	snapshot string
}

var entryTypes = map[string]uint32{"file": syscall.S_IFREG, "dir": syscall.S_IFDIR, "symlink": syscall.S_IFLNK, "fifo": syscall.S_IFIFO,
	"chardev": syscall.S_IFCHR, "blockdev": syscall.S_IFBLK}

// add puts n below a directory. Its number is the same whenever the kernel asks again,
// and that of a file with several names is the same for all of them.
func (n *entryNode) add(ctx context.Context, parent *fs.Inode, out *fuse.EntryOut) *fs.Inode {
	n.attr(&out.Attr)
	stable := fs.StableAttr{Mode: entryTypes[n.e.Type], Ino: number(n.snapshot, parent.StableAttr().Ino, n.e.Name)}
	if n.e.Links {
		stable.Ino = number(n.snapshot, n.e.Device, strconv.FormatUint(n.e.Inode, 10))
	}
	return parent.NewInode(ctx, n, stable)
}

// number makes the number of an inode: 63 bits, and not that of the top.
func number(snapshot string, parent uint64, name string) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d %s", snapshot, parent, name)
	return h.Sum64()>>1 | 2
}

func (n *entryNode) attr(out *fuse.Attr) {
	e := &n.e.Entry
	out.Mode = entryTypes[e.Type] | e.Mode
	out.Owner = fuse.Owner{Uid: e.UID, Gid: e.GID}
	out.SetTimes(&e.ModTime, &e.ModTime, &e.ModTime)
	out.Nlink, out.Blksize = 1, 128<<10
	if e.Links || e.Dir() {
		out.Nlink = 2 // or more: how many is not kept
	}
	switch e.Type {
	case "file":
		out.Size, out.Blocks = uint64(e.Size), uint64(n.e.Stored()+511)/512
	case "symlink":
		out.Size = uint64(len(e.Target))
	case "chardev", "blockdev":
		out.Rdev = e.Minor&0xff | e.Major<<8 | e.Minor&^0xff<<12
	}
}

func (n *entryNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.attr(&out.Attr)
	return 0
}

func (n *entryNode) Readlink(context.Context) ([]byte, syscall.Errno) { return []byte(n.e.Target), 0 }

func (n *entryNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	e, err := n.e.Child(ctx, name)
	if errors.Is(err, backup.ErrNotExist) {
		return nil, syscall.ENOENT
	}
	if err != nil {
		return nil, n.c.errno(err)
	}
	child := &entryNode{c: n.c, e: e, snapshot: n.snapshot}
	return child.add(ctx, &n.Inode, out), 0
}

func (n *entryNode) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	all, err := n.e.Children(ctx)
	if err != nil {
		return nil, n.c.errno(err)
	}
	list := make([]fuse.DirEntry, len(all))
	for i, e := range all {
		list[i] = fuse.DirEntry{Name: e.Name, Mode: entryTypes[e.Type]}
	}
	return fs.NewListDirStream(list), 0
}

func (n *entryNode) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	v, ok := n.e.Xattrs[name]
	if !ok {
		return 0, unix.ENODATA
	}
	return fill(dest, v)
}

func (n *entryNode) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	var all []byte
	for _, name := range slices.Sorted(maps.Keys(n.e.Xattrs)) {
		all = append(append(all, name...), 0)
	}
	return fill(dest, all)
}

// fill copies v into dest if it fits, and says how long it is.
func fill(dest, v []byte) (uint32, syscall.Errno) {
	if len(dest) < len(v) {
		return uint32(len(v)), syscall.ERANGE
	}
	return uint32(copy(dest, v)), 0
}

func (n *entryNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	f, err := n.e.Open(ctx)
	if err != nil {
		return nil, 0, n.c.errno(err)
	}
	return &fileHandle{n.c, f}, fuse.FOPEN_KEEP_CACHE, 0 // a snapshot never changes
}

// fileHandle is an open file of a snapshot.
type fileHandle struct {
	c *catalog
	f *backup.File
}

func (h *fileHandle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := h.f.ReadAt(ctx, dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, h.c.errno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Lseek finds data and holes.
func (h *fileHandle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	size := h.f.Size()
	if off >= uint64(size) {
		return 0, syscall.ENXIO
	}
	end, hole := h.f.Extent(int64(off))
	switch {
	case whence == unix.SEEK_DATA && !hole, whence == unix.SEEK_HOLE && hole:
		return off, 0
	case whence == unix.SEEK_DATA && end == size:
		return 0, syscall.ENXIO // a hole up to the end
	case whence == unix.SEEK_DATA, whence == unix.SEEK_HOLE:
		return uint64(end), 0
	}
	return 0, syscall.EINVAL
}
