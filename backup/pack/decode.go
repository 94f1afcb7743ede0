package pack

import (
	"encoding/binary"
	"fmt"
	"math"

	"coffer/backup/chunk"
)

// decoder reads fields from b. The first error stays, and what is read after it
// is zero. Only the shortest form of a number is accepted, so that what parses
// encodes to the same bytes.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, ErrFormat)
	}
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail("number of 32 bits")
		return 0
	}
	return uint32(v)
}

// length reads a count of items that take at least size bytes each, so that
// no count makes a reader reserve more than a multiple of what it was given.
func (d *decoder) length(size int) int {
	v := d.uvarint()
	if v > uint64(len(d.b)/size) {
		d.fail("count")
		return 0
	}
	return int(v)
}

// bytes returns the next n bytes, zeros after an error.
func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail("end")
		return make([]byte, min(n, 64))
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes after the end")
	}
	return d.err
}

func (d *decoder) record() *Record {
	r := &Record{Name: Name(d.bytes(16)), Size: binary.LittleEndian.Uint32(d.bytes(4))}
	r.Segments = make([]Segment, d.length(3))
	for i := range r.Segments {
		if d.err != nil {
			break
		}
		d.segment(&r.Segments[i])
	}
	if d.err == nil && (r.Size > MaxPlain || r.stored() > int64(r.Size)) {
		d.fail("segments are larger than the pack")
	}
	return r
}

func (d *decoder) segment(s *Segment) {
	flags := d.bytes(1)[0]
	if flags&^(flagTree|flagCompressed) != 0 {
		d.fail("flags of segment")
	}
	s.Tree, s.Compressed = flags&flagTree != 0, flags&flagCompressed != 0
	s.Stored = d.uint32()
	n := d.length(len(chunk.ID{}) + 1)
	if n > MaxChunks {
		d.fail("count of chunks")
		return
	}
	s.Chunks = make([]Chunk, n)
	plain := 0
	for i := range s.Chunks {
		s.Chunks[i] = Chunk{ID: chunk.ID(d.bytes(32)), Len: d.uint32()}
		if plain += int(s.Chunks[i].Len); plain > chunk.MaxLen {
			d.fail("length of segment")
			return
		}
	}
	if !s.Compressed && d.err == nil && int(s.Stored) != plain {
		d.fail("stored length of segment")
	}
}
