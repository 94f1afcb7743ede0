package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"coffer/backup/pack"
	"coffer/seal"
	"coffer/upstream"
)

// openPack is a pack that segments are still added to. They are sealed as they
// come, so the buffer is what will be sent.
type openPack struct {
	record *pack.Record
	size   int // of the segments
	w      *seal.Writer
	out    sliceWriter
}

// sliceWriter appends to a slice whose memory is used again.
type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// newPack begins a pack in buf, or in a new buffer if that is nil.
func (s *Store) newPack(buf []byte) (*openPack, error) {
	if buf == nil {
		most := pack.Padded(s.format.PackSize + s.format.PackSize/64)
		buf = make([]byte, 0, seal.SealedSize(int64(most)))
	}
	p := &openPack{record: &pack.Record{Name: NewName()}, out: sliceWriter{buf[:0]}}
	w, err := seal.NewWriter(&p.out, s.keys, seal.Options{Name: PackName(p.record.Name)})
	if err != nil {
		return nil, fmt.Errorf("sealing a pack: %w", err)
	}
	p.w = w
	return p, nil
}

// add appends a segment.
func (p *openPack) add(seg pack.Segment, body []byte) error {
	if _, err := p.w.Write(body); err != nil {
		return fmt.Errorf("sealing a pack: %w", err)
	}
	p.size += len(body)
	p.record.Segments = append(p.record.Segments, seg)
	return nil
}

// close ends the pack and returns its sealed bytes.
func (p *openPack) close(config []byte) ([]byte, error) {
	_, err := p.w.Write(pack.AppendEnd(p.size, p.record, config))
	if err == nil {
		err = p.w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sealing a pack: %w", err)
	}
	return p.out.b, nil
}

func (s *Store) putPack(ctx context.Context, n pack.Name, sealed []byte) error {
	name := PackName(n)
	if _, err := s.bucket.Put(ctx, name, bytes.NewReader(sealed), int64(len(sealed)), upstream.PutOptions{}); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// bufferPool keeps the buffers of jobs, by their size in whole MiB.
type bufferPool struct{ classes [8]sync.Pool }

// get returns an empty buffer for n bytes.
func (p *bufferPool) get(n int) []byte {
	class := (n - 1) >> 20
	if class < 0 || class >= len(p.classes) {
		return make([]byte, 0, n)
	}
	if b, ok := p.classes[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, (class+1)<<20)
}

func (p *bufferPool) put(b []byte) {
	class := cap(b)>>20 - 1
	if class >= 0 && class < len(p.classes) && cap(b)&(1<<20-1) == 0 {
		p.classes[class].Put(&b)
	}
}
