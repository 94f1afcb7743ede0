package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
	"sync"

	"coffer/backup/chunk"
	"coffer/backup/pack"
)

// A run is a file that is never changed (integers little-endian):
//
//	head      4096: magic "cofrun1\n", then 8 each: entries, first pack, packs,
//	          segments, words of the filter; CRC-32C 4 of all that
//	block     4096, as many as it takes: 78 entries of 52, zeros, CRC-32C 4
//	pack      32 each: name 16, size 4, number of its first segment 4, segments 4,
//	          CRC-32C 4 of name, size, number of segments and these
//	segment   16 each: offset 4, stored 4, plain 4, flags 4 (1 tree, 2 zstd)
//	first     8 each: the first bytes of the first id of every block
//	filter    8 each
//	CRC-32C 4 of first and filter
const (
	runMagic    = "cofrun1\n"
	blockSize   = 4096
	entrySize   = 52
	perBlock    = (blockSize - 4) / entrySize
	packSize    = 32
	segmentSize = 16
	headNumbers = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRun = errors.New("is damaged")

type run struct {
	f         *os.File
	name      string // of the file, empty if it has none any more
	n         int    // entries
	firstPack int
	packs     int
	segs      int
	first     []uint64
	filter    filter
}

func (r *run) blocks() int { return (r.n + perBlock - 1) / perBlock }

func (r *run) packsAt() int64 { return int64(1+r.blocks()) * blockSize }

func (r *run) segsAt() int64 { return r.packsAt() + int64(r.packs)*packSize }

func (r *run) firstAt() int64 { return r.segsAt() + int64(r.segs)*segmentSize }

// openRun opens a file and reads what is to be in memory.
func openRun(path, name string) (*run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &run{f: f, name: name}
	if err := r.readHead(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func (r *run) readHead() error {
	var head [blockSize]byte
	if _, err := r.f.ReadAt(head[:], 0); err != nil {
		return err
	}
	end := len(runMagic) + 8*headNumbers
	if string(head[:len(runMagic)]) != runMagic || crc32.Checksum(head[:end], castagnoli) != binary.LittleEndian.Uint32(head[end:]) {
		return errRun
	}
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	number := func(i int) int { return int(binary.LittleEndian.Uint64(head[len(runMagic)+8*i:])) }
	r.n, r.firstPack, r.packs, r.segs = number(0), number(1), number(2), number(3)
	words := number(4)
	for i := range headNumbers {
		if number(i) < 0 || int64(number(i)) > info.Size() {
			return errRun
		}
	}
	if info.Size() != r.firstAt()+int64(r.blocks()+words)*8+4 || words == 0 || words%blockWords != 0 {
		return errRun
	}
	all := make([]uint64, r.blocks()+words)
	if err := readWords(r.f, r.firstAt(), all); err != nil {
		return err
	}
	r.first, r.filter = all[:r.blocks()], filter(all[r.blocks():])
	return nil
}

// readWords fills words from off on, and checks the checksum behind them.
func readWords(f *os.File, off int64, words []uint64) error {
	buf := make([]byte, 64<<10)
	sum := uint32(0)
	for at := 0; at < len(words); {
		b := buf[:min(len(buf), 8*(len(words)-at))]
		if _, err := f.ReadAt(b, off+int64(at)*8); err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, b)
		for ; len(b) > 0; b = b[8:] {
			words[at] = binary.LittleEndian.Uint64(b)
			at++
		}
	}
	if _, err := f.ReadAt(buf[:4], off+int64(len(words))*8); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(buf) != sum {
		return errRun
	}
	return nil
}

var blockPool = sync.Pool{New: func() any { return new([blockSize]byte) }}

// find returns the entry of an id and its number, or -1.
func (r *run) find(id *chunk.ID) (e entry, at int, err error) {
	p := prefix(id)
	b := blockPool.Get().(*[blockSize]byte)
	defer blockPool.Put(b)
	after := sort.Search(len(r.first), func(i int) bool { return r.first[i] > p })
	for i := after - 1; i >= 0; i-- { // more than once only if ids share eight bytes
		if err := r.block(i, b); err != nil {
			return e, -1, err
		}
		n := min(perBlock, r.n-i*perBlock)
		k := sort.Search(n, func(k int) bool { return compare((*chunk.ID)(b[k*entrySize:]), id) >= 0 })
		if k < n && chunk.ID(b[k*entrySize:][:32]) == *id {
			e.decode(b[k*entrySize:])
			return e, i*perBlock + k, nil
		}
		if r.first[i] < p {
			break
		}
	}
	return e, -1, nil
}

// block reads and checks one block.
func (r *run) block(i int, b *[blockSize]byte) error {
	if _, err := r.f.ReadAt(b[:], int64(1+i)*blockSize); err != nil {
		return fmt.Errorf("%s, block %d: %w", r.f.Name(), i, err)
	}
	return r.checkBlock(i, b[:])
}

func (r *run) checkBlock(i int, b []byte) error {
	if crc32.Checksum(b[:blockSize-4], castagnoli) != binary.LittleEndian.Uint32(b[blockSize-4:]) {
		return fmt.Errorf("%s, block %d: %w", r.f.Name(), i, errRun)
	}
	return nil
}

func (e *entry) decode(b []byte) {
	copy(e.id[:], b)
	for i, p := range [...]*uint32{&e.pack, &e.seg, &e.off, &e.ln, &e.stored} {
		*p = binary.LittleEndian.Uint32(b[32+4*i:])
	}
}

func (e *entry) encode(b []byte) {
	copy(b, e.id[:])
	for i, v := range [...]uint32{e.pack, e.seg, e.off, e.ln, e.stored} {
		binary.LittleEndian.PutUint32(b[32+4*i:], v)
	}
}

// segments returns those of the pack of a number of the table.
func (r *run) segments(n int, name pack.Name) ([]Place, error) {
	var p [packSize]byte
	if _, err := r.f.ReadAt(p[:], r.packsAt()+int64(n-r.firstPack)*packSize); err != nil {
		return nil, fmt.Errorf("%s, pack %s: %w", r.f.Name(), name, err)
	}
	first, count := int(binary.LittleEndian.Uint32(p[20:])), int(binary.LittleEndian.Uint32(p[24:]))
	if pack.Name(p[:16]) != name || first > r.segs || count > r.segs-first {
		return nil, fmt.Errorf("%s, pack %s: %w", r.f.Name(), name, errRun)
	}
	b := make([]byte, count*segmentSize)
	if _, err := r.f.ReadAt(b, r.segsAt()+int64(first)*segmentSize); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s, pack %s: %w", r.f.Name(), name, err)
	}
	if packSum(p[:], b) != binary.LittleEndian.Uint32(p[28:]) {
		return nil, fmt.Errorf("%s, pack %s: %w", r.f.Name(), name, errRun)
	}
	places := make([]Place, count)
	for i := range places {
		s := b[i*segmentSize:]
		flags := binary.LittleEndian.Uint32(s[12:])
		places[i] = Place{Off: binary.LittleEndian.Uint32(s), Stored: binary.LittleEndian.Uint32(s[4:]),
			Plain: binary.LittleEndian.Uint32(s[8:]), Tree: flags&1 != 0, Compressed: flags&2 != 0}
	}
	return places, nil
}

// packSum is the checksum of a pack: not of where its segments lie, which a merge
// changes.
func packSum(p, segments []byte) uint32 {
	sum := crc32.Checksum(p[:20], castagnoli)
	sum = crc32.Update(sum, castagnoli, p[24:28])
	return crc32.Update(sum, castagnoli, segments)
}

func appendPlaces(b []byte, places []Place) []byte {
	for _, p := range places {
		var flags uint32
		if p.Tree {
			flags |= 1
		}
		if p.Compressed {
			flags |= 2
		}
		for _, v := range [...]uint32{p.Off, p.Stored, p.Plain, flags} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
	}
	return b
}
