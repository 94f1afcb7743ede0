package table

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// runWriter writes a run: its entries in order, then its packs, then the rest.
type runWriter struct {
	r     run
	w     *bufio.Writer
	block [blockSize]byte
	fill  int // entries in block
	segs  []byte
	err   error
}

// newRunWriter begins a run in a new file, of at most that many entries.
func newRunWriter(path string, most, firstPack int) (*runWriter, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	w := &runWriter{r: run{f: f, firstPack: firstPack, filter: newFilter(most)}, w: bufio.NewWriterSize(f, 256<<10)}
	w.write(make([]byte, blockSize)) // for the head
	return w, nil
}

func (w *runWriter) write(b []byte) {
	if _, err := w.w.Write(b); err != nil {
		w.err = err
	}
}

// add writes the next entry. Errors are for finish.
func (w *runWriter) add(e *entry) {
	if w.fill == 0 {
		w.r.first = append(w.r.first, prefix(&e.id))
	}
	e.encode(w.block[w.fill*entrySize:])
	w.r.filter.add(&e.id)
	w.r.n++
	if w.fill++; w.fill == perBlock {
		w.endBlock()
	}
}

func (w *runWriter) endBlock() {
	if w.fill == 0 {
		return
	}
	clear(w.block[w.fill*entrySize:])
	binary.LittleEndian.PutUint32(w.block[blockSize-4:], crc32.Checksum(w.block[:blockSize-4], castagnoli))
	w.write(w.block[:])
	w.fill = 0
}

// pack writes the next pack; its segments follow when all packs are written.
func (w *runWriter) pack(p packEntry, places []Place) {
	var b [packSize]byte
	copy(b[:], p.name[:])
	binary.LittleEndian.PutUint32(b[16:], p.size)
	binary.LittleEndian.PutUint32(b[20:], uint32(w.r.segs))
	binary.LittleEndian.PutUint32(b[24:], uint32(len(places)))
	at := len(w.segs)
	w.segs = appendPlaces(w.segs, places)
	binary.LittleEndian.PutUint32(b[28:], packSum(b[:], w.segs[at:]))
	w.write(b[:])
	w.r.packs++
	w.r.segs += len(places)
}

// packsOf copies the packs of runs that follow each other, and their segments.
func (w *runWriter) packsOf(runs ...*run) {
	for _, r := range runs {
		in := bufio.NewReaderSize(io.NewSectionReader(r.f, r.packsAt(), int64(r.packs)*packSize), 64<<10)
		var b [packSize]byte
		for range r.packs {
			if _, err := io.ReadFull(in, b[:]); err != nil {
				w.err = err
				return
			}
			binary.LittleEndian.PutUint32(b[20:], binary.LittleEndian.Uint32(b[20:])+uint32(w.r.segs))
			w.write(b[:])
		}
		w.r.packs += r.packs
		w.r.segs += r.segs
	}
	for _, r := range runs {
		if _, err := io.Copy(w.w, io.NewSectionReader(r.f, r.segsAt(), int64(r.segs)*segmentSize)); err != nil {
			w.err = err
		}
	}
}

// finish writes the rest and returns the run, which is ready to be read. After an
// error there is no file.
func (w *runWriter) finish() (*run, error) {
	w.write(w.segs)
	sum := uint32(0)
	var word [8]byte
	for _, list := range [][]uint64{w.r.first, w.r.filter} {
		for _, v := range list {
			binary.LittleEndian.PutUint64(word[:], v)
			sum = crc32.Update(sum, castagnoli, word[:])
			w.write(word[:])
		}
	}
	w.write(binary.LittleEndian.AppendUint32(nil, sum))
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err == nil {
		head := []byte(runMagic)
		for _, v := range [headNumbers]int{w.r.n, w.r.firstPack, w.r.packs, w.r.segs, len(w.r.filter)} {
			head = binary.LittleEndian.AppendUint64(head, uint64(v))
		}
		head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
		_, w.err = w.r.f.WriteAt(head, 0)
	}
	if w.err != nil {
		w.r.f.Close()
		os.Remove(w.r.f.Name())
		return nil, w.err
	}
	r := w.r // not a pointer into the writer, which would stay
	r.first = slices.Clip(r.first)
	return &r, nil
}
