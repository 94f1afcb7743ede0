package table

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"coffer/backup/pack"
)

// The list of runs names the files of the folder that make a table, oldest first,
// and the index objects that they cover (integers little-endian, 4 bytes each):
//
//	magic "coflist1", chunks 8, runs, name 16 each,
//	objects, each: name 16, packs, number of each; CRC-32C of all that
const (
	listName  = "list"
	listMagic = "coflist1"
)

// path names a file of the folder.
func (t *Table) path(name string) string { return filepath.Join(t.conf.Dir, name) }

// load takes in what the list names. Whatever is wrong, the table is then empty.
func (t *Table) load() {
	b, err := os.ReadFile(t.path(listName))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = t.parseList(b)
	}
	if err != nil {
		t.conf.Log.Warn("the cache of the index cannot be used: it is built anew", zap.Error(err))
		t.Reset()
	}
}

func (t *Table) parseList(b []byte) error {
	n := len(b) - 4
	if n < len(listMagic)+8 || string(b[:len(listMagic)]) != listMagic || crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return fmt.Errorf("the list of runs %w", errRun)
	}
	b = b[len(listMagic):n]
	t.count = int(binary.LittleEndian.Uint64(b))
	b = b[8:]
	take := func(n int) []byte { // the checksum says that all is there
		x := b[:n]
		b = b[n:]
		return x
	}
	number := func() uint32 { return binary.LittleEndian.Uint32(take(4)) }
	for range number() {
		name := hex.EncodeToString(take(16))
		r, err := openRun(t.path(name), name)
		if err != nil {
			return err
		}
		t.runs = append(t.runs, r)
		if err := t.readPacks(r); err != nil {
			return err
		}
	}
	for range number() {
		object := pack.Name(take(16))
		packs := make([]uint32, number())
		for i := range packs {
			packs[i] = number()
		}
		t.objects[object] = packs
	}
	return nil
}

// readPacks takes in the packs of a run.
func (t *Table) readPacks(r *run) error {
	if r.firstPack != len(t.packs) {
		return fmt.Errorf("%s does not follow the run before: %w", r.f.Name(), errRun)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(r.f, r.packsAt(), int64(r.packs)*packSize), 64<<10)
	var b [packSize]byte
	t.packs = slices.Grow(t.packs, r.packs)
	for range r.packs {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return fmt.Errorf("%s: %w", r.f.Name(), err)
		}
		p := packEntry{name: pack.Name(b[:16]), size: binary.LittleEndian.Uint32(b[16:])}
		t.byName[p.name] = uint32(len(t.packs))
		t.packs = append(t.packs, p)
	}
	return nil
}

// spill writes what is in memory to a run. Where that fails, as on a full disk, it
// stays in memory; the next try is when it has doubled.
func (t *Table) spill() {
	if t.conf.Dir == "" || t.Broken() {
		return
	}
	if err := t.trySpill(); err != nil {
		t.conf.Log.Warn("the index cannot be cached and takes memory", zap.Int("chunks", t.recent.len()), zap.Error(err))
		t.conf.Spill = 2 * t.recent.len()
	}
}

func (t *Table) trySpill() error {
	if err := os.MkdirAll(t.conf.Dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(t.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // and unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	t.alone = t.alone || t.overtaken()
	first := len(t.packs) - len(t.places)
	w, name, err := t.newRun(t.recent.len(), first)
	if err != nil {
		return err
	}
	for m := newMerge(t.recent.over(0)); m.next(); {
		w.add(&m.cur)
	}
	w.endBlock()
	for i, places := range t.places {
		w.pack(t.packs[first+i], places)
	}
	r, err := t.endRun(w, name)
	if err != nil {
		return err
	}
	t.runs = append(t.runs, r)
	t.recent.clear()
	t.places = nil
	for n := len(t.runs); n > 1 && t.runs[n-2].n < 2*t.runs[n-1].n; n = len(t.runs) {
		if err := t.join(); err != nil {
			t.conf.Log.Warn("runs of the index could not be merged", zap.Error(err))
			break
		}
	}
	if t.alone {
		return nil
	}
	if err := t.writeList(); err != nil {
		t.conf.Log.Warn("the cache of the index cannot be kept for the next run", zap.Error(err))
		t.alone = true
	}
	return nil
}

// overtaken reports whether another process has put its own runs in the place of
// this one's: then what this one writes is for itself.
func (t *Table) overtaken() bool {
	for _, r := range t.runs {
		if _, err := os.Stat(t.path(r.name)); err != nil {
			return true
		}
	}
	return false
}

// newRun begins a run under a random name.
func (t *Table) newRun(most, firstPack int) (*runWriter, string, error) {
	var random [16]byte
	rand.Read(random[:])
	name := hex.EncodeToString(random[:])
	w, err := newRunWriter(t.path(name), most, firstPack)
	if err == nil && t.alone {
		err = os.Remove(t.path(name))
	}
	return w, name, err
}

func (t *Table) endRun(w *runWriter, name string) (*run, error) {
	r, err := w.finish()
	if err == nil {
		r.name = name
	}
	return r, err
}

// join merges the two newest runs.
func (t *Table) join() error {
	n := len(t.runs)
	a, b := t.runs[n-2], t.runs[n-1]
	w, name, err := t.newRun(a.n+b.n, a.firstPack)
	if err != nil {
		return err
	}
	m := newMerge(a.over(0), b.over(0))
	for m.next() {
		w.add(&m.cur)
	}
	w.endBlock()
	w.packsOf(a, b)
	if m.err != nil {
		w.err = m.err
	}
	r, err := t.endRun(w, name)
	if err != nil {
		return err
	}
	a.f.Close()
	b.f.Close()
	t.runs = append(t.runs[:n-2], r)
	return nil
}

// writeList publishes the runs, and removes all other files.
func (t *Table) writeList() error {
	b := binary.LittleEndian.AppendUint64([]byte(listMagic), uint64(t.count))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.runs)))
	keep := map[string]bool{listName: true, "lock": true}
	for _, r := range t.runs {
		name, err := hex.DecodeString(r.name)
		if err != nil {
			return err
		}
		b = append(b, name...)
		keep[r.name] = true
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.objects)))
	for object, packs := range t.objects {
		b = append(b, object[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(packs)))
		for _, p := range packs {
			b = binary.LittleEndian.AppendUint32(b, p)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	// Not synced: what a power cut leaves is damaged, and built anew.
	err := os.WriteFile(t.path(listName+".new"), b, 0o600)
	if err == nil {
		err = os.Rename(t.path(listName+".new"), t.path(listName))
	}
	if err != nil {
		return err
	}
	files, err := os.ReadDir(t.conf.Dir)
	for _, f := range files {
		if !keep[f.Name()] {
			os.Remove(t.path(f.Name()))
		}
	}
	return err
}

// forgetFiles keeps other processes from the files.
func (t *Table) forgetFiles() {
	if t.conf.Dir != "" && !t.conf.Private {
		os.Remove(t.path(listName))
	}
}
