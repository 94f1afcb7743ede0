package tree

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"coffer/backup/chunk"
)

// minEntry is the length of the shortest entry: a FIFO with a name of one byte.
const minEntry = 12

func appendNode(b []byte, kind byte, count int, body []byte) []byte {
	b = append(b, version, kind)
	b = binary.AppendUvarint(b, uint64(count))
	return append(b, body...)
}

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Sec), uint64(t.Nsec))
}

// Append appends the encoded entry.
func (e *Entry) Append(b []byte) []byte {
	flags := e.Flags &^ (hasXattr | hasHoles)
	if len(e.Xattrs) > 0 {
		flags |= hasXattr
	}
	if len(e.Holes) > 0 && e.Type == File {
		flags |= hasHoles
	}
	b = appendString(b, e.Name)
	b = append(b, byte(e.Type), flags)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	b = appendTime(b, e.Mtime)
	b = appendTime(b, e.Ctime)
	b = binary.AppendUvarint(b, e.Inode)
	if flags&Linked != 0 {
		b = binary.AppendUvarint(b, e.Device)
	}
	switch e.Type {
	case File:
		b = binary.AppendUvarint(b, uint64(e.Size))
		b = binary.AppendUvarint(b, uint64(len(e.Content)))
		for i := range e.Content {
			b = append(b, e.Content[i][:]...)
		}
		if flags&hasHoles != 0 {
			b = binary.AppendUvarint(b, uint64(len(e.Holes)))
			for _, h := range e.Holes {
				b = binary.AppendUvarint(b, uint64(h.Off))
				b = binary.AppendUvarint(b, uint64(h.Len))
			}
		}
	case Dir:
		b = append(b, e.Subtree[:]...)
		b = binary.AppendUvarint(b, uint64(e.Size))
		b = binary.AppendUvarint(b, e.Count)
	case Symlink:
		b = appendString(b, e.Target)
	case CharDevice, BlockDevice:
		b = binary.AppendUvarint(b, uint64(e.Major))
		b = binary.AppendUvarint(b, uint64(e.Minor))
	}
	if flags&hasXattr != 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for _, x := range e.Xattrs {
			b = appendString(appendString(b, x.Name), x.Value)
		}
	}
	return b
}

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

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail("number of 32 bits")
	}
	return uint32(v)
}

func (d *decoder) int64() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.fail("number of 63 bits")
		return 0
	}
	return int64(v)
}

// length reads a count of items of at least size bytes each.
func (d *decoder) length(size int) int {
	v := d.uvarint()
	if v > uint64(len(d.b)/size) {
		d.fail("count")
		return 0
	}
	return int(v)
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail("end")
		return make([]byte, min(n, 64))
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) string() string { return string(d.bytes(d.length(1))) }

func (d *decoder) name() string {
	s := d.string()
	if s == "" || len(s) > MaxName || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
		d.fail("name")
	}
	return s
}

func (d *decoder) time() Time {
	t := Time{Sec: d.varint(), Nsec: d.uint32()}
	if t.Nsec > 999_999_999 {
		d.fail("time")
	}
	return t
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes after the end")
	}
	return d.err
}

func (d *decoder) entry(e *Entry) {
	e.Name = d.name()
	head := d.bytes(2)
	e.Type = Type(head[0])
	flags := head[1]
	if flags&^knownFlags != 0 {
		d.fail("flags")
	}
	e.Flags = flags &^ (hasXattr | hasHoles)
	e.Mode, e.UID, e.GID = d.uint32(), d.uint32(), d.uint32()
	if e.Mode > 0o7777 {
		d.fail("mode")
	}
	e.Mtime, e.Ctime = d.time(), d.time()
	e.Inode = d.uvarint()
	if flags&Linked != 0 {
		e.Device = d.uvarint()
	}
	if flags&hasHoles != 0 && e.Type != File {
		d.fail("holes")
	}
	d.content(e, flags)
	if flags&hasXattr != 0 {
		d.xattrs(e)
	}
}

func (d *decoder) content(e *Entry, flags uint8) {
	switch e.Type {
	case File:
		e.Size = d.int64()
		if n := d.length(32); n > 0 {
			e.Content = make([]chunk.ID, n)
		}
		for i := range e.Content {
			e.Content[i] = chunk.ID(d.bytes(32))
		}
		if flags&hasHoles != 0 {
			d.holes(e)
		}
	case Dir:
		e.Subtree = chunk.ID(d.bytes(32))
		e.Size = d.int64()
		e.Count = d.uvarint()
	case Symlink:
		e.Target = d.string()
	case FIFO:
	case CharDevice, BlockDevice:
		e.Major, e.Minor = d.uint32(), d.uint32()
	default:
		d.fail("type")
	}
}

func (d *decoder) holes(e *Entry) {
	e.Holes = make([]Hole, d.length(2))
	end := int64(-1)
	for i := range e.Holes {
		h := Hole{Off: d.int64(), Len: d.int64()}
		if d.err != nil {
			return
		}
		if h.Off <= end || h.Len <= 0 || h.Off > e.Size || h.Len > e.Size-h.Off {
			d.fail("holes")
			return
		}
		e.Holes[i], end = h, h.Off+h.Len
	}
	if len(e.Holes) == 0 {
		d.fail("holes")
	}
}

func (d *decoder) xattrs(e *Entry) {
	e.Xattrs = make([]Xattr, d.length(2))
	last := ""
	for i := range e.Xattrs {
		e.Xattrs[i] = Xattr{Name: d.string(), Value: append([]byte(nil), d.bytes(d.length(1))...)}
		if e.Xattrs[i].Name <= last {
			d.fail("extended attributes")
			return
		}
		last = e.Xattrs[i].Name
	}
	if len(e.Xattrs) == 0 {
		d.fail("extended attributes")
	}
}
