package backup

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/store"
)

// writeAgain stores again what is needed of packs that are not worth their size.
// All that are going to be marked count as gone by then, for a chunk may lie in
// several of them.
func (p *pruner) writeAgain(ctx context.Context, marks []pack.Name) error {
	gone := make(map[pack.Name]bool)
	for n := range p.marked {
		gone[n] = true
	}
	for _, n := range marks {
		gone[n] = true
	}
	p.r.st.Condemn(gone)
	w := p.r.st.NewWriter(ctx, false, nil)
	g, gctx := errgroup.WithContext(w.Context())
	g.SetLimit(2) // one reads while the other compresses
	err := p.eachRecord(gctx, func(n int, rec *pack.Record) error {
		if p.rewrite[n] {
			g.Go(func() error { return p.copyNeeded(gctx, w, n, rec) })
		}
		return nil
	})
	if gerr := g.Wait(); gerr != nil {
		err = gerr
	}
	w.Fail(err)
	err = w.Finish()
	p.rep.Uploaded = w.Uploaded()
	return err
}

// copyNeeded hands what is needed of a pack to the writer. The pack is read in one
// go, from the first segment with anything needed to the last.
func (p *pruner) copyNeeded(ctx context.Context, w *store.Writer, number int, rec *pack.Record) error {
	wanted := make([]bool, len(rec.Segments))
	first, end := len(wanted), 0
	for i := range rec.Segments {
		off := uint32(0)
		for _, c := range rec.Segments[i].Chunks {
			if p.needsAt(c.ID, number, i, off) {
				wanted[i], first, end = true, min(first, i), i+1
			}
			off += c.Len
		}
	}
	if first > end {
		return nil
	}
	body, err := p.r.st.ReadSegments(ctx, rec, first, end)
	if err != nil {
		return err
	}
	defer body.Close()
	for i := first; i < end; i++ {
		data, err := body.Next(wanted[i])
		if err == nil && wanted[i] {
			err = p.copySegment(w, number, rec, i, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// needsAt reports whether a chunk is needed, and in this place.
func (p *pruner) needsAt(id chunk.ID, number, segment int, off uint32) bool {
	l, ok := p.table.Lookup(id)
	return ok && l.Pack == number && l.Segment == segment && l.Off == off && p.uses(l)
}

func (p *pruner) copySegment(w *store.Writer, number int, rec *pack.Record, i int, data []byte) error {
	s := &rec.Segments[i]
	job := &store.Job{Raw: w.Buffer(len(data)), Flat: !s.Compressed}
	off := uint32(0)
	for _, c := range s.Chunks {
		at := off
		off += c.Len
		if !p.needsAt(c.ID, number, i, at) {
			continue
		}
		part := data[at : at+c.Len]
		if p.r.st.Sum(part) != c.ID {
			return fmt.Errorf("reading %s: chunk %s: %w", store.PackName(rec.Name), c.ID, ErrCorrupt)
		}
		if s.Tree {
			if err := w.Tree(c.ID, part); err != nil {
				return err
			}
			continue
		}
		job.Chunks = append(job.Chunks, store.Piece{Off: len(job.Raw), Len: len(part), Out: new(chunk.ID), Done: nobody{}})
		job.Raw = append(job.Raw, part...)
	}
	if len(job.Chunks) == 0 {
		return nil
	}
	return w.Submit(job)
}

// nobody waits for the chunks of a prune.
type nobody struct{}

// ChunkDone does nothing.
func (nobody) ChunkDone() error { return nil }
