// Package pack holds the formats and the lookup of packs: what a pack looks like
// inside its sealed object, how its segments are compressed, the records by which
// footers and index objects describe packs, and the table that finds a chunk.
//
//	pack    = segment* zero* footer tail
//	footer  = config record
//	tail    = length of footer 4, magic "cpk1" 4      (integers little-endian)
//
// A segment is one or many chunks, compressed together. The zeros pad the pack
// to a size that says little about what is in it. It does no I/O.
package pack

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"coffer/backup/chunk"
)

// ErrFormat means bytes that no writer of this format wrote.
var ErrFormat = errors.New("format is wrong")

// Name is the random name of a pack, an index or a snapshot.
type Name [16]byte

// String returns 32 hex digits.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// ParseName is the inverse of [Name.String].
func ParseName(s string) (n Name, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(n) || hex.EncodeToString(b) != s {
		return n, fmt.Errorf("%q is not 32 hex digits", s)
	}
	return Name(b), nil
}

// Bounds of what a reader accepts.
const (
	MaxPlain  = 128 << 20 // bytes of a pack before sealing
	MaxChunks = 1 << 20   // in one segment
	TailSize  = 8
)

const magic = "cpk1"

// Padded rounds a size up so that only its magnitude and a few bits of it are
// told (Padmé, Nikitin et al., 2019): at most 12 % more, 2 % at 24 MiB.
func Padded(n int) int {
	if n < 2 {
		return n
	}
	exp := bits.Len(uint(n)) - 1
	mask := 1<<(exp-bits.Len(uint(exp))) - 1
	return (n + mask) &^ mask
}

// AppendEnd appends the padding, the footer and the tail to the segments of a
// pack, and completes r: its Size becomes that of the whole pack. config is an
// opaque copy of the repository's configuration.
func AppendEnd(segments int, r *Record, config []byte) []byte {
	r.Size = 0
	footer := appendFooter(nil, r, config)
	total := Padded(segments + len(footer) + TailSize)
	r.Size = uint32(total)
	footer = appendFooter(footer[:0], r, config) // Size has a fixed width
	end := make([]byte, total-segments-len(footer)-TailSize, total-segments)
	end = append(end, footer...)
	end = binary.LittleEndian.AppendUint32(end, uint32(len(footer)))
	return append(end, magic...)
}

func appendFooter(b []byte, r *Record, config []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(config)))
	b = append(b, config...)
	return r.Append(b)
}

// ParseTail returns the length of the footer before the tail.
func ParseTail(tail []byte) (int, error) {
	if len(tail) != TailSize || string(tail[4:]) != magic {
		return 0, fmt.Errorf("tail of pack: %w", ErrFormat)
	}
	n := binary.LittleEndian.Uint32(tail)
	if n > MaxPlain {
		return 0, fmt.Errorf("footer of %d bytes: %w", n, ErrFormat)
	}
	return int(n), nil
}

// ParseFooter returns the parts of a footer. The record must describe a pack
// of size bytes.
func ParseFooter(footer []byte, size int64) (config []byte, r *Record, err error) {
	d := decoder{b: footer}
	config = d.bytes(d.length(1))
	r = d.record()
	if err := d.end(); err != nil {
		return nil, nil, fmt.Errorf("footer of pack: %w", err)
	}
	if int64(r.Size) != size || r.stored() > size-int64(len(footer))-TailSize {
		return nil, nil, fmt.Errorf("footer of pack: sizes do not fit: %w", ErrFormat)
	}
	return config, r, nil
}

// Record describes a pack: its segments in their order, and their chunks.
type Record struct {
	Name     Name
	Size     uint32 // bytes of the pack before sealing
	Segments []Segment
}

// Segment describes chunks that are compressed together.
type Segment struct {
	Tree       bool   // holds directories, not contents of files
	Compressed bool   // zstd; else as it is
	Stored     uint32 // bytes in the pack
	Chunks     []Chunk
}

// Chunk names a chunk of a segment. Its offset is the sum of the lengths before it.
type Chunk struct {
	ID  chunk.ID
	Len uint32
}

// Plain is the length of the segment once decompressed.
func (s *Segment) Plain() (n int) {
	for i := range s.Chunks {
		n += int(s.Chunks[i].Len)
	}
	return n
}

// Len is the number of chunks.
func (r *Record) Len() (n int) {
	for i := range r.Segments {
		n += len(r.Segments[i].Chunks)
	}
	return n
}

// atMost bounds the length of the encoded record: numbers take up to five bytes.
func (r *Record) atMost() int { return 25 + 11*len(r.Segments) + 37*r.Len() }

func (r *Record) stored() (n int64) {
	for i := range r.Segments {
		n += int64(r.Segments[i].Stored)
	}
	return n
}

// Flags of a segment; others are not known.
const (
	flagTree       = 1
	flagCompressed = 2
)

// Append appends the encoded record:
//
//	record  = name 16, size 4, uvarint count, segment*
//	segment = flags 1 (1 tree, 2 zstd), uvarint stored, uvarint count, chunk*
//	chunk   = id 32, uvarint length
func (r *Record) Append(b []byte) []byte {
	b = slices.Grow(b, r.atMost())
	b = append(b, r.Name[:]...)
	b = binary.LittleEndian.AppendUint32(b, r.Size)
	b = binary.AppendUvarint(b, uint64(len(r.Segments)))
	for i := range r.Segments {
		s := &r.Segments[i]
		var flags byte
		if s.Tree {
			flags |= flagTree
		}
		if s.Compressed {
			flags |= flagCompressed
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(s.Stored))
		b = binary.AppendUvarint(b, uint64(len(s.Chunks)))
		for j := range s.Chunks {
			b = append(b, s.Chunks[j].ID[:]...)
			b = binary.AppendUvarint(b, uint64(s.Chunks[j].Len))
		}
	}
	return b
}

// ParseRecord returns the record at the start of b and what follows it.
func ParseRecord(b []byte) (*Record, []byte, error) {
	d := decoder{b: b}
	r := d.record()
	if d.err != nil {
		return nil, nil, fmt.Errorf("record of pack: %w", d.err)
	}
	return r, d.b, nil
}

// Index is the content of an index object: which packs hold what, and which
// older index objects say no more than that.
type Index struct {
	Replaces []Name
	Records  []*Record
}

// Append appends the encoded index: uvarint count, name*; uvarint count, record*.
func (x *Index) Append(b []byte) []byte {
	size := 10 + 16*len(x.Replaces)
	for _, r := range x.Records {
		size += r.atMost()
	}
	b = slices.Grow(b, size)
	b = binary.AppendUvarint(b, uint64(len(x.Replaces)))
	for _, n := range x.Replaces {
		b = append(b, n[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(x.Records)))
	for _, r := range x.Records {
		b = r.Append(b)
	}
	return b
}

// ParseIndex is the inverse of [Index.Append].
func ParseIndex(b []byte) (*Index, error) {
	d := decoder{b: b}
	x := &Index{}
	for range d.length(16) {
		x.Replaces = append(x.Replaces, Name(d.bytes(16)))
	}
	for range d.length(21) {
		if d.err != nil {
			break
		}
		x.Records = append(x.Records, d.record())
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return x, nil
}
