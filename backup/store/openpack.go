package store

import (
	"context"
	"fmt"
	"sync"

	"coffer/backup/pack"
	"coffer/seal"
	"coffer/upstream"
)

// packChunks is how many chunks make a pack full, however small they are: each
// takes memory until an index object says where it lies.
const packChunks = 1 << 15

// openPack is a pack that segments are still added to. They are sealed as they
// come, so the buffer is what will be sent.
type openPack struct {
	record *pack.Record
	size   int // of the segments
	chunks int // in them
	footer int // of the footer, about
	w      *seal.Writer
	out    *region
}

// newPack begins a pack in a region, or in a new one if that is nil.
func (s *Store) newPack(g *region) (*openPack, error) {
	if g == nil {
		var err error
		if g, err = newRegion(int(seal.SealedSize(int64(pack.Padded(s.format.PackSize + 1<<10))))); err != nil {
			return nil, err
		}
	}
	g.b = g.b[:0]
	p := &openPack{record: &pack.Record{Name: NewName()}, out: g, footer: len(s.rawFormat) + 64}
	w, err := seal.NewWriter(g, s.keys, seal.Options{Name: PackName(p.record.Name)})
	if err != nil {
		return nil, fmt.Errorf("sealing a pack: %w", err)
	}
	p.w = w
	return p, nil
}

// room reports whether a segment fits. An empty pack takes any.
func (p *openPack) room(most int, seg *pack.Segment, body int) bool {
	return p.size == 0 || p.chunks+len(seg.Chunks) <= packChunks && p.size+p.footer+body+footerSize(seg) <= most
}

// footerSize is about what a segment takes in the footer.
func footerSize(seg *pack.Segment) int { return 8 + 36*len(seg.Chunks) }

// add appends a segment.
func (p *openPack) add(seg pack.Segment, body []byte) error {
	if _, err := p.w.Write(body); err != nil {
		return fmt.Errorf("sealing a pack: %w", err)
	}
	p.size += len(body)
	p.chunks += len(seg.Chunks)
	p.footer += footerSize(&seg)
	p.record.Segments = append(p.record.Segments, seg)
	return nil
}

// close ends the pack: its region then holds what is to be sent.
func (p *openPack) close(config []byte) error {
	_, err := p.w.Write(pack.AppendEnd(p.size, p.record, config))
	if err == nil {
		err = p.w.Close()
	}
	if err != nil {
		return fmt.Errorf("sealing a pack: %w", err)
	}
	return nil
}

func (s *Store) putPack(ctx context.Context, n pack.Name, g *region) error {
	name := PackName(n)
	if _, err := s.bucket.Put(ctx, name, &regionReader{g: g}, int64(len(g.b)), upstream.PutOptions{}); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// bufferPool keeps the buffers of jobs, by their size in whole MiB. A sync.Pool
// would lose them at each collection, and cause the next one.
type bufferPool struct {
	mu      sync.Mutex
	classes [8][][]byte
	kept    int // bytes
}

const poolBytes = 24 << 20

// get returns an empty buffer for n bytes.
func (p *bufferPool) get(n int) []byte {
	class := (n - 1) >> 20
	if n < 1 || class >= len(p.classes) {
		return make([]byte, 0, n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if free := p.classes[class]; len(free) > 0 {
		b := free[len(free)-1]
		p.classes[class] = free[:len(free)-1]
		p.kept -= cap(b)
		return b[:0]
	}
	return make([]byte, 0, (class+1)<<20)
}

func (p *bufferPool) put(b []byte) {
	class := cap(b)>>20 - 1
	if class < 0 || class >= len(p.classes) || cap(b)&(1<<20-1) != 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept+cap(b) <= poolBytes {
		p.classes[class] = append(p.classes[class], b)
		p.kept += cap(b)
	}
}
