package backup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"go.uber.org/zap"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/upstream"
)

// PruneOptions say how to prune. The zero value works.
type PruneOptions struct {
	Grace     time.Duration // between marking a pack and removing it; 0: 72 h; longer than any run may last
	MaxUnused float64       // a pack is rewritten when more than this part of it is not needed; 0: 0.2
	DryRun    bool          // only say what would be done
	Progress  func(Progress)
}

const (
	defaultGrace  = 72 * time.Hour
	defaultUnused = 0.2
	maxSkew       = time.Hour // between this clock and the storage's
	indexTarget   = 8 << 20   // bytes of a compacted index object
	indexMany     = 16        // index objects before they are compacted
)

// PruneReport says what a prune did, or would do.
type PruneReport struct {
	Removed      int   `json:"removed"`      // packs whose grace time was over
	RemovedBytes int64 `json:"removedBytes"` //
	Marked       int   `json:"marked"`       // packs that will be removed after the grace time
	MarkedBytes  int64 `json:"markedBytes"`  //
	Rewritten    int   `json:"rewritten"`    // of Marked: packs whose needed part was written again
	Uploaded     int64 `json:"uploaded"`     // bytes sent for that
	Kept         int   `json:"kept"`         // packs that stay
	Indexes      int   `json:"indexes"`      // index objects that were replaced by fewer
}

// Prune removes what no snapshot needs, in two phases: a run marks packs, and one
// after the grace time removes those that are still not needed. Backups may run
// meanwhile, here and on other machines: they do not rely on marked packs. If
// anything cannot be read nothing is removed.
func (r *Repo) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	if o.MaxUnused <= 0 {
		o.MaxUnused = defaultUnused
	}
	p := &pruner{r: r, o: &o, started: time.Now()}
	defer report.Every(o.Progress, p.progress)()
	if err := p.run(ctx); err != nil {
		return p.rep, fmt.Errorf("pruning: %w", err)
	}
	return p.rep, nil
}

// pruner is one prune at work.
type pruner struct {
	r       *Repo
	o       *PruneOptions
	started time.Time
	rep     PruneReport

	marks   []*deletion
	marked  map[pack.Name]bool
	indexes []pack.Name
	table   *pack.Table    // of what is upstream, apart from the store's
	records []*pack.Record // of the table, by number
	sizes   map[pack.Name]upstream.Info
	needed  map[int]int64 // stored bytes that are needed, by pack
	used    *used
}

func (p *pruner) progress() Progress {
	return Progress{Phase: "prune", Started: p.started}
}

func (p *pruner) run(ctx context.Context) (err error) {
	// Marks are read before snapshots: what is due was marked long before any
	// snapshot that this misses.
	if p.marks, err = p.r.condemn(ctx); err != nil {
		return err
	}
	if err := p.r.st.Refresh(ctx); err != nil {
		return err
	}
	if p.indexes, p.table, p.records, err = p.r.readIndexes(ctx, func(_ string, err error) error { return err }); err != nil {
		return err
	}
	p.preferUnmarked()
	if err := p.listPacks(ctx); err != nil {
		return err
	}
	all, err := p.r.Snapshots(ctx)
	if err != nil {
		return err
	}
	p.used = newUsed(p.r)
	for _, s := range all {
		if err := p.used.snapshot(ctx, s); err != nil {
			return err
		}
	}
	p.count()
	if err := p.remove(ctx); err != nil {
		return err
	}
	return p.mark(ctx)
}

// listPacks lists what lies upstream, and refuses to go on when the clocks differ:
// ages would mean nothing.
func (p *pruner) listPacks(ctx context.Context) error {
	p.sizes = make(map[pack.Name]upstream.Info)
	err := p.r.bucket.List(ctx, store.PackDir, "", func(i upstream.Info) error {
		n, err := pack.ParseName(path.Base(i.Name))
		if err == nil && store.PackName(n) == i.Name {
			p.sizes[n] = i
			if i.ModTime.Sub(p.started) > maxSkew {
				return fmt.Errorf("%s was written at %v, in the future: the clocks differ", i.Name, i.ModTime)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing %s: %w", store.PackDir, err)
	}
	return nil
}

// preferUnmarked makes the table find chunks in packs that stay, where there is
// a choice: what was written again must not keep the pack it was written from.
func (p *pruner) preferUnmarked() {
	p.marked = make(map[pack.Name]bool)
	for _, d := range p.marks {
		for _, n := range d.Packs {
			p.marked[n] = true
		}
	}
	slices.SortStableFunc(p.records, func(a, b *pack.Record) int {
		switch {
		case p.marked[a.Name] == p.marked[b.Name]:
			return 0
		case p.marked[a.Name]:
			return 1
		}
		return -1
	})
	p.table = pack.NewTable()
	for _, rec := range p.records {
		p.table.Add(rec)
	}
}

// count sums up how much of each pack is needed.
func (p *pruner) count() {
	plain := make(map[[2]int]int64) // by pack and segment
	p.table.Visit(func(id chunk.ID, l pack.Loc) {
		if _, ok := p.used.ids[id]; ok {
			plain[[2]int{l.Pack, l.Segment}] += int64(l.Len)
		}
	})
	p.needed = make(map[int]int64)
	for at, n := range plain {
		s := p.table.Pack(at[0]).Segments[at[1]]
		p.needed[at[0]] += 1 + n*int64(s.Stored)/max(1, int64(s.Plain))
	}
}

// needs reports whether a snapshot needs a pack.
func (p *pruner) needs(n pack.Name) bool {
	i, known := p.table.Number(n)
	return known && p.needed[i] > 0
}

// remove removes packs that are due, and what describes them.
func (p *pruner) remove(ctx context.Context) error {
	gone := make(map[pack.Name]bool)
	for _, d := range p.marks {
		if p.started.Before(d.due()) {
			continue
		}
		for _, n := range d.Packs {
			if info, ok := p.sizes[n]; ok && !p.needs(n) && !gone[n] {
				gone[n] = true
				p.rep.Removed++
				p.rep.RemovedBytes += info.Size
			}
		}
	}
	if p.o.DryRun {
		return nil
	}
	// The index first: nobody new relies on what is about to go.
	if len(gone) > 0 || len(p.indexes) >= indexMany {
		if err := p.compact(ctx, gone); err != nil {
			return err
		}
	}
	for n := range gone {
		if err := p.r.bucket.Delete(ctx, store.PackName(n)); err != nil {
			return fmt.Errorf("removing %s: %w", store.PackName(n), err)
		}
		delete(p.sizes, n)
	}
	for _, d := range p.marks {
		// What has just been removed is said a while longer: another prune may be
		// about to publish an index that still has it.
		just := slices.ContainsFunc(d.Packs, func(n [16]byte) bool { return gone[n] })
		if p.started.Before(d.over()) || just {
			continue
		}
		name := store.DeletionsDir + d.name.String()
		if err := p.r.bucket.Delete(ctx, name); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
		for _, n := range d.Packs {
			delete(p.marked, n)
		}
	}
	return p.oldHeads(ctx)
}

// compact writes the index anew, without the packs that go, in few objects; the
// last one names those that are replaced, which are then removed.
func (p *pruner) compact(ctx context.Context, gone map[pack.Name]bool) error {
	var x pack.Index
	size := 0
	for _, rec := range p.records {
		if gone[rec.Name] {
			continue
		}
		x.Records = append(x.Records, rec)
		for i := range rec.Segments {
			size += 36 * len(rec.Segments[i].Chunks)
		}
		if size > indexTarget {
			if _, err := p.r.st.PutIndex(ctx, &x); err != nil {
				return err
			}
			x, size = pack.Index{}, 0
		}
	}
	x.Replaces = p.indexes
	if _, err := p.r.st.PutIndex(ctx, &x); err != nil {
		return err
	}
	p.rep.Indexes = len(p.indexes)
	for _, n := range p.indexes {
		if err := p.r.bucket.Delete(ctx, store.IndexDir+n.String()); err != nil {
			return fmt.Errorf("removing %s: %w", store.IndexDir+n.String(), err)
		}
	}
	return p.r.st.Refresh(ctx)
}

// oldHeads removes heads that newer ones of the same writer follow.
func (p *pruner) oldHeads(ctx context.Context) error {
	x, err := p.r.readHeads(ctx)
	if err != nil {
		return err
	}
	for name, h := range x.heads {
		if h.Seq+1 < x.newest[h.Writer] && time.Since(h.Time) > p.o.Grace {
			if err := p.r.bucket.Delete(ctx, name); err != nil {
				return fmt.Errorf("removing %s: %w", name, err)
			}
		}
	}
	return nil
}

// mark finds packs that are not needed, or not worth their size, writes again
// what is needed of them, and says that they will go.
func (p *pruner) mark(ctx context.Context) error {
	var marks []pack.Name
	var rewrite []*pack.Record
	for n, info := range p.sizes {
		i, known := p.table.Number(n)
		switch {
		case p.marked[n]:
			continue
		case !known && p.started.Sub(info.ModTime) < p.o.Grace:
			p.rep.Kept++ // perhaps of a run that has not published its index yet
			continue
		case known && p.needed[i] > 0:
			if !p.wasteful(i) {
				p.rep.Kept++
				continue
			}
			rewrite = append(rewrite, p.records[i])
			p.rep.Rewritten++
		}
		marks = append(marks, n)
		p.rep.Marked++
		p.rep.MarkedBytes += info.Size
	}
	if p.o.DryRun || len(marks) == 0 {
		return nil
	}
	if err := p.rewrite(ctx, rewrite, marks); err != nil {
		return err
	}
	return p.putDeletion(ctx, marks)
}

// wasteful reports whether too little of a pack is needed.
func (p *pruner) wasteful(i int) bool {
	var stored int64
	for _, s := range p.table.Pack(i).Segments {
		stored += int64(s.Stored)
	}
	return float64(stored-p.needed[i]) > p.o.MaxUnused*float64(stored)
}

func (p *pruner) putDeletion(ctx context.Context, marks []pack.Name) error {
	slices.SortFunc(marks, func(a, b pack.Name) int { return slices.Compare(a[:], b[:]) })
	d := deletion{Version: deletionVersion, Time: time.Now().UTC(), Grace: int64(p.o.Grace / time.Second)}
	for _, n := range marks {
		d.Packs = append(d.Packs, n)
	}
	raw, err := store.Encoding.Marshal(&d)
	if err != nil {
		return fmt.Errorf("encoding a deletion: %w", err)
	}
	name := store.DeletionsDir + store.NewName().String()
	if _, err := p.r.st.PutDoc(ctx, name, raw); err != nil {
		return err
	}
	info, err := p.r.bucket.Head(ctx, name)
	if err == nil && info.ModTime.Sub(d.Time).Abs() > maxSkew {
		err = errors.Join(fmt.Errorf("the storage's clock says %v, this one %v", info.ModTime, d.Time), p.r.bucket.Delete(ctx, name))
	}
	if err != nil {
		return fmt.Errorf("marking packs: %w", err)
	}
	p.r.log.Info("packs were marked for removal", zap.Int("packs", len(marks)))
	_, err = p.r.condemn(ctx)
	return err
}

// rewrite stores again what is needed of packs. All that are going to be marked
// count as gone by then, for a chunk may lie in several of them.
func (p *pruner) rewrite(ctx context.Context, records []*pack.Record, marks []pack.Name) error {
	if len(records) == 0 {
		return nil
	}
	gone := make(map[pack.Name]bool)
	for n := range p.marked {
		gone[n] = true
	}
	for _, n := range marks {
		gone[n] = true
	}
	p.r.st.Condemn(gone)
	w := p.r.st.NewWriter(ctx, false, nil)
	for _, rec := range records {
		if err := p.rewritePack(w, rec); err != nil {
			w.Fail(err)
			break
		}
	}
	err := w.Finish()
	p.rep.Uploaded = w.Uploaded()
	return err
}

func (p *pruner) rewritePack(w *store.Writer, rec *pack.Record) error {
	number, _ := p.table.Number(rec.Name)
	for i := range rec.Segments {
		s := &rec.Segments[i]
		var job *store.Job
		var data []byte
		off := uint32(0)
		for _, c := range s.Chunks {
			at := off
			off += c.Len
			l, _ := p.table.Lookup(c.ID)
			if _, ok := p.used.ids[c.ID]; !ok || l.Pack != number || l.Segment != i || l.Off != at {
				continue
			}
			if data == nil {
				var err error
				if data, err = p.r.st.ReadSegment(w.Context(), rec, i); err != nil {
					return err
				}
				job = &store.Job{Raw: w.Buffer(s.Plain()), Flat: !s.Compressed}
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
		if job != nil && len(job.Chunks) > 0 {
			if err := w.Submit(job); err != nil {
				return err
			}
		}
	}
	return nil
}

// nobody waits for the chunks of a prune.
type nobody struct{}

// ChunkDone does nothing.
func (nobody) ChunkDone() error { return nil }
