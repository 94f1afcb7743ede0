package backup

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/tree"
	"coffer/seal"
)

const (
	cacheBytes = 32 << 20 // of plain segments kept in memory
	aheadBytes = 4 << 20  // fetched in one request where the next segments will be wanted
)

// segmentKey names a segment of a pack.
type segmentKey struct {
	pack pack.Name
	seg  int
}

// segmentCache keeps plain segments, the latest used, and the objects of packs.
type segmentCache struct {
	mu      sync.Mutex
	order   *list.List // of *cachedSegment, latest first
	items   map[segmentKey]*list.Element
	bytes   int
	objects map[pack.Name]*seal.Object
	hashers sync.Pool
}

type cachedSegment struct {
	key  segmentKey
	data []byte
}

func newSegmentCache() *segmentCache {
	return &segmentCache{order: list.New(), items: make(map[segmentKey]*list.Element), objects: make(map[pack.Name]*seal.Object)}
}

func (c *segmentCache) get(k segmentKey) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[k]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedSegment).data, true
}

func (c *segmentCache) put(k segmentKey, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[k]; ok {
		return
	}
	c.items[k] = c.order.PushFront(&cachedSegment{k, data})
	c.bytes += len(data)
	for c.bytes > cacheBytes && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(*cachedSegment)
		delete(c.items, old.key)
		c.bytes -= len(old.data)
	}
}

// packInfo returns what the table knows of a pack. The result is never changed.
func (r *Repo) packInfo(n int) pack.Info {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return *r.table.Pack(n)
}

func (r *Repo) lookup(id chunk.ID) (pack.Loc, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.table.Lookup(id)
}

// source reads ranges of a sealed pack, and notices that it was cut.
func (r *Repo) source(name string, sealedSize int64) seal.Source {
	return func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		body, info, err := r.bucket.Get(ctx, name, off, n)
		if err != nil {
			return nil, err
		}
		if info.Size != sealedSize {
			body.Close()
			return nil, fmt.Errorf("%d bytes, want %d: %w", info.Size, sealedSize, ErrCorrupt)
		}
		return body, nil
	}
}

// object opens a pack for reading at any place.
func (r *Repo) object(ctx context.Context, p pack.Info) (*seal.Object, error) {
	c := r.reads
	c.mu.Lock()
	o := c.objects[p.Name]
	c.mu.Unlock()
	if o != nil {
		return o, nil
	}
	name, size := packName(p.Name), seal.SealedSize(int64(p.Size))
	o, err := seal.OpenObject(ctx, r.source(name, size), size, r.keys, name)
	if err != nil {
		return nil, damaged(name, err)
	}
	c.mu.Lock()
	if len(c.objects) > 256 { // a few hundred bytes each: forgetting all is cheap
		clear(c.objects)
	}
	c.objects[p.Name] = o
	c.mu.Unlock()
	return o, nil
}

// segment returns a plain segment. With ahead, those of the same kind that
// follow are fetched in the same request and cached.
func (r *Repo) segment(ctx context.Context, packNo, seg int, ahead bool) ([]byte, error) {
	p := r.packInfo(packNo)
	if data, ok := r.reads.get(segmentKey{p.Name, seg}); ok {
		return data, nil
	}
	end := seg + 1
	if ahead {
		for end < len(p.Segments) && p.Segments[end].Tree == p.Segments[seg].Tree &&
			p.Segments[end].Off+p.Segments[end].Stored-p.Segments[seg].Off <= aheadBytes {
			end++
		}
	}
	from := p.Segments[seg].Off
	raw := make([]byte, p.Segments[end-1].Off+p.Segments[end-1].Stored-from)
	if err := r.readPack(ctx, p, int64(from), raw); err != nil {
		return nil, err
	}
	z := pack.NewDecompressor()
	var first []byte
	for i := seg; i < end; i++ {
		data, err := plainSegment(z, p.Segments[i], raw[p.Segments[i].Off-from:][:p.Segments[i].Stored])
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", i, damaged(packName(p.Name), err))
		}
		if i == seg {
			first = data
		}
		r.reads.put(segmentKey{p.Name, i}, data)
	}
	return first, nil
}

// readPack fills b with the plain bytes of a pack from off on.
func (r *Repo) readPack(ctx context.Context, p pack.Info, off int64, b []byte) error {
	o, err := r.object(ctx, p)
	if err != nil {
		return err
	}
	body, err := o.NewReader(ctx, off, int64(len(b)))
	if err != nil {
		return damaged(packName(p.Name), err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, b); err != nil {
		return damaged(packName(p.Name), err)
	}
	return nil
}

func plainSegment(z *pack.Decompressor, s pack.Place, stored []byte) ([]byte, error) {
	if !s.Compressed {
		return stored, nil
	}
	return z.Decompress(nil, stored, int(s.Plain))
}

// errNoChunk is told apart from a damaged object, which has a name.
var errNoChunk = errors.New("no index knows the chunk")

// chunkData returns a chunk, verified by its id. The caller must not change it.
func (r *Repo) chunkData(ctx context.Context, id chunk.ID, ahead bool) ([]byte, error) {
	loc, ok := r.lookup(id)
	if !ok {
		if err := r.refresh(ctx); err != nil {
			return nil, err
		}
		if loc, ok = r.lookup(id); !ok {
			return nil, r.missing(id)
		}
	}
	data, err := r.segment(ctx, loc.Pack, loc.Segment, ahead)
	if err != nil {
		return nil, err
	}
	part := data[loc.Off : loc.Off+loc.Len]
	if r.sum(part) != id {
		return nil, fmt.Errorf("reading %s: chunk %s: %w", packName(r.packInfo(loc.Pack).Name), id, ErrCorrupt)
	}
	return part, nil
}

// missing explains a chunk that is nowhere, naming the index objects that
// could not be read: one of them may have known it.
func (r *Repo) missing(id chunk.ID) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	err := fmt.Errorf("chunk %s: %w: %w", id, ErrCorrupt, errNoChunk)
	for _, b := range r.broken {
		err = fmt.Errorf("%w; %w", err, b)
	}
	return err
}

func (r *Repo) sum(data []byte) chunk.ID {
	h, ok := r.reads.hashers.Get().(*chunk.Hasher)
	if !ok {
		h = chunk.NewHasher(r.config.Secret)
	}
	defer r.reads.hashers.Put(h)
	return h.Sum(data)
}

// node reads and parses one node of a directory.
func (r *Repo) node(ctx context.Context, id chunk.ID) ([]tree.Entry, []tree.Branch, error) {
	data, err := r.chunkData(ctx, id, true)
	if err != nil {
		return nil, nil, err
	}
	entries, leaves, err := tree.Decode(data)
	if err != nil {
		loc, _ := r.lookup(id)
		return nil, nil, fmt.Errorf("reading %s: chunk %s: %w: %w", packName(r.packInfo(loc.Pack).Name), id, ErrCorrupt, err)
	}
	return entries, leaves, nil
}

// dir reads a whole directory.
func (r *Repo) dir(ctx context.Context, id chunk.ID) ([]tree.Entry, error) {
	entries, leaves, err := r.node(ctx, id)
	for _, l := range leaves {
		more, deeper, err := r.node(ctx, l.ID)
		if err != nil {
			return nil, err
		}
		if deeper != nil {
			return nil, fmt.Errorf("directory %s: branch below a branch: %w", id, ErrCorrupt)
		}
		entries = append(entries, more...)
	}
	return entries, err
}

// fileIDs returns the ids of a file's data.
func (r *Repo) fileIDs(ctx context.Context, e *tree.Entry) ([]chunk.ID, error) {
	if e.Flags&tree.Indirect == 0 {
		return e.Content, nil
	}
	var ids []chunk.ID
	for _, id := range e.Content {
		data, err := r.chunkData(ctx, id, true)
		if err != nil {
			return nil, err
		}
		part, err := tree.IDs(data)
		if err != nil {
			return nil, fmt.Errorf("list of chunks %s: %w: %w", id, ErrCorrupt, err)
		}
		ids = append(ids, part...)
	}
	return ids, nil
}
