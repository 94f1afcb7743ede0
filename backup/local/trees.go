// Package local holds what a machine keeps from one run to the next, so that
// nothing is fetched or read twice. All of it may be lost: then more is read.
package local

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"coffer/backup/chunk"
)

// The cache of directories is a file with those of the last snapshot, so that
// the next run compares without fetching anything:
//
//	0   8    magic "cofftr1\n"
//	8   36   boot id: device numbers mean nothing after another boot
//	44       records: id 32, device 8, length 4 (little-endian), node
const (
	treeMagic  = "cofftr1\n"
	treeHead   = len(treeMagic) + 36
	treeRecord = 32 + 8 + 4

	unfinished = ".new" // ends the name of one that is being written
)

// Trees are the directories of the last snapshot, by the ids of their nodes. The file
// is read, not mapped: a disk that fails, or somebody who cuts it, costs a node and
// not the process.
type Trees struct {
	f        *os.File // nil: there is no cache
	size     int64
	at       map[chunk.ID]int64
	sameBoot bool
	sum      func([]byte) chunk.ID
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if id := strings.TrimSpace(string(b)); err == nil && len(id) == 36 {
		return id
	}
	return strings.Repeat("-", 36)
}

// Finished lists the caches in a folder, without those that a run writes, or was
// killed over.
func Finished(dir string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	return slices.DeleteFunc(all, func(path string) bool { return strings.HasSuffix(path, unfinished) }), err
}

// OpenTrees opens the cache at path. A cache that is absent or damaged is an empty
// one. sum computes the id of a node.
func OpenTrees(path string, sum func([]byte) chunk.ID) *Trees {
	p := &Trees{sum: sum, at: make(map[chunk.ID]int64)}
	f, err := os.Open(path)
	if err != nil {
		return p
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return p
	}
	p.f, p.size = f, info.Size()
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, p.size), 64<<10)
	var head [treeHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || string(head[:len(treeMagic)]) != treeMagic {
		return p
	}
	boot := string(head[len(treeMagic):])
	p.sameBoot = boot == bootID() && boot[0] != '-'
	for at := int64(treeHead); ; {
		var rec [treeRecord]byte
		if _, err := io.ReadFull(r, rec[:]); err != nil {
			return p
		}
		n := int64(binary.LittleEndian.Uint32(rec[40:]))
		if n > p.size-at-treeRecord {
			return p
		}
		if _, err := r.Discard(int(n)); err != nil {
			return p
		}
		p.at[chunk.ID(rec[:32])] = at
		at += treeRecord + n
	}
}

// Node returns a cached node, nil if it is not there, and its device number, 0
// if that means nothing now. The node is the caller's.
func (p *Trees) Node(id chunk.ID) (data []byte, dev uint64) {
	at, ok := p.at[id]
	if !ok {
		return nil, 0
	}
	var rec [treeRecord]byte
	if _, err := p.f.ReadAt(rec[:], at); err != nil {
		return nil, 0
	}
	n := int64(binary.LittleEndian.Uint32(rec[40:]))
	if n > p.size-at-treeRecord {
		return nil, 0
	}
	data = make([]byte, n)
	if _, err := p.f.ReadAt(data, at+treeRecord); err != nil {
		return nil, 0
	}
	if p.sum(data) != id { // the cache is not sealed: a bad disk must not end up in a snapshot
		return nil, 0
	}
	if p.sameBoot {
		dev = binary.LittleEndian.Uint64(rec[32:])
	}
	return data, dev
}

// Close closes the cache, which is an empty one from then on.
func (p *Trees) Close() {
	if p.f != nil {
		p.f.Close()
	}
	p.f, p.at = nil, nil
}

// TreeWriter writes the cache for the next run. Its errors only mean that there
// will be none.
type TreeWriter struct {
	mu   sync.Mutex
	path string
	f    *os.File
	w    *bufio.Writer
	seen map[chunk.ID]struct{}
	err  error
}

// NewTreeWriter begins a cache at path; with an empty path it keeps nothing.
func NewTreeWriter(path string) *TreeWriter {
	t := &TreeWriter{path: path, seen: make(map[chunk.ID]struct{})}
	if path == "" {
		return t
	}
	if t.f, t.err = os.OpenFile(path+unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); t.err != nil {
		return t
	}
	t.w = bufio.NewWriterSize(t.f, 64<<10)
	t.w.WriteString(treeMagic)
	t.w.WriteString(bootID())
	return t
}

// Add notes a node, and the device that its directory lies on.
func (t *TreeWriter) Add(id chunk.ID, dev uint64, node []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w == nil {
		return
	}
	if _, ok := t.seen[id]; ok {
		return
	}
	t.seen[id] = struct{}{}
	var head [treeRecord]byte
	copy(head[:], id[:])
	binary.LittleEndian.PutUint64(head[32:], dev)
	binary.LittleEndian.PutUint32(head[40:], uint32(len(node)))
	t.w.Write(head[:])
	t.w.Write(node)
}

// Commit makes what was added the cache of the next run. It replaces the one before,
// which stays as it is for who has that open: a finished cache is never written to.
func (t *TreeWriter) Commit() error {
	if t.f == nil {
		return t.err
	}
	err := t.w.Flush()
	if cerr := t.f.Close(); err == nil {
		err = cerr
	}
	t.f, t.w = nil, nil
	if err == nil {
		err = os.Rename(t.path+unfinished, t.path)
	}
	if err != nil {
		return fmt.Errorf("writing the cache of directories: %w", err)
	}
	return nil
}

// Abort removes what was added.
func (t *TreeWriter) Abort() {
	if t.f != nil {
		t.f.Close()
		os.Remove(t.path + ".new")
	}
}
