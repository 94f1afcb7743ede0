// Package table finds chunks: which segment of which pack holds the one with an id.
//
// What was added last is held in memory, some sixty bytes a chunk. When that
// becomes much it is written to a run, a sorted file of its own, of which two bytes
// a chunk stay in memory: a filter that knows most ids the run does not have, and
// the first id of every block. Runs of like size are merged, so that there are few.
// The files are a cache: they say nothing that index objects do not say, are
// rebuilt when they are lost or damaged, and serve the next process.
package table

import (
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"coffer/backup/chunk"
	"coffer/backup/pack"
)

// Loc says where a chunk lies.
type Loc struct {
	Pack    int    // number of the pack in the Table
	Segment int    // number of the segment in the pack
	Off     uint32 // of the chunk in the plain segment
	Len     uint32
	Stored  uint32 // its share of the bytes that the segment takes in the pack
	Slot    int    // of this entry among all of the Table, until something is added; below Slots
}

// Place is what a reader of a segment needs to know.
type Place struct {
	Off        uint32 // in the plain pack
	Stored     uint32 // bytes there
	Plain      uint32 // bytes once decompressed
	Tree       bool
	Compressed bool
}

// Info describes a pack of a Table.
type Info struct {
	Name     pack.Name
	Size     uint32 // bytes of the pack before sealing
	Segments []Place
}

// Config says where a Table may put what it does not hold in memory.
type Config struct {
	Dir     string // private folder, made if absent; empty: everything is held in memory
	Private bool   // the files serve this Table alone, and are gone with the process
	Spill   int    // chunks that are held in memory; 0: 262,144
	Log     *zap.Logger
}

const defaultSpill = 1 << 18

// Table finds chunks. Methods that only read may be called at the same time.
type Table struct {
	conf    Config
	packs   []packEntry
	byName  map[pack.Name]uint32
	objects map[pack.Name][]uint32 // index objects that were taken in whole, with their packs
	count   int                    // distinct chunks

	runs   []*run // oldest first
	recent recent
	places [][]Place // of the packs that are in no run

	broken atomic.Bool // a file cannot be read
	alone  bool        // what is written is not kept for other processes
}

type packEntry struct {
	name pack.Name
	size uint32
	gone bool
}

// entry is a chunk and its place. The zero pack is a valid one.
type entry struct {
	id                         chunk.ID
	pack, seg, off, ln, stored uint32
}

// New returns a Table with what the files in the folder say.
func New(c Config) *Table {
	if c.Spill == 0 {
		c.Spill = defaultSpill
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	t := &Table{conf: c, alone: c.Private}
	t.clear()
	if c.Dir != "" && !c.Private {
		t.load()
	}
	return t
}

func (t *Table) clear() {
	t.packs, t.byName, t.objects = nil, make(map[pack.Name]uint32), make(map[pack.Name][]uint32)
	t.runs, t.places, t.count = nil, nil, 0
	t.recent.clear()
}

// Len returns the number of chunks.
func (t *Table) Len() int { return t.count }

// Slots is one more than the largest Slot of a Loc.
func (t *Table) Slots() int {
	n := t.recent.len()
	for _, r := range t.runs {
		n += r.n
	}
	return n
}

// Packs returns the number of packs.
func (t *Table) Packs() int { return len(t.packs) }

// Name returns the name of the pack of a number below Packs.
func (t *Table) Name(n int) pack.Name { return t.packs[n].name }

// Size returns its bytes before sealing.
func (t *Table) Size(n int) uint32 { return t.packs[n].size }

// Number finds a pack by its name.
func (t *Table) Number(n pack.Name) (int, bool) {
	i, ok := t.byName[n]
	return int(i), ok
}

// SetGone marks a pack whose chunks are to be written again.
func (t *Table) SetGone(n int, gone bool) { t.packs[n].gone = gone }

// Gone reports whether SetGone has marked a pack.
func (t *Table) Gone(n int) bool { return t.packs[n].gone }

// Pack describes the pack of a number below Packs.
func (t *Table) Pack(n int) (Info, error) {
	info := Info{Name: t.packs[n].name, Size: t.packs[n].size}
	if first := len(t.packs) - len(t.places); n >= first {
		info.Segments = t.places[n-first]
		return info, nil
	}
	var err error
	for _, r := range t.runs {
		if n < r.firstPack+r.packs {
			info.Segments, err = r.segments(n, info.Name)
			break
		}
	}
	if err != nil {
		t.damaged(err)
	}
	return info, err
}

// Add takes in what r describes and returns the number of the pack. Of several
// places of a chunk the first stays, unless its pack is gone; so adding a pack
// again finds chunks in it whose other places have gone since.
func (t *Table) Add(r *pack.Record) int {
	n, known := t.Number(r.Name)
	places := make([]Place, len(r.Segments))
	if !known {
		n = len(t.packs)
		t.byName[r.Name] = uint32(n)
		t.packs = append(t.packs, packEntry{name: r.Name, size: r.Size})
		t.places = append(t.places, places)
	}
	var at uint32
	for i := range r.Segments {
		s := &r.Segments[i]
		plain := uint32(s.Plain())
		var off uint32
		for j := range s.Chunks {
			ln := s.Chunks[j].Len
			share := (uint64(ln)*uint64(s.Stored) + uint64(max(plain, 1)) - 1) / uint64(max(plain, 1))
			t.put(&entry{s.Chunks[j].ID, uint32(n), uint32(i), off, ln, uint32(share)})
			off += ln
		}
		places[i] = Place{Off: at, Stored: s.Stored, Plain: plain, Tree: s.Tree, Compressed: s.Compressed}
		at += s.Stored
	}
	if t.recent.len() >= t.conf.Spill {
		t.spill()
	}
	return n
}

func (t *Table) put(e *entry) {
	if old := t.recent.find(&e.id); old != nil {
		if t.packs[old.pack].gone {
			*old = *e
		}
		return
	}
	old, _, ok := t.inRuns(&e.id)
	if ok && !t.packs[old.pack].gone {
		return
	}
	if !ok {
		t.count++
	}
	t.recent.add(e)
}

// inRuns finds the newest entry that a run has of an id.
func (t *Table) inRuns(id *chunk.ID) (e entry, slot int, ok bool) {
	base := 0
	for _, r := range t.runs {
		base += r.n
	}
	for _, r := range slices.Backward(t.runs) {
		base -= r.n
		if !r.filter.has(id) {
			continue
		}
		e, at, err := r.find(id)
		if err != nil {
			t.damaged(err)
		}
		if at >= 0 {
			return e, base + at, true
		}
	}
	return entry{}, 0, false
}

// Lookup says where a chunk lies.
func (t *Table) Lookup(id chunk.ID) (Loc, bool) {
	if at := t.recent.at(&id); at >= 0 {
		return t.recent.entry(at).loc(t.Slots() - t.recent.len() + at), true
	}
	e, slot, ok := t.inRuns(&id)
	return e.loc(slot), ok
}

func (e *entry) loc(slot int) Loc {
	return Loc{Pack: int(e.pack), Segment: int(e.seg), Off: e.off, Len: e.ln, Stored: e.stored, Slot: slot}
}

// Has reports whether a chunk is stored in a pack that is not gone.
func (t *Table) Has(id chunk.ID) bool {
	l, ok := t.Lookup(id)
	return ok && !t.packs[l.Pack].gone
}

// Visit calls visit for every chunk, in no order that means something, with the
// place that Lookup finds.
func (t *Table) Visit(visit func(chunk.ID, Loc)) error {
	m := t.all()
	for m.next() {
		visit(m.cur.id, m.cur.loc(m.slot))
	}
	if m.err != nil {
		t.damaged(m.err)
	}
	return m.err
}

// Objects returns the index objects that Cover has named, with the numbers of
// their packs. The caller must not change them.
func (t *Table) Objects() map[pack.Name][]uint32 { return t.objects }

// Cover notes that all that an index object says has been added.
func (t *Table) Cover(object pack.Name, packs []uint32) { t.objects[object] = packs }

// Uncover notes that an index object is not there any more.
func (t *Table) Uncover(object pack.Name) { delete(t.objects, object) }

// Broken reports whether a file of the table cannot be read: what it had is not
// found until Reset.
func (t *Table) Broken() bool { return t.broken.Load() }

// damaged notes that a file cannot be read, and keeps other processes from it.
func (t *Table) damaged(err error) {
	if !t.broken.Swap(true) {
		t.conf.Log.Warn("the cache of the index is damaged: it will be built anew", zap.Error(err))
		t.forgetFiles()
	}
}

// Close closes the files. The Table must not be used any more.
func (t *Table) Close() {
	for _, r := range t.runs {
		r.f.Close()
	}
	t.clear()
}

// Reset forgets everything.
func (t *Table) Reset() {
	t.forgetFiles()
	t.clear()
	t.broken.Store(false)
	t.alone = t.conf.Private
}
