package backup

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"coffer/backup/chunk"
	"coffer/backup/tree"
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

// previous reads directories of the parent snapshot, from the cache or else from
// upstream. A nil one knows nothing.
type previous struct {
	r        *Repo
	data     []byte // mapped
	at       map[chunk.ID]int
	sameBoot bool
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if id := strings.TrimSpace(string(b)); err == nil && len(id) == 36 {
		return id
	}
	return strings.Repeat("-", 36)
}

// openPrevious maps the cache. A cache that is absent or damaged is an empty one.
func (r *Repo) openPrevious(path string) *previous {
	p := &previous{r: r, at: make(map[chunk.ID]int)}
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

// node returns a cached node and its device number, 0 if that means nothing now.
func (p *previous) node(id chunk.ID) (data []byte, dev uint64) {
	at, ok := p.at[id]
	if !ok {
		return nil, 0
	}
	n := int(binary.LittleEndian.Uint32(p.data[at+40:]))
	data = p.data[at+treeRecord:][:n]
	if p.r.sum(data) != id { // the cache is not sealed: a bad disk must not end up in a snapshot
		return nil, 0
	}
	if p.sameBoot {
		dev = binary.LittleEndian.Uint64(p.data[at+32:])
	}
	return data, dev
}

// chunk returns a node, from upstream if it is not in the cache.
func (p *previous) chunk(ctx context.Context, id chunk.ID) ([]byte, uint64, error) {
	if data, dev := p.node(id); data != nil {
		return data, dev, nil
	}
	data, err := p.r.chunkData(ctx, id, true)
	return data, 0, err
}

// dir returns the entries of a directory, and the device it lay on. Whatever
// goes wrong, the files are then read again.
func (p *previous) dir(ctx context.Context, id chunk.ID) ([]tree.Entry, uint64) {
	entries, leaves, dev, err := p.parse(ctx, id)
	for _, l := range leaves {
		more, _, _, lerr := p.parse(ctx, l.ID)
		if lerr != nil {
			err = lerr
			break
		}
		entries = append(entries, more...)
	}
	if err != nil {
		p.r.log.Warn("a directory of the parent snapshot cannot be read", zap.Error(err))
		return nil, 0
	}
	return entries, dev
}

func (p *previous) parse(ctx context.Context, id chunk.ID) ([]tree.Entry, []tree.Branch, uint64, error) {
	data, dev, err := p.chunk(ctx, id)
	if err != nil {
		return nil, nil, 0, err
	}
	entries, leaves, err := tree.Decode(data)
	return entries, leaves, dev, err
}

// ids returns the ids of the data of a file.
func (p *previous) ids(ctx context.Context, e *tree.Entry) ([]chunk.ID, error) {
	if e.Flags&tree.Indirect == 0 {
		return nil, nil // Content has them
	}
	var ids []chunk.ID
	for _, id := range e.Content {
		data, _, err := p.chunk(ctx, id)
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

func (p *previous) close() { unmap(p.data); p.data, p.at = nil, nil }

// treeWriter writes the cache for the next run. Its errors only mean that there
// will be none.
type treeWriter struct {
	mu   sync.Mutex
	path string
	f    *os.File
	w    *bufio.Writer
	seen map[chunk.ID]struct{}
	err  error
}

// newTreeWriter begins a cache at path; with an empty path it keeps nothing.
func newTreeWriter(path string) *treeWriter {
	t := &treeWriter{path: path, seen: make(map[chunk.ID]struct{})}
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

func (t *treeWriter) add(id chunk.ID, dev uint64, node []byte) {
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

// commit makes what was added the cache of the next run.
func (t *treeWriter) commit() error {
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

// abort removes what was added.
func (t *treeWriter) abort() {
	if t.f != nil {
		t.f.Close()
		os.Remove(t.path + ".new")
	}
}
