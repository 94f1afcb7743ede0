package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"coffer/backup/restic"
	"coffer/backup/tree"
	"coffer/upstream"
)

// ResticFiles is where a repository of restic lies.
type ResticFiles = restic.Files

// What opening a repository of restic may fail with.
var (
	ErrResticPassword = restic.ErrPassword
	ErrResticNotExist = restic.ErrNotExist
	ErrResticCorrupt  = restic.ErrCorrupt
)

// ResticFolder is a repository of restic in a folder.
func ResticFolder(dir string) (ResticFiles, error) { return restic.Folder(dir) }

// ResticBucket is a repository of restic in a bucket.
func ResticBucket(b Bucket) ResticFiles { return resticBucket{b} }

type resticBucket struct{ b Bucket }

// Get implements [restic.Files].
func (r resticBucket) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	body, _, err := r.b.Get(ctx, name, off, n)
	if errors.Is(err, upstream.ErrNotExist) {
		err = fmt.Errorf("%w: %w", restic.ErrNotExist, err)
	}
	return body, err
}

// List implements [restic.Files].
func (r resticBucket) List(ctx context.Context, folder string, fn func(string) error) error {
	return r.b.List(ctx, folder, "", func(i upstream.Info) error { return fn(i.Name) })
}

// ImportOptions say what to bring from restic. Files and Password are required.
type ImportOptions struct {
	Files    ResticFiles
	Password string
	Source   func(paths []string) string // the name of the source; nil: the last part of the first path
	Progress func(Progress)
}

// ImportRestic brings the snapshots of a repository of restic, with their times,
// hosts, paths and tags. A snapshot that was brought before is not brought again,
// also when its tags were changed in either place.
func (r *Repo) ImportRestic(ctx context.Context, o ImportOptions) (BringReport, error) {
	from, err := restic.Open(ctx, o.Files, o.Password)
	if err != nil {
		return BringReport{}, err
	}
	if o.Source == nil {
		o.Source = func(paths []string) string { return path.Base(cmp.Or(paths...)) }
	}
	rep, err := r.bring(ctx, &fromRestic{from, o.Source}, o.Progress)
	if err != nil {
		return rep, fmt.Errorf("importing from restic: %w", err)
	}
	return rep, nil
}

// fromRestic is a repository of restic as snapshots are brought from it.
type fromRestic struct {
	r      *restic.Repo
	source func([]string) string
}

func (f *fromRestic) snapshots(ctx context.Context) ([]*foreignSnapshot, error) {
	all, err := f.r.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	var out []*foreignSnapshot
	for _, x := range all {
		id := x.ID
		if x.Original != nil {
			id = *x.Original
		}
		tags := slices.Clone(x.Tags)
		slices.Sort(tags)
		s := &foreignSnapshot{Snapshot: Snapshot{Time: x.Time.UTC(), End: x.Time.UTC(), Host: x.Host, User: x.User, Paths: slices.Clone(x.Paths),
			Tags: slices.Compact(tags), Source: f.source(x.Paths), Program: cmp.Or(x.Program, "restic"), Origin: "restic:" + id.String()}}
		if s.top, err = f.top(ctx, x); err != nil {
			return nil, fmt.Errorf("snapshot %.8s: %w", x.ID, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// top is the directory at the top of a snapshot here: with one path that is a
// directory, it is that, and otherwise "/".
func (f *fromRestic) top(ctx context.Context, x *restic.Snapshot) (foreignEntry, error) {
	made := tree.Time{Sec: x.Time.Unix(), Nsec: uint32(x.Time.Nanosecond())}
	root := foreignEntry{Entry: tree.Entry{Name: "root", Type: tree.Dir, Mode: 0o755, Mtime: made}, key: x.Tree.String(), from: x.Tree}
	if len(x.Paths) != 1 {
		return root, nil
	}
	// A path that was given relative to a folder lies by its last name.
	for _, names := range [][]string{split(x.Paths[0]), {path.Base(x.Paths[0])}} {
		at, ok := root, true
		for _, name := range names {
			entries, err := f.dir(ctx, &at)
			if err != nil {
				return root, err
			}
			i := slices.IndexFunc(entries, func(e foreignEntry) bool { return e.Name == name && e.Type == tree.Dir })
			if ok = i >= 0; !ok {
				break
			}
			at = entries[i]
		}
		if ok {
			at.Name = "root"
			return at, nil
		}
	}
	return root, nil
}

func (f *fromRestic) dir(ctx context.Context, e *foreignEntry) ([]foreignEntry, error) {
	nodes, err := f.r.Tree(ctx, e.from.(restic.ID))
	if err != nil {
		return nil, err
	}
	var out []foreignEntry
	for i := range nodes {
		if e, ok := f.entry(&nodes[i]); ok {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b foreignEntry) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(out, func(a, b foreignEntry) bool { return a.Name == b.Name }), nil
}

var resticTypes = map[string]tree.Type{"file": tree.File, "dir": tree.Dir, "symlink": tree.Symlink, "fifo": tree.FIFO, "dev": tree.BlockDevice, "chardev": tree.CharDevice}

// entry is what a node becomes; sockets and the like do not become anything.
func (f *fromRestic) entry(n *restic.Node) (foreignEntry, bool) {
	kind, ok := resticTypes[n.Type]
	if !ok || len(n.Name) > tree.MaxName {
		return foreignEntry{}, false
	}
	e := foreignEntry{Entry: tree.Entry{Name: n.Name, Type: kind, Mode: modeOf(fs.FileMode(n.Mode)), UID: n.UID, GID: n.GID,
		Mtime: timeOf(n.ModTime), Ctime: timeOf(n.CTime), Inode: n.Inode}}
	if n.Links > 1 && kind != tree.Dir {
		e.Flags, e.Device = tree.Linked, n.Device
	}
	for _, x := range n.Xattrs {
		e.Xattrs = append(e.Xattrs, tree.Xattr{Name: x.Name, Value: x.Value})
	}
	slices.SortFunc(e.Xattrs, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	e.Xattrs = slices.CompactFunc(e.Xattrs, func(a, b tree.Xattr) bool { return a.Name == b.Name })
	switch kind {
	case tree.File:
		h := sha256.New()
		for _, id := range n.Content {
			h.Write(id[:])
			size, _ := f.r.Size(id)
			e.Size += size
		}
		e.key, e.from = hex.EncodeToString(h.Sum(nil)), n.Content
	case tree.Dir:
		if n.Subtree == nil {
			e.Flags |= tree.Missing
			break
		}
		e.key, e.from = n.Subtree.String(), *n.Subtree
	case tree.Symlink:
		e.Target = n.Target
	case tree.CharDevice, tree.BlockDevice:
		e.Major, e.Minor = unix.Major(n.Rdev), unix.Minor(n.Rdev)
	}
	return e, true
}

// modeOf turns Go's mode into that of the system.
func modeOf(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&flag != 0 {
			out |= bit
		}
	}
	return out
}

func timeOf(t time.Time) tree.Time {
	return tree.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func (f *fromRestic) open(ctx context.Context, e *foreignEntry) io.Reader {
	return &resticReader{ctx: ctx, r: f.r, ids: e.from.([]restic.ID)}
}

// resticReader reads the blobs of a file one after the other.
type resticReader struct {
	ctx  context.Context
	r    *restic.Repo
	ids  []restic.ID
	rest bytes.Reader
}

// Read implements [io.Reader].
func (r *resticReader) Read(p []byte) (int, error) {
	for r.rest.Len() == 0 {
		if len(r.ids) == 0 {
			return 0, io.EOF
		}
		b, err := r.r.Blob(r.ctx, r.ids[0])
		if err != nil {
			return 0, err
		}
		r.rest.Reset(b)
		r.ids = r.ids[1:]
	}
	return r.rest.Read(p)
}
