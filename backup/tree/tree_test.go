package tree

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"coffer/backup/chunk"
)

// example has one entry of each type, with all fields.
func example() []Entry {
	id := func(b byte) chunk.ID { return chunk.ID(bytes.Repeat([]byte{b}, 32)) }
	return []Entry{
		{Name: "\xff name", Type: File, Flags: Changed, Mode: 0o4755, UID: 1000, GID: 1 << 31, Mtime: Time{-1, 999_999_999},
			Ctime: Time{1 << 40, 0}, Inode: 1 << 63, Size: 5000, Content: []chunk.ID{id(1), id(2)},
			Holes: []Hole{{0, 10}, {4096, 100}}, Xattrs: []Xattr{{"user.a", []byte("x")}, {"user.b", nil}}},
		{Name: "block", Type: BlockDevice, Mode: 0o600, Major: 8, Minor: 1 << 19},
		{Name: "char", Type: CharDevice, Mode: 0o600, Major: 1, Minor: 3},
		{Name: "dir", Type: Dir, Mode: 0o1777, Size: 1 << 50, Count: 12, Subtree: id(9)},
		{Name: "fifo", Type: FIFO, Mode: 0},
		{Name: "large", Type: File, Flags: Indirect, Size: 1 << 45, Content: []chunk.ID{id(4)}},
		{Name: "link", Type: File, Flags: Linked, Inode: 7, Device: 3},
		{Name: "missing", Type: File, Flags: Missing},
		{Name: "symlink", Type: Symlink, Mode: 0o777, Target: "/a/\xfe"},
	}
}

func sorted() []Entry {
	e := example()
	return append(e[1:], e[0])
}

func TestRoundTrip(t *testing.T) {
	var node []byte
	_, err := Encode(sorted(), func(b []byte) (chunk.ID, error) { node = b; return chunk.ID{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	got, leaves, err := Decode(node)
	if err != nil || leaves != nil {
		t.Fatal(err, leaves)
	}
	for i, e := range sorted() {
		for j := range e.Xattrs {
			if e.Xattrs[j].Value == nil {
				got[i].Xattrs[j].Value = nil
			}
		}
		if !reflect.DeepEqual(got[i], e) {
			t.Errorf("got %+v\nwant %+v", got[i], e)
		}
	}
}

// A huge directory becomes several chunks, and one new name changes one of them.
func TestSplit(t *testing.T) {
	var entries []Entry
	for i := range 40_000 {
		entries = append(entries, Entry{Name: fmt.Sprintf("%08d-%s", i*10, strings.Repeat("x", 60)), Type: FIFO})
	}
	store := func(nodes map[chunk.ID][]byte) func([]byte) (chunk.ID, error) {
		h := chunk.NewHasher([32]byte{})
		return func(b []byte) (chunk.ID, error) {
			id := h.Sum(b)
			nodes[id] = bytes.Clone(b)
			return id, nil
		}
	}
	before, after := map[chunk.ID][]byte{}, map[chunk.ID][]byte{}
	id, err := Encode(entries, store(before))
	if err != nil {
		t.Fatal(err)
	}
	_, leaves, err := Decode(before[id])
	if err != nil || len(leaves) < 3 {
		t.Fatalf("%d leaves: %v", len(leaves), err)
	}
	n := 0
	for _, l := range leaves {
		part, _, err := Decode(before[l.ID])
		if err != nil || part[0].Name != l.First {
			t.Fatal(err)
		}
		n += len(part)
	}
	if n != len(entries) {
		t.Errorf("%d entries in the leaves, want %d", n, len(entries))
	}
	entries[20_000].Name += "y"
	if _, err := Encode(entries, store(after)); err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for id := range after {
		if _, ok := before[id]; !ok {
			fresh++
		}
	}
	if fresh > 3 {
		t.Errorf("one name changed %d of %d chunks", fresh, len(after))
	}
}

func TestLists(t *testing.T) {
	var ids []chunk.ID
	h := chunk.NewHasher([32]byte{})
	for i := range 60_000 {
		ids = append(ids, h.Sum(fmt.Append(nil, i)))
	}
	var got []chunk.ID
	lists := 0
	_, err := Lists(ids, func(b []byte) (chunk.ID, error) {
		part, err := IDs(b)
		got = append(got, part...)
		lists++
		return chunk.ID{}, err
	})
	if err != nil || !reflect.DeepEqual(got, ids) || lists < 2 {
		t.Errorf("%d lists hold %d of %d ids: %v", lists, len(got), len(ids), err)
	}
	for _, bad := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		if _, err := IDs(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

// vectors calls fn for each file of testdata/vectors: a head ("expect: ok" or
// "expect: format" or "expect: version", then a comment), an empty line, hex.
func vectors(tb testing.TB, fn func(name, expect string, node []byte)) {
	names, err := filepath.Glob("testdata/vectors/*")
	if err != nil || len(names) < 10 { // a glob that stopped matching must not pass
		tb.Fatalf("%d vectors: %v", len(names), err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		head, body, _ := strings.Cut(string(raw), "\n\n")
		expect, _, _ := strings.Cut(strings.TrimPrefix(head, "expect: "), "\n")
		node, err := hex.DecodeString(strings.Join(strings.Fields(body), ""))
		if err != nil {
			tb.Fatal(name, err)
		}
		fn(filepath.Base(name), expect, node)
	}
}

func TestVectors(t *testing.T) {
	want := map[string]error{"ok": nil, "format": ErrFormat, "version": ErrVersion}
	vectors(t, func(name, expect string, node []byte) {
		_, _, err := Decode(node)
		if w, known := want[expect]; !known || !errors.Is(err, w) {
			t.Errorf("%s: %v, want %s", name, err, expect)
		}
		if expect == "ok" {
			reencode(t, node)
		}
	})
}

// reencode checks the property of the format: what parses encodes to the same bytes.
func reencode(t *testing.T, node []byte) {
	entries, leaves, err := Decode(node)
	if err != nil {
		if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrVersion) {
			t.Errorf("an error without sentinel: %v", err)
		}
		return
	}
	var body []byte
	for i := range entries {
		body = entries[i].Append(body)
	}
	for _, l := range leaves {
		body = appendString(append(body, l.ID[:]...), l.First)
	}
	kind := byte(kindLeaf)
	if leaves != nil {
		kind = kindBranch
	}
	if got := appendNode(nil, kind, len(entries)+len(leaves), body); !bytes.Equal(got, node) {
		t.Errorf("encodes to\n%x\nwant\n%x", got, node)
	}
}

func FuzzDecode(f *testing.F) {
	vectors(f, func(_, _ string, node []byte) { f.Add(node) })
	f.Fuzz(func(t *testing.T, node []byte) { reencode(t, node) })
}

func FuzzIDs(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := IDs(b)
		if err == nil && len(ids)*32 != len(b) {
			t.Errorf("%d ids of %d bytes", len(ids), len(b))
		}
	})
}

// The shortest entry there can be must not look like a count that is too large.
func TestShortestEntry(t *testing.T) {
	b := One(&Entry{Name: "a", Type: FIFO})
	if got, _, err := Decode(b); err != nil || len(got) != 1 || len(b) != 3+minEntry {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}
