package table

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"coffer/backup/chunk"
	"coffer/backup/pack"
)

// id returns the nth of a row of ids that look random.
func id(n int) (c chunk.ID) {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	for i := 0; i < len(c); i += 8 {
		binary.LittleEndian.PutUint64(c[i:], r.Uint64())
	}
	return c
}

func name(n int) (p pack.Name) {
	binary.BigEndian.PutUint64(p[:], uint64(n)*0x9e3779b97f4a7c15)
	return p
}

// record describes a pack of some chunks, in segments of ten.
func record(n int, ids ...chunk.ID) *pack.Record {
	r := &pack.Record{Name: name(n), Size: 1 << 20}
	for i, c := range ids {
		if i%10 == 0 {
			r.Segments = append(r.Segments, pack.Segment{Tree: i%20 == 10, Compressed: i%40 < 20})
		}
		s := &r.Segments[len(r.Segments)-1]
		ln := uint32(100 + i)
		s.Chunks = append(s.Chunks, pack.Chunk{ID: c, Len: ln})
		s.Stored += ln / 2
	}
	return r
}

func ids(from, n int) []chunk.ID {
	out := make([]chunk.ID, n)
	for i := range out {
		out[i] = id(from + i)
	}
	return out
}

// holds verifies that a chunk is found where a record says.
func holds(t *testing.T, tab *Table, c chunk.ID, rec *pack.Record) {
	t.Helper()
	l, ok := tab.Lookup(c)
	if !ok || tab.Name(l.Pack) != rec.Name {
		t.Fatalf("chunk %s: %+v %v, want pack %s", c, l, ok, rec.Name)
	}
	info, err := tab.Pack(l.Pack)
	if err != nil || info.Name != rec.Name || len(info.Segments) != len(rec.Segments) {
		t.Fatalf("pack %s: %+v, %v", rec.Name, info, err)
	}
	s := info.Segments[l.Segment]
	want := rec.Segments[l.Segment]
	if s.Tree != want.Tree || s.Compressed != want.Compressed || s.Stored != want.Stored || int(s.Plain) != want.Plain() || l.Off+l.Len > s.Plain {
		t.Fatalf("segment %+v, chunk at %+v, want %+v", s, l, want)
	}
}

// What was added is found, in memory and in runs, before and after another process
// has taken the files over; what was not is not.
func TestTable(t *testing.T) {
	for _, spill := range []int{1 << 30, 1000, 150} {
		conf := Config{Dir: t.TempDir(), Spill: spill}
		tab := New(conf)
		var records []*pack.Record
		for n := range 60 {
			records = append(records, record(n, ids(n*100, 100)...))
			packs := []uint32{uint32(tab.Add(records[n]))}
			tab.Cover(name(1000+n), packs)
		}
		if spill < 1<<30 && len(tab.runs) == 0 || len(tab.runs) > 8 {
			t.Fatalf("spill %d: %d runs", spill, len(tab.runs))
		}
		check := func(tab *Table) {
			t.Helper()
			for n, rec := range records {
				for i := range 100 {
					holds(t, tab, id(n*100+i), rec)
				}
			}
			for i := range 10_000 {
				if tab.Has(id(1<<20 + i)) {
					t.Fatal("a chunk that nobody added is there")
				}
			}
			slots := make(map[int]bool)
			visited := 0
			if err := tab.Visit(func(c chunk.ID, l Loc) {
				if got, _ := tab.Lookup(c); got != l || slots[l.Slot] || l.Slot >= tab.Slots() {
					t.Fatalf("visited %+v, looked up %+v", l, got)
				}
				slots[l.Slot] = true
				visited++
			}); err != nil || visited != 6000 || tab.Len() != 6000 {
				t.Fatalf("visited %d of %d chunks, %v", visited, tab.Len(), err)
			}
		}
		check(tab)
		next := New(conf)
		for _, rec := range records { // those that no run had
			if _, ok := next.Number(rec.Name); !ok {
				next.Add(rec)
			}
		}
		check(next)
		for object, packs := range next.Objects() {
			if len(packs) != 1 || name(1000+int(packs[0])) != object {
				t.Errorf("index object %s covers %v", object, packs)
			}
		}
	}
}

// Of two places of a chunk the first counts, until its pack is gone.
func TestGone(t *testing.T) {
	for _, spill := range []int{1 << 30, 10} {
		tab := New(Config{Dir: t.TempDir(), Spill: spill})
		first, second := record(1, ids(0, 20)...), record(2, ids(0, 10)...)
		a := tab.Add(first)
		tab.Add(second)
		holds(t, tab, id(3), first)
		tab.SetGone(a, true)
		if tab.Has(id(3)) {
			t.Error("a chunk of a pack that is gone is there")
		}
		holds(t, tab, id(3), first) // it can still be read
		tab.Add(second)
		holds(t, tab, id(3), second)
		holds(t, tab, id(15), first)
		tab.Add(record(3, ids(500, 20)...)) // runs are merged
		holds(t, tab, id(3), second)
		if !tab.Has(id(3)) || tab.Has(id(15)) || tab.Len() != 40 {
			t.Errorf("%v %v %d", tab.Has(id(3)), tab.Has(id(15)), tab.Len())
		}
	}
}

// Ids that begin alike are told apart, also where they fill many blocks.
func TestSamePrefix(t *testing.T) {
	tab := New(Config{Dir: t.TempDir(), Spill: 500})
	var all []chunk.ID
	for i := range 600 {
		c := id(1)
		binary.BigEndian.PutUint32(c[28:], uint32(i*7))
		all = append(all, c)
	}
	rec := record(1, all...)
	tab.Add(rec)
	if len(tab.runs) != 1 {
		t.Fatal("nothing was written")
	}
	for _, c := range all {
		holds(t, tab, c, rec)
	}
	other := all[0]
	other[31]++
	if tab.Has(other) {
		t.Error("an id in between is there")
	}
}

// Whatever happens to the files, nothing wrong is found, and the next process
// begins anew.
func TestDamage(t *testing.T) {
	conf := Config{Dir: t.TempDir(), Spill: 100}
	rec := record(1, ids(0, 1000)...)
	New(conf).Add(rec)
	saved := make(map[string][]byte)
	files, err := os.ReadDir(conf.Dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		saved[f.Name()], err = os.ReadFile(filepath.Join(conf.Dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
	}
	harmed := 0
	for f, b := range saved {
		for at := 0; at < len(b); at += 1 + len(b)/41 {
			for n, data := range saved {
				if err := os.WriteFile(filepath.Join(conf.Dir, n), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := append([]byte(nil), b...)
			c[at] ^= 0x20
			if at%3 == 0 {
				c = c[:at]
			}
			if err := os.WriteFile(filepath.Join(conf.Dir, f), c, 0o600); err != nil {
				t.Fatal(err)
			}
			tab := New(conf)
			whole := true
			for i := 0; i < 1000; i += 7 {
				l, ok := tab.Lookup(id(i))
				whole = whole && ok
				if ok && l.Len != uint32(100+i) {
					t.Fatalf("%s damaged at %d: chunk %d at %+v", f, at, i, l)
				}
			}
			if _, known := tab.Number(rec.Name); known {
				if _, err := tab.Pack(0); err != nil {
					whole = false
				}
			}
			if whole {
				continue // the damage was in zeros, or the lock
			}
			harmed++
			if tab.Packs() > 0 && !tab.Broken() {
				t.Fatalf("%s damaged at %d: chunks are missing and nothing is said", f, at)
			}
			tab.Reset()
			tab.Add(rec)
			holds(t, tab, id(1), rec)
			holds(t, New(conf), id(2), rec)
		}
	}
	if harmed < 20 {
		t.Errorf("only %d damages did any harm", harmed)
	}
}

// Two processes that share the folder do not disturb each other.
func TestShared(t *testing.T) {
	conf := Config{Dir: t.TempDir(), Spill: 100}
	tabs := []*Table{New(conf), New(conf)}
	var records []*pack.Record
	for n := range 20 {
		records = append(records, record(n, ids(n*60, 60)...))
		for _, tab := range tabs {
			tab.Add(records[n])
		}
		tabs = append(tabs, New(conf))
	}
	for _, tab := range tabs[:2] {
		for n, rec := range records {
			holds(t, tab, id(n*60+7), rec)
		}
	}
	for _, tab := range tabs {
		if tab.Broken() {
			t.Error("a table is broken")
		}
	}
}

// Where nothing can be written everything stays in memory.
func TestFullDisk(t *testing.T) {
	tab := New(Config{Dir: "/dev/full/x", Spill: 100})
	for n := range 20 {
		tab.Add(record(n, ids(n*60, 60)...))
	}
	if tab.Len() != 1200 || !tab.Has(id(1199)) {
		t.Error("chunks are lost")
	}
}

// bytesPerChunk is the memory that a table of n chunks takes, in packs of 24
// segments and with so many chunks a segment.
func bytesPerChunk(t testing.TB, conf Config, n, perSegment int) float64 {
	t.Helper()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	tab := New(conf)
	for at, packs := 0, 0; at < n; packs++ {
		rec := &pack.Record{Name: name(packs), Size: 24 << 20, Segments: make([]pack.Segment, 24)}
		for i := range rec.Segments {
			s := &rec.Segments[i]
			s.Stored, s.Chunks = 1<<20, make([]pack.Chunk, perSegment)
			for j := range s.Chunks {
				s.Chunks[j] = pack.Chunk{ID: id(at), Len: 1 << 20 / uint32(perSegment)}
				at++
			}
		}
		tab.Add(rec)
	}
	per := float64(heap()-before) / float64(tab.Len())
	if !tab.Has(id(n / 2)) {
		t.Error("a chunk is missing")
	}
	runtime.KeepAlive(tab)
	return per
}

// What a chunk takes in memory is bounded: 68 bytes where it was added last, a few
// in a run.
func TestBytesPerChunk(t *testing.T) {
	for _, tt := range []struct {
		conf       Config
		perSegment int
		most       float64
	}{{Config{}, 100, 68}, {Config{Dir: t.TempDir(), Spill: 10_000}, 100, 7}, {Config{Dir: t.TempDir(), Spill: 10_000}, 1, 12}} {
		if per := bytesPerChunk(t, tt.conf, 200_000, tt.perSegment); per > tt.most {
			t.Errorf("%+v, %d a segment: %.1f bytes a chunk, want at most %g", tt.conf, tt.perSegment, per, tt.most)
		} else {
			t.Logf("%d a segment, spill at %d: %.1f bytes a chunk", tt.perSegment, tt.conf.Spill, per)
		}
	}
}

// BenchmarkTable measures ten million chunks, and prints the memory of each.
func BenchmarkTable(b *testing.B) {
	const chunks = 10_000_000
	for _, perSegment := range []int{1, 100} {
		conf := Config{Dir: filepath.Join(b.TempDir(), fmt.Sprint(perSegment))}
		b.Run(fmt.Sprintf("add/%d", perSegment), func(b *testing.B) {
			for b.Loop() {
				os.RemoveAll(conf.Dir)
				b.ReportMetric(bytesPerChunk(b, conf, chunks, perSegment), "B/chunk")
				var size int64
				files, _ := os.ReadDir(conf.Dir)
				for _, f := range files {
					if i, err := f.Info(); err == nil {
						size += i.Size()
					}
				}
				b.ReportMetric(float64(size)/chunks, "disk-B/chunk")
			}
		})
		tab := New(conf)
		some := tab.Len()
		for what, from := range map[string]int{"has": 0, "has-not": chunks} {
			b.Run(fmt.Sprintf("%s/%d", what, perSegment), func(b *testing.B) {
				n := 0
				for b.Loop() {
					if tab.Has(id(from+n*7919%some)) != (from == 0) && from > 0 {
						b.Fatal("found what nobody added")
					}
					n++
				}
			})
		}
	}
}
