package proxy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"
)

// snapshotsBucket is a bucket that nobody writes: every snapshot of the backup
// repository, as SOURCE/TIME/PATH.
const snapshotsBucket = "snapshots"

// Snapshots is a tree that does not change beneath its paths. Paths have slashes
// between names, which are any bytes; "" is the root. What is not there is
// [fs.ErrNotExist]. It is safe for concurrent use.
type Snapshots interface {
	// ReadDir calls fn for each entry of a folder, in any order, until fn fails.
	ReadDir(ctx context.Context, path string, fn func(SnapshotEntry) error) error

	// Stat describes a file or a folder.
	Stat(ctx context.Context, path string) (SnapshotEntry, error)

	// Open reads n bytes of a file from off on; both lie within its size.
	Open(ctx context.Context, path string, off, n int64) (io.ReadCloser, error)
}

// SnapshotEntry is a file or a folder of a snapshot. What is neither, such as a
// symbolic link, is not to be among the entries.
type SnapshotEntry struct {
	Name     string // last element of the path
	Dir      bool
	Size     int64 // bytes
	Modified time.Time
	Content  string // changes with the content, for the ETag; may be ""
}

// row is what LIST and GET say of a file.
func (e SnapshotEntry) row(path string) *row {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%d", path, e.Content, e.Size, e.Modified.UnixNano()))
	return &row{Size: e.Size, Modified: e.Modified.UnixNano(), ETag: fmt.Sprintf("%x-1", sum[:16])}
}

func (p *Proxy) isSnapshots(bucket string) bool { return p.snaps != nil && bucket == snapshotsBucket }

// serveSnapshots answers what can be asked of a bucket that is read-only.
func (p *Proxy) serveSnapshots(w http.ResponseWriter, rq *request) error {
	if rq.op.write {
		return errAccessDenied.saying("The bucket %q is read-only.", snapshotsBucket)
	}
	switch rq.op.name {
	case "ListObjects", "ListObjectsV2":
		return rq.op.handle(p, w, rq)
	case "GetObject", "HeadObject":
		return p.getSnapshot(w, rq)
	case "HeadBucket":
		w.Header().Set("X-Amz-Bucket-Region", p.region)
		w.WriteHeader(http.StatusOK)
		return nil
	case "GetBucketLocation":
		return p.sendLocation(w)
	case "GetBucketVersioning":
		return sendXML(w, `<VersioningConfiguration xmlns="`+xmlNamespace+`"/>`)
	}
	return errNotImplemented
}

func (p *Proxy) getSnapshot(w http.ResponseWriter, rq *request) error {
	if strings.HasSuffix(rq.key, "/") || rq.query.Has("versionId") || rq.query.Has("partNumber") {
		return errNoSuchKey
	}
	entry, err := p.snaps.Stat(rq.Context(), rq.key)
	if errors.Is(err, fs.ErrNotExist) || err == nil && entry.Dir {
		return errNoSuchKey
	}
	if err != nil {
		return err
	}
	r := entry.row(rq.key)
	if err := checkRead(rq.Header, r); err != nil {
		return err
	}
	s, err := parseRange(rq.Header.Get("Range"), r.Size)
	if err != nil {
		return err
	}
	return sendSpan(w, rq, r, s, false, func() (io.ReadCloser, error) { return p.snaps.Open(rq.Context(), rq.key, s.off, s.n) })
}

// errPageFull ends the walk.
var errPageFull = errors.New("page is full")

// snapshotWalk collects one page of the tree.
type snapshotWalk struct {
	snaps Snapshots
	l     listing
	out   listed
}

// listSnapshots lists the tree in the order of whole paths.
func (p *Proxy) listSnapshots(ctx context.Context, l listing) (listed, error) {
	w := &snapshotWalk{snaps: p.snaps, l: l}
	if l.max == 0 {
		return w.out, nil
	}
	if err := w.folder(ctx, ""); err != nil && !errors.Is(err, errPageFull) {
		return w.out, err
	}
	return w.out, nil
}

// folder walks a folder; path ends with a slash, but for the root.
func (w *snapshotWalk) folder(ctx context.Context, path string) error {
	var entries []SnapshotEntry
	err := w.snaps.ReadDir(ctx, strings.TrimSuffix(path, "/"), func(e SnapshotEntry) error {
		if e.Dir {
			e.Name += "/" // it sorts as the beginning of its files
		}
		entries = append(entries, e)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b SnapshotEntry) int { return cmp.Compare(a.Name, b.Name) })
	for _, e := range entries {
		if err := w.entry(ctx, path+e.Name, e); err != nil {
			return err
		}
	}
	return nil
}

func (w *snapshotWalk) entry(ctx context.Context, path string, e SnapshotEntry) error {
	within := strings.HasPrefix(path, w.l.prefix)
	if !e.Dir {
		if !within || path <= w.l.after {
			return nil
		}
		return w.emit(path, e.row(path))
	}
	if !within && !strings.HasPrefix(w.l.prefix, path) || path < w.l.after && !strings.HasPrefix(w.l.after, path) {
		return nil
	}
	if common := w.l.common(path); common == path { // all that is in there is one line
		return w.emit(path, nil)
	}
	return w.folder(ctx, path)
}

// emit adds a file, or the common prefix that it belongs to; r is nil for a folder.
func (w *snapshotWalk) emit(path string, r *row) error {
	common := w.l.common(path)
	if common != "" && (common == w.out.last || common == w.l.after) {
		return nil
	}
	if len(w.out.rows)+len(w.out.prefixes) == w.l.max {
		w.out.truncated = true
		return errPageFull
	}
	if common != "" {
		w.out.prefixes, w.out.last = append(w.out.prefixes, common), common
		return nil
	}
	w.out.rows, w.out.last = append(w.out.rows, listedRow{path, r}), path
	return nil
}
