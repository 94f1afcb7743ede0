package backup

import (
	"context"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"coffer/backup/chunk"
	"coffer/backup/tree"
)

// run is one backup at work: what scanner, readers and workers share.
type run struct {
	r       *Repo
	o       *BackupOptions
	ctx     context.Context // the store's: ends when any part fails
	s       *store
	prev    *previous
	next    *treeWriter
	journal *journal
	ownDev  uint64 // the cache folder, which is never backed up
	ownIno  uint64
	started time.Time

	files, dirs, others            atomic.Int64
	allFiles, allBytes             atomic.Int64
	doneFiles, doneBytes           atomic.Int64
	fresh, changed, unchangedFiles atomic.Int64
	read                           atomic.Int64
	counted                        atomic.Bool
	current                        atomic.Pointer[dirNode]

	mu       sync.Mutex
	failures []FileError
	warnings []FileError
	partial  bool
	uids     map[uint32]string
	gids     map[uint32]string
}

// maxReported bounds the lists of a Report; what is over is counted in the last.
const maxReported = 10000

func report(list []FileError, path string, err error) []FileError {
	if len(list) < maxReported {
		return append(list, FileError{path, err.Error()})
	}
	return list
}

// failed notes that a file could not be saved. The run goes on.
func (n *run) failed(path string, err error) {
	n.r.metrics.files.WithLabelValues("unreadable").Inc()
	n.r.log.Debug("a file could not be read", zap.String("path", path), zap.Error(err))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.partial = true
	n.failures = report(n.failures, path, err)
}

// warn notes that a file was not saved in full.
func (n *run) warn(path string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.warnings = report(n.warnings, path, err)
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
			n.uids[id] = utf8(u.Username)
		} else {
			delete(n.uids, id)
		}
	}
	for id := range n.gids {
		if g, err := user.LookupGroupId(strconv.FormatUint(uint64(id), 10)); err == nil {
			n.gids[id] = utf8(g.Name)
		} else {
			delete(n.gids, id)
		}
	}
}

// storeNode stores a node of a directory, and keeps it for the next run.
func (n *run) storeNode(node []byte, dev uint64) (chunk.ID, error) {
	id := n.r.sum(node)
	if err := n.s.treeChunk(id, node); err != nil {
		return id, err
	}
	n.next.add(id, dev, node)
	return id, nil
}

// complete encodes a directory of which all is known, and tells its parent.
func (n *run) complete(d *dirNode) error {
	if err := context.Cause(n.ctx); err != nil {
		return err
	}
	d.entries = slices.DeleteFunc(d.entries, func(e tree.Entry) bool { return e.Type == 0 })
	self := d.self()
	self.Size, self.Count = 0, uint64(len(d.entries))
	for i := range d.entries {
		e := &d.entries[i]
		switch e.Type {
		case tree.File:
			self.Size += e.Size
		case tree.Dir:
			self.Size += e.Size
			self.Count += e.Count
		}
	}
	id, err := tree.Encode(d.entries, func(b []byte) (chunk.ID, error) { return n.storeNode(b, d.dev) })
	if err != nil {
		return fmt.Errorf("directory %q: %w", d.path, err)
	}
	self.Subtree = id
	d.entries = nil
	if d.parent == nil {
		return nil
	}
	return d.parent.childDone()
}

// content collects the ids of the chunks of one attempt to read a file. The
// reader appends to ids without ever growing the slice, as workers hold pointers
// into it.
type content struct {
	n     *dirNode
	slot  int
	ids   []chunk.ID
	holes []tree.Hole
	left  atomic.Int32 // chunks without id, plus one until the reader is through
	valid bool         // the last attempt; set by the reader before it is through
}

func newContent(t task, most int) *content {
	c := &content{n: t.n, slot: t.slot, ids: make([]chunk.ID, 0, most)}
	c.left.Store(1)
	return c
}

// next returns where the id of the next chunk goes.
func (c *content) next() *chunk.ID {
	c.left.Add(1)
	c.ids = c.ids[:len(c.ids)+1]
	return &c.ids[len(c.ids)-1]
}

// chunkDone is called once for each chunk, and once by the reader at the end.
func (c *content) chunkDone() error {
	if c.left.Add(-1) > 0 || !c.valid {
		return nil
	}
	return c.n.run.fileDone(c)
}

// fileDone takes in the content of a file of which all ids are known.
func (n *run) fileDone(c *content) error {
	e := &c.n.entries[c.slot]
	e.Content, e.Holes = c.ids, c.holes
	if len(c.ids) > tree.DirectIDs {
		lists, err := tree.Lists(c.ids, func(b []byte) (chunk.ID, error) { return n.storeNode(b, 0) })
		if err != nil {
			return fmt.Errorf("file %q: %w", join(c.n.path, e.Name), err)
		}
		e.Content = lists
		e.Flags |= tree.Indirect
	}
	n.journal.file(join(c.n.path, e.Name), e)
	n.doneFiles.Add(1)
	n.doneBytes.Add(e.Size)
	return c.n.childDone()
}

// statistics sums up what was done so far.
func (n *run) statistics() Statistics {
	return Statistics{Files: n.files.Load(), Dirs: n.dirs.Load(), Others: n.others.Load(), Bytes: n.allBytes.Load(),
		New: n.fresh.Load(), Changed: n.changed.Load(), Unchanged: n.unchangedFiles.Load(), Read: n.read.Load(),
		Added: n.s.added.Load(), Uploaded: n.s.uploaded.Load(), Packs: n.s.packs.Load()}
}

func (n *run) progress(phase string) Progress {
	n.mu.Lock()
	failed := len(n.failures)
	n.mu.Unlock()
	p := Progress{Phase: phase, Started: n.started, Files: n.doneFiles.Load(), Bytes: n.doneBytes.Load(),
		AllFiles: n.allFiles.Load(), AllBytes: n.allBytes.Load(), Counted: n.counted.Load(),
		Uploaded: n.s.uploaded.Load(), Failed: int64(failed)}
	if d := n.current.Load(); d != nil {
		p.Current = d.path
	}
	return p
}

// tick calls fn a few times a second until the returned function is called.
func tick(fn func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(250 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				fn()
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}
