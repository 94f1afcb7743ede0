// Package scan walks directories, reads what has changed since the snapshot
// before, and stores it. A scanner walks ahead of several readers; workers of the
// store's Writer compress and seal what these read; whoever learns the last thing
// that was missing of a directory completes it.
package scan

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"coffer/backup/chunk"
	"coffer/backup/local"
	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/backup/tree"
	"coffer/seal"
	"coffer/upstream"
)

// Options say what to scan.
type Options struct {
	Paths         []string // absolute, at least one
	Exclude       []string // gitignore patterns, relative to each path
	ExcludeFiles  []string // names of files that hold such patterns
	ExcludeCaches bool     // leave out what CACHEDIR.TAG marks, the tag aside
	ExcludeLarger int64    // bytes; 0: none
	ExcludeDir    string   // a folder that is never scanned: the cache
	OneFileSystem bool
	NoCompress    bool
	Rescan        bool // read every file, even if it looks unchanged
	DryRun        bool

	Parent   *tree.Entry // the root of the snapshot to compare with; nil: none
	Trees    string      // path of the cache of directories; empty: none
	Journal  string      // path of the journal; empty: none
	Log      *zap.Logger // required
	Progress func(report.Progress)
}

// Result is what a scan has stored.
type Result struct {
	Root    tree.Entry
	Users   map[uint32]string // names of the owners seen
	Groups  map[uint32]string
	Partial bool // something is missing, or changed while it was read
	Report  report.Report
	run     *run
}

// Commit keeps what the next run compares with, once the snapshot is published.
func (r *Result) Commit() error {
	r.run.journal.Close(true)
	return r.run.next.Commit()
}

// Abort gives up: what was stored stays in the journal, for the next run.
func (r *Result) Abort() {
	r.run.journal.Close(false)
	r.run.next.Abort()
}

// run is one scan at work: what scanner, readers and workers share.
type run struct {
	st      *store.Store
	o       *Options
	ctx     context.Context // the writer's: ends when any part fails
	w       *store.Writer
	prev    *local.Trees
	next    *local.TreeWriter
	journal *local.Journal
	log     report.Log
	ownDev  uint64 // of ExcludeDir
	ownIno  uint64
	started time.Time

	files, dirs, others            atomic.Int64
	allFiles, allBytes             atomic.Int64
	doneFiles, doneBytes           atomic.Int64
	fresh, changed, unchangedFiles atomic.Int64
	read                           atomic.Int64
	unstable                       atomic.Bool // a file changed while it was read
	counted                        atomic.Bool
	current                        atomic.Pointer[dirNode]

	uids map[uint32]string
	gids map[uint32]string
}

// Run scans the paths and stores what is new. The Result must be committed or
// aborted, also after an error.
func Run(ctx context.Context, st *store.Store, o Options) (*Result, error) {
	n := &run{st: st, o: &o, started: time.Now(), uids: make(map[uint32]string), gids: make(map[uint32]string)}
	var own unix.Stat_t
	if o.ExcludeDir != "" && unix.Stat(o.ExcludeDir, &own) == nil {
		n.ownDev, n.ownIno = own.Dev, own.Ino
	}
	n.prev = local.OpenTrees(o.Trees, st.Sum)
	defer n.prev.Close()
	if o.DryRun {
		o.Trees, o.Journal = "", ""
	}
	n.next = local.NewTreeWriter(o.Trees)
	n.journal = local.OpenJournal(o.Journal, o.Log)
	top, err := n.store(ctx)
	res := &Result{run: n, Report: n.log.Report(n.statistics())}
	if err != nil {
		return res, err
	}
	n.ownerNames()
	res.Root, res.Users, res.Groups = top.top, n.uids, n.gids
	res.Partial = n.log.Failures() > 0 || n.unstable.Load()
	return res, nil
}

// store walks, reads and stores everything, and returns the top directory.
func (n *run) store(ctx context.Context) (*dirNode, error) {
	n.w = n.st.NewWriter(ctx, n.o.DryRun, n.journal.Pack)
	n.ctx = n.w.Context()
	defer report.Every(n.o.Progress, n.progress)()
	n.w.Fail(n.resume())
	tasks := make(chan task, 256)
	var readers sync.WaitGroup
	for range max(2, n.st.Workers()) {
		readers.Go(func() { n.w.Fail(n.newReader().loop(tasks)) })
	}
	sc := &scanner{run: n, tasks: tasks, buf: make([]byte, 32<<10), ids: make(map[uint64]uint64)}
	top, err := sc.scan(n.o.Paths, n.o.Parent)
	n.counted.Store(true)
	n.w.Fail(err)
	close(tasks)
	readers.Wait()
	if err := n.w.Finish(); err != nil {
		return nil, err
	}
	return top, nil
}

// resume takes in the packs that a killed run has stored and no index knows.
func (n *run) resume() error {
	for _, rec := range n.journal.Packs() {
		if n.st.Knows(rec.Name) {
			continue
		}
		name := store.PackName(rec.Name)
		info, err := n.st.Bucket().Head(n.ctx, name)
		if errors.Is(err, upstream.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for %s: %w", name, err)
		}
		if info.Size == seal.SealedSize(int64(rec.Size)) {
			n.w.Landed(rec)
		}
	}
	return nil
}

// owner remembers an owner, whose name the snapshot keeps.
func (n *run) owner(e *tree.Entry) {
	n.uids[e.UID] = ""
	n.gids[e.GID] = ""
}

// ownerNames looks the names up, once each. Unknown ones are left out.
func (n *run) ownerNames() {
	for id := range n.uids {
		if u, err := user.LookupId(strconv.FormatUint(uint64(id), 10)); err == nil {
			n.uids[id] = strings.ToValidUTF8(u.Username, "\uFFFD")
		} else {
			delete(n.uids, id)
		}
	}
	for id := range n.gids {
		if g, err := user.LookupGroupId(strconv.FormatUint(uint64(id), 10)); err == nil {
			n.gids[id] = strings.ToValidUTF8(g.Name, "\uFFFD")
		} else {
			delete(n.gids, id)
		}
	}
}

// statistics sums up what was done so far.
func (n *run) statistics() report.Statistics {
	return report.Statistics{Files: n.files.Load(), Dirs: n.dirs.Load(), Others: n.others.Load(), Bytes: n.allBytes.Load(),
		New: n.fresh.Load(), Changed: n.changed.Load(), Unchanged: n.unchangedFiles.Load(), Read: n.read.Load(),
		Added: n.w.Added(), Uploaded: n.w.Uploaded(), Packs: n.w.Packs()}
}

func (n *run) progress() report.Progress {
	p := report.Progress{Phase: "store", Started: n.started, Files: n.doneFiles.Load(), Bytes: n.doneBytes.Load(),
		AllFiles: n.allFiles.Load(), AllBytes: n.allBytes.Load(), Counted: n.counted.Load(),
		Uploaded: n.w.Uploaded(), Failed: n.log.Failures()}
	if d := n.current.Load(); d != nil {
		p.Current = d.path
	}
	return p
}

// prevDir returns the entries of a directory of the parent snapshot, and the
// device it lay on, from the cache or else from upstream. Whatever goes wrong, the
// files are then read again.
func (n *run) prevDir(id chunk.ID) ([]tree.Entry, uint64) {
	entries, leaves, dev, err := n.prevNode(id)
	for _, l := range leaves {
		more, _, _, lerr := n.prevNode(l.ID)
		if lerr != nil {
			err = lerr
			break
		}
		entries = append(entries, more...)
	}
	if err != nil {
		n.o.Log.Warn("a directory of the parent snapshot cannot be read", zap.Error(err))
		return nil, 0
	}
	return entries, dev
}

func (n *run) prevNode(id chunk.ID) ([]tree.Entry, []tree.Branch, uint64, error) {
	data, dev, err := n.prevChunk(id)
	if err != nil {
		return nil, nil, 0, err
	}
	entries, leaves, err := tree.Decode(data)
	return entries, leaves, dev, err
}

func (n *run) prevChunk(id chunk.ID) ([]byte, uint64, error) {
	if data, dev := n.prev.Node(id); data != nil {
		return data, dev, nil
	}
	data, err := n.st.Chunk(n.ctx, id, true)
	return data, 0, err
}

// prevIDs returns the ids of the data of a file whose entry only has lists.
func (n *run) prevIDs(e *tree.Entry) ([]chunk.ID, error) {
	if e.Flags&tree.Indirect == 0 {
		return nil, nil
	}
	var ids []chunk.ID
	for _, id := range e.Content {
		data, _, err := n.prevChunk(id)
		if err != nil {
			return nil, err
		}
		part, err := tree.IDs(data)
		if err != nil {
			return nil, err
		}
		ids = append(ids, part...)
	}
	return ids, nil
}
