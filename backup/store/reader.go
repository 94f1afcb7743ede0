package store

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/table"
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

// Pack describes a pack that the table knows.
func (s *Store) Pack(n pack.Name) (table.Info, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	number, ok := s.table.Number(n)
	if !ok {
		return table.Info{}, fmt.Errorf("reading %s: no index describes it: %w", PackName(n), ErrNotExist)
	}
	return s.table.Pack(number)
}

// Chunks is how many chunks the index knows.
func (s *Store) Chunks() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.table.Len()
}

// Place is where a chunk lies.
type Place struct {
	table.Loc
	Name pack.Name
}

// Lookup says where a chunk lies.
func (s *Store) Lookup(id chunk.ID) (Place, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l, ok := s.table.Lookup(id)
	if !ok {
		return Place{}, false
	}
	return Place{l, s.table.Name(l.Pack)}, true
}

// Source reads ranges of a sealed pack, and notices that it was cut.
func (s *Store) Source(name string, sealedSize int64) seal.Source {
	return func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		body, info, err := s.bucket.Get(ctx, name, off, n)
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

// OpenPack opens a pack of size plain bytes for reading at any place.
func (s *Store) OpenPack(ctx context.Context, n pack.Name, size uint32) (*seal.Object, error) {
	o, err := s.openPack(ctx, n, size)
	if err != nil {
		return nil, Damaged(PackName(n), err)
	}
	return o, nil
}

func (s *Store) openPack(ctx context.Context, n pack.Name, size uint32) (*seal.Object, error) {
	name, sealed := PackName(n), seal.SealedSize(int64(size))
	return seal.OpenObject(ctx, s.Source(name, sealed), sealed, s.keys, name)
}

// object is openPack, but remembers packs that were opened lately.
func (s *Store) object(ctx context.Context, n pack.Name, size uint32) (*seal.Object, error) {
	c := s.reads
	c.mu.Lock()
	o := c.objects[n]
	c.mu.Unlock()
	if o != nil {
		return o, nil
	}
	o, err := s.openPack(ctx, n, size)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if len(c.objects) > 256 { // a few hundred bytes each: forgetting all is cheap
		clear(c.objects)
	}
	c.objects[n] = o
	c.mu.Unlock()
	return o, nil
}

// opened reports whether object remembers a pack.
func (s *Store) opened(n pack.Name) bool {
	s.reads.mu.Lock()
	defer s.reads.mu.Unlock()
	return s.reads.objects[n] != nil
}

// segment returns a plain segment. With ahead, those of the same kind that
// follow are fetched in the same request and cached.
func (s *Store) segment(ctx context.Context, l Place, ahead bool) ([]byte, error) {
	seg := l.Segment
	if data, ok := s.reads.get(segmentKey{l.Name, seg}); ok {
		return data, nil
	}
	p, err := s.Pack(l.Name)
	if err != nil {
		return nil, err
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
	if err := s.readPack(ctx, p, int64(from), raw); err != nil {
		return nil, err
	}
	z := pack.GetDecompressor()
	defer z.Put()
	var first []byte
	for i := seg; i < end; i++ {
		data, err := plainSegment(z, p.Segments[i], raw[p.Segments[i].Off-from:][:p.Segments[i].Stored])
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", i, Damaged(PackName(p.Name), err))
		}
		if i == seg {
			first = data
		}
		s.reads.put(segmentKey{p.Name, i}, data)
	}
	return first, nil
}

// readPack fills b with the plain bytes of a pack from off on.
func (s *Store) readPack(ctx context.Context, p table.Info, off int64, b []byte) error {
	body, err := s.OpenRange(ctx, p.Name, p.Size, off, off+int64(len(b)))
	if err == nil {
		defer body.Close()
		_, err = io.ReadFull(body, b)
	}
	if err != nil {
		return Damaged(PackName(p.Name), NoEOF(err))
	}
	return nil
}

func plainSegment(z *pack.Decompressor, s table.Place, stored []byte) ([]byte, error) {
	if !s.Compressed {
		return stored, nil
	}
	return z.Decompress(nil, stored, int(s.Plain))
}

// ErrNoChunk is told apart from a damaged object, which has a name.
var ErrNoChunk = errors.New("no index knows the chunk")

// Chunk returns a chunk, verified by its id. The caller must not change it.
func (s *Store) Chunk(ctx context.Context, id chunk.ID, ahead bool) ([]byte, error) {
	loc, ok := s.Lookup(id)
	if !ok {
		if err := s.Refresh(ctx); err != nil {
			return nil, err
		}
		if loc, ok = s.Lookup(id); !ok {
			return nil, s.Missing(id)
		}
	}
	data, err := s.segment(ctx, loc, ahead)
	if err != nil {
		return nil, err
	}
	part := data[loc.Off : loc.Off+loc.Len]
	if s.Sum(part) != id {
		return nil, fmt.Errorf("reading %s: chunk %s: %w", PackName(loc.Name), id, ErrCorrupt)
	}
	return part, nil
}

// Missing explains a chunk that is nowhere, naming the index objects that
// could not be read: one of them may have known it.
func (s *Store) Missing(id chunk.ID) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err := fmt.Errorf("chunk %s: %w: %w", id, ErrCorrupt, ErrNoChunk)
	for _, b := range s.broken {
		err = fmt.Errorf("%w; %w", err, b)
	}
	return err
}

// HasAll reports whether all chunks are stored in packs that are not gone.
func (s *Store) HasAll(ids []chunk.ID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range ids {
		if !s.table.Has(ids[i]) {
			return false
		}
	}
	return true
}

// Knows reports whether an index describes the pack.
func (s *Store) Knows(n pack.Name) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	number, ok := s.table.Number(n) // a table from the cache has packs that were never published, too
	return ok && (!s.table.Gone(number) || s.condemned[n])
}

// NoEOF turns the end of a pack that came too early into an error that is no end.
func NoEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
