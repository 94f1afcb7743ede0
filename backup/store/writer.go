package store

import (
	"context"
	"sync"
	"sync/atomic"

	"coffer/backup/chunk"
	"coffer/backup/pack"
)

// After so many packs, or packs with so many chunks, an index object is published
// during a run: what a killed run stored is then known to all, and little is left
// to its journal and to the memory of the writer.
const (
	indexPacks  = 32
	indexChunks = 1 << 16
)

// Job is data on its way into a segment: whole files, or one chunk of a large one.
type Job struct {
	Raw    []byte // from Writer.Buffer; the Writer's once it is submitted
	Flat   bool   // not worth compressing
	Chunks []Piece
}

// Piece is one chunk of a Job. Out receives its id, then Done is told.
type Piece struct {
	Off, Len int
	Out      *chunk.ID
	Done     Done
}

// Done is told by a worker that a chunk has its id and is on its way. An error
// stops the Writer.
type Done interface{ ChunkDone() error }

// Writer puts chunks into packs and packs into the bucket. Data flows through
// Submit, a worker on each core, the open pack, a sender. Its memory is bounded:
// a pack for each sender, the open one among them, and the buffers of jobs.
type Writer struct {
	s   *Store
	dry bool

	jobs    chan *Job
	full    chan *openPack
	free    chan *region // buffers of packs: taking one is what bounds memory
	workers sync.WaitGroup
	senders sync.WaitGroup
	ctx     context.Context // ends, with the cause, when a worker or a sender fails
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	claims map[chunk.ID]struct{} // in an open or travelling pack
	cur    *openPack
	trees  treeBuffer // has a lock of its own, taken before mu

	stored   func(*pack.Record)
	pool     bufferPool
	added    atomic.Int64
	uploaded atomic.Int64
	packs    atomic.Int64
}

// NewWriter starts the workers and senders; Finish ends them. With dry nothing is
// stored. stored, if not nil, is told of each pack that has become durable.
func (s *Store) NewWriter(ctx context.Context, dry bool, stored func(*pack.Record)) *Writer {
	w := &Writer{s: s, dry: dry, stored: stored, claims: make(map[chunk.ID]struct{}),
		jobs: make(chan *Job, s.workers), full: make(chan *openPack), free: make(chan *region, max(2, s.uploads))}
	for range cap(w.free) {
		w.free <- nil // made when first used
	}
	w.trees.z = pack.NewCompressor()
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	for range s.uploads {
		w.senders.Go(func() { w.Fail(w.send()) })
	}
	for range s.workers {
		w.workers.Go(func() { w.Fail(w.work()) })
	}
	return w
}

// Context ends when anything fails.
func (w *Writer) Context() context.Context { return w.ctx }

// Added counts bytes of new chunks, before compression.
func (w *Writer) Added() int64 { return w.added.Load() }

// Uploaded counts bytes sent.
func (w *Writer) Uploaded() int64 { return w.uploaded.Load() }

// Packs counts packs sent.
func (w *Writer) Packs() int64 { return w.packs.Load() }

// Buffer returns an empty buffer with room for n bytes, for the Raw of a Job.
func (w *Writer) Buffer(n int) []byte { return w.pool.get(n) }

// Fail stops everything, unless err is nil. The first error is the one that
// Finish returns.
func (w *Writer) Fail(err error) {
	if err != nil {
		w.cancel(err)
	}
}

// Submit hands a job to the workers.
func (w *Writer) Submit(j *Job) error {
	select {
	case w.jobs <- j:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// Finish waits until all that was submitted is durable and known to an index
// object. It must be called exactly once, also after an error, which it returns.
func (w *Writer) Finish() error {
	close(w.jobs)
	w.workers.Wait()
	if w.ctx.Err() == nil {
		w.Fail(w.flush())
	}
	close(w.full)
	w.senders.Wait()
	if w.ctx.Err() == nil {
		w.Fail(w.publish(1, 0))
	}
	err := context.Cause(w.ctx)
	w.cancel(nil)
	return err
}

func (w *Writer) work() error {
	h := w.s.Hasher()
	z := pack.NewCompressor()
	for j := range w.jobs {
		for i := range j.Chunks {
			p := &j.Chunks[i]
			*p.Out = h.Sum(j.Raw[p.Off : p.Off+p.Len])
		}
		err := w.keep(j, z)
		w.pool.put(j.Raw)
		if err != nil {
			return err
		}
		for i := range j.Chunks {
			if err := j.Chunks[i].Done.ChunkDone(); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep stores those chunks of a job that are new, as one segment.
func (w *Writer) keep(j *Job, z *pack.Compressor) error {
	seg := pack.Segment{}
	at := 0
	for i := range j.Chunks {
		p := &j.Chunks[i]
		if !w.claim(*p.Out) {
			continue
		}
		if at != p.Off {
			copy(j.Raw[at:], j.Raw[p.Off:p.Off+p.Len])
		}
		at += p.Len
		seg.Chunks = append(seg.Chunks, pack.Chunk{ID: *p.Out, Len: uint32(p.Len)})
	}
	if at == 0 && len(seg.Chunks) == 0 {
		return nil
	}
	w.added.Add(int64(at))
	body := j.Raw[:at]
	if !j.Flat {
		body, seg.Compressed = z.Compress(body)
	}
	return w.append(seg, body)
}

// claim reports whether the caller is to store the chunk.
func (w *Writer) claim(id chunk.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.claims[id]; ok {
		return false
	}
	w.s.mu.RLock()
	has := w.s.table.Has(id)
	w.s.mu.RUnlock()
	if !has {
		w.claims[id] = struct{}{}
	}
	return !has
}

// append adds a segment to the open pack, and hands that on when it is full.
func (w *Writer) append(seg pack.Segment, body []byte) error {
	if w.dry {
		return nil
	}
	seg.Stored = uint32(len(body))
	for {
		w.mu.Lock()
		p := w.cur
		if p != nil && p.room(w.s.format.PackSize, &seg, len(body)) {
			err := p.add(seg, body)
			w.mu.Unlock()
			return err
		}
		w.cur = nil
		w.mu.Unlock()
		if p != nil {
			if err := w.ship(p); err != nil {
				return err
			}
		}
		if err := w.open(); err != nil {
			return err
		}
	}
}

// open makes a new pack the open one, unless another worker was faster.
func (w *Writer) open() error {
	p, err := w.take()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cur != nil {
		w.free <- p.out
		return nil
	}
	w.cur = p
	return nil
}

// take begins a pack, once there is a buffer for one.
func (w *Writer) take() (*openPack, error) {
	select {
	case buf := <-w.free:
		return w.s.newPack(buf)
	case <-w.ctx.Done():
		return nil, context.Cause(w.ctx)
	}
}

func (w *Writer) ship(p *openPack) error {
	select {
	case w.full <- p:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// flush ships what is left: few directories join the data.
func (w *Writer) flush() error {
	if err := w.trees.flush(w); err != nil {
		return err
	}
	w.mu.Lock()
	p := w.cur
	w.cur = nil
	w.mu.Unlock()
	if p == nil || p.size == 0 && len(p.record.Segments) == 0 {
		return nil
	}
	return w.ship(p)
}

// send uploads packs.
func (w *Writer) send() error {
	for p := range w.full {
		if err := p.close(w.s.rawFormat); err != nil {
			return err
		}
		if err := w.s.putPack(w.ctx, p.record.Name, p.out); err != nil {
			return err
		}
		w.uploaded.Add(int64(len(p.out.b)))
		w.packs.Add(1)
		w.Landed(p.record)
		w.free <- p.out
		if err := w.publish(indexPacks, indexChunks); err != nil {
			return err
		}
	}
	return nil
}

// Landed notes that a pack is durable: one that was just sent, or one that a
// killed run has left.
func (w *Writer) Landed(r *pack.Record) {
	w.s.Landed(r)
	w.mu.Lock()
	for i := range r.Segments {
		for j := range r.Segments[i].Chunks {
			delete(w.claims, r.Segments[i].Chunks[j].ID)
		}
	}
	w.mu.Unlock()
	if w.stored != nil {
		w.stored(r)
	}
}

// publish writes an index object when that many packs, or chunks, wait for one.
func (w *Writer) publish(packs, chunks int) error {
	n, err := w.s.publish(w.ctx, packs, chunks)
	w.uploaded.Add(n)
	return err
}
