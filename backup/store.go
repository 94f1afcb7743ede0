package backup

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"coffer/backup/chunk"
	"coffer/backup/pack"
)

// indexEvery is after how many packs an index object is published during a run:
// what a killed run stored is then known to all, and little is left to its
// journal.
const indexEvery = 32

// job is data on its way into a segment: whole files, or one chunk of a large one.
type job struct {
	raw    []byte
	flat   bool // not worth compressing
	chunks []piece
}

// piece is one chunk of a job. out receives its id, then done is called.
type piece struct {
	off, n int
	out    *chunk.ID
	done   *content
}

// store puts chunks into packs and packs into the bucket. Data flows through
// submit, a worker on each core, the open pack, an uploader. Its memory is
// bounded: uploads+1 packs, and the buffers of jobs.
type store struct {
	r   *Repo
	dry bool

	jobs    chan *job
	full    chan *openPack
	free    chan []byte // buffers of packs: taking one is what bounds memory
	workers sync.WaitGroup
	senders sync.WaitGroup
	ctx     context.Context // ends, with the cause, when a worker or a sender fails
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	claims map[chunk.ID]struct{} // in an open or travelling pack
	cur    *openPack
	trees  treeBuffer

	pending   []*pack.Record // stored, not in an index object yet; guarded by mu
	stored    func(*pack.Record)
	pool      bufferPool
	added     atomic.Int64
	uploaded  atomic.Int64
	packs     atomic.Int64
	publishMu sync.Mutex
}

// newStore starts the workers. stored, if not nil, is told of each pack that
// has become durable.
func (r *Repo) newStore(ctx context.Context, dry bool, stored func(*pack.Record)) *store {
	s := &store{r: r, dry: dry, stored: stored, claims: make(map[chunk.ID]struct{}),
		jobs: make(chan *job, r.workers), full: make(chan *openPack), free: make(chan []byte, r.uploads+1)}
	for range r.uploads + 1 {
		s.free <- nil // made when first used
	}
	s.trees.z = pack.NewCompressor()
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	for range r.uploads {
		s.senders.Go(func() { s.fail(s.send()) })
	}
	for range r.workers {
		s.workers.Go(func() { s.fail(s.work()) })
	}
	return s
}

// fail stops everything, unless err is nil. The first error is the one that
// finish returns.
func (s *store) fail(err error) {
	if err != nil {
		s.cancel(err)
	}
}

// submit hands a job to the workers.
func (s *store) submit(j *job) error {
	select {
	case s.jobs <- j:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// finish waits until all that was submitted is durable and known to an index
// object. It must be called exactly once, also after an error, which it returns.
func (s *store) finish() error {
	close(s.jobs)
	s.workers.Wait()
	if s.ctx.Err() == nil {
		s.fail(s.flush())
	}
	close(s.full)
	s.senders.Wait()
	if s.ctx.Err() == nil {
		s.fail(s.publish(1))
	}
	err := context.Cause(s.ctx)
	s.cancel(nil)
	return err
}

func (s *store) work() error {
	h := chunk.NewHasher(s.r.config.Secret)
	z := pack.NewCompressor()
	for j := range s.jobs {
		for i := range j.chunks {
			p := &j.chunks[i]
			*p.out = h.Sum(j.raw[p.off : p.off+p.n])
		}
		err := s.keep(j, z)
		s.pool.put(j.raw)
		if err != nil {
			return err
		}
		for i := range j.chunks {
			if err := j.chunks[i].done.chunkDone(); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep stores those chunks of a job that are new, as one segment.
func (s *store) keep(j *job, z *pack.Compressor) error {
	seg := pack.Segment{}
	at := 0
	for i := range j.chunks {
		p := &j.chunks[i]
		if !s.claim(*p.out) {
			continue
		}
		if at != p.off {
			copy(j.raw[at:], j.raw[p.off:p.off+p.n])
		}
		at += p.n
		seg.Chunks = append(seg.Chunks, pack.Chunk{ID: *p.out, Len: uint32(p.n)})
	}
	if at == 0 && len(seg.Chunks) == 0 {
		return nil
	}
	s.added.Add(int64(at))
	body := j.raw[:at]
	if !j.flat {
		body, seg.Compressed = z.Compress(body)
	}
	return s.append(seg, body)
}

// claim reports whether the caller is to store the chunk.
func (s *store) claim(id chunk.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.claims[id]; ok {
		return false
	}
	s.r.mu.RLock()
	has := s.r.table.Has(id)
	s.r.mu.RUnlock()
	if !has {
		s.claims[id] = struct{}{}
	}
	return !has
}

// append adds a segment to the open pack, and hands that on when it is full.
func (s *store) append(seg pack.Segment, body []byte) error {
	if s.dry {
		return nil
	}
	seg.Stored = uint32(len(body))
	for {
		s.mu.Lock()
		p := s.cur
		if p != nil && (p.size == 0 || p.size+len(body) <= s.r.config.PackSize) {
			err := p.add(seg, body)
			s.mu.Unlock()
			return err
		}
		s.cur = nil
		s.mu.Unlock()
		if p != nil {
			if err := s.ship(p); err != nil {
				return err
			}
		}
		if err := s.open(); err != nil {
			return err
		}
	}
}

// open makes a new pack the open one, unless another worker was faster.
func (s *store) open() error {
	p, err := s.take()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil {
		s.free <- p.out.b
		return nil
	}
	s.cur = p
	return nil
}

// take begins a pack, once there is a buffer for one.
func (s *store) take() (*openPack, error) {
	select {
	case buf := <-s.free:
		return s.r.newPack(buf)
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

func (s *store) ship(p *openPack) error {
	select {
	case s.full <- p:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// flush ships what is left: few directories join the data.
func (s *store) flush() error {
	if err := s.trees.flush(s); err != nil {
		return err
	}
	s.mu.Lock()
	p := s.cur
	s.cur = nil
	s.mu.Unlock()
	if p == nil || p.size == 0 && len(p.record.Segments) == 0 {
		return nil
	}
	return s.ship(p)
}

// send uploads packs.
func (s *store) send() error {
	for p := range s.full {
		sealed, err := p.close(s.r.rawConfig)
		if err != nil {
			return err
		}
		if err := s.r.putPack(s.ctx, p.record.Name, sealed); err != nil {
			return err
		}
		s.uploaded.Add(int64(len(sealed)))
		s.r.metrics.uploaded.Add(float64(len(sealed)))
		s.packs.Add(1)
		s.landed(p.record)
		s.free <- sealed
		if err := s.publish(indexEvery); err != nil {
			return err
		}
	}
	return nil
}

// landed notes that a pack is durable.
func (s *store) landed(r *pack.Record) {
	s.r.mu.Lock()
	s.r.table.Add(r)
	s.r.mu.Unlock()
	s.mu.Lock()
	s.pending = append(s.pending, r)
	for i := range r.Segments {
		for j := range r.Segments[i].Chunks {
			delete(s.claims, r.Segments[i].Chunks[j].ID)
		}
	}
	s.mu.Unlock()
	if s.stored != nil {
		s.stored(r)
	}
}

// publish writes an index object when at least that many packs wait for one.
func (s *store) publish(atLeast int) error {
	s.publishMu.Lock()
	defer s.publishMu.Unlock()
	s.mu.Lock()
	if len(s.pending) < atLeast {
		s.mu.Unlock()
		return nil
	}
	records := s.pending
	s.pending = nil
	s.mu.Unlock()
	n, err := s.r.publishIndex(s.ctx, records)
	if err != nil {
		return fmt.Errorf("publishing an index: %w", err)
	}
	s.uploaded.Add(n)
	return nil
}
