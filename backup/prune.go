package backup

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/backup/chunk"
	"coffer/backup/local"
	"coffer/backup/pack"
	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/backup/table"
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
	indexTarget   = 2 << 20   // bytes of a compacted index object: several are held in memory at a time
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

	Locks Relocked `json:"locks"` // where the storage locks objects
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
	err := p.run(ctx)
	if err == nil && !o.DryRun {
		p.rep.Locks, err = r.Relock(ctx)
	}
	if err != nil {
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
	table   *table.Table // of what is upstream, apart from the store's
	sizes   map[pack.Name]packFile
	used    []uint64 // a bit for each slot of the table: a snapshot needs the chunk
	needed  []int64  // stored bytes that are needed, by number of the pack
	rewrite []bool   // packs that are worth less than their size, by number
}

// packFile is what a list says of a pack.
type packFile struct {
	size    int64
	written int64 // Unix time, nanoseconds
}

func (p *pruner) progress() Progress {
	return Progress{Phase: "prune", Started: p.started}
}

func (p *pruner) run(ctx context.Context) (err error) {
	// Marks are read before snapshots: what is due was marked long before any
	// snapshot that this misses. Snapshots are read before the index, which was
	// written before them: it knows all that they need.
	if p.marks, err = p.r.condemn(ctx); err != nil {
		return err
	}
	all, err := p.r.Snapshots(ctx)
	if err != nil {
		return err
	}
	p.marked = make(map[pack.Name]bool)
	for _, d := range p.marks {
		for _, n := range d.Packs {
			p.marked[n] = true
		}
	}
	// What was written again must not keep the pack it was written from: places in
	// packs that stay are preferred.
	if p.indexes, p.table, err = p.r.readTable(ctx, p.r.st.RefreshThen, p.marked, p.r.st.ReadIndex, refuse); err != nil {
		return err
	}
	defer p.table.Close()
	if err := p.listPacks(ctx); err != nil {
		return err
	}
	if err := p.use(ctx, all); err != nil {
		return err
	}
	if err := p.count(); err != nil {
		return err
	}
	if err := p.remove(ctx); err != nil {
		return err
	}
	return p.mark(ctx)
}

// listPacks lists what lies upstream, and refuses to go on when the clocks differ:
// ages would mean nothing.
func (p *pruner) listPacks(ctx context.Context) error {
	p.sizes = make(map[pack.Name]packFile)
	err := p.r.bucket.List(ctx, store.PackDir, "", func(i upstream.Info) error {
		n, err := pack.ParseName(path.Base(i.Name))
		if err == nil && store.PackName(n) == i.Name {
			p.sizes[n] = packFile{i.Size, i.ModTime.UnixNano()}
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

// use notes which chunks snapshots need. One that no index knows ends the prune: it
// may lie in a pack whose index is lost, which looks like one that nobody needs.
func (p *pruner) use(ctx context.Context, all []*Snapshot) error {
	p.used = make([]uint64, (p.table.Slots()+63)/64)
	first := func(id chunk.ID) (bool, error) {
		l, ok := p.table.Lookup(id)
		if !ok {
			return false, fmt.Errorf("a repair is needed: %w", p.r.st.Missing(id))
		}
		fresh := !p.uses(l)
		p.used[l.Slot/64] |= 1 << (l.Slot % 64)
		return fresh, nil
	}
	u := &needs{r: p.r, dir: first, data: func(id chunk.ID) error { _, err := first(id); return err }}
	if p.r.st.CacheFile() != "" {
		files, err := local.Finished(p.r.st.CacheFile("trees"))
		if err != nil {
			return err
		}
		for _, file := range files {
			t := local.OpenTrees(file, p.r.st.Sum)
			defer t.Close()
			u.local = append(u.local, t)
		}
	}
	for _, s := range all {
		if err := u.snapshot(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// uses reports whether a snapshot needs the chunk at a place of the table.
func (p *pruner) uses(l table.Loc) bool { return p.used[l.Slot/64]>>(l.Slot%64)&1 != 0 }

// count sums up how much of each pack is needed.
func (p *pruner) count() error {
	p.needed = make([]int64, p.table.Packs())
	return p.table.Visit(func(_ chunk.ID, l table.Loc) {
		if p.uses(l) {
			p.needed[l.Pack] += max(1, int64(l.Stored))
		}
	})
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
			f, listed := p.sizes[n]
			if _, known := p.table.Number(n); !known && !listed || gone[n] || p.needs(n) {
				continue
			}
			gone[n] = true // at least from the index, if the storage has lost it
			if listed {
				p.rep.Removed++
				p.rep.RemovedBytes += f.size
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
	var names []string
	for n := range gone {
		names = append(names, store.PackName(n))
		delete(p.sizes, n)
	}
	if err := p.r.deleteAll(ctx, names); err != nil {
		return err
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
	if len(gone) == 0 {
		return nil
	}
	return p.oldHeads(ctx)
}

// compact writes the index anew, without the packs that go, in few objects; the
// last one names those that are replaced, which are then removed.
func (p *pruner) compact(ctx context.Context, gone map[pack.Name]bool) error {
	var x pack.Index
	size := 0
	var written []pack.Name
	put := func() error {
		n, _, err := p.r.st.PutIndex(ctx, &x)
		written = append(written, n)
		x, size = pack.Index{}, 0
		return err
	}
	err := p.eachRecord(ctx, func(_ int, rec *pack.Record) error {
		if gone[rec.Name] {
			return nil
		}
		x.Records = append(x.Records, rec)
		for i := range rec.Segments {
			size += 36 * len(rec.Segments[i].Chunks)
		}
		if size > indexTarget {
			return put()
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.Replaces = p.indexes
	if err := put(); err != nil {
		return err
	}
	p.rep.Indexes = len(p.indexes)
	names := make([]string, len(p.indexes))
	for i, n := range p.indexes {
		names[i] = store.IndexDir + n.String()
	}
	replaced := p.indexes
	p.indexes = written
	if err := p.r.deleteAll(ctx, names); err != nil {
		return err
	}
	p.r.st.Replaced(replaced)
	return nil
}

// eachRecord calls fn with the record of each pack that the table has, and with
// its number, once.
func (p *pruner) eachRecord(ctx context.Context, fn func(number int, rec *pack.Record) error) error {
	seen := make([]bool, p.table.Packs())
	return p.r.st.EachIndex(ctx, p.indexes, p.r.st.ReadIndex, refuse, func(_ pack.Name, x *pack.Index) error {
		for _, rec := range x.Records {
			n, ok := p.table.Number(rec.Name)
			if !ok || seen[n] {
				continue
			}
			seen[n] = true
			if err := fn(n, rec); err != nil {
				return err
			}
		}
		return nil
	})
}

// oldHeads removes heads that newer ones of the same writer follow: a list says it.
func (p *pruner) oldHeads(ctx context.Context) error {
	type numbered struct {
		name   string
		writer pack.Name
		seq    uint64
	}
	newest := make(map[pack.Name]uint64)
	var old []numbered
	err := p.r.bucket.List(ctx, store.HeadDir, "", func(i upstream.Info) error {
		if w, seq, err := parseHeadName(i.Name); err == nil {
			newest[w] = max(newest[w], seq)
			if p.started.Sub(i.ModTime) > p.o.Grace {
				old = append(old, numbered{i.Name, w, seq})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing %s: %w", store.HeadDir, err)
	}
	var names []string
	for _, h := range old {
		if h.seq+1 < newest[h.writer] {
			names = append(names, h.name)
		}
	}
	return p.r.deleteAll(ctx, names)
}

// mark finds packs that are not needed, or not worth their size, writes again
// what is needed of them, and says that they will go.
func (p *pruner) mark(ctx context.Context) error {
	var marks []pack.Name
	p.rewrite = make([]bool, p.table.Packs())
	for n, f := range p.sizes {
		i, known := p.table.Number(n)
		switch {
		case p.marked[n]:
			continue
		case !known && p.started.Sub(time.Unix(0, f.written)) < p.o.Grace:
			p.rep.Kept++ // perhaps of a run that has not published its index yet
			continue
		case known && p.needed[i] > 0:
			wasteful, err := p.wasteful(i)
			if err != nil {
				return err
			}
			if !wasteful {
				p.rep.Kept++
				continue
			}
			p.rewrite[i] = true
			p.rep.Rewritten++
		}
		marks = append(marks, n)
		p.rep.Marked++
		p.rep.MarkedBytes += f.size
	}
	if p.o.DryRun || len(marks) == 0 {
		return nil
	}
	if p.rep.Rewritten > 0 {
		if err := p.writeAgain(ctx, marks); err != nil {
			return err
		}
	}
	return p.r.putDeletion(ctx, marks, p.o.Grace)
}

// wasteful reports whether too little of a pack is needed.
func (p *pruner) wasteful(i int) (bool, error) {
	if p.needed[i] >= int64(p.table.Size(i)) {
		return false, nil
	}
	info, err := p.table.Pack(i)
	var stored int64
	for _, s := range info.Segments {
		stored += int64(s.Stored)
	}
	return float64(stored-p.needed[i]) > p.o.MaxUnused*float64(stored), err
}

// deleteAll removes objects, several at a time.
func (r *Repo) deleteAll(ctx context.Context, names []string) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(store.Fetchers)
	for _, name := range names {
		g.Go(func() error {
			if err := r.bucket.Delete(gctx, name); err != nil {
				return fmt.Errorf("removing %s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}
