// Package tree holds the format of directories: what is kept of each file, and
// how a directory becomes chunks. A directory that did not change encodes to the
// same bytes, so it has the same id and is stored once. It does no I/O.
//
//	leaf    = 1 (version), 0, uvarint count, entry*
//	branch  = 1 (version), 1, uvarint count, (id 32, uvarint length, first name)*
//
// A directory is a leaf; one that is too large for a chunk is cut into leaves
// below a branch, at borders that depend on names, so that a change rewrites one.
// FORMAT.md has the fields of an entry.
package tree

import (
	"errors"
	"fmt"
	"hash/fnv"

	"coffer/backup/chunk"
)

// ErrFormat means bytes that no writer of this format wrote.
var ErrFormat = errors.New("format of directory is wrong")

// ErrVersion means a directory that a newer coffer wrote.
var ErrVersion = errors.New("version of directory is not known")

// Type is the kind of an entry. The values stand in the format.
type Type uint8

// The types of entries.
const (
	File Type = iota + 1
	Dir
	Symlink
	FIFO
	CharDevice
	BlockDevice
)

// Flags of an entry. The values stand in the format.
const (
	Changed  = 1 << iota // was written to while it was read
	Missing              // could not be read: Content is empty
	Linked               // has other names: Device and Inode are the same in all of them
	hasXattr             // set by Append where Xattrs is not empty
	hasHoles             // set by Append where Holes is not empty
	Indirect             // Content names lists of ids (see IDs), each a chunk of directories

	knownFlags = Changed | Missing | Linked | hasXattr | hasHoles | Indirect
)

// Time is a time as file systems keep it.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Entry is one name in a directory. Which fields count depends on Type.
type Entry struct {
	Name   string // neither empty, ".", "..", nor with "/" or NUL
	Type   Type
	Flags  uint8
	Mode   uint32 // permissions, setuid, setgid, sticky
	UID    uint32
	GID    uint32
	Mtime  Time
	Ctime  Time   // zero: changed so shortly before it was read that it must be read again
	Inode  uint64 //
	Device uint64 // Linked: number of the file system, in the order of the walk

	Size    int64      // File: bytes; Dir: of all files below
	Content []chunk.ID // File: the data between the holes
	Holes   []Hole     // File: ascending, not touching
	Subtree chunk.ID   // Dir: the directory's chunk
	Count   uint64     // Dir: entries below, at all depths
	Target  string     // Symlink
	Major   uint32     // devices
	Minor   uint32     //
	Xattrs  []Xattr    // ascending by name
}

// Hole is a range of a file that was never written: it reads as zeros.
type Hole struct{ Off, Len int64 }

// Xattr is an extended attribute, ACLs included.
type Xattr struct {
	Name  string
	Value []byte
}

// Branch is one leaf of a large directory.
type Branch struct {
	ID    chunk.ID
	First string // name of its first entry
}

// Bounds. A writer keeps to them, a reader accepts no more.
const (
	MaxNode  = 8 << 20 // bytes of an encoded node
	MaxName  = 4096    // bytes of a name: file systems have 255
	minLeaf  = 512 << 10
	maxLeaf  = 2 << 20
	leafMask = 1<<10 - 1
)

const (
	version    = 1
	kindLeaf   = 0
	kindBranch = 1
)

// Encode encodes a directory, whose entries ascend by name: it calls store for
// each chunk, the root of the directory last, and returns what store gave for
// that. store must not keep the bytes.
func Encode(entries []Entry, store func(node []byte) (chunk.ID, error)) (id chunk.ID, err error) {
	var leaves []Branch
	var body []byte
	count, first := 0, 0
	flush := func(end int) error {
		id, err = store(appendNode(make([]byte, 0, len(body)+8), kindLeaf, count, body))
		if err == nil && end > first {
			leaves = append(leaves, Branch{id, entries[first].Name})
		}
		body, count, first = body[:0], 0, end
		return err
	}
	for i := range entries {
		body = entries[i].Append(body)
		count++
		if i < len(entries)-1 && (len(body) > maxLeaf || len(body) > minLeaf && border(entries[i].Name)) {
			if err := flush(i + 1); err != nil {
				return id, err
			}
		}
	}
	if err := flush(len(entries)); err != nil || len(leaves) <= 1 {
		return id, err
	}
	body = body[:0]
	for _, l := range leaves {
		body = appendString(append(body, l.ID[:]...), l.First)
	}
	return store(appendNode(nil, kindBranch, len(leaves), body))
}

// One encodes a single entry as a leaf.
func One(e *Entry) []byte { return appendNode(nil, kindLeaf, 1, e.Append(nil)) }

// border reports whether a leaf may end after this name.
func border(name string) bool {
	h := fnv.New64a()
	h.Write([]byte(name))
	sum := h.Sum64()
	return (sum^sum>>32)&leafMask == 0
}

// Decode parses a node: a leaf's entries, or a branch's leaves.
func Decode(node []byte) (entries []Entry, leaves []Branch, err error) {
	if len(node) < 3 || len(node) > MaxNode {
		return nil, nil, fmt.Errorf("%d bytes: %w", len(node), ErrFormat)
	}
	if node[0] != version {
		return nil, nil, fmt.Errorf("version %d: %w", node[0], ErrVersion)
	}
	d := decoder{b: node[2:]}
	last := ""
	switch node[1] {
	case kindLeaf:
		entries = make([]Entry, d.length(minEntry))
		for i := range entries {
			e := &entries[i]
			d.entry(e)
			if d.err != nil {
				return nil, nil, d.err
			}
			if e.Name <= last {
				return nil, nil, fmt.Errorf("names do not ascend: %w", ErrFormat)
			}
			last = e.Name
		}
	case kindBranch:
		leaves = make([]Branch, d.length(34))
		for i := range leaves {
			leaves[i] = Branch{ID: chunk.ID(d.bytes(32)), First: d.name()}
			if d.err == nil && leaves[i].First <= last {
				d.fail("order of names")
			}
			last = leaves[i].First
		}
		if d.err == nil && len(leaves) < 2 {
			d.fail("count of leaves")
		}
	default:
		d.fail("kind")
	}
	if err := d.end(); err != nil {
		return nil, nil, err
	}
	return entries, leaves, nil
}
