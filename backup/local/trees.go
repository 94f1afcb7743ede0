// Package local holds what a machine keeps from one run to the next, so that
// nothing is fetched or read twice. All of it may be lost: then more is read.
package local

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

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
)

// Trees are the directories of the last snapshot, by the ids of their nodes.
type Trees struct {
	data     []byte // mapped
	at       map[chunk.ID]int
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

// OpenTrees maps the cache at path. A cache that is absent or damaged is an empty
// one. sum computes the id of a node.
func OpenTrees(path string, sum func([]byte) chunk.ID) *Trees {
	p := &Trees{sum: sum, at: make(map[chunk.ID]int)}
	data, err := mapFile(path)
	if err != nil || len(data) < treeHead || string(data[:len(treeMagic)]) != treeMagic {
		unmap(data)
		return p
	}
	p.data = data
	boot := string(data[len(treeMagic):treeHead])
	p.sameBoot = boot == bootID() && boot[0] != '-'
	for at := treeHead; len(data)-at >= treeRecord; {
		n := int(binary.LittleEndian.Uint32(data[at+40:]))
		if n > len(data)-at-treeRecord {
			break
		}
		p.at[chunk.ID(data[at:at+32])] = at
		at += treeRecord + n
	}
	return p
}

func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
}

func unmap(data []byte) {
	if data != nil {
		unix.Munmap(data)
	}
}

// Node returns a cached node, nil if it is not there, and its device number, 0
// if that means nothing now.
func (p *Trees) Node(id chunk.ID) (data []byte, dev uint64) {
	at, ok := p.at[id]
	if !ok {
		return nil, 0
	}
	n := int(binary.LittleEndian.Uint32(p.data[at+40:]))
	data = p.data[at+treeRecord:][:n]
	if p.sum(data) != id { // the cache is not sealed: a bad disk must not end up in a snapshot
		return nil, 0
	}
	if p.sameBoot {
		dev = binary.LittleEndian.Uint64(p.data[at+32:])
	}
	return data, dev
}

// Close unmaps the cache: nodes it gave must not be used any more.
func (p *Trees) Close() { unmap(p.data); p.data, p.at = nil, nil }

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
	if t.f, t.err = os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); t.err != nil {
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

// Commit makes what was added the cache of the next run.
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
		err = os.Rename(t.path+".new", t.path)
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
